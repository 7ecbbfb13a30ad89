// SPDX-License-Identifier: Apache-2.0

package tam_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/cose"
	"sealift/internal/tam"
	"sealift/teep"
	"sealift/teep/teephttp"
	"sealift/usecase"
)

// TestNegotiation: an Error about the first QueryRequest gets a better one where there is common ground, without a write.
func TestNegotiation(t *testing.T) {
	own := bytes.Repeat([]byte{9}, 64)
	attest := func(_ context.Context, challenge []byte) ([]byte, error) {
		if challenge == nil {
			return nil, errors.New("no challenge")
		}
		return append([]byte("result over "), challenge...), nil
	}
	ed := []teep.CipherSuite{teep.SuiteOf(cose.AlgEd25519)}
	both := tam.Protocol{Attest: attest, Window: time.Hour}
	for name, c := range map[string]struct {
		e        teep.Error
		protocol tam.Protocol
		want     func(*teep.QueryRequest, []cose.Algorithm) bool // nil: no answer
	}{
		"version 0": {teep.Error{Code: teep.ErrCodeUnsupportedVersion, Versions: []uint32{7, 0}}, both,
			func(q *teep.QueryRequest, _ []cose.Algorithm) bool { return slices.Equal(q.Versions, []uint32{0}) }},
		"version 7": {teep.Error{Code: teep.ErrCodeUnsupportedVersion, Versions: []uint32{7}}, both, nil},
		"suite": {teep.Error{Code: teep.ErrCodeUnsupportedCipherSuites, CipherSuites: ed}, both, func(q *teep.QueryRequest, algs []cose.Algorithm) bool {
			return len(q.CipherSuites) == 1 && q.CipherSuites[0].Equal(ed[0]) && slices.Equal(algs, []cose.Algorithm{cose.AlgEd25519})
		}},
		"suite of nobody": {teep.Error{Code: teep.ErrCodeUnsupportedCipherSuites, CipherSuites: []teep.CipherSuite{teep.SuiteOf(cose.AlgES256)}}, both, nil},
		"nonce": {teep.Error{Code: teep.ErrCodeUnsupportedFreshness, SupportedFreshness: []uint32{0}}, both,
			func(q *teep.QueryRequest, _ []cose.Algorithm) bool {
				return q.Challenge != nil && slices.Equal(q.SupportedFreshness, []uint32{0})
			}},
		"time": {teep.Error{Code: teep.ErrCodeUnsupportedFreshness, SupportedFreshness: []uint32{1}}, both,
			func(q *teep.QueryRequest, _ []cose.Algorithm) bool {
				return q.Challenge == nil && slices.Equal(q.SupportedFreshness, []uint32{1})
			}},
		"time, without a window": {teep.Error{Code: teep.ErrCodeUnsupportedFreshness, SupportedFreshness: []uint32{1}}, tam.Protocol{}, nil},
		"extension": {teep.Error{Code: teep.ErrCodeUnsupportedExtension, Msg: "99"}, both,
			func(q *teep.QueryRequest, _ []cose.Algorithm) bool {
				return q.Extensions == nil && !q.DataItems.Has(teep.ItemExtensions)
			}},
		"report": {teep.Error{Code: teep.ErrCodeUnsupportedSUITReport, SUITProfiles: teep.DefaultSUITProfiles}, both,
			func(q *teep.QueryRequest, _ []cose.Algorithm) bool { return q.SUITReports == nil }},
		"attestation": {teep.Error{Code: teep.ErrCodeAttestationRequired, Challenge: own}, both,
			func(q *teep.QueryRequest, _ []cose.Algorithm) bool {
				return bytes.HasSuffix(q.AttestationPayload, own) && teep.IsAttestationResult(q.AttestationPayloadFormat)
			}},
		"attestation that fails":      {teep.Error{Code: teep.ErrCodeAttestationRequired}, both, nil},
		"attestation that is not had": {teep.Error{Code: teep.ErrCodeAttestationRequired, Challenge: own}, tam.Protocol{}, nil},
		"permanent":                   {teep.Error{Code: teep.ErrCodePermanent}, both, nil},
		"certificate":                 {teep.Error{Code: teep.ErrCodeBadCertificate}, both, nil},
		"temporary":                   {teep.Error{Code: teep.ErrCodeTemporary}, both, nil},
		"unknown":                     {teep.Error{Code: 99}, both, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, usecase.ModeTAPD, "")
			w.under(c.protocol)
			w.connect()
			c.e.Extensions = w.agent.keyOption()
			w.changesNothing(name, func() {
				answer, err := w.engine.Message(t.Context(), id, w.agent.sign(&c.e))
				if (err != nil) != (c.want == nil) || err != nil && !errors.Is(err, teephttp.ErrUnavailable) {
					t.Fatal(err)
				}
				q, algs := w.request(answer)
				switch {
				case (q != nil) != (c.want != nil):
					t.Fatalf("%+v", q)
				case q != nil && (!c.want(q, algs) || !q.DataItems.Has(teep.ItemAttestation) || q.Token != nil):
					t.Errorf("%+v", q)
				}
			})
			c.e.Extensions = nil
			w.changesNothing("an Error of nobody", func() {
				if _, err := w.engine.Message(t.Context(), id, w.agent.sign(&c.e)); !errors.Is(err, teephttp.ErrUnavailable) {
					t.Error(err)
				}
			})
			forged := *w.agent
			forged.signer = newSigner(t, cose.AlgESP256)
			c.e.Extensions = w.agent.keyOption()
			w.changesNothing("an Error under another's name", func() {
				if answer, _ := w.engine.Message(t.Context(), id, forged.sign(&c.e)); answer != nil {
					t.Errorf("answer of %d bytes", len(answer))
				}
			})
		})
	}
}

