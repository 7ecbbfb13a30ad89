// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/agentconfig"
	"sealift/suit/report"
	"sealift/teep"
	"sealift/usecase"
)

// opener holds the one key of a TAM for what is encrypted to it.
type opener struct{ key *ecdh.PrivateKey }

func (o opener) ECDH([]byte) []*ecdh.PrivateKey { return []*ecdh.PrivateKey{o.key} }
func (o opener) KEK([]byte) [][]byte            { return nil }

// result makes an Attestation Result of the TEEP profile.
func result(t *testing.T, verifier cose.Signer, about *cose.Key, nonce []byte, issued time.Time, status int) []byte {
	t.Helper()
	vector := map[int]int{0: status, 1: status, 2: status, 4: status}
	data, err := cose.Sign1(rand.Reader, verifier, cose.MustMarshal(map[int]any{
		4: issued.Add(100 * time.Hour).Unix(), 6: issued.Unix(), 8: map[int]any{3: about.KID()}, 10: nonce, 256: make([]byte, 17),
		258: make([]byte, 16), 259: []byte("model"), 260: []string{"1"}, 265: appraisal.TEEPProfile,
		266:    map[string]any{"emu:trustzone": map[int]any{1000: status, 1001: vector, 1003: []string{strings.Repeat("00", 32)}}},
		272:    []any{[]any{60, cose.MustMarshal([]any{"tag:a", []any{cose.AlgSHA256, make([]byte, 32)}})}},
		-70003: cose.RawMessage(evidence.MarshalTAs(nil)), -70004: make([]byte, 32), -70005: int(appraisal.TierAffirming),
	}))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// ask sends a QueryRequest and returns the answer without regard to who signed it.
func (w *world) ask(signer cose.Signer, chain [][]byte, q *teep.QueryRequest) (teep.Message, *teep.Signed) {
	w.t.Helper()
	q.CipherSuites, q.SUITProfiles = teep.DefaultCipherSuites, teep.DefaultSUITProfiles
	data, err := teep.SignCertified(rand.Reader, signer, chain, q)
	if err != nil {
		w.t.Fatal(err)
	}
	reply, err := w.client.ProcessTeepMessage(w.t.Context(), "", data)
	if err != nil {
		w.t.Fatal(err)
	}
	signed, err := teep.Parse(reply)
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := signed.MessageInsecure()
	if err != nil {
		w.t.Fatal(err)
	}
	return m, signed
}

func (w *world) refuses(m teep.Message, code teep.ErrCode) *teep.Error {
	w.t.Helper()
	e, ok := m.(*teep.Error)
	if !ok || e.Code != code {
		w.t.Fatalf("want %v, got %+v", code, m)
	}
	return e
}

func TestEd25519Agent(t *testing.T) {
	w := newWorld(t, func(c *agentconfig.Config) { c.SigningAlg = cose.AlgEd25519 })
	w.attest()
	if alg := w.agentKey.SignatureAlgorithm(); alg != cose.AlgEd25519 {
		t.Fatalf("the Agent's key is for %v", alg)
	}
	w.succeeds(w.update(w.program(usecase.TA, 1, "echo v1", anyone)), 1)
	w.reboot(true)
	w.attest() // verified with the key from before
	q := &teep.QueryRequest{Challenge: make([]byte, 64), DataItems: teep.ItemAttestation,
		CipherSuites: []teep.CipherSuite{teep.SuiteOf(cose.AlgESP256)}, SUITProfiles: teep.DefaultSUITProfiles}
	m, err := w.exchange(q)
	if err != nil {
		t.Fatal(err)
	}
	if e := w.refuses(m, teep.ErrCodeUnsupportedCipherSuites); !e.CipherSuites[0].Equal(teep.SuiteOf(cose.AlgEd25519)) {
		t.Fatalf("%+v", e)
	}
}

// TestEncryptedToTheTAM: with a key in the measured configuration neither Evidence nor reports travel in the clear.
func TestEncryptedToTheTAM(t *testing.T) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := cose.NewKey(key.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *agentconfig.Config) { c.TAMEncKey = pub })
	challenge := bytes.Repeat([]byte{7}, 64)
	m, signed := w.ask(w.tam, nil, &teep.QueryRequest{Challenge: challenge, DataItems: teep.ItemAttestation})
	w.agentKey = w.claimedKey(signed)
	payload := m.(*teep.QueryResponse).AttestationPayload
	if bytes.Contains(payload, challenge) {
		t.Fatal("the claims can be read")
	}
	if _, err := cose.Decrypt(payload, opener{key}, cose.ContextSUITReport); err == nil {
		t.Fatal("the key derivation does not name its purpose")
	}
	bundle, err := cose.Decrypt(payload, opener{key}, cose.ContextEAT)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.Verify(bundle, evidence.Input{
		Challenge: challenge, AgentKey: w.agentKey, Anchors: evidence.Anchors{Roots: []evidence.Anchor{w.pki.Anchor()}}, Now: time.Now(),
	}); err != nil {
		t.Fatal(err)
	}
	s, ok := w.update(w.program(usecase.TA, 1, "echo v1", anyone)).(*teep.Success)
	if !ok || len(s.SUITReports) != 1 {
		t.Fatalf("%+v", s)
	}
	if _, err := report.Parse(s.SUITReports[0]); err == nil {
		t.Fatal("the report can be read")
	}
	plain, err := cose.Decrypt(s.SUITReports[0], opener{key}, cose.ContextSUITReport)
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := report.Parse(plain); err != nil || !rep.OK() || !bytes.Equal(rep.Nonce, s.Token) {
		t.Fatalf("%+v, %v", rep, err)
	}
}

