// SPDX-License-Identifier: Apache-2.0

package cca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"sealift/cose"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// platform is an emulated machine.
type platform struct {
	pki       *PKI
	cpak, rak *ecdsa.PrivateKey
	chain     [][]byte
}

func newPlatform(t testing.TB) *platform {
	t.Helper()
	pki, err := NewPKI(rand.Reader, now)
	if err != nil {
		t.Fatal(err)
	}
	return pki.machine(t, now.Add(-time.Hour), now.Add(time.Hour))
}

func (p *PKI) machine(t testing.TB, from, to time.Time) *platform {
	t.Helper()
	cpak, chain, err := p.IssueCPAK(rand.Reader, from, to)
	if err != nil {
		t.Fatal(err)
	}
	return &platform{pki: p, cpak: cpak, rak: newKey(t), chain: chain}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (p *platform) token(t testing.TB) Token {
	t.Helper()
	id, err := InstanceID(&p.cpak.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	b := func(n int, v byte) []byte { return bytes.Repeat([]byte{v}, n) }
	return Token{
		Platform: Platform{ImplementationID: b(32, 1), InstanceID: id[:], Config: b(4, 0xcf), Lifecycle: 0x3000, HashAlg: "sha-256",
			Components: []Component{{Type: "RMM", Value: b(32, 2), SignerID: b(32, 3), Version: "1.0"}, {Value: b(32, 4), SignerID: b(32, 3), HashAlg: "sha-256"}}},
		Realm: Realm{Challenge: b(64, 5), Personalization: b(64, 6), Initial: b(32, 7), HashAlg: "sha-256", PublicKeyHash: "sha-256",
			Extensible: [4][]byte{b(32, 8), b(32, 9), b(32, 10), b(32, 11)}},
	}
}

func (p *platform) mint(t testing.TB, change func(*Token)) []byte {
	t.Helper()
	token := p.token(t)
	if change != nil {
		change(&token)
	}
	data, err := Mint(rand.Reader, p.cpak, p.rak, token)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestMintedVerifiesUnderItsOwnAnchorOnly(t *testing.T) {
	p, other := newPlatform(t), newPlatform(t)
	for _, profile := range []string{ProfilePlatform, ProfileLegacy} {
		for _, w := range []Wrapper{WrapperCCA, WrapperCMW} {
			data := p.mint(t, func(tok *Token) { tok.Wrapper, tok.Platform.Profile = w, profile })
			v, err := Verify(data, p.chain, now, other.pki.Anchor(), p.pki.Anchor())
			if err != nil {
				t.Fatalf("%s, tag %d: %v", profile, w, err)
			}
			if !v.Emulated || v.Anchor.Fingerprint() != p.pki.Anchor().Fingerprint() || v.Token.Wrapper != w || v.Token.Platform.Profile != profile {
				t.Errorf("verified as %+v", v)
			}
			if m := v.Token.Measurements(); len(m) != 8 || m[0].Name != "RIM" || m[6].Name != "RMM" || m[7].Name != "component 1" {
				t.Errorf("measurements %v", m)
			}
			enrolled := &Anchor{Key: &p.cpak.PublicKey, InstanceID: v.Token.Platform.InstanceID}
			if v, err := Verify(data, nil, now, enrolled); err != nil || v.Emulated {
				t.Errorf("with the enrolled key: %v", err)
			}
			enrolled.InstanceID = append([]byte{1}, make([]byte, 32)...)
			for name, anchors := range map[string][]*Anchor{"none": nil, "another of the same name": {other.pki.Anchor()}, "a key for another instance": {enrolled}} {
				for _, chain := range [][][]byte{p.chain, nil} {
					if _, err := Verify(data, chain, now, anchors...); !errors.Is(err, ErrRoot) {
						t.Errorf("under anchor %s: %v", name, err)
					}
				}
			}
		}
	}
}

func TestTimes(t *testing.T) {
	p := newPlatform(t)
	data := p.mint(t, nil)
	for _, at := range []time.Time{now.Add(-2 * time.Hour), now.Add(2 * time.Hour), {}} {
		if _, err := Verify(data, p.chain, at, p.pki.Anchor()); !errors.Is(err, ErrCertificate) {
			t.Errorf("at %v: %v", at, err)
		}
	}
}

// TestEveryByteAltered wants every change refused: outside of the signed parts by the parser, inside by a signature, the
// binding, or the name of the field whose rule is broken.
func TestEveryByteAltered(t *testing.T) {
	p := newPlatform(t)
	enrolled := &Anchor{Key: &p.cpak.PublicKey}
	for w, step := range map[Wrapper]int{WrapperCCA: 1, WrapperCMW: 5} { // the signed parts are the same in both
		data := p.mint(t, func(tok *Token) { tok.Wrapper = w })
		for i := 0; i < len(data); i += step {
			bit := byte(1) << (i % 8)
			data[i] ^= bit
			if v, err := Verify(data, nil, now, enrolled); err == nil {
				t.Fatalf("tag %d: altered at byte %d: accepted as %+v", w, i, v.Token)
			}
			data[i] ^= bit
		}
	}
}

// TestEveryClaimAltered changes one claim of a verified token, keeps the signatures, and wants the right one to fail.
func TestEveryClaimAltered(t *testing.T) {
	p := newPlatform(t)
	m, err := Parse(p.mint(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		f    func(*Token)
		want error
	}{
		{"profile", func(t *Token) { t.Platform.Profile = "x" }, ErrProfile},
		{"nonce", func(t *Token) { t.Platform.Nonce[0]++ }, ErrBinding},
		{"implementation ID", func(t *Token) { t.Platform.ImplementationID[0]++ }, ErrPlatformSignature},
		{"instance ID", func(t *Token) { t.Platform.InstanceID[1]++ }, ErrPlatformSignature},
		{"configuration", func(t *Token) { t.Platform.Config[0]++ }, ErrPlatformSignature},
		{"lifecycle", func(t *Token) { t.Platform.Lifecycle = 0x3001 }, ErrPlatformSignature},
		{"hash algorithm", func(t *Token) { t.Platform.HashAlg = "sha-512" }, ErrPlatformSignature},
		{"service", func(t *Token) { t.Platform.VerificationService = "x" }, ErrPlatformSignature},
		{"component type", func(t *Token) { t.Platform.Components[0].Type = "x" }, ErrPlatformSignature},
		{"component value", func(t *Token) { t.Platform.Components[0].Value[0]++ }, ErrPlatformSignature},
		{"component version", func(t *Token) { t.Platform.Components[0].Version = "x" }, ErrPlatformSignature},
		{"component signer", func(t *Token) { t.Platform.Components[0].SignerID[0]++ }, ErrPlatformSignature},
		{"component hash", func(t *Token) { t.Platform.Components[0].HashAlg = "x" }, ErrPlatformSignature},
		{"component dropped", func(t *Token) { t.Platform.Components = t.Platform.Components[:1] }, ErrPlatformSignature},
		{"realm profile", func(t *Token) { t.Realm.Profile = "" }, ErrProfile},
		{"challenge", func(t *Token) { t.Realm.Challenge[0]++ }, ErrRealmSignature},
		{"personalization", func(t *Token) { t.Realm.Personalization[0]++ }, ErrRealmSignature},
		{"initial measurement", func(t *Token) { t.Realm.Initial[0]++ }, ErrRealmSignature},
		{"extensible measurement", func(t *Token) { t.Realm.Extensible[3][0]++ }, ErrRealmSignature},
		{"realm hash", func(t *Token) { t.Realm.HashAlg = "sha-512" }, ErrRealmSignature},
		{"key hash", func(t *Token) { t.Realm.PublicKeyHash = "sha-512" }, ErrRealmSignature},
		{"unknown key hash", func(t *Token) { t.Realm.PublicKeyHash = "md5" }, ErrAlgorithm},
		{"lifecycle state", func(t *Token) { t.Platform.Lifecycle = 0x7000 }, ErrMalformed},
		{"challenge size", func(t *Token) { t.Realm.Challenge = t.Realm.Challenge[:32] }, ErrMalformed},
	} {
		again, err := Parse(p.mint(t, nil))
		if err != nil {
			t.Fatal(err)
		}
		tok := again.token
		tok.Platform.Nonce = bytes.Clone(m.token.Platform.Nonce)
		c.f(&tok)
		data := reassemble(again, &tok)
		if _, err := Verify(data, p.chain, now, p.pki.Anchor()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// reassemble puts changed claims under the signatures of m.
func reassemble(m *Message, tok *Token) []byte {
	part := func(s *sign1, payload []byte) []byte {
		body := cose.MustMarshal(wireSign1{Protected: s.protected, Unprotected: cose.RawMessage{0xa0}, Payload: payload, Signature: s.signature})
		return append([]byte{tagSign1}, body...)
	}
	parts := map[int64][]byte{keyPlatform: part(m.platform, tok.Platform.encode()), keyRealm: part(m.realm, tok.Realm.encode())}
	return append([]byte{0xd9, 0x01, 0x8f}, cose.MustMarshal(parts)...)
}

// TestSplicedTokens puts the platform token of one machine with the realm token of another, each signed rightly.
func TestSplicedTokens(t *testing.T) {
	p := newPlatform(t)
	q := p.pki.machine(t, now.Add(-time.Hour), now.Add(time.Hour))
	a, err := Parse(p.mint(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Parse(q.mint(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	spliced := *a
	spliced.realm = b.realm
	tok := Token{Platform: a.token.Platform, Realm: b.token.Realm}
	_, err = Verify(reassemble(&spliced, &tok), p.chain, now, p.pki.Anchor())
	if !errors.Is(err, ErrBinding) || errors.Is(err, ErrRealmSignature) || errors.Is(err, ErrPlatformSignature) {
		t.Errorf("spliced: %v", err)
	}
	if _, err := Verify(p.mint(t, nil), q.chain, now, p.pki.Anchor()); !errors.Is(err, ErrPlatformSignature) {
		t.Errorf("another machine's certificate: %v", err)
	}
	self := p.mint(t, nil)
	if _, err := Verify(self, [][]byte{p.pki.Root.Raw}, now, p.pki.Anchor()); !errors.Is(err, ErrCertificate) {
		t.Errorf("the root as a CPAK: %v", err)
	}
	for name, chain := range map[string][][]byte{"no certificate": {{1}}, "empty": {{}}} {
		if _, err := Verify(self, chain, now, p.pki.Anchor()); !errors.Is(err, ErrCertificate) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTruncated(t *testing.T) {
	p := newPlatform(t)
	for _, w := range []Wrapper{WrapperCCA, WrapperCMW} {
		data := p.mint(t, func(tok *Token) { tok.Wrapper = w })
		for n := range data {
			if _, err := Parse(data[:n]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%d bytes: %v", n, err)
			}
		}
		if _, err := Parse(append(data, 0)); !errors.Is(err, ErrMalformed) {
			t.Error("a byte too many is accepted")
		}
	}
}

func TestOpenPKI(t *testing.T) {
	p := newPlatform(t)
	again, err := OpenPKI(p.pki.Root, p.pki.Key())
	if err != nil {
		t.Fatal(err)
	}
	m := again.machine(t, now.Add(-time.Hour), now.Add(time.Hour))
	if _, err := Verify(m.mint(t, nil), m.chain, now, p.pki.Anchor()); err != nil {
		t.Error(err)
	}
	if _, err := OpenPKI(p.pki.Root, newKey(t)); err == nil {
		t.Error("a key that is not the root's is accepted")
	}
}

func TestLifecycle(t *testing.T) {
	for l, want := range map[Lifecycle]string{0x3003: "secured (0x3003)", 0x4000: "not secured (0x4000)"} {
		if l.String() != want || l.Secured() == strings.HasPrefix(want, "not") {
			t.Errorf("%v", l)
		}
	}
}

func FuzzParse(f *testing.F) {
	p := newPlatform(f)
	f.Add(p.mint(f, nil))
	f.Add(p.mint(f, func(tok *Token) { tok.Wrapper, tok.Platform.Profile = WrapperCMW, ProfileLegacy }))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data)
		if err != nil {
			return
		}
		platform, err := decodePlatform(m.token.Platform.encode())
		if err != nil || !bytes.Equal(platform.encode(), m.token.Platform.encode()) {
			t.Errorf("a platform token does not survive: %v", err)
		}
		realm, err := decodeRealm(m.token.Realm.encode())
		if err != nil || !bytes.Equal(realm.encode(), m.token.Realm.encode()) {
			t.Errorf("a realm token does not survive: %v", err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	p := newPlatform(b)
	data := p.mint(b, nil)
	for name, c := range map[string]struct {
		chain  [][]byte
		anchor *Anchor
	}{"certificate": {p.chain, p.pki.Anchor()}, "enrolled key": {nil, &Anchor{Key: &p.cpak.PublicKey}}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Verify(data, c.chain, now, c.anchor); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