// TestNegotiationEnds: with an admitted Agent a quarrel is counted, and ends in a problem instead of going on for ever.
func TestNegotiationEnds(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	w.session()
	answer := w.connect()
	seen := map[string]bool{}
	for rounds := 0; ; rounds++ {
		q, _ := w.request(answer)
		if q == nil {
			if rounds != 7 {
				t.Errorf("it took %d rounds", rounds)
			}
			break
		}
		if seen[string(q.Token)] || q.Token == nil {
			t.Fatalf("token %x", q.Token)
		}
		seen[string(q.Token)] = true
		msg := w.agent.sign(&teep.Error{Token: q.Token, Code: teep.ErrCodeUnsupportedVersion, Versions: []uint32{0}})
		if answer = w.send(msg); answer != nil {
			w.dropped("the same Error again", msg)
		}
	}
	if !strings.HasPrefix(w.problem(), "agent-error") {
		t.Errorf("problem %q", w.problem())
	}
}

// TestCertificates: with certificates beside its keys the TAM sends them while they are valid, and without them to an Agent that does not like
// them.
func TestCertificates(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	_, rootKey, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: w.clock.Add(-time.Hour), NotAfter: w.clock.Add(1000 * time.Hour)}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	must(t, err)
	for name, key := range map[string]*cose.Key{"tam-esp256.crt": w.keys.Signers[0].Key(), "tam-ed25519.crt": w.keys.Signers[1].Key()} {
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: w.clock.Add(-time.Hour), NotAfter: w.clock.Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), rootKey)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(w.dir, "keys", name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	}
	w.keys, err = tam.LoadKeys(filepath.Join(w.dir, "keys"))
	must(t, err)
	w.restart()
	parsed, err := x509.ParseCertificate(rootDER)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	certified := func(msg []byte) bool {
		t.Helper()
		signed, err := teep.Parse(msg)
		must(t, err)
		v, err := signed.Verify(nil, teep.Options{Roots: roots, Now: w.clock})
		return err == nil && v.Certificate != nil
	}
	if !certified(w.connect()) || !certified(w.send(w.agent.process(w.connect()))) || !certified(w.connect()) {
		t.Error("an Agent that knows the root cannot verify")
	}
	q, _ := w.request(w.connect())
	for _, code := range []teep.ErrCode{teep.ErrCodeBadCertificate, teep.ErrCodeCertificateExpired} {
		msg := w.send(w.agent.sign(&teep.Error{Code: code, Extensions: w.agent.keyOption()}))
		if again, _ := w.request(msg); again == nil || certified(msg) || bytes.Equal(again.Challenge, q.Challenge) {
			t.Errorf("%v: %+v", code, again)
		}
	}
	w.clock = w.clock.Add(2 * time.Hour)
	late, err := cose.Parse(w.connect())
	must(t, err)
	if late.X5Chain() != nil {
		t.Error("expired certificates are sent")
	}
	must(t, os.Rename(filepath.Join(w.dir, "keys", "tam-esp256.crt"), filepath.Join(w.dir, "keys", "tam-ed25519.crt")))
	if _, err := tam.LoadKeys(filepath.Join(w.dir, "keys")); err == nil {
		t.Error("a certificate of another key")
	}
}
