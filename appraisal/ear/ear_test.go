// SPDX-License-Identifier: Apache-2.0

package ear_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/appraisal"
	"sealift/appraisal/ear"
	"sealift/cose"
	"sealift/evidence/cca"
	"sealift/internal/sharedtest"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newSigner(t testing.TB) cose.Signer {
	t.Helper()
	key, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	must(t, err)
	s, err := cose.NewSigner(key)
	must(t, err)
	return s
}

var nonce = bytes.Repeat([]byte{0xfb}, 64) // has characters by which base64 and base64url differ

func good() *ear.EAR {
	vector := map[string]int8{"hardware": 2, "instance-identity": 2, "executables": 3, "configuration": 2}
	return &ear.EAR{Profile: ear.Profile, IssuedAt: now, Expires: now.Add(time.Hour), Verifier: ear.VerifierID{Developer: "us", Build: "1"},
		Nonces: [][]byte{nonce}, Submods: map[string]ear.Appraisal{"tdx": {Status: appraisal.TierAffirming, Vector: vector,
			Policies: []string{"urn:x"}}}}
}

func expected(s cose.Signer) ear.Expected {
	return ear.Expected{Keys: []*cose.Key{s.Key()}, Nonce: nonce, Submods: []string{"tdx"}, MaxAge: time.Minute, Now: now}
}

// TestForms guards that each form is read as what was written, under its signer's key and no other.
func TestForms(t *testing.T) {
	s := newSigner(t)
	tier := appraisal.TierAffirming
	full := good()
	full.Status, full.RawEvidence = &tier, []byte{1, 2, 3}
	full.Nonces = append(full.Nonces, []byte("another nonce"))
	for name, e := range map[string]*ear.EAR{"plain": good(), "full": full} {
		for form, write := range map[string]func() ([]byte, error){
			"JWT":            func() ([]byte, error) { return e.SignJWT(rand.Reader, s, ear.FormDraft) },
			"JWT (Veraison)": func() ([]byte, error) { return e.SignJWT(rand.Reader, s, ear.FormVeraison) },
			"CWT":            func() ([]byte, error) { return e.SignCWT(rand.Reader, s) },
		} {
			data, err := write()
			must(t, err)
			got, err := ear.Read(data, newSigner(t).Key(), s.Key())
			must(t, err)
			if got.Signer == nil || !got.Signer.Equal(s.Key()) {
				t.Errorf("%s, %s: signer %v", name, form, got.Signer)
			}
			got.Signer = nil
			if strings.Contains(form, "Veraison") {
				got.Profile = ear.Profile
				for _, a := range got.Submods {
					for claim, v := range a.Vector {
						if v == 0 {
							delete(a.Vector, claim)
						}
					}
				}
			}
			if !reflect.DeepEqual(got, e) {
				t.Errorf("%s, %s:\n%+v\n%+v", name, form, got, e)
			}
			if _, err := ear.Read(data, newSigner(t).Key()); !errors.Is(err, ear.ErrSignature) {
				t.Errorf("%s, %s by a stranger: %v", name, form, err)
			}
			for i := range data {
				changed := bytes.Clone(data)
				changed[i] ^= 1
				if again, err := ear.Read(changed, s.Key()); err == nil && !reflect.DeepEqual(again.Submods, got.Submods) {
					t.Fatalf("%s, %s: byte %d changed, and it says something else", name, form, i)
				}
				if _, err := ear.Read(data[:i], s.Key()); err == nil {
					t.Fatalf("%s, %s: cut to %d bytes", name, form, i)
				}
			}
		}
	}
}

