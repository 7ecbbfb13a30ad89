// SPDX-License-Identifier: Apache-2.0

// Package conform drives somebody else's TAM or Agent through the requirements of TEEP (draft-ietf-teep-protocol-26) and of TEEP over
// HTTP (draft-ietf-teep-otrp-over-http-15), and tells which of them it keeps.
//
// Against a TAM the kit plays an Agent over HTTP; against an Agent it plays the TAM. Each requirement is a probe: a short exchange
// with one thing done on purpose, valid or not, and a judgement of what came back. All that is seen is what a peer sees. So a
// probe of "must be refused" passes when the peer does not act on the message (a TAM sends no manifests for it, an Agent
// gives neither QueryResponse nor Success), whether it stays silent, answers with an error, or asks again; and it is not
// applicable where the genuine message has no effect that could be missed.
//
// Requirements are numbered like this: 1 to 45 are the requirements of the protocol in the order of docs/conformance.md; H1 and
// following are those of the HTTP binding.
package conform

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"sealift/cose"
)

// Status is what a probe found.
type Status string

// The outcomes of a probe.
const (
	Passed        Status = "passed"
	Failed        Status = "failed"
	NotApplicable Status = "not applicable"
)

// Message is one message of a probe, as it was on the wire.
type Message struct {
	From string `json:"from"`           // "kit" or "peer"
	Note string `json:"note,omitempty"` // of the transport: the HTTP status or the method
	Hex  string `json:"hex,omitempty"`
	Diag string `json:"diag,omitempty"` // the TEEP message inside, in diagnostic notation
}

// Result is a row of the table.
type Result struct {
	Requirement string    `json:"requirement"`
	Section     string    `json:"section"` // of teep-protocol (T), teep-over-http (H)
	Title       string    `json:"title"`
	Status      Status    `json:"status"`
	Reason      string    `json:"reason,omitempty"` // why it failed or is not applicable; with a pass, what is worth knowing
	Messages    []Message `json:"messages,omitempty"`
}

// Report is what a run found.
type Report struct {
	Role          string   `json:"role"` // of the peer: "TAM" or "Agent"
	Peer          string   `json:"peer"`
	Results       []Result `json:"results"`
	Passed        int      `json:"passed"`
	Failed        int      `json:"failed"`
	NotApplicable int      `json:"not_applicable"`
}

// OK reports whether nothing failed.
func (r *Report) OK() bool { return r.Failed == 0 && r.Passed > 0 }

func (r *Report) add(res Result) {
	switch res.Status {
	case Passed:
		r.Passed++
	case Failed:
		r.Failed++
	default:
		r.NotApplicable++
	}
	r.Results = append(r.Results, res)
}

// notApplicable and remark are verdicts of a probe that travel as errors; every other error means failed.
type (
	notApplicable string
	remark        string
)

func (e notApplicable) Error() string { return string(e) }
func (e remark) Error() string        { return string(e) }

func na(format string, args ...any) error { return notApplicable(fmt.Sprintf(format, args...)) }

// ErrPeer says that the peer cannot be probed at all.
var ErrPeer = errors.New("conform: the peer cannot be probed")

// probe is one requirement and the exchange that shows whether it is kept.
type probe[R recording] struct {
	requirement, section, title string
	run                         func(ctx context.Context, r R) error
}

// recording is a run that keeps the messages of the current probe.
type recording interface {
	startProbe()
	recorded() []Message
}

// run executes probes in their order.
func run[R recording](ctx context.Context, report *Report, r R, probes []probe[R]) {
	for _, p := range probes {
		r.startProbe()
		res := Result{Requirement: p.requirement, Section: p.section, Title: p.title, Status: Passed}
		err := ctx.Err()
		if err == nil {
			err = p.run(ctx, r)
		}
		switch e := err.(type) {
		case nil:
		case remark:
			res.Reason = string(e)
		case notApplicable:
			res.Status, res.Reason = NotApplicable, string(e)
		default:
			res.Status, res.Reason = Failed, err.Error()
		}
		res.Messages = r.recorded()
		report.add(res)
	}
}

// transcript implements recording.
type transcript struct{ messages []Message }

func (t *transcript) startProbe()         { t.messages = nil }
func (t *transcript) recorded() []Message { return t.messages }

func (t *transcript) note(from, note string, data []byte) {
	t.messages = append(t.messages, Message{From: from, Note: note, Hex: hex.EncodeToString(data), Diag: diagnose(data)})
}

// maxDiag bounds the diagnostic notation of one message.
const maxDiag = 4096

// diagnose shows the message inside a COSE structure, or any other CBOR.
func diagnose(data []byte) string {
	if len(data) == 0 {
		return ""
	}
	inner := data
	if m, err := cose.Parse(data); err == nil && len(m.PayloadInsecure()) > 0 {
		inner = m.PayloadInsecure()
	}
	text, err := cbor.Diagnose(inner)
	if err != nil {
		return ""
	}
	if len(text) > maxDiag {
		text = strings.ToValidUTF8(text[:maxDiag], "") + "..."
	}
	return text
}
