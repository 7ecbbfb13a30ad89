// SPDX-License-Identifier: Apache-2.0

package ear

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sealift/appraisal"
	"sealift/cose"
)

// Codes of the findings of [Check].
const (
	CodeMalformed = "ear.malformed" // it cannot be read
	CodeSignature = "ear.signature" // another key than the pinned one signed it
	CodeProfile   = "ear.profile"   // its claims are of a profile that is not known here
	CodeTime      = "ear.time"      // too old, expired, or from the future
	CodeNonce     = "ear.nonce"     // it answers another challenge
	CodeSubmodule = "ear.submodule" // an attester that has to be appraised is not
	CodeClaim     = "ear.claim"     // a claim is not asserted, or not good enough
	CodeStatus    = "ear.status"    // the Verifier's own status is not good enough
)

// Verdict is what may be done on the ground of an EAR.
type Verdict string

// Verdicts.
const (
	Allow       Verdict = "allow"        // everything
	UpdatesOnly Verdict = "updates-only" // a warning: updates of firmware and of the Agent, nothing with data
	Refuse      Verdict = "refuse"       // nothing; in TEEP the way of ERR_ATTESTATION_REQUIRED
)

// Expected is what a Relying Party knows itself.
type Expected struct {
	Keys          []*cose.Key    // of the Verifier, pinned; never fetched over the channel that the EAR came by
	Nonce         []byte         // what was sent: the binding
	Submods       []string       // attesters that must have been appraised, all of them: for CCA both CCA_REALM and CCA_SSD_PLATFORM
	Configuration appraisal.Tier // the worst tier of the claim configuration that is accepted; the zero value means affirming
	// OwnConfiguration says that the Relying Party compares the measured configuration itself. Then a Verifier that asserts
	// nothing of it passes; one that asserts something bad does not.
	OwnConfiguration bool
	MaxAge           time.Duration // of iat
	Now              time.Time
}

// Outcome is what [Check] finds.
type Outcome struct {
	Verdict  Verdict             `json:"verdict"`
	EAR      *EAR                `json:"-"` // nil where it cannot be believed
	Vector   map[string]int8     `json:"vector,omitempty"`
	Findings []appraisal.Finding `json:"findings"`
}

// Failed returns the findings that are not satisfied.
func (o *Outcome) Failed() []appraisal.Finding {
	var out []appraisal.Finding
	for _, f := range o.Findings {
		if !f.OK {
			out = append(out, f)
		}
	}
	return out
}

// required are the claims that must be affirmed whatever the status says.
var required = []string{appraisal.HardwareClaim, appraisal.InstanceIdentity, appraisal.Executables, appraisal.Configuration}

// Check reads an EAR and applies the rules of a Relying Party:
//
//  1. the signature is by the pinned key;
//  2. the profile is known and iat fresh;
//  3. eat_nonce equals the value that was sent, as bytes;
//  4. every expected submodule is there, and the worst of them counts;
//  5. hardware, instance identity and executables are affirmed, the configuration as well as demanded; a claim of 0 is no
//     assertion and no pass, a negative one is an error of the Verifier;
//  6. a status of warning allows updates only, one of contraindicated or none nothing.
//
// That an EAR came with HTTP status 200 means nothing: a Verifier answers so for Evidence that it refuses.
func Check(data []byte, in Expected) *Outcome {
	o := &Outcome{Verdict: Refuse, Findings: []appraisal.Finding{}}
	e, err := Read(data, in.Keys...)
	if err != nil {
		o.unreadable(err, in)
		return o
	}
	o.EAR = e
	c := &checker{o: o, e: e, in: in, verdict: Allow}
	c.ok(appraisal.Finding{Code: CodeSignature, Claim: "signature of the EAR", Expected: "the pinned key", Got: hex.EncodeToString(e.Signer.KID()),
		Source: "the pinned key of the Verifier"})
	c.profile()
	c.time()
	c.nonce()
	c.submods()
	c.claims()
	c.status()
	o.Verdict = c.verdict
	return o
}

