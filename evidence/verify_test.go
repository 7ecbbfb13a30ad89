// SPDX-License-Identifier: Apache-2.0

package evidence_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/evidence/psa"
	"sealift/suit"
)

var (
	now         = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	agentBinary = sha256.Sum256([]byte("agent"))
)

// world is a device under an emulated root, an Agent in it, and a verifier that trusts the root.
type world struct {
	pki      *emuroot.PKI
	device   *emuroot.Device
	agentKey *cose.Key
	config   []byte
	claims   evidence.Claims
	hw       string // the name that the hardware gives itself
	agent    [32]byte
	change   func(*evidence.HardwareEvidence) // what a test does to the hardware's part
	binding  func(b []byte)                   // gets the binding before that; may be nil
}

func newWorld(t testing.TB) *world {
	t.Helper()
	pki, err := emuroot.New(rand.Reader, evidence.TrustZone, now)
	must(t, err)
	device, err := pki.NewDevice(rand.Reader, "one")
	must(t, err)
	w := &world{pki: pki, device: device, agentKey: newKey(t, cose.AlgESP256), config: []byte("configuration"),
		hw: "emu:trustzone", agent: agentBinary}
	impl := emuroot.ImplementationID(evidence.TrustZone)
	w.claims = evidence.Claims{
		Nonce: evidence.MixChallenge(nonce(1), nonce(2)), UEID: device.InstanceID[:], OEMID: []byte{1, 2, 3}, HWModel: impl[:],
		HWVersion: "1", AgentEncKey: newKey(t, cose.AlgESP256),
		TAs: []evidence.TAClaim{{Component: suit.NewComponentID("tee", "stats", "ta"), Digest: suit.SHA256([]byte("ta")), Sequence: 3,
			Signer: bytes.Repeat([]byte{9}, 32), EncKey: newKey(t, cose.AlgESP256), TLSKey: newKey(t, cose.AlgEd25519)}},
		Manifests: []evidence.ManifestRef{{URI: "manifest/stats/ta", Digest: suit.SHA256([]byte("manifest"))}},
	}
	return w
}

func nonce(b byte) (n [32]byte) {
	for i := range n {
		n[i] = b
	}
	return n
}

func newKey(t testing.TB, alg cose.Algorithm) *cose.Key {
	t.Helper()
	priv, err := cose.GenerateKey(alg, rand.Reader)
	must(t, err)
	key, err := cose.NewKey(priv.Public())
	must(t, err)
	return key
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) sign(b [64]byte) (evidence.HardwareEvidence, error) {
	e, err := w.device.Evidence(rand.Reader, emuroot.Request{Binding: b, Launch: w.agent[:], Config: sha256.Sum256(w.config)})
	if w.binding != nil {
		w.binding(b[:])
	}
	if w.change != nil {
		w.change(&e)
	}
	return e, err
}

// iak returns the device's attestation key, and has its certificate left out of the Evidence from now on.
func (w *world) iak(t testing.TB) *cose.Key {
	t.Helper()
	e, err := w.sign([64]byte{})
	must(t, err)
	cert, err := x509.ParseCertificate(e.Collateral[0])
	must(t, err)
	key, err := cose.NewKey(cert.PublicKey)
	must(t, err)
	w.change = func(e *evidence.HardwareEvidence) { e.Collateral = nil }
	return key
}

func (w *world) bundle(t testing.TB) []byte {
	t.Helper()
	data, err := evidence.Collect(w.claims, w.hw, w.agentKey, w.config, w.sign)
	must(t, err)
	return data
}

func (w *world) input() evidence.Input {
	return evidence.Input{Challenge: evidence.MixChallenge(nonce(1), nonce(2)), AgentKey: w.agentKey, Now: now,
		Anchors: evidence.Anchors{Roots: []evidence.Anchor{w.pki.Anchor()}}}
}

// codes returns the codes of an error's mismatches.
func codes(err error) []string {
	var out []string
	for _, m := range evidence.Mismatches(err) {
		out = append(out, m.Code)
	}
	return out
}

func wantCodes(t *testing.T, err error, want ...string) {
	t.Helper()
	if got := codes(err); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v: %v", got, want, err)
	}
}

func TestVerify(t *testing.T) {
	w := newWorld(t)
	data := w.bundle(t)
	v, err := evidence.Verify(data, w.input())
	must(t, err)
	if !v.Authentic() || v.Hardware != evidence.TrustZone || !v.Emulated || v.Digest != sha256.Sum256(data) || v.Time != now {
		t.Errorf("got %+v", v)
	}
	if m, ok := v.Measurement(evidence.MeasurementAgent); !ok || !bytes.Equal(m.Value, agentBinary[:]) {
		t.Errorf("AGENT is %+v", m)
	}
	if v.Fields["lifecycle"] != psa.LifecycleSecured || v.Root.Fingerprint() != w.pki.Fingerprint() {
		t.Errorf("fields %v, root %s", v.Fields, v.Root)
	}
	ta, ok := v.TA("tee/stats/ta")
	if !ok || ta.Sequence != 3 || !ta.TLSKey.Equal(w.claims.TAs[0].TLSKey) {
		t.Errorf("TA %+v", ta)
	}
	if !bytes.Equal(v.Config, w.config) || v.Claims.Manifests[0].URI != "manifest/stats/ta" {
		t.Error("configuration or manifests differ")
	}
}

