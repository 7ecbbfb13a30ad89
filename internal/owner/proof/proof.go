// SPDX-License-Identifier: Apache-2.0

// Package proof is what an owner keeps of a deployment that was removed: the SUIT Reports (draft-ietf-suit-report) in which the Agent has signed
// what it destroyed, with the key that signed them and the Evidence by which the owner knows whose that is. It is one file of JSON in the
// owner's folder, and says by itself what it proves.
package proof

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/report"
)

// Removal is what the owner knows of a deployment that was removed.
type Removal struct {
	Deployment string    `json:"deployment"`
	App        string    `json:"app"`
	Time       time.Time `json:"time"`
	// Proven says that the Agent that this owner has appraised has signed for it: every component that held a program or data in the TEE
	// is uninstalled, its keys are destroyed with the sealed state that held them, and an older state no longer opens.
	Proven    bool      `json:"proven"`
	Why       string    `json:"why,omitempty"`       // there is no proof
	AgentKey  string    `json:"agent_key,omitempty"` // thumbprint of Key, hex
	Key       *cose.Key `json:"key,omitempty"`       // the appraised Agent's, which signed the reports
	Evidence  *Evidence `json:"evidence,omitempty"`  // that bound the key to the TEE
	Destroyed []string  `json:"destroyed,omitempty"` // components
	Reports   [][]byte  `json:"reports,omitempty"`   // SUIT Reports in COSE_Sign1, as the Agent signed them
	Emulated  bool      `json:"emulated,omitempty"`  // the Agent's hardware
}

// Evidence names the Evidence that the owner accepted last.
type Evidence struct {
	SHA256       string    `json:"sha256"` // of the bundle, hex
	Time         time.Time `json:"time"`   // when the owner accepted it
	Policy       string    `json:"policy"`
	PolicyHash   string    `json:"policy_hash"`
	Hardware     string    `json:"hardware"`
	Instance     string    `json:"instance"`
	ConfigSHA256 string    `json:"config_sha256"` // of the measured configuration, hex
}

// Errors of this package.
var (
	// ErrFormat says that a file is no Removal.
	ErrFormat = errors.New("proof: not what is known of a removal")
	// ErrReports says that the reports prove nothing.
	ErrReports = errors.New("the reports of the removal do not hold")
)

// Parse reads a Removal. What it says is not verified: [Destroyed] does that.
func Parse(data []byte) (*Removal, error) {
	var r Removal
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if r.Deployment == "" || r.Time.IsZero() || r.Proven == (r.Why != "") {
		return nil, ErrFormat
	}
	return &r, nil
}

// Destroyed verifies reports under the Agent's key and returns the components of an application that they say are gone.
func Destroyed(reports [][]byte, agent *cose.Key, app string) (gone []string, err error) {
	for _, data := range reports {
		rep, err := report.Open(data, report.Keys{Signers: []*cose.Key{agent}})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrReports, err)
		}
		if !rep.OK() {
			return nil, fmt.Errorf("%w: the Agent reports a failure: %v", ErrReports, rep.Failure.Reason)
		}
		for _, item := range rep.Items {
			p, ok := item.(*report.SystemProperty)
			if !ok {
				continue
			}
			size, sized := p.Params[suit.ParamSize].(uint64)
			if _, has := p.Params.Digest(); has || !sized || size != 0 || len(p.Component) != 3 || string(p.Component[1]) != app {
				continue // something that is installed
			}
			gone = append(gone, p.Component.String())
		}
	}
	return gone, nil
}
