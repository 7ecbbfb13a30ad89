// SPDX-License-Identifier: Apache-2.0

package all_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"slices"
	"testing"
	"time"

	"github.com/emmansun/gmsm/sm3"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/all"
	"sealift/evidence/emuroot"
	"sealift/evidence/emuroot/emutest"
	"sealift/evidence/intel"
	"sealift/evidence/snp"
	"sealift/suit"
)

var (
	now       = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	verifiers = all.New()
)

// launchNames are what the architectures call the measurement of what was launched.
var launchNames = map[evidence.Hardware]string{evidence.TrustZone: "AGENT", evidence.SGX: "MRENCLAVE", evidence.SEVSNP: "MEASUREMENT",
	evidence.CCA: "RIM", evidence.TDX: "MRTD", evidence.CSV: "MEASURE"}

// world is a device of one architecture under an emulated root, and an Agent in it.
type world struct {
	hw       evidence.Hardware
	pki      *emuroot.PKI
	device   *emuroot.Device
	agentKey *cose.Key
	config   []byte
	launch   []byte
	claims   evidence.Claims
	change   func(any) // to what the hardware signs
}

func newWorld(t testing.TB, hw evidence.Hardware) *world {
	t.Helper()
	w := &world{hw: hw, pki: emutest.PKI(t, hw, now), agentKey: newKey(t, cose.AlgESP256), config: []byte("configuration")}
	var err error
	w.device, err = w.pki.NewDevice(rand.Reader, "one")
	must(t, err)
	h := map[evidence.Hardware]func() hash.Hash{evidence.SEVSNP: sha512.New384, evidence.TDX: sha512.New384, evidence.CSV: sm3.New}[hw]
	if h == nil {
		h = sha256.New
	}
	sum := h()
	sum.Write([]byte("agent"))
	w.launch = sum.Sum(nil)
	impl := emuroot.ImplementationID(hw)
	w.claims = evidence.Claims{
		Nonce: challenge(), UEID: w.device.InstanceID[:], OEMID: []byte{1, 2, 3}, HWModel: impl[:], HWVersion: "1",
		AgentEncKey: newKey(t, cose.AlgESP256),
		TAs: []evidence.TAClaim{{Component: suit.NewComponentID("tee", "stats", "ta"), Digest: suit.SHA256([]byte("ta")), Sequence: 3,
			Signer: bytes.Repeat([]byte{9}, 32), EncKey: newKey(t, cose.AlgESP256), TLSKey: newKey(t, cose.AlgEd25519)}},
		Manifests: []evidence.ManifestRef{{URI: "manifest/stats/ta", Digest: suit.SHA256([]byte("manifest"))}},
	}
	return w
}

func challenge() []byte { return evidence.MixChallenge([32]byte{1}, [32]byte{2}) }

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
	return w.device.Evidence(rand.Reader, emuroot.Request{Binding: b, Launch: w.launch, Config: sha256.Sum256(w.config), Now: now, Change: w.change})
}

func (w *world) collect() ([]byte, error) {
	return evidence.Collect(w.claims, w.hw.BindingName(true), w.agentKey, w.config, w.sign)
}

func (w *world) bundle(t testing.TB) []byte {
	t.Helper()
	data, err := w.collect()
	must(t, err)
	return data
}

func (w *world) input(anchors ...evidence.Anchor) evidence.Input {
	if len(anchors) == 0 {
		anchors = []evidence.Anchor{w.pki.Anchor()}
	}
	return evidence.Input{Challenge: challenge(), AgentKey: w.agentKey, Now: now, Verifiers: verifiers,
		Anchors: evidence.Anchors{Roots: anchors}}
}

func codes(err error) []string {
	var out []string
	for _, m := range evidence.Mismatches(err) {
		out = append(out, m.Code)
	}
	return out
}

// vendorAnchors are the real roots that are built in.
func vendorAnchors(t testing.TB) []evidence.Anchor {
	t.Helper()
	out, err := snp.VendorAnchors()
	must(t, err)
	return append(out, intel.VendorAnchor(evidence.SGX), intel.VendorAnchor(evidence.TDX))
}

// All six emulated roots pass under their own anchor, and under no other: not a vendor's, not another architecture's, not
// another emulator's.
func TestOwnAnchorOnly(t *testing.T) {
	for _, hw := range evidence.AllHardware() {
		t.Run(string(hw), func(t *testing.T) {
			w := newWorld(t, hw)
			data := w.bundle(t)
			v, err := evidence.Verify(data, w.input())
			must(t, err)
			m, found := v.Measurement(launchNames[hw])
			if v.Hardware != hw || !v.Emulated || v.Root.Fingerprint() != w.pki.Fingerprint() || !found || !bytes.Equal(m.Value, w.launch) {
				t.Errorf("hardware %s, emulated %v, root %s, %v", v.Hardware, v.Emulated, v.Root, v.Measurements)
			}
			if len(data) > 100<<10 {
				t.Errorf("a bundle of %d bytes does not fit into a packet", len(data))
			}
			if v, err := evidence.Verify(data, w.input()); err != nil || !v.Authentic() {
				t.Errorf("a second time, with what was remembered: %v", err)
			}
			var others []evidence.Anchor
			for _, other := range evidence.AllHardware() {
				if other != hw {
					others = append(others, emutest.PKI(t, other, now).Anchor())
				}
			}
			for name, anchors := range map[string][]evidence.Anchor{"the vendors'": vendorAnchors(t), "other architectures'": others,
				"none": {{Hardware: "none"}}} {
				v, err := evidence.Verify(data, w.input(anchors...))
				if v != nil || !slices.Contains(codes(err), evidence.CodeRoot) {
					t.Errorf("under %s anchors: %v", name, err)
				}
			}
			if hw != evidence.SEVSNP { // RSA-4096 again
				stranger, err := emuroot.New(rand.Reader, hw, now)
				must(t, err)
				if _, err := evidence.Verify(data, w.input(stranger.Anchor())); !slices.Contains(codes(err), evidence.CodeRoot) {
					t.Errorf("under another emulator's root: %v", err)
				}
			}
		})
	}
}

// An Attestation Result about an Agent of any architecture can be issued and read, also before the Agent has any manifest.
func TestAttestationResult(t *testing.T) {
	priv, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	must(t, err)
	signer, err := cose.NewSigner(priv)
	must(t, err)
	for _, hw := range evidence.AllHardware() {
		w := newWorld(t, hw)
		w.claims.TAs, w.claims.Manifests = nil, nil
		data := w.bundle(t)
		v, err := evidence.Verify(data, w.input())
		must(t, err)
		digest := sha256.Sum256(w.config)
		result, v := appraisal.AppraiseBundle(data, w.input(), pinned(t, v), appraisal.Expect{ConfigDigest: &digest, ConfigSource: "the test"})
		if v == nil || !result.OK() {
			t.Fatalf("%s: %v", hw, result.Failed())
		}
		token, err := appraisal.Issue(rand.Reader, signer, result, v, now, time.Hour)
		must(t, err)
		if _, err := appraisal.ParseResult(token, []*cose.Key{signer.Key()}, now); err != nil {
			t.Errorf("%s: %v", hw, err)
		}
	}
}