// A replay names the nonce, and which party's.
func TestReplayNamesNonce(t *testing.T) {
	w := newWorld(t)
	data := w.bundle(t)
	for _, c := range []struct {
		tam, owner byte
		parts      []string
	}{{1, 7, []string{"owner"}}, {7, 2, []string{"TAM"}}, {7, 8, []string{"owner", "TAM"}}} {
		in := w.input()
		in.Challenge = evidence.MixChallenge(nonce(c.tam), nonce(c.owner))
		in.ChallengeSource = "the nonce that I chose"
		_, err := evidence.Verify(data, in)
		ms := evidence.Mismatches(err)
		if len(ms) != len(c.parts) {
			t.Fatalf("got %v", err)
		}
		for i, part := range c.parts {
			if ms[i].Code != evidence.CodeNonce || !strings.Contains(ms[i].Claim, part) || ms[i].Source != in.ChallengeSource {
				t.Errorf("got %+v", ms[i])
			}
		}
		if c.parts[0] == "owner" && (ms[0].Expected != text(nonce(c.owner)) || ms[0].Got != text(nonce(2))) {
			t.Errorf("expected %s, got %s", ms[0].Expected, ms[0].Got)
		}
	}
}

func text(n [32]byte) string { return strings.Repeat("0"+string('0'+rune(n[0])), 32) }

// A claims record that shows the wanted nonce over a token for another challenge is not a replay any more but a forgery.
func TestForgedNonceIsBinding(t *testing.T) {
	w := newWorld(t)
	old := w.claims
	old.Nonce = evidence.MixChallenge(nonce(1), nonce(9))
	data, err := evidence.Collect(old, w.hw, w.agentKey, w.config, w.sign)
	must(t, err)
	b, err := evidence.ParseBundle(data)
	must(t, err)
	c, err := evidence.ParseClaims(b.Claims)
	must(t, err)
	c.Nonce = evidence.MixChallenge(nonce(1), nonce(2))
	b.Claims = c.Marshal()
	_, err = evidence.Verify(b.Marshal(), w.input())
	wantCodes(t, err, evidence.CodeBinding)
}

func TestFlippedSignatureNamesSignature(t *testing.T) {
	w := newWorld(t)
	b, err := evidence.ParseBundle(w.bundle(t))
	must(t, err)
	b.Hardware[len(b.Hardware)-1] ^= 1
	_, err = evidence.Verify(b.Marshal(), w.input())
	wantCodes(t, err, evidence.CodeSignature)
	if !errors.Is(err, psa.ErrSignature) {
		t.Errorf("got %v", err)
	}
}