// TestRules guards that each rule, broken alone, is the one that is named.
func TestRules(t *testing.T) {
	s := newSigner(t)
	submod := func(e *ear.EAR, change func(*ear.Appraisal)) {
		a := e.Submods["tdx"]
		change(&a)
		e.Submods["tdx"] = a
	}
	for name, c := range map[string]struct {
		change  func(*ear.EAR, *ear.Expected)
		codes   []string
		verdict ear.Verdict
	}{
		"nothing":         {func(*ear.EAR, *ear.Expected) {}, nil, ear.Allow},
		"another key":     {func(_ *ear.EAR, in *ear.Expected) { in.Keys = []*cose.Key{newSigner(t).Key()} }, []string{ear.CodeSignature}, ear.Refuse},
		"no key":          {func(_ *ear.EAR, in *ear.Expected) { in.Keys = nil }, []string{ear.CodeSignature}, ear.Refuse},
		"unknown profile": {func(e *ear.EAR, _ *ear.Expected) { e.Profile = "tag:ietf.org,2026:rats/ear#4" }, []string{ear.CodeProfile}, ear.Refuse},
		"old":             {func(e *ear.EAR, _ *ear.Expected) { e.IssuedAt = now.Add(-2 * time.Minute) }, []string{ear.CodeTime}, ear.Refuse},
		"from the future": {func(e *ear.EAR, _ *ear.Expected) { e.IssuedAt = now.Add(3 * time.Minute) }, []string{ear.CodeTime}, ear.Refuse},
		"expired":         {func(e *ear.EAR, _ *ear.Expected) { e.Expires = now }, []string{ear.CodeTime}, ear.Refuse},
		"no exp":          {func(e *ear.EAR, _ *ear.Expected) { e.Expires = time.Time{} }, nil, ear.Allow},
		"another nonce":   {func(_ *ear.EAR, in *ear.Expected) { in.Nonce = bytes.Repeat([]byte{1}, 64) }, []string{ear.CodeNonce}, ear.Refuse},
		"no nonce":        {func(e *ear.EAR, _ *ear.Expected) { e.Nonces = nil }, []string{ear.CodeNonce}, ear.Refuse},
		"no nonce sent":   {func(e *ear.EAR, in *ear.Expected) { e.Nonces, in.Nonce = nil, nil }, []string{ear.CodeNonce}, ear.Refuse},
		"two nonces":      {func(e *ear.EAR, _ *ear.Expected) { e.Nonces = append(e.Nonces, []byte("12345678")) }, []string{ear.CodeNonce}, ear.Refuse},
		"no submodule":    {func(_ *ear.EAR, in *ear.Expected) { in.Submods = []string{"tdx", "platform"} }, []string{ear.CodeSubmodule}, ear.Refuse},
		"none expected":   {func(_ *ear.EAR, in *ear.Expected) { in.Submods = nil }, []string{ear.CodeSubmodule}, ear.Refuse},
		"no assertion": {func(e *ear.EAR, _ *ear.Expected) { submod(e, func(a *ear.Appraisal) { a.Vector["hardware"] = 0 }) },
			[]string{ear.CodeClaim}, ear.Refuse},
		"error of the Verifier": {func(e *ear.EAR, _ *ear.Expected) { submod(e, func(a *ear.Appraisal) { a.Vector["hardware"] = -1 }) },
			[]string{ear.CodeClaim}, ear.Refuse},
		"no vector": {func(e *ear.EAR, _ *ear.Expected) { submod(e, func(a *ear.Appraisal) { a.Vector = nil }) },
			[]string{ear.CodeClaim, ear.CodeClaim, ear.CodeClaim, ear.CodeClaim}, ear.Refuse},
		"status better than a claim": {func(e *ear.EAR, _ *ear.Expected) { submod(e, func(a *ear.Appraisal) { a.Vector["file-system"] = 96 }) },
			[]string{ear.CodeStatus}, ear.Refuse},
		"contraindicated": {func(e *ear.EAR, _ *ear.Expected) {
			submod(e, func(a *ear.Appraisal) { a.Status = appraisal.TierContraindicated })
		}, []string{ear.CodeStatus}, ear.Refuse},
		"none": {func(e *ear.EAR, _ *ear.Expected) { submod(e, func(a *ear.Appraisal) { a.Status = appraisal.TierNone }) },
			[]string{ear.CodeStatus}, ear.Refuse},
		"warning": {func(e *ear.EAR, _ *ear.Expected) {
			submod(e, func(a *ear.Appraisal) { a.Status = appraisal.TierWarning })
		},
			[]string{ear.CodeStatus}, ear.UpdatesOnly},
		"configuration warns": {func(e *ear.EAR, _ *ear.Expected) {
			submod(e, func(a *ear.Appraisal) { a.Vector["configuration"] = 36 })
		},
			[]string{ear.CodeClaim, ear.CodeStatus}, ear.UpdatesOnly},
		"the worst submodule counts": {func(e *ear.EAR, _ *ear.Expected) {
			e.Submods["other"] = ear.Appraisal{Status: appraisal.TierContraindicated, Vector: map[string]int8{"executables": 99}}
		}, []string{ear.CodeClaim, ear.CodeStatus}, ear.Refuse},
		"the whole is worse": {func(e *ear.EAR, _ *ear.Expected) { tier := appraisal.TierContraindicated; e.Status = &tier },
			[]string{ear.CodeStatus}, ear.Refuse},
	} {
		e, in := good(), expected(s)
		c.change(e, &in)
		jwt, err := e.SignJWT(rand.Reader, s, ear.FormDraft)
		must(t, err)
		cwt, err := e.SignCWT(rand.Reader, s)
		must(t, err)
		for _, data := range [][]byte{jwt, cwt} {
			o := ear.Check(data, in)
			var codes []string
			for _, f := range o.Failed() {
				codes = append(codes, f.Code)
				if f.Expected == "" || f.Got == "" || f.Source == "" {
					t.Errorf("%s: finding %+v", name, f)
				}
			}
			if o.Verdict != c.verdict || !slices.Equal(codes, c.codes) {
				t.Errorf("%s: %s, %+v", name, o.Verdict, o.Failed())
			}
		}
	}
}