func (o *Outcome) unreadable(err error, in Expected) {
	f := appraisal.Finding{Code: CodeMalformed, Claim: "EAR", Expected: "a JWT with ES256, or a CWT", Got: err.Error(), Source: "draft-ietf-rats-ear",
		Hint: "what came is no Attestation Result that this version reads: see what the Verifier answered"}
	if errors.Is(err, ErrSignature) {
		kids := make([]string, len(in.Keys))
		for i, k := range in.Keys {
			kids[i] = hex.EncodeToString(k.KID())
		}
		if len(kids) == 0 {
			kids = []string{"a pinned key, and there is none"}
		}
		f = appraisal.Finding{Code: CodeSignature, Claim: "signature of the EAR", Expected: strings.Join(kids, " or "),
			Got: "a signature that does not verify", Source: "the pinned key of the Verifier",
			Hint: "another Verifier signed it, or it was changed; if the Verifier has a new key, get that key over a way that you trust"}
	}
	o.Findings = append(o.Findings, f)
}

// checker applies the rules to one EAR.
type checker struct {
	o       *Outcome
	e       *EAR
	in      Expected
	verdict Verdict
}

func (c *checker) ok(f appraisal.Finding) {
	f.OK, f.Hint = true, ""
	c.o.Findings = append(c.o.Findings, f)
}

func (c *checker) fail(f appraisal.Finding) {
	c.verdict = Refuse
	c.o.Findings = append(c.o.Findings, f)
}

func (c *checker) judge(f appraisal.Finding, ok bool) {
	if ok {
		c.ok(f)
		return
	}
	c.fail(f)
}

func (c *checker) profile() {
	c.judge(appraisal.Finding{Code: CodeProfile, Claim: "eat_profile", Expected: Profile + " or another draft's, or " + ProfileVeraison,
		Got: c.e.Profile, Source: "draft-ietf-rats-ear", Hint: "the Verifier speaks a profile that this version does not know"},
		knownProfile.MatchString(c.e.Profile))
}

func (c *checker) time() {
	stamp := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	oldest := c.in.Now.Add(-c.in.MaxAge)
	c.judge(appraisal.Finding{Code: CodeTime, Claim: "iat", Expected: stamp(oldest) + " to " + stamp(c.in.Now), Got: stamp(c.e.IssuedAt),
		Source: "this machine's clock, and the greatest age that is accepted", Hint: "ask the Verifier again; compare the clocks of both machines"},
		!c.e.IssuedAt.Before(oldest) && !c.e.IssuedAt.After(c.in.Now.Add(clockSkew)))
	if !c.e.Expires.IsZero() {
		c.judge(appraisal.Finding{Code: CodeTime, Claim: "exp", Expected: "after " + stamp(c.in.Now), Got: stamp(c.e.Expires),
			Source: "this machine's clock", Hint: "ask the Verifier again"}, c.in.Now.Before(c.e.Expires))
	}
}

func (c *checker) nonce() {
	f := appraisal.Finding{Code: CodeNonce, Claim: "eat_nonce", Expected: hex.EncodeToString(c.in.Nonce), Got: "nothing",
		Source: "the value that was sent to the Verifier", Hint: "this result answers another challenge, or is of another Agent's key: ask again"}
	if len(c.in.Nonce) == 0 {
		f.Expected = "a nonce, and none was sent"
	}
	ok := len(c.in.Nonce) > 0 && len(c.e.Nonces) == 1 && bytes.Equal(c.e.Nonces[0], c.in.Nonce)
	if len(c.e.Nonces) > 0 {
		texts := make([]string, len(c.e.Nonces))
		for i, n := range c.e.Nonces {
			texts[i] = hex.EncodeToString(n)
		}
		f.Got = strings.Join(texts, ", ")
	}
	c.judge(f, ok)
}