func TestRoots(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	data := w.bundle(t)
	for name, c := range map[string]struct {
		anchors []evidence.Anchor
		want    string
	}{
		"none":                {nil, evidence.CodeRoot},
		"another root":        {[]evidence.Anchor{other.pki.Anchor()}, evidence.CodeRoot},
		"for other hardware":  {[]evidence.Anchor{{Cert: w.pki.Anchor().Cert, Hardware: evidence.CCA}}, evidence.CodeRoot},
		"a key of no device":  {[]evidence.Anchor{{Key: w.agentKey}}, evidence.CodeRoot},
		"right among several": {[]evidence.Anchor{other.pki.Anchor(), w.pki.Anchor()}, ""},
		// The subject says EMULATED, so the anchor is emulated whatever the field says.
		"filed as a real one": {[]evidence.Anchor{{Cert: w.pki.Anchor().Cert}}, ""},
	} {
		in := w.input()
		in.Anchors.Roots = c.anchors
		v, err := evidence.Verify(data, in)
		if c.want == "" {
			if err != nil || !v.Emulated {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		t.Run(name, func(t *testing.T) { wantCodes(t, err, c.want) })
	}
}

func TestEnrolledDeviceKey(t *testing.T) {
	w := newWorld(t)
	w.hw = "trustzone"
	iak := w.iak(t)
	in := w.input()
	in.Anchors.Roots = []evidence.Anchor{{Key: newKey(t, cose.AlgESP256)}, {Key: iak, Name: "device one"}}
	data := w.bundle(t)
	v, err := evidence.Verify(data, in)
	must(t, err)
	if v.Emulated || v.Root.Name != "device one" {
		t.Errorf("root %s", v.Root)
	}
	in.Anchors.Roots = in.Anchors.Roots[:1]
	_, err = evidence.Verify(data, in)
	wantCodes(t, err, evidence.CodeSignature)
	in.Anchors.Roots = nil
	_, err = evidence.Verify(data, in)
	wantCodes(t, err, evidence.CodeRoot)
}

func TestEmulatedIsToldApart(t *testing.T) {
	w := newWorld(t)
	w.hw = "trustzone" // an emulator that plays a real device
	_, err := evidence.Verify(w.bundle(t), w.input())
	wantCodes(t, err, evidence.CodeHardware)

	w.hw = "emu:trustzone"
	iak := w.iak(t)
	in := w.input()
	in.Anchors.Roots = []evidence.Anchor{{Key: iak}} // a real device that says emulated
	_, err = evidence.Verify(w.bundle(t), in)
	wantCodes(t, err, evidence.CodeHardware)
}

func TestCertificateTime(t *testing.T) {
	w := newWorld(t)
	data := w.bundle(t)
	for _, at := range []time.Time{now.AddDate(-1, 0, 0), now.AddDate(21, 0, 0)} {
		in := w.input()
		in.Now = at
		_, err := evidence.Verify(data, in)
		wantCodes(t, err, evidence.CodeCertificate)
	}
}

func TestRootAsDeviceCertificate(t *testing.T) {
	w := newWorld(t)
	w.change = func(e *evidence.HardwareEvidence) { e.Collateral = [][]byte{w.pki.Anchor().Cert.Raw} }
	_, err := evidence.Verify(w.bundle(t), w.input())
	wantCodes(t, err, evidence.CodeCertificate, evidence.CodeSignature)
}

func TestInput(t *testing.T) {
	w := newWorld(t)
	data := w.bundle(t)
	for name, c := range map[string]struct {
		change func(*evidence.Input)
		want   []string
	}{
		"another Agent key":  {func(in *evidence.Input) { in.AgentKey = newKey(t, cose.AlgESP256) }, []string{evidence.CodeAgentKey}},
		"no Agent key":       {func(in *evidence.Input) { in.AgentKey = nil }, []string{evidence.CodeAgentKey}},
		"no challenge":       {func(in *evidence.Input) { in.Challenge = nil }, []string{evidence.CodeChallenge}},
		"challenge of zeros": {func(in *evidence.Input) { in.Challenge = make([]byte, 64) }, []string{evidence.CodeChallenge, evidence.CodeNonce, evidence.CodeNonce}},
		"challenge too old": {func(in *evidence.Input) { in.Issued, in.MaxAge = now.Add(-time.Hour), time.Minute },
			[]string{evidence.CodeFreshness}},
		"challenge from the future": {func(in *evidence.Input) { in.Issued, in.MaxAge = now.Add(time.Hour), time.Minute },
			[]string{evidence.CodeFreshness}},
		"challenge young enough": {func(in *evidence.Input) { in.Issued, in.MaxAge = now.Add(-time.Second), time.Minute }, nil},
		"everything": {func(in *evidence.Input) {
			in.Challenge, in.AgentKey = evidence.MixChallenge(nonce(5), nonce(6)), newKey(t, cose.AlgESP256)
			in.Anchors, in.Issued, in.MaxAge = evidence.Anchors{}, now.Add(-time.Hour), time.Minute
		}, []string{evidence.CodeFreshness, evidence.CodeRoot, evidence.CodeNonce, evidence.CodeNonce, evidence.CodeAgentKey}},
	} {
		in := w.input()
		c.change(&in)
		_, err := evidence.Verify(data, in)
		t.Run(name, func(t *testing.T) { wantCodes(t, err, c.want...) })
	}
}

func TestCollectRefuses(t *testing.T) {
	w := newWorld(t)
	w.claims.Nonce = nil
	if _, err := evidence.Collect(w.claims, w.hw, w.agentKey, w.config, w.sign); !errors.Is(err, evidence.ErrMalformed) {
		t.Errorf("got %v", err)
	}
	w = newWorld(t)
	failing := errors.New("no hardware")
	_, err := evidence.Collect(w.claims, w.hw, w.agentKey, w.config, func([64]byte) (evidence.HardwareEvidence, error) {
		return evidence.HardwareEvidence{}, failing
	})
	if !errors.Is(err, failing) {
		t.Errorf("got %v", err)
	}
}

func TestUnverifiedIsNotAuthentic(t *testing.T) {
	var none *evidence.Verified
	if none.Authentic() || (&evidence.Verified{Hardware: evidence.TrustZone}).Authentic() {
		t.Error("a value that nobody verified passes for verified")
	}
}

func BenchmarkVerify(b *testing.B) {
	w := newWorld(b)
	data, in := w.bundle(b), w.input()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := evidence.Verify(data, in); err != nil {
			b.Fatal(err)
		}
	}
}