// TestJWS guards the header: one algorithm, nothing twice, nothing that changes the meaning, one encoding.
func TestJWS(t *testing.T) {
	s := newSigner(t)
	data, err := good().SignJWT(rand.Reader, s, ear.FormDraft)
	must(t, err)
	parts := strings.Split(string(data), ".")
	sign := func(header, payload string) string {
		tbs := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
		sig, err := s.Sign(rand.Reader, []byte(tbs))
		must(t, err)
		return tbs + "." + base64.RawURLEncoding.EncodeToString(sig)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	must(t, err)
	if _, err := ear.Read([]byte(sign(`{"alg":"ES256"}`, string(payload))), s.Key()); err != nil {
		t.Fatalf("a header with alg alone: %v", err)
	}
	for name, bad := range map[string]string{
		"none":              base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"another algorithm": sign(`{"alg":"HS256"}`, string(payload)),
		"no algorithm":      sign(`{"typ":"JWT"}`, string(payload)),
		"algorithm twice":   sign(`{"alg":"ES256","alg":"ES256"}`, string(payload)),
		"critical":          sign(`{"alg":"ES256","crit":["b64"],"b64":false}`, string(payload)),
		"a list":            sign(`["ES256"]`, string(payload)),
		"claim twice":       sign(`{"alg":"ES256"}`, strings.Replace(string(payload), `"iat"`, `"iat":1,"iat"`, 1)),
		"old and new name":  sign(`{"alg":"ES256"}`, strings.Replace(string(payload), `"ear_verifier_id"`, `"ear.verifier-id":{},"ear_verifier_id"`, 1)),
		"status of no tier": sign(`{"alg":"ES256"}`, strings.Replace(string(payload), `"affirming"`, `3`, 1)),
		"no submods":        sign(`{"alg":"ES256"}`, strings.Replace(string(payload), `"submods"`, `"Submods"`, 1)),
		"padding":           parts[0] + "." + parts[1] + "." + parts[2] + "==",
		"a line break":      parts[0] + ".\n" + parts[1] + "." + parts[2],
		"four parts":        string(data) + ".",
	} {
		if _, err := ear.Read([]byte(bad), s.Key()); !errors.Is(err, ear.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestVeraison guards that what a Veraison made is read with the pinned key, and that the rules accept it.
func TestVeraison(t *testing.T) {
	dir := sharedtest.Dir(t, "evidence")
	data, err := os.ReadFile(filepath.Join(dir, "ear/veraison_cca_affirming.ear.jwt"))
	must(t, err)
	jwk, err := os.ReadFile(filepath.Join(dir, "ear/veraison.ear-verification-key.jwk"))
	must(t, err)
	key := keyOfJWK(t, jwk)
	e, err := ear.Read(bytes.TrimSpace(data), key)
	must(t, err)
	in := ear.Expected{Keys: []*cose.Key{key}, Nonce: e.Nonces[0], Submods: []string{"CCA_REALM", "CCA_SSD_PLATFORM"}, MaxAge: time.Hour,
		Now: e.IssuedAt.Add(time.Minute)}
	if o := ear.Check(bytes.TrimSpace(data), in); o.Verdict != ear.Allow || len(o.Failed()) > 0 {
		t.Errorf("%s: %+v", o.Verdict, o.Failed())
	}
	if e.Verifier.Developer != "Veraison Project" || e.Submods["CCA_REALM"].Policies[0] != "policy:ARM_CCA" || len(e.Nonces[0]) != 64 {
		t.Errorf("%+v", e)
	}
}

// TestDraftExamples guards that the examples of the draft are read.
func TestDraftExamples(t *testing.T) {
	dir := sharedtest.Dir(t, "vectors")
	s := newSigner(t)
	text, err := os.ReadFile(filepath.Join(dir, "ear/ear-json-1.json"))
	must(t, err)
	tbs := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256"}`)) + "." + base64.RawURLEncoding.EncodeToString(text)
	sig, err := s.Sign(rand.Reader, []byte(tbs))
	must(t, err)
	jwt := []byte(tbs + "." + base64.RawURLEncoding.EncodeToString(sig))
	payload, err := os.ReadFile(filepath.Join(dir, "ear/ear-cbor-1.cbor"))
	must(t, err)
	cwt, err := cose.Sign1(rand.Reader, s, payload)
	must(t, err)
	for name, data := range map[string][]byte{"JSON": jwt, "CBOR": cwt} {
		e, err := ear.Read(data, s.Key())
		must(t, err)
		a := e.Submods["PSA"]
		if a.Status != appraisal.TierContraindicated || a.Vector["executables"] != 96 || len(a.Policies) != 1 || e.RawEvidence == nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func TestNew(t *testing.T) {
	r := &appraisal.Result{Status: appraisal.TierWarning, Vector: map[string]appraisal.Claim{"hardware": {Value: 32}}, PolicyHash: appraisal.Hex32{7}}
	e := ear.New(r, "emu:tdx", nonce, ear.VerifierID{Developer: "us"}, now, time.Hour)
	a := e.Submods["emu:tdx"]
	if a.Status != appraisal.TierWarning || a.Vector["hardware"] != 32 || !strings.HasSuffix(a.Policies[0], r.PolicyHash.String()) {
		t.Errorf("%+v", e)
	}
}

func keyOfJWK(t testing.TB, data []byte) *cose.Key {
	t.Helper()
	var j struct{ X, Y string }
	must(t, json.Unmarshal(data, &j))
	point := []byte{4} // uncompressed
	for _, c := range []string{j.X, j.Y} {
		b, err := base64.RawURLEncoding.DecodeString(c)
		must(t, err)
		point = append(point, b...)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	must(t, err)
	key, err := cose.NewKey(pub)
	must(t, err)
	return key
}

func FuzzParse(f *testing.F) {
	s := newSigner(f)
	jwt, err := good().SignJWT(rand.Reader, s, ear.FormDraft)
	must(f, err)
	old, err := good().SignJWT(rand.Reader, s, ear.FormVeraison)
	must(f, err)
	cwt, err := good().SignCWT(rand.Reader, s)
	must(f, err)
	for _, seed := range [][]byte{jwt, old, cwt} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ear.ParseInsecure(data)
		if err != nil {
			return
		}
		again, err := e.SignCWT(rand.Reader, s)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := ear.Read(again, s.Key()); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}

// TestManifest checks every row for EARs: the result verifies under the key, and is about the Evidence beside it.
func TestManifest(t *testing.T) {
	var key *cose.Key
	var token, cbor []byte
	checked := 0
	for _, row := range sharedtest.Manifest(t, "evidence") {
		if !strings.HasPrefix(row["file"], "ear/") {
			continue
		}
		data := sharedtest.Read(t, "evidence", row["file"])
		checked++
		switch filepath.Ext(row["file"]) {
		case ".jwt":
			token = bytes.TrimSpace(data)
		case ".jwk":
			key = keyOfJWK(t, data)
		case ".cbor":
			cbor = data
		default:
			t.Errorf("%s: a row without a check", row["file"])
		}
	}
	e, err := ear.Read(token, key)
	must(t, err)
	if len(e.Nonces) != 1 || !bytes.Contains(cbor, e.Nonces[0]) {
		t.Errorf("the Evidence does not have the EAR's nonce %x", e.Nonces)
	}
	// Its two tokens are of different editions of the specification, which Veraison lets pass.
	if _, err := cca.Parse(cbor); !errors.Is(err, cca.ErrProfile) {
		t.Errorf("the Evidence, made of an old platform token and a new realm token: %v", err)
	}
	t.Logf("%d rows for EARs checked, none skipped", checked)
	if checked != 3 {
		t.Errorf("%d rows checked, want 3", checked)
	}
}
