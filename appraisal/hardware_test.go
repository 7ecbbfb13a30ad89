// SPDX-License-Identifier: Apache-2.0

package appraisal_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/appraisal"
	"sealift/evidence"
	"sealift/evidence/psa"
	"sealift/suit"
)

// TestPolicyFrom guards that a policy made from known-good Evidence accepts it again, and refuses each thing that changes.
func TestPolicyFrom(t *testing.T) {
	w := newWorld(t)
	data := w.bundle(t)
	recorded := &appraisal.Recorded{Bundle: data}
	v, err := recorded.Verify(w.input(), nil)
	must(t, err)
	p, err := appraisal.PolicyFrom(v, "known", "the device on my desk")
	must(t, err)
	if len(p.TAs) != 1 || p.Config == nil || !p.Anchors[0].Emulated || !strings.Contains(p.Anchors[0].Name, evidence.EmulatedMark) {
		t.Errorf("%+v", p)
	}
	r, _ := appraisal.AppraiseRecorded(recorded, w.input(), p)
	if !r.OK() || !r.HardwareOnly || len(r.Limits) != 2 {
		t.Fatalf("%s, %+v, limits %v", r.Status, r.Failed(), r.Limits)
	}
	recorded.Nonce = challenge()
	if r, _ := appraisal.AppraiseRecorded(recorded, w.input(), p); !r.OK() || len(r.Limits) != 1 {
		t.Errorf("with the challenge: %s, limits %v", r.Status, r.Limits)
	}
	if _, err := appraisal.Issue(nil, nil, r, &evidence.Verified{}, now, time.Hour); !errors.Is(err, appraisal.ErrNoEvidence) {
		t.Errorf("a result for nobody was issued: %v", err)
	}
	for code, change := range map[string]func(*world){
		appraisal.CodeConfig:     func(w *world) { w.config = []byte("another") },
		appraisal.CodeTADigest:   func(w *world) { w.claims.TAs[0].Digest = suit.SHA256([]byte("x")) },
		appraisal.CodeTAMissing:  func(w *world) { w.claims.TAs = nil },
		appraisal.CodeTASequence: func(w *world) { w.claims.TAs[0].Sequence-- },
		appraisal.CodeTASigner:   func(w *world) { w.claims.TAs[0].Signer = bytes.Repeat([]byte{1}, 32) },
	} {
		tas := slices.Clone(w.claims.TAs)
		other := *w
		other.claims.TAs = tas
		change(&other)
		r, _ := appraisal.AppraiseRecorded(&appraisal.Recorded{Bundle: other.bundle(t)}, w.input(), p)
		if r.OK() || !slices.Equal(failed(r), []string{code}) || r.FirstCause == nil || r.FirstCause.Code != code {
			t.Errorf("%s: %v", code, failed(r))
		}
	}
	if _, err := appraisal.PolicyFrom(&evidence.VerifiedHardware{}, "x", "y"); !errors.Is(err, appraisal.ErrPolicy) {
		t.Errorf("from nothing: %v", err)
	}
}

// TestProductionNeverAcceptsEmulated guards it whatever else a policy says.
func TestProductionNeverAcceptsEmulated(t *testing.T) {
	w := newWorld(t)
	recorded := &appraisal.Recorded{Bundle: w.bundle(t)}
	v, err := recorded.Verify(w.input(), nil)
	must(t, err)
	p, err := appraisal.PolicyFrom(v, "known", "x")
	must(t, err)
	p.Production, p.Anchors[0].Emulated = true, false // filed as a real one
	p.Mapping = []appraisal.Mapping{{Code: appraisal.CodeLifecycle, Value: 32}}
	must(t, p.Validate())
	for _, r := range []*appraisal.Result{appraisal.AppraiseHardware(v, p, now), appraisal.Appraise(w.verified(t), p, now, w.expect())} {
		if r.OK() || r.Status != appraisal.TierContraindicated || !r.Emulated || !slices.Contains(failed(r), appraisal.CodeEmulated) {
			t.Errorf("%s: %v", r.Status, failed(r))
		}
	}
}

// TestCompare guards what is told of a change of policy.
func TestCompare(t *testing.T) {
	w := newWorld(t)
	recorded := &appraisal.Recorded{Bundle: w.bundle(t)}
	v, err := recorded.Verify(w.input(), nil)
	must(t, err)
	good, err := appraisal.PolicyFrom(v, "good", "x")
	must(t, err)
	bad, err := appraisal.PolicyFrom(v, "bad", "x")
	must(t, err)
	bad.Config.Digests[0][0] ^= 1
	a, b := appraisal.AppraiseHardware(v, good, now), appraisal.AppraiseHardware(v, bad, now)
	for _, c := range []struct {
		before, after *appraisal.Result
		verdict       string
		causes        int
	}{{a, b, "newly fails", 1}, {b, a, "newly passes", 1}, {a, a, "still passes", 0}, {b, b, "still fails", 0}} {
		got := appraisal.Compare(c.before, c.after)
		if got.Verdict() != c.verdict || len(got.Causes) != c.causes {
			t.Errorf("%s: %+v", got.Verdict(), got.Causes)
		}
	}
}

// TestFirstCause guards the order of causes: what cannot be read, the chain, the signature, freshness, the binding, the policy.
func TestFirstCause(t *testing.T) {
	codes := []string{appraisal.CodeMeasurement, evidence.CodeBinding, evidence.CodeNonce, evidence.CodeSignature, evidence.CodeRoot, evidence.CodeMalformed}
	r := &appraisal.Result{}
	for _, code := range codes {
		r.Findings = append(r.Findings, appraisal.Finding{Code: code})
	}
	got := failed(r)
	slices.Reverse(codes)
	if !slices.Equal(got, codes) {
		t.Errorf("%v", got)
	}
}

// TestAlsoDiffers guards that Evidence that does not verify still tells what the policy would not accept, after what it did not
// verify for, and marked as unverified.
func TestAlsoDiffers(t *testing.T) {
	w := newWorld(t)
	w.change = func(k *psa.Token) {
		k.Lifecycle = psa.LifecycleNonPSADebug
		k.Components[0].Value = bytes.Repeat([]byte{1}, 32)
	}
	in := w.input()
	in.Challenge = bytes.Repeat([]byte{9}, 64)
	r, v := appraisal.AppraiseBundle(w.bundle(t), in, w.policy(t), w.expect())
	want := []string{evidence.CodeNonce, evidence.CodeNonce, appraisal.CodeLifecycle, appraisal.CodeMeasurement}
	if r.OK() || v != nil || !slices.Equal(failed(r), want) || !strings.Contains(r.Failed()[3].Claim, "not verified") {
		t.Errorf("%+v", r.Failed())
	}
	if r.Vector[appraisal.Executables].Value != 99 {
		t.Errorf("what is not verified has changed a claim: %+v", r.Vector)
	}
}
