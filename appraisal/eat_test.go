// SPDX-License-Identifier: Apache-2.0

package appraisal_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
)

func newVerifier(t testing.TB, alg cose.Algorithm) cose.Signer {
	t.Helper()
	priv, err := cose.GenerateKey(alg, rand.Reader)
	must(t, err)
	s, err := cose.NewSigner(priv)
	must(t, err)
	return s
}

func issued(t testing.TB, w *world, s cose.Signer) []byte {
	t.Helper()
	v := w.verified(t)
	data, err := appraisal.Issue(rand.Reader, s, appraisal.Appraise(v, w.policy(t), now, w.expect()), v, now, time.Hour)
	must(t, err)
	return data
}

func TestIssueAndParse(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		w, s := newWorld(t), newVerifier(t, alg)
		other := newVerifier(t, alg)
		r, err := appraisal.ParseResult(issued(t, w, s), []*cose.Key{other.Key(), s.Key()}, now)
		must(t, err)
		if !r.OK() || r.Status != appraisal.TierAffirming || r.Hardware != evidence.TrustZone || !r.Emulated {
			t.Errorf("got %+v", r)
		}
		if !r.For(w.agentKey) || r.For(newKey(t)) || r.For(nil) || !r.Verifier.Equal(s.Key()) {
			t.Error("it is bound to another key")
		}
		if !bytes.Equal(r.Nonce, challenge()) || len(r.TAs) != 1 || !r.TAs[0].EncKey.Equal(w.claims.TAs[0].EncKey) || len(r.Manifests) != 1 {
			t.Errorf("nonce %x, TAs %+v, manifests %+v", r.Nonce, r.TAs, r.Manifests)
		}
		if r.Vector[appraisal.HardwareClaim] != 2 || len(r.Vector) != 4 || r.PolicyHash != w.policy(t).Hash() {
			t.Errorf("vector %v", r.Vector)
		}
		if !r.Expires.Equal(now.Add(time.Hour)) || !r.IssuedAt.Equal(now) {
			t.Errorf("from %s to %s", r.IssuedAt, r.Expires)
		}
	}
}

func TestNegativeResultSaysSo(t *testing.T) {
	w, s := newWorld(t), newVerifier(t, cose.AlgESP256)
	v := w.verified(t)
	p := w.policy(t)
	p.Production = true
	data, err := appraisal.Issue(rand.Reader, s, appraisal.Appraise(v, p, now, w.expect()), v, now, time.Hour)
	must(t, err)
	r, err := appraisal.ParseResult(data, []*cose.Key{s.Key()}, now)
	must(t, err)
	if r.OK() || r.Status != appraisal.TierContraindicated {
		t.Errorf("status %s", r.Status)
	}
}

func TestIssueRefuses(t *testing.T) {
	w, s := newWorld(t), newVerifier(t, cose.AlgESP256)
	v := w.verified(t)
	r := appraisal.Appraise(v, w.policy(t), now, w.expect())
	if _, err := appraisal.Issue(rand.Reader, s, r, nil, now, time.Hour); !errors.Is(err, appraisal.ErrNoEvidence) {
		t.Errorf("without Evidence: %v", err)
	}
	if _, err := appraisal.Issue(rand.Reader, s, r, w.verified(t), now, time.Hour); !errors.Is(err, appraisal.ErrNoEvidence) {
		t.Errorf("with other Evidence: %v", err)
	}
	for _, validity := range []time.Duration{0, -time.Hour, 365 * 24 * time.Hour} {
		if _, err := appraisal.Issue(rand.Reader, s, r, v, now, validity); err == nil {
			t.Errorf("valid for %s", validity)
		}
	}
}

