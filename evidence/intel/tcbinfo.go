// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Versions of the two JSON documents that this package reads (PCS API version 4).
const (
	tcbInfoVersion    = 3
	qeIdentityVersion = 2
	maxLevels         = 256
)

// Hex is a byte string that stands in Intel's JSON as hexadecimal in either case.
type Hex []byte

// MarshalJSON writes upper case, as Intel does.
func (h Hex) MarshalJSON() ([]byte, error) { return json.Marshal(fmt.Sprintf("%X", []byte(h))) }

// UnmarshalJSON reads either case.
func (h *Hex) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	out, err := hex.DecodeString(text)
	*h = out
	return err
}

// Component is the security version number of one TCB component.
type Component struct {
	SVN      uint8  `json:"svn"`
	Category string `json:"category,omitempty"`
	Type     string `json:"type,omitempty"`
}

// TCB is what a level demands: of a platform the components and PCESVN, of an enclave or TDX module ISVSVN.
type TCB struct {
	SGX    []Component `json:"sgxtcbcomponents,omitempty"` // 16
	PCESVN *uint16     `json:"pcesvn,omitempty"`
	TDX    []Component `json:"tdxtcbcomponents,omitempty"` // 16, only for TDX
	ISVSVN *uint16     `json:"isvsvn,omitempty"`
}

// Level is a TCB level with Intel's judgement.
type Level struct {
	TCB        TCB       `json:"tcb"`
	Date       time.Time `json:"tcbDate"` // the level has no vulnerability known before
	Status     TCBStatus `json:"tcbStatus"`
	Advisories []string  `json:"advisoryIDs,omitempty"`
}

// Module is what Intel says of TDX modules: who signs them, and their attributes.
type Module struct {
	MRSigner       Hex `json:"mrsigner"`       // 48 bytes
	Attributes     Hex `json:"attributes"`     // 8
	AttributesMask Hex `json:"attributesMask"` // 8
}

// ModuleIdentity is the same for the modules of one major version, which its ID names: "TDX_01".
type ModuleIdentity struct {
	ID string `json:"id"`
	Module
	Levels []Level `json:"tcbLevels"`
}

// TCBInfo is Intel's TCB information for one FMSPC, version 3 (PCS API version 4, "Get TCB Info").
type TCBInfo struct {
	ID               string           `json:"id"` // "SGX" or "TDX"
	Version          int              `json:"version"`
	IssueDate        time.Time        `json:"issueDate"`
	NextUpdate       time.Time        `json:"nextUpdate"`
	FMSPC            Hex              `json:"fmspc"`
	PCEID            Hex              `json:"pceId"`
	TCBType          int              `json:"tcbType"` // how to compare components: 0 is the only one defined
	EvaluationNumber uint32           `json:"tcbEvaluationDataNumber"`
	Module           *Module          `json:"tdxModule,omitempty"`
	ModuleIdentities []ModuleIdentity `json:"tdxModuleIdentities,omitempty"`
	Levels           []Level          `json:"tcbLevels"` // best first
}

// QEIdentity is Intel's description of a quoting enclave (PCS API version 4, "Get Quoting Enclave Identity").
type QEIdentity struct {
	ID               string    `json:"id"` // "QE" or "TD_QE"
	Version          int       `json:"version"`
	IssueDate        time.Time `json:"issueDate"`
	NextUpdate       time.Time `json:"nextUpdate"`
	EvaluationNumber uint32    `json:"tcbEvaluationDataNumber"`
	MiscSelect       Hex       `json:"miscselect"` // 4 bytes, as in a report's memory
	MiscSelectMask   Hex       `json:"miscselectMask"`
	Attributes       Hex       `json:"attributes"` // 16
	AttributesMask   Hex       `json:"attributesMask"`
	MRSigner         Hex       `json:"mrsigner"` // 32
	ISVProdID        uint16    `json:"isvprodid"`
	Levels           []Level   `json:"tcbLevels"`
}

// parseTCBInfo reads TCB info. Unknown members are ignored: Intel adds some at times, and only signed bytes come here.
func parseTCBInfo(data []byte) (*TCBInfo, error) {
	var t TCBInfo
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, fmt.Errorf("%w: TCB info: %w", ErrMalformed, err)
	}
	if t.Version != tcbInfoVersion || t.ID != SGX.String() && t.ID != TDX.String() || t.TCBType != 0 {
		return nil, malformed("TCB info %q of version %d and TCB type %d, want SGX or TDX, version %d, type 0", t.ID, t.Version,
			t.TCBType, tcbInfoVersion)
	}
	tdx := t.ID == TDX.String()
	if len(t.FMSPC) != 6 || len(t.PCEID) != 2 || len(t.Levels) == 0 || len(t.Levels) > maxLevels || tdx != (t.Module != nil) ||
		!tdx && t.ModuleIdentities != nil || len(t.ModuleIdentities) > maxLevels {
		return nil, malformed("TCB info: FMSPC, PCE ID, levels or TDX module are missing, or have no place there")
	}
	for i, l := range t.Levels {
		if len(l.TCB.SGX) != componentCount || l.TCB.PCESVN == nil || tdx != (len(l.TCB.TDX) == componentCount) ||
			!tdx && l.TCB.TDX != nil || l.Status == "" {
			return nil, malformed("TCB info: level %d is not complete", i)
		}
	}
	if tdx && !t.Module.complete() {
		return nil, malformed("TCB info: TDX module is not complete")
	}
	for _, m := range t.ModuleIdentities {
		if !m.complete() || !enclaveLevels(m.Levels) {
			return nil, malformed("TCB info: TDX module identity %q is not complete", m.ID)
		}
	}
	return &t, nil
}

func (m *Module) complete() bool {
	return len(m.MRSigner) == 48 && len(m.Attributes) == 8 && len(m.AttributesMask) == 8
}

// enclaveLevels reports whether levels are complete as those of an enclave or module are.
func enclaveLevels(levels []Level) bool {
	for _, l := range levels {
		if l.TCB.ISVSVN == nil || l.Status == "" {
			return false
		}
	}
	return len(levels) > 0 && len(levels) <= maxLevels
}

func parseQEIdentity(data []byte) (*QEIdentity, error) {
	var q QEIdentity
	if err := json.Unmarshal(data, &q); err != nil {
		return nil, fmt.Errorf("%w: QE identity: %w", ErrMalformed, err)
	}
	if q.Version != qeIdentityVersion || q.ID != qeID(SGX) && q.ID != qeID(TDX) {
		return nil, malformed("QE identity %q of version %d, want QE or TD_QE of version %d", q.ID, q.Version, qeIdentityVersion)
	}
	if len(q.MiscSelect) != 4 || len(q.MiscSelectMask) != 4 || len(q.Attributes) != 16 || len(q.AttributesMask) != 16 ||
		len(q.MRSigner) != 32 || !enclaveLevels(q.Levels) {
		return nil, malformed("QE identity: a member is missing or has another size")
	}
	return &q, nil
}

// qeID is the "id" of the identity of a TEE's quoting enclave.
func qeID(t TEE) string {
	if t == SGX {
		return "QE"
	}
	return "TD_QE"
}
