// SPDX-License-Identifier: Apache-2.0

// Package owner acts for the Network User: the data owner of the use case (docs/architecture.md section 2), who trusts neither the
// operator's M/OC, nor its TAM, nor its Verifier, nor the Broker with PD.
//
// One deployment runs through these calls, each of which can be made in another process and another day, because what they
// find out is kept in the owner's folder (package home):
//
//	pkg, _ := o.Pack(file, "stats.sealift", "owner")    // sign the manifests of what may be public; PD stays where it is
//	d, _ := o.Deploy(ctx, owner.DeployRequest{Package: "stats.sealift"})
//	o.Await(ctx, d.ID, time.Minute)                     // until it is the owner's turn
//	a, _ := o.Verify(ctx, d.ID, owner.VerifyOptions{})  // own nonce, own Verifier, own policy
//	o.Release(ctx, a)                                   // PD, encrypted to a key in the Evidence that a stands for
//	o.Call(ctx, d.ID, in, out, owner.CallOptions{})     // TLS 1.3 that ends inside the TEE, pinned to that Evidence
//	o.Remove(ctx, d.ID, time.Minute)
//
// Deploy with Wait does Await, Verify and Release by itself. Evidence that nobody has appraised and Evidence that the owner's policy has
// accepted have different types: Release takes an *[Appraised], and only a positive appraisal makes one.
//
// What happens is told through Owner.Events, one [Event] for each thing that somebody did.
package owner

import (
	"crypto/rand"
	"crypto/x509"
	"io"
	"net/http"
	"time"

	"sealift/evidence"
	"sealift/internal/owner/home"
	"sealift/internal/verifier"
)

// Owner is a Network User at work. Make one with [New]; its fields may be changed before the first call.
type Owner struct {
	Home    *home.Home
	Context string      // name of the context (M/OC); empty: the one in use
	Events  func(Event) // told what happens, in order, from the goroutine of the call; may be nil
	// Progress is told, now and then and from any goroutine, how many bytes of an upload were sent, or of a payload have reached the
	// device; may be nil. What begins with "sending" or "installing".
	Progress func(what string, done, total int64)
	HTTP     *http.Client     // for the M/OC; nil: one with the context's certificate authority
	Rand     io.Reader        // crypto/rand
	Now      func() time.Time // time.Now
	Retry    Retry            // how long an M/OC may be away
	// Verifiers are those of the hardware whose Evidence the owner may have to judge; TrustZone's is always there.
	// Endorsements and CRLs are what does not come with the Evidence; both may be nil.
	Verifiers    []evidence.HardwareVerifier
	Endorsements evidence.Endorsements
	CRLs         []*x509.RevocationList
	// Panel are further Verifiers that are asked about Evidence; may be nil.
	Panel *verifier.Panel

	told map[string]int // steps of each deployment that Events has heard of
}

// New returns an Owner that works with the folder h.
func New(h *home.Home) *Owner {
	return &Owner{Home: h, Rand: rand.Reader, Now: time.Now, Retry: DefaultRetry}
}

// Event is one thing that happened, for people and for `sealift demo`.
type Event struct {
	Time  time.Time `json:"time"`
	Step  string    `json:"step"`  // a usecase step ("attest", "pd-to-ta"), or "pack", "push", "deploy", "verify", "release", "call", "remove"
	Actor string    `json:"actor"` // who did it: "owner", "tam", "agent", "broker", "moc"
	Text  string    `json:"text"`  // one sentence
}

// tell reports an event.
func (o *Owner) tell(step, actor, text string) {
	if o.Events != nil {
		o.Events(Event{Time: o.Now(), Step: step, Actor: actor, Text: text})
	}
}
