// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/answer"
	"sealift/internal/launch"
	"sealift/internal/owner/manifest"
	"sealift/suit"
	"sealift/usecase"
)

var (
	cell     = usecase.Cell{Instance: "process", Hardware: evidence.TrustZone}
	taID     = suit.NewComponentID("tee", "app", "ta")
	anyone   = launch.Spec{Callers: launch.CallersAny}
	anyStdio = launch.Spec{Callers: launch.CallersAny, Serve: launch.ServeStdio}
)

// offer puts bytes where the Broker finds them.
func (w *world) offer(data []byte) suit.Digest {
	d := suit.SHA256(data)
	w.ree.mu.Lock()
	w.ree.payloads[manifest.URI(d)] = data
	w.ree.mu.Unlock()
	return d
}

func (w *world) sign(b *suit.Builder, by cose.Signer) []byte {
	w.t.Helper()
	env, err := b.Build(rand.Reader, by)
	if err != nil {
		w.t.Fatal(err)
	}
	return env
}

// program makes the manifest of a TA or a UA in the clear.
func (w *world) program(kind usecase.Payload, sequence uint64, content string, spec launch.Spec) []byte {
	w.t.Helper()
	return w.sign(w.programBuilder(kind, sequence, content, spec), w.owner)
}

func (w *world) programBuilder(kind usecase.Payload, sequence uint64, content string, spec launch.Spec) *suit.Builder {
	return manifest.Program{
		App: w.application(), Kind: kind, Sequence: sequence, Cells: []usecase.Cell{cell}, Digest: w.offer([]byte(content)),
		Size: int64(len(content)), Launch: spec,
	}.Build()
}

// item encrypts content to a key.
func (w *world) item(kind usecase.Payload, name, content string, to *cose.Key, spec *launch.Spec) manifest.Item {
	w.t.Helper()
	info, enc, err := cose.NewEncrypter(rand.Reader, cose.AlgA128GCM, cose.Recipient{Key: to, KID: to.KID()}, cose.ContextSUITPayload)
	if err != nil {
		w.t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := enc.Seal(&out, bytes.NewReader([]byte(content))); err != nil {
		w.t.Fatal(err)
	}
	return manifest.Item{
		Kind: kind, Name: name, Ciphertext: w.offer(out.Bytes()), Size: int64(out.Len()), Encryption: info, Launch: spec,
	}
}

func (w *world) sealedBuilder(s manifest.Sealed) *suit.Builder {
	w.t.Helper()
	s.App, s.Cells = w.application(), []usecase.Cell{cell}
	b, err := s.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// data makes the manifest that releases one file of PD to an attested TA that was installed by the envelope ta.
func (w *world) data(sequence uint64, content string, to *cose.Key, ta []byte) []byte {
	w.t.Helper()
	return w.sign(w.dataBuilder(sequence, content, to, ta), w.owner)
}

func (w *world) dataBuilder(sequence uint64, content string, to *cose.Key, ta []byte) *suit.Builder {
	w.t.Helper()
	return w.sealedBuilder(manifest.Sealed{
		Role: manifest.RolePD, Sequence: sequence, Items: []manifest.Item{w.item(usecase.PD, "rows", content, to, nil)},
		DependsOn: &manifest.Dependency{ID: manifest.ID(w.application(), manifest.RoleTA), Digest: w.digestOf(ta)},
	})
}

func (w *world) digestOf(envelope []byte) suit.Digest {
	w.t.Helper()
	e, err := suit.ParseEnvelope(envelope)
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := e.ManifestInsecure()
	if err != nil {
		w.t.Fatal(err)
	}
	return m.Digest
}

// claim returns what the Evidence says about the TA.
func (w *world) claim() evidence.TAClaim {
	w.t.Helper()
	v, _ := w.attest()
	claim, ok := v.TA(suit.NewComponentID("tee", w.application(), "ta").String())
	if !ok {
		w.t.Fatal("no TA in the Evidence")
	}
	return claim
}

// call asks the TA a question over TLS, pinned to key, as a caller who holds as (nil: no client certificate).
func (w *world) call(key *cose.Key, as *tls.Certificate, question string) (string, error) {
	conn, err := w.client.Connect(w.t.Context(), w.application(), "ta")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{answer.ALPN, answer.Plain}, InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			got, err := cose.NewKey(cs.PeerCertificates[0].PublicKey)
			if err != nil || !got.Equal(key) {
				return errors.New("another key than the one in the Evidence")
			}
			return nil
		},
	}
	if as != nil {
		cfg.Certificates = []tls.Certificate{*as}
	}
	c := tls.Client(conn, cfg)
	if _, err := io.WriteString(c, question); err != nil {
		return "", err
	}
	if err := c.CloseWrite(); err != nil {
		return "", err
	}
	r := answer.NewReader(c)
	said, err := io.ReadAll(r)
	if err == nil && r.End().Kind != answer.Whole {
		err = fmt.Errorf("%w: %v", errEnd, r.End())
	}
	return string(said), err
}

var errEnd = errors.New("the TA did not end well")

// asks fails the test unless the TA gives the answer. A TA that is being replaced may need a moment.
func (w *world) asks(question, want string) {
	w.t.Helper()
	got, err := w.call(w.claim().TLSKey, nil, question)
	if err != nil || got != want {
		w.t.Fatalf("answer %q, %v; want %q", got, err, want)
	}
}

func certificate(t interface{ Fatal(...any) }, key any, pub any) *tls.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "caller"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// nothingIn fails the test if secret is in any file of the REE.
func (w *world) nothingIn(secret string) {
	w.t.Helper()
	files := w.fs.Files()
	w.ree.mu.Lock()
	for name, data := range w.ree.store {
		files["ree "+name] = data
	}
	for name, data := range w.ree.payloads {
		files["artifact "+name] = data
	}
	w.ree.mu.Unlock()
	for name, data := range files {
		for _, form := range []string{secret, fmt.Sprintf("%x", secret)} {
			if bytes.Contains(data, []byte(form)) {
				w.t.Fatalf("%q is in %s", secret, name)
			}
		}
	}
}