func TestParseResultRefuses(t *testing.T) {
	w, s := newWorld(t), newVerifier(t, cose.AlgESP256)
	data, keys := issued(t, w, s), []*cose.Key{s.Key()}
	for n := range data {
		if _, err := appraisal.ParseResult(data[:n], keys, now); !errors.Is(err, appraisal.ErrResult) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	flipped := bytes.Clone(data)
	flipped[len(flipped)-1] ^= 1
	for name, c := range map[string]struct {
		data []byte
		keys []*cose.Key
		at   time.Time
		err  error
	}{
		"signature":       {flipped, keys, now, appraisal.ErrResultKey},
		"another key":     {data, []*cose.Key{newKey(t)}, now, appraisal.ErrResultKey},
		"no key":          {data, nil, now, appraisal.ErrResultKey},
		"expired":         {data, keys, now.Add(time.Hour), appraisal.ErrResultExpired},
		"from the future": {data, keys, now.Add(-time.Hour), appraisal.ErrResultExpired},
		"huge":            {make([]byte, 1<<20), keys, now, appraisal.ErrResult},
	} {
		if _, err := appraisal.ParseResult(c.data, c.keys, c.at); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := appraisal.ParseResult(data, keys, now.Add(-time.Minute)); err != nil {
		t.Errorf("a Verifier's clock a minute ahead: %v", err)
	}
}

// edited changes the claims of an issued result and signs them again, as a faulty Verifier would.
func edited(t *testing.T, data []byte, s cose.Signer, change func(map[any]any)) []byte {
	t.Helper()
	msg, err := cose.Parse(data)
	must(t, err)
	var m map[any]any
	must(t, cose.Unmarshal(msg.PayloadInsecure(), &m))
	change(m)
	out, err := cose.Sign1(rand.Reader, s, cose.MustMarshal(m))
	must(t, err)
	return out
}

func TestParseResultClaims(t *testing.T) {
	w, s := newWorld(t), newVerifier(t, cose.AlgESP256)
	data, keys := issued(t, w, s), []*cose.Key{s.Key()}
	app := func(m map[any]any) map[any]any { return m[int64(266)].(map[any]any)["emu:trustzone"].(map[any]any) }
	for name, change := range map[string]func(map[any]any){
		"profile":            func(m map[any]any) { m[int64(265)] = evidence.Profile },
		"no profile":         func(m map[any]any) { delete(m, int64(265)) },
		"no cnf":             func(m map[any]any) { delete(m, int64(8)) },
		"cnf short":          func(m map[any]any) { m[int64(8)] = map[any]any{3: []byte{1}} },
		"cnf of two":         func(m map[any]any) { m[int64(8)] = map[any]any{3: make([]byte, 32), 5: make([]byte, 32)} },
		"cnf key malformed":  func(m map[any]any) { m[int64(8)] = map[any]any{1: map[any]any{1: 2}} },
		"no nonce":           func(m map[any]any) { delete(m, int64(10)) },
		"two nonces":         func(m map[any]any) { m[int64(10)] = []any{make([]byte, 32), make([]byte, 32)} },
		"no ueid":            func(m map[any]any) { delete(m, int64(256)) },
		"no oemid":           func(m map[any]any) { delete(m, int64(258)) },
		"no hwmodel":         func(m map[any]any) { delete(m, int64(259)) },
		"no hwversion":       func(m map[any]any) { delete(m, int64(260)) },
		"no manifests":       func(m map[any]any) { delete(m, int64(272)) },
		"no exp":             func(m map[any]any) { delete(m, int64(4)) },
		"exp as text":        func(m map[any]any) { m[int64(4)] = "soon" },
		"exp negative":       func(m map[any]any) { m[int64(4)] = -100000 },
		"no iat":             func(m map[any]any) { delete(m, int64(6)) },
		"no submods":         func(m map[any]any) { delete(m, int64(266)) },
		"no TAs":             func(m map[any]any) { delete(m, int64(-70003)) },
		"no Evidence":        func(m map[any]any) { delete(m, int64(-70004)) },
		"accept anything":    func(m map[any]any) { m[int64(-70005)] = 96 },
		"status unknown":     func(m map[any]any) { app(m)[int64(1000)] = 3 },
		"status too good":    func(m map[any]any) { app(m)[int64(1001)].(map[any]any)[int64(4)] = 96 },
		"no hardware claim":  func(m map[any]any) { delete(app(m)[int64(1001)].(map[any]any), int64(4)) },
		"hardware claim 0":   func(m map[any]any) { app(m)[int64(1001)].(map[any]any)[int64(4)] = 0 },
		"vector value large": func(m map[any]any) { app(m)[int64(1001)].(map[any]any)[int64(4)] = 300 },
		"no policy":          func(m map[any]any) { delete(app(m), int64(1003)) },
	} {
		if _, err := appraisal.ParseResult(edited(t, data, s, change), keys, now); !errors.Is(err, appraisal.ErrResult) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(map[any]any){
		"unknown claim": func(m map[any]any) { m[int64(-70099)] = 1 },
		"iat with tag 1": func(m map[any]any) {
			m[int64(6)] = cose.RawMessage(append([]byte{0xc1}, cose.MustMarshal(now.Unix())...))
		},
		"thumbprint in ckt":     func(m map[any]any) { m[int64(8)] = map[any]any{5: w.agentKey.KID()} },
		"whole key in cnf":      func(m map[any]any) { m[int64(8)] = map[any]any{1: w.agentKey} },
		"claim of later AR4SI":  func(m map[any]any) { app(m)[int64(1001)].(map[any]any)[int64(40)] = 2 },
		"affirming, other kind": func(m map[any]any) { app(m)[int64(1001)].(map[any]any)[int64(4)] = -5 },
	} {
		r, err := appraisal.ParseResult(edited(t, data, s, change), keys, now)
		if err != nil || !r.For(w.agentKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseResult(f *testing.F) {
	w, s := newWorld(f), newVerifier(f, cose.AlgESP256)
	msg, err := cose.Parse(issued(f, w, s))
	must(f, err)
	f.Add(msg.PayloadInsecure())
	// The payload is what a Verifier signed; the fuzzer plays a faulty Verifier.
	f.Fuzz(func(t *testing.T, payload []byte) {
		data, err := cose.Sign1(rand.Reader, s, payload)
		must(t, err)
		r, err := appraisal.ParseResult(data, []*cose.Key{s.Key()}, now)
		if (r == nil) == (err == nil) {
			t.Fatalf("got %v and %v", r, err)
		}
		if r != nil && r.OK() && len(r.AgentKID) != 32 {
			t.Fatal("a positive result about nobody")
		}
	})
}
