// SPDX-License-Identifier: Apache-2.0

// Package report reads and writes SUIT Reports (draft-ietf-suit-report): what a manifest processor did, in the order in
// which it did it, and why it stopped.
//
// A report holds a reference to the manifest (its reference-uri and digest), a nonce of whoever asked, a list of records
// and system-property-claims, and a result. A [Record] names a command by its manifest, section and byte offset, so that
// a reader who has the manifest can follow the run; a [SystemProperty] says what a component is afterwards. A report
// travels authenticated and confidential (suit-report section 5): [Report.Protect] signs and encrypts, [Open] undoes
// either. A report inside a signed message may go plain.
package report

import (
	"errors"
	"fmt"
	"strconv"

	"sealift/cose"
	"sealift/suit"
)

// ErrMalformed says that the bytes are not a SUIT_Report.
var ErrMalformed = errors.New("report: malformed")

// Reason is a SUIT_Report_Reason (suit-report section 4.3).
type Reason int64

// Reasons.
const (
	ReasonOK                    Reason = 0
	ReasonCBORParse             Reason = 1
	ReasonCOSEUnsupported       Reason = 2
	ReasonAlgUnsupported        Reason = 3
	ReasonUnauthorised          Reason = 4
	ReasonCommandUnsupported    Reason = 5
	ReasonComponentUnsupported  Reason = 6
	ReasonComponentUnauthorised Reason = 7
	ReasonParameterUnsupported  Reason = 8
	ReasonSeveringUnsupported   Reason = 9
	ReasonConditionFailed       Reason = 10
	ReasonOperationFailed       Reason = 11
	ReasonInvokePending         Reason = 12
)

var reasonNames = []string{
	"ok", "cbor-parse", "cose-unsupported", "alg-unsupported", "unauthorised", "command-unsupported",
	"component-unsupported", "component-unauthorised", "parameter-unsupported", "severing-unsupported",
	"condition-failed", "operation-failed", "invoke-pending",
}

// String is the reason's name in the draft.
func (r Reason) String() string {
	if r >= 0 && int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "reason(" + strconv.FormatInt(int64(r), 10) + ")"
}

// Labels of suit-report section 4.
const (
	labelNonce        = 2
	labelRecords      = 3
	labelResult       = 4
	labelCode         = 5
	labelRecord       = 6
	labelReason       = 7
	labelCapabilities = 8
	labelReference    = 99
	labelComponent    = 0
)

// Report is a SUIT_Report.
type Report struct {
	// URI is the manifest's reference-uri ("" if it has none) and Digest the manifest's digest.
	URI    string
	Digest suit.Digest
	// Nonce is the freshness value of whoever asked; in TEEP the token. Nil leaves it out.
	Nonce []byte
	// Items are in order of execution.
	Items []Item
	// Failure is nil if the run succeeded.
	Failure *Failure
	// Capabilities is what the processor supports; nil leaves it out.
	Capabilities *Capabilities
}

// Item is a *Record or a *SystemProperty.
type Item interface{ item() }

// Record is a SUIT_Record: one command and what it measured.
type Record struct {
	// Manifest is the path of dependency indices from the root manifest; empty for the root itself.
	Manifest []uint64
	Section  suit.Member
	// Offset is the byte offset of the command inside the section's content.
	Offset    uint64
	Component uint64 // index of the component
	// Properties are measured values, under the codes of parameters.
	Properties suit.Params
}

// SystemProperty is a system-property-claims: what a component is.
type SystemProperty struct {
	Component suit.ComponentID
	Params    suit.Params
}

func (*Record) item()         {}
func (*SystemProperty) item() {}

// Failure is the result of a run that did not succeed.
type Failure struct {
	Code   int64 // code of the command that failed, 0 if it was none
	Record Record
	Reason Reason
}

// OK reports whether the run succeeded.
func (r *Report) OK() bool { return r.Failure == nil }

// Installed lists the components with a system-property-claims in the report, in order of execution, each once.
func (r *Report) Installed() []suit.ComponentID {
	var out []suit.ComponentID
	seen := map[string]bool{}
	for _, it := range r.Items {
		if p, ok := it.(*SystemProperty); ok && !seen[p.Component.String()] {
			seen[p.Component.String()] = true
			out = append(out, p.Component)
		}
	}
	return out
}