func (c *checker) submods() {
	names := make([]string, 0, len(c.e.Submods))
	for name := range c.e.Submods {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, want := range c.in.Submods {
		c.judge(appraisal.Finding{Code: CodeSubmodule, Claim: "submodule " + want, Expected: "appraised", Got: "of " + strings.Join(names, ", "),
			Source: "the attesters of this hardware", Hint: "the Verifier has not judged all of the Evidence"}, slices.Contains(names, want))
	}
	if len(c.in.Submods) == 0 {
		c.fail(appraisal.Finding{Code: CodeSubmodule, Claim: "submodules", Expected: "names of attesters", Got: "none is expected", Source: "the caller"})
	}
}

// claims joins the vectors of all submodules: the worst assertion counts.
func (c *checker) claims() {
	c.o.Vector = map[string]int8{}
	for _, name := range appraisal.VectorClaims() {
		var worst int8
		for _, a := range c.e.Submods {
			if v := a.Vector[name]; rank(v) > rank(worst) {
				worst = v
			}
		}
		c.o.Vector[name] = worst
	}
	for _, name := range required {
		v := c.o.Vector[name]
		accept := appraisal.TierAffirming
		if name == appraisal.Configuration && c.in.Configuration != appraisal.TierNone {
			accept = c.in.Configuration
		}
		f := appraisal.Finding{Code: CodeClaim, Claim: name, Expected: accept.String(), Got: claimText(v), Source: "the rules for Relying Parties",
			Hint: "the Verifier's policy or reference values do not cover it, or the device is not as it should be"}
		tier := appraisal.TierOf(v)
		switch {
		case name == appraisal.Configuration && c.in.OwnConfiguration && v == 0:
			f.Expected, f.Source = "nothing against it", "the Relying Party, which compares the configuration itself"
			f.Hint = ""
			c.ok(f)
		case v >= 2 && tier <= accept:
			c.ok(f)
		case tier == appraisal.TierWarning && v > 0:
			c.o.Findings = append(c.o.Findings, f)
			c.warn()
		default:
			c.fail(f)
		}
	}
}

// warn lowers the verdict to updates only.
func (c *checker) warn() {
	if c.verdict == Allow {
		c.verdict = UpdatesOnly
	}
}

// rank orders values of claims by how bad they are: no assertion, affirming, warning, contraindicated, an error of the Verifier.
func rank(v int8) int {
	switch {
	case v < 0:
		return 1000
	case v <= 1:
		return int(v)
	}
	return int(v) + 10
}

func claimText(v int8) string {
	switch {
	case v == 0:
		return "0 (no assertion)"
	case v < 0:
		return fmt.Sprintf("%d (an error of the Verifier)", v)
	}
	return fmt.Sprintf("%d (%s)", v, appraisal.TierOf(v))
}

// status takes the worst status: of submodules, of the whole where it is stated, and what the vector implies.
func (c *checker) status() {
	statuses := []appraisal.Tier{}
	if c.e.Status != nil {
		statuses = append(statuses, *c.e.Status)
	}
	none := false
	for _, a := range c.e.Submods {
		statuses = append(statuses, a.Status)
		for _, v := range a.Vector {
			if v > 1 {
				statuses = append(statuses, appraisal.TierOf(v))
			}
		}
	}
	worst := appraisal.TierAffirming
	for _, s := range statuses {
		worst = max(worst, s)
		none = none || s == appraisal.TierNone
	}
	if none && worst != appraisal.TierContraindicated {
		worst = appraisal.TierNone
	}
	f := appraisal.Finding{Code: CodeStatus, Claim: "ear_status", Expected: "affirming", Got: worst.String(), Source: "the rules for Relying Parties",
		Hint: "the Verifier refuses the Evidence: its log, or its extensions in the EAR, say why"}
	switch worst {
	case appraisal.TierAffirming:
		c.ok(f)
	case appraisal.TierWarning:
		f.Hint = "only updates of firmware and of the Agent are allowed until the Verifier affirms"
		c.o.Findings = append(c.o.Findings, f)
		c.warn()
	default:
		c.fail(f)
	}
}