// TestAttestationOfTheTAM: by nonce once, by time within the window, and by nothing else.
func TestAttestationOfTheTAM(t *testing.T) {
	verifier, _ := newSigner(t, cose.AlgESP256)
	w := newWorld(t, func(c *agentconfig.Config) {
		c.RequireTAMAttestation, c.VerifierKeys, c.ResultSeconds = true, []*cose.Key{verifier.Key()}, 3600
	})
	now := time.Now()
	query := func(result []byte, format string) teep.Message {
		t.Helper()
		m, _ := w.ask(w.tam, nil, &teep.QueryRequest{Challenge: make([]byte, 64), DataItems: teep.ItemAttestation,
			AttestationPayload: result, AttestationPayloadFormat: format})
		return m
	}
	first := w.refuses(query(nil, ""), teep.ErrCodeAttestationRequired)
	if len(first.Challenge) != 64 || len(first.SupportedFreshness) != 2 || len(first.Extensions) != 1 {
		t.Fatalf("%+v", first)
	}
	old := result(t, verifier, w.tam.Key(), first.Challenge, now.Add(-2*time.Hour), 2)
	if m, ok := query(old, "").(*teep.QueryResponse); !ok {
		t.Fatalf("over the challenge: %+v", m)
	}
	again := w.refuses(query(old, ""), teep.ErrCodeAttestationRequired)
	if bytes.Equal(again.Challenge, first.Challenge) {
		t.Fatal("one challenge for two")
	}
	stranger := make([]byte, 64)
	for name, c := range map[string]struct {
		result []byte
		format string
		ok     bool
	}{
		"young":                   {result(t, verifier, w.tam.Key(), stranger, now.Add(-time.Minute), 2), "", true},
		"young, format named":     {result(t, verifier, w.tam.Key(), stranger, now.Add(-time.Minute), 2), teep.AttestationResultFormat, true},
		"called Evidence":         {result(t, verifier, w.tam.Key(), stranger, now.Add(-time.Minute), 2), "application/eat+cwt", false},
		"old":                     {result(t, verifier, w.tam.Key(), stranger, now.Add(-2*time.Hour), 2), "", false},
		"about another":           {result(t, verifier, w.stranger.Key(), stranger, now, 2), "", false},
		"by an unknown Verifier":  {result(t, w.stranger, w.tam.Key(), stranger, now, 2), "", false},
		"of a TAM that is warned": {result(t, verifier, w.tam.Key(), stranger, now, 32), "", false},
		"from the future":         {result(t, verifier, w.tam.Key(), stranger, now.Add(time.Hour), 2), "", false},
		"no result":               {[]byte("no result"), "", false},
	} {
		m := query(c.result, c.format)
		if _, ok := m.(*teep.QueryResponse); ok != c.ok {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// TestPassport: what a TAM has handed over is shown where no challenge is given, and then wishes travel unasked.
func TestPassport(t *testing.T) {
	verifier, _ := newSigner(t, cose.AlgESP256)
	w := newWorld(t, func(c *agentconfig.Config) { c.VerifierKeys = []*cose.Key{verifier.Key()} })
	w.attest()
	byTime := func() *teep.QueryRequest {
		return &teep.QueryRequest{DataItems: teep.ItemAttestation | teep.ItemExtensions, SupportedFreshness: []uint32{teep.FreshnessTimestamp}}
	}
	m, _ := w.ask(w.tam, nil, byTime())
	w.refuses(m, teep.ErrCodeUnsupportedFreshness)

	for _, bad := range [][]byte{result(t, w.stranger, w.agentKey, make([]byte, 64), time.Now(), 2), result(t, verifier, w.tam.Key(), make([]byte, 64), time.Now(), 2)} {
		w.hands(bad)
		m, _ := w.ask(w.tam, nil, byTime())
		w.refuses(m, teep.ErrCodeUnsupportedFreshness)
	}
	passport := result(t, verifier, w.agentKey, make([]byte, 64), time.Now(), 2)
	w.hands(passport)
	m, _ = w.ask(w.tam, nil, byTime())
	r, ok := m.(*teep.QueryResponse)
	if !ok || !bytes.Equal(r.AttestationPayload, passport) || !teep.IsAttestationResult(r.AttestationPayloadFormat) || r.Token != nil {
		t.Fatalf("%+v", m)
	}
	if len(r.ExtList) != 1 || uint64(r.ExtList[0]) != agentconfig.AgentKeyOption {
		t.Fatalf("ext-list %v", r.ExtList)
	}
	unasked := func() *teep.QueryResponse {
		t.Helper()
		ses, err := w.client.RequestTA(t.Context(), taID, "")
		if err != nil || ses.TAMURI == "" {
			t.Fatalf("%+v, %v", ses, err)
		}
		if ses.Message == nil {
			return nil
		}
		v, err := teep.Verify(ses.Message, []*cose.Key{w.agentKey})
		if err != nil {
			t.Fatal(err)
		}
		return v.Message.(*teep.QueryResponse)
	}
	if r := unasked(); r == nil || len(r.RequestedTCList) != 1 || !bytes.Equal(r.AttestationPayload, passport) {
		t.Fatalf("%+v", r)
	}
	if err := w.client.ProcessError(t.Context(), "http://tam.invalid/d1", "gone"); err != nil {
		t.Fatal(err)
	}
	if r := unasked(); r != nil {
		t.Fatal("unasked although the session has failed")
	}
	w.ask(w.tam, nil, byTime())
	w.attest() // a challenge
	if r := unasked(); r != nil {
		t.Fatal("unasked although the TAM now gives challenges")
	}
}

// hands sends an Update with nothing but an Attestation Result.
func (w *world) hands(result []byte) {
	w.t.Helper()
	m, err := w.exchange(&teep.Update{Token: w.token(), AttestationPayload: result})
	if err != nil {
		w.t.Fatal(err)
	}
	w.succeeds(m, 0)
}

// TestRefusalIsShown: the verdict of a TAM, and its language, reach whoever operates the device.
func TestRefusalIsShown(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	code := teep.ErrCode(1)
	for _, lang := range []string{"de-AT", ""} { // a language that nobody here knows is no reason to overlook the code
		m, err := w.exchange(&teep.Update{Token: w.token(), ErrCode: &code, ErrMsg: "abgelehnt", ErrLang: lang})
		if err != nil {
			t.Fatal(err)
		}
		w.succeeds(m, 0)
		st, err := w.client.Status(t.Context())
		if err != nil || !strings.Contains(st.LastError, "ERR_PERMANENT_ERROR") || !strings.Contains(st.LastError, "abgelehnt") || !strings.Contains(st.LastError, lang) {
			t.Fatalf("%+v, %v", st, err)
		}
	}
}

func TestSeveralTAMs(t *testing.T) {
	second, _ := newSigner(t, cose.AlgESP256)
	w := newWorld(t, func(c *agentconfig.Config) {
		c.FurtherTAMs = []agentconfig.TAM{{URI: "http://second.invalid/", Keys: []*cose.Key{second.Key()}}}
	})
	for range 2 {
		var uris []string
		for {
			ses, err := w.client.RequestPolicyCheck(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if ses.TAMURI == "" {
				break
			}
			uris = append(uris, ses.TAMURI)
		}
		if strings.Join(uris, " ") != "http://tam.invalid/d1 http://second.invalid/" {
			t.Fatal(uris)
		}
	}
	for proposed, want := range map[string]string{"http://second.invalid/": "http://second.invalid/", "http://third.invalid/": "http://tam.invalid/d1"} {
		if ses, err := w.client.RequestTA(t.Context(), taID, proposed); err != nil || ses.TAMURI != want {
			t.Fatalf("%q: %+v, %v", proposed, ses, err)
		}
	}
	for signer, ok := range map[cose.Signer]bool{w.tam: true, second: true, w.stranger: false} {
		m, _ := w.ask(signer, nil, &teep.QueryRequest{Challenge: make([]byte, 64), DataItems: teep.ItemAttestation})
		if _, answered := m.(*teep.QueryResponse); answered != ok {
			t.Fatalf("%+v", m)
		}
	}
}

// TestCertifiedTAM: a certificate is good for the TAM whose host it names, while it is valid.
func TestCertifiedTAM(t *testing.T) {
	_, rootKey := newSigner(t, cose.AlgESP256)
	issue := func(host string, pub any, to time.Time) []byte {
		c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: to.Add(-2 * time.Hour), NotAfter: to}
		if host == "" {
			c.IsCA, c.BasicConstraintsValid, c.NotBefore = true, true, time.Unix(0, 0)
		} else {
			c.DNSNames = []string{host}
		}
		parent := c
		if host != "" {
			parent = &x509.Certificate{Subject: pkix.Name{CommonName: "x"}}
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, rootKey)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	root := issue("", rootKey.Public(), time.Now().Add(100*time.Hour))
	certified, key := newSigner(t, cose.AlgEd25519)
	w := newWorld(t, func(c *agentconfig.Config) { c.TAMRoots = [][]byte{root} })
	soon := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		chain [][]byte
		want  teep.ErrCode
	}{
		"of the TAM":       {[][]byte{issue("tam.invalid", key.Public(), soon)}, 0},
		"of another":       {[][]byte{issue("elsewhere.invalid", key.Public(), soon)}, teep.ErrCodeBadCertificate},
		"expired":          {[][]byte{issue("tam.invalid", key.Public(), time.Now().Add(-time.Minute))}, teep.ErrCodeCertificateExpired},
		"by nobody":        {[][]byte{{1}}, teep.ErrCodeBadCertificate},
		"no certificate":   {nil, teep.ErrCodePermanent},
		"of another's key": {[][]byte{issue("tam.invalid", w.stranger.Key().Public(), soon)}, teep.ErrCodePermanent},
	} {
		m, _ := w.ask(certified, c.chain, &teep.QueryRequest{Challenge: make([]byte, 64), DataItems: teep.ItemAttestation})
		if _, ok := m.(*teep.QueryResponse); ok != (c.want == 0) {
			t.Fatalf("%s: %+v", name, m)
		} else if !ok {
			w.refuses(m, c.want)
		}
	}
}

// TestCompatibilityProfile: one name in the measured configuration, and nothing else, makes the Agent lenient.
func TestCompatibilityProfile(t *testing.T) {
	for profile, ok := range map[teep.Profile]bool{teep.ProfileStrict: false, teep.ProfileDrafts: true} {
		w := newWorld(t, func(c *agentconfig.Config) { c.Profile = profile })
		good, err := teep.Encode(&teep.QueryRequest{Challenge: make([]byte, 64), DataItems: teep.ItemAttestation,
			CipherSuites: teep.DefaultCipherSuites, SUITProfiles: teep.DefaultSUITProfiles})
		if err != nil {
			t.Fatal(err)
		}
		// A token beside a challenge, as in the draft's own example.
		loose := append([]byte{0x85, 0x01, 0xa2}, good[3:3+3+64]...)
		loose = append(append(append(loose, 0x14, 0x48), make([]byte, 8)...), good[3+3+64:]...)
		data, err := cose.Sign1(rand.Reader, w.tam, loose)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := w.client.ProcessTeepMessage(t.Context(), "", data)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := teep.Parse(reply)
		if err != nil {
			t.Fatal(err)
		}
		m, err := signed.MessageInsecure()
		if r, answered := m.(*teep.QueryResponse); err != nil || answered != ok || ok && len(r.Token) != 8 {
			t.Errorf("%q: %+v, %v", profile, m, err)
		}
	}
}