type wireReference struct {
	_      struct{} `cbor:",toarray"`
	URI    string
	Digest suit.Digest
}

type wireRecord struct {
	_          struct{} `cbor:",toarray"`
	Manifest   []uint64
	Section    int64
	Offset     uint64
	Component  uint64
	Properties suit.Params
}

// Marshal encodes the report deterministically.
func (r *Report) Marshal() ([]byte, error) {
	out := map[int64]any{
		labelReference: wireReference{URI: r.URI, Digest: r.Digest},
		labelResult:    true,
	}
	if r.Nonce != nil {
		out[labelNonce] = r.Nonce
	}
	items := make([]cose.RawMessage, 0, len(r.Items))
	for _, it := range r.Items {
		raw, err := marshalItem(it)
		if err != nil {
			return nil, fmt.Errorf("report: %w", err)
		}
		items = append(items, raw)
	}
	out[labelRecords] = items
	if f := r.Failure; f != nil {
		out[labelResult] = map[int64]any{
			labelCode: f.Code, labelRecord: f.Record.wire(), labelReason: int64(f.Reason),
		}
	}
	if r.Capabilities != nil {
		out[labelCapabilities] = r.Capabilities.wire()
	}
	return cose.Marshal(out)
}

func marshalItem(it Item) (cose.RawMessage, error) {
	switch x := it.(type) {
	case *Record:
		return cose.Marshal(x.wire())
	case *SystemProperty:
		return x.MarshalCBOR()
	}
	return nil, fmt.Errorf("%w: item of type %T", ErrMalformed, it)
}

func (r *Record) wire() wireRecord {
	w := wireRecord{
		Manifest: r.Manifest, Section: int64(r.Section), Offset: r.Offset, Component: r.Component, Properties: r.Properties,
	}
	if w.Manifest == nil {
		w.Manifest = []uint64{}
	}
	if w.Properties == nil {
		w.Properties = suit.Params{}
	}
	return w
}

func (r *Record) parse(data []byte) error {
	var w wireRecord
	if err := cose.Unmarshal(data, &w); err != nil {
		return fmt.Errorf("%w: record: %w", ErrMalformed, err)
	}
	*r = Record{
		Manifest: w.Manifest, Section: suit.Member(w.Section), Offset: w.Offset, Component: w.Component,
		Properties: w.Properties,
	}
	return nil
}

// MarshalCBOR encodes the map {0: component-id, + parameters}. TEEP's tc-list carries it too.
func (p SystemProperty) MarshalCBOR() ([]byte, error) {
	params, err := p.Params.MarshalCBOR()
	if err != nil {
		return nil, err
	}
	var out map[int64]cose.RawMessage
	if err := cose.Unmarshal(params, &out); err != nil {
		return nil, err
	}
	id := p.Component
	if id == nil {
		id = suit.ComponentID{}
	}
	if out[labelComponent], err = cose.Marshal(id); err != nil {
		return nil, err
	}
	return cose.Marshal(out)
}

// UnmarshalCBOR decodes what MarshalCBOR wrote; parameters may be absent.
func (p *SystemProperty) UnmarshalCBOR(data []byte) error {
	var fields map[int64]cose.RawMessage
	if err := cose.Unmarshal(data, &fields); err != nil {
		return fmt.Errorf("%w: system-property-claims: %w", ErrMalformed, err)
	}
	raw, ok := fields[labelComponent]
	if !ok {
		return fmt.Errorf("%w: system-property-claims without component", ErrMalformed)
	}
	id := suit.ComponentID{}
	if err := cose.Unmarshal(raw, &id); err != nil {
		return fmt.Errorf("%w: component: %w", ErrMalformed, err)
	}
	delete(fields, labelComponent)
	rest, err := cose.Marshal(fields)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	var params suit.Params
	if err := params.UnmarshalCBOR(rest); err != nil {
		return err
	}
	*p = SystemProperty{Component: id, Params: params}
	return nil
}
