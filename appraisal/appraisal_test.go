// SPDX-License-Identifier: Apache-2.0

package appraisal_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/evidence/psa"
	"sealift/suit"
)

var update = flag.Bool("update", false, "write the golden files")

var (
	now       = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	agentHash = sha256.Sum256([]byte("agent"))
	taID      = suit.NewComponentID("tee", "stats", "ta")
	signer    = appraisal.Hex32(sha256.Sum256([]byte("owner")))
)

// world is a device whose Evidence every test can change before the hardware signs it.
type world struct {
	pki      *emuroot.PKI
	device   *emuroot.Device
	agentKey *cose.Key
	config   []byte
	claims   evidence.Claims
	change   func(*psa.Token)
}

func newWorld(t testing.TB) *world {
	t.Helper()
	pki, err := emuroot.New(rand.Reader, evidence.TrustZone, now)
	must(t, err)
	device, err := pki.NewDevice(rand.Reader, "one")
	must(t, err)
	impl := emuroot.ImplementationID(evidence.TrustZone)
	return &world{pki: pki, device: device, agentKey: newKey(t), config: []byte("configuration"), change: func(*psa.Token) {},
		claims: evidence.Claims{Nonce: challenge(), UEID: device.InstanceID[:], OEMID: []byte{1, 2, 3}, HWModel: impl[:], HWVersion: "1",
			AgentEncKey: newKey(t), TAs: []evidence.TAClaim{{Component: taID, Digest: suit.SHA256([]byte("ta")), Sequence: 3,
				Signer: signer[:], EncKey: newKey(t), TLSKey: newKey(t)}}}}
}

func challenge() []byte { return bytes.Repeat([]byte{7}, 64) }

func newKey(t testing.TB) *cose.Key {
	t.Helper()
	priv, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
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

func (w *world) bundle(t testing.TB) []byte {
	t.Helper()
	data, err := evidence.Collect(w.claims, "emu:trustzone", w.agentKey, w.config, func(b [64]byte) (evidence.HardwareEvidence, error) {
		return w.device.Evidence(rand.Reader, emuroot.Request{Binding: b, Launch: agentHash[:], Config: sha256.Sum256(w.config),
			Change: func(content any) { w.change(content.(*psa.Token)) }})
	})
	must(t, err)
	return data
}

func (w *world) input() evidence.Input {
	return evidence.Input{Challenge: challenge(), AgentKey: w.agentKey, Now: now,
		Anchors: evidence.Anchors{Roots: []evidence.Anchor{w.pki.Anchor()}}}
}

func (w *world) policy(t testing.TB) *appraisal.Policy {
	t.Helper()
	p, err := appraisal.NewPolicy(appraisal.NewPolicyInput{Name: "test", Hardware: []evidence.Hardware{evidence.TrustZone},
		Roots: []evidence.Anchor{w.pki.Anchor()}, AgentDigest: agentHash, AgentSource: "the binary that was built"})
	must(t, err)
	return p
}

func (w *world) expect() appraisal.Expect {
	config := sha256.Sum256([]byte("configuration"))
	return appraisal.Expect{ConfigDigest: &config, ConfigSource: "the deployment", OnlyTAs: true,
		TAs: []appraisal.TAExpectation{{Component: taID, Digests: []appraisal.Digest{{Digest: suit.SHA256([]byte("ta"))}}, MinSequence: 3,
			Signers: []appraisal.Hex32{signer}, Source: "the package"}}}
}

func (w *world) verified(t testing.TB) *evidence.Verified {
	t.Helper()
	v, err := evidence.Verify(w.bundle(t), w.input())
	must(t, err)
	return v
}

func failed(r *appraisal.Result) []string {
	out := []string{}
	for _, f := range r.Failed() {
		out = append(out, f.Code)
	}
	return out
}

func TestAffirmed(t *testing.T) {
	w := newWorld(t)
	r, v := appraisal.AppraiseBundle(w.bundle(t), w.input(), w.policy(t), w.expect())
	if !r.OK() || r.Status != appraisal.TierAffirming || len(r.Failed()) != 0 || v == nil {
		t.Fatalf("status %s, failed %+v", r.Status, r.Failed())
	}
	for _, name := range []string{appraisal.InstanceIdentity, appraisal.Configuration, appraisal.Executables, appraisal.HardwareClaim} {
		if c := r.Vector[name]; c.Value != 2 || c.Reason == "" {
			t.Errorf("%s is %+v", name, c)
		}
	}
	if len(r.Vector) != 8 || r.Vector[appraisal.RuntimeOpaque].Value != 0 {
		t.Errorf("vector %+v", r.Vector)
	}
	if !r.Emulated || !strings.Contains(r.Root, evidence.EmulatedMark) || len(r.Findings) < 9 {
		t.Errorf("emulated %v, root %s, %d findings", r.Emulated, r.Root, len(r.Findings))
	}
}

// Every mismatch ends refused and is named, with expectation, value and source.
func TestRefused(t *testing.T) {
	type in struct {
		w *world
		p *appraisal.Policy
		e *appraisal.Expect
	}
	for name, c := range map[string]struct {
		change func(in)
		codes  []string
		claim  string // of the vector
		value  int8
		source string // part of the first failed finding's source
	}{
		"another Agent": {func(i in) { i.w.change = func(k *psa.Token) { k.Components[0].Value = bytes.Repeat([]byte{1}, 32) } },
			[]string{appraisal.CodeMeasurement}, appraisal.Executables, 96, "the binary that was built"},
		"an Agent measured by another algorithm": {func(i in) {
			i.w.change = func(k *psa.Token) { k.Components[0].Value = append(bytes.Clone(agentHash[:]), agentHash[:]...) }
		},
			[]string{appraisal.CodeMeasurement}, appraisal.Executables, 96, "AGENT"},
		"two Agents": {func(i in) { i.w.change = func(k *psa.Token) { k.Components = append(k.Components, k.Components[0]) } },
			[]string{appraisal.CodeMeasurement}, appraisal.Executables, 96, "AGENT"},
		"no Agent": {func(i in) { i.w.change = func(k *psa.Token) { k.Components = k.Components[1:] } },
			[]string{appraisal.CodeMeasurement}, appraisal.Executables, 96, "AGENT"},
		"an unknown component": {func(i in) {
			i.w.change = func(k *psa.Token) {
				more := k.Components[0]
				more.Type = "MORE"
				k.Components = append(k.Components, more)
			}
		}, []string{appraisal.CodeUnknownMeasurement}, appraisal.Executables, 33, "reference values"},
		"a reference value of last year": {func(i in) { i.p.ReferenceValues[0].NotAfter = &appraisal.Time{Time: now.Add(-time.Hour)} },
			[]string{appraisal.CodeReferenceTime}, appraisal.Executables, 33, "the binary that was built"},
		"a reference value of next year": {func(i in) { i.p.ReferenceValues[0].NotBefore = &appraisal.Time{Time: now.Add(time.Hour)} },
			[]string{appraisal.CodeReferenceTime}, appraisal.Executables, 33, "the binary that was built"},
		"a reference value for other hardware": {func(i in) { i.p.ReferenceValues[0].Hardware = evidence.TDX },
			[]string{appraisal.CodeUnknownMeasurement}, appraisal.Executables, 33, "reference values"},
		"debug state": {func(i in) { i.w.change = func(k *psa.Token) { k.Lifecycle = psa.LifecycleNonPSADebug } },
			[]string{appraisal.CodeLifecycle}, appraisal.HardwareClaim, 96, "the default for trustzone"},
		"another configuration": {func(i in) { i.w.config = []byte("another") },
			[]string{appraisal.CodeConfig}, appraisal.Configuration, 96, "the deployment"},
		"nobody expects a configuration": {func(i in) { i.e.ConfigDigest = nil },
			[]string{appraisal.CodeConfig}, appraisal.Configuration, 36, "config"},
		"the caller read something wrong in the configuration": {func(i in) {
			i.e.ConfigChecks = []appraisal.Finding{{Code: "owner.config", Claim: "owner", Expected: "me", Got: "you", Source: "the owner", Hint: "x"},
				{Code: "owner.config", Claim: "app", Expected: "a", Got: "a", OK: true}}
		}, []string{"owner.config"}, appraisal.Configuration, 96, "the owner"},
		"policy and deployment disagree": {func(i in) { i.p.Config = &appraisal.ConfigRule{Digests: []appraisal.Hex32{{1}}, Source: "me"} },
			[]string{appraisal.CodeConfig}, appraisal.Configuration, 96, "me"},
		"swapped TA": {func(i in) { i.w.claims.TAs[0].Digest = suit.SHA256([]byte("evil")) },
			[]string{appraisal.CodeTADigest}, appraisal.Executables, 96, "the package"},
		"older TA": {func(i in) { i.w.claims.TAs[0].Sequence = 2 },
			[]string{appraisal.CodeTASequence}, appraisal.Executables, 96, "the package"},
		"TA of another signer": {func(i in) { i.w.claims.TAs[0].Signer = bytes.Repeat([]byte{1}, 32) },
			[]string{appraisal.CodeTASigner}, appraisal.Executables, 96, "the package"},
		"no TA": {func(i in) { i.w.claims.TAs = nil },
			[]string{appraisal.CodeTAMissing}, appraisal.Executables, 96, "the package"},
		"one TA more": {func(i in) {
			more := i.w.claims.TAs[0]
			more.Component = suit.NewComponentID("tee", "other", "ta")
			i.w.claims.TAs = append(i.w.claims.TAs, more)
		}, []string{appraisal.CodeTAUnexpected}, appraisal.Executables, 96, "expected TAs"},
		"a stranger's TA in a shared instance": {func(i in) {
			i.e.Beside = []appraisal.Hex32{signer}
			more := i.w.claims.TAs[0]
			more.Component, more.Signer = suit.NewComponentID("tee", "other", "ta"), bytes.Repeat([]byte{1}, 32)
			i.w.claims.TAs = append(i.w.claims.TAs, more)
		}, []string{appraisal.CodeTAUnexpected}, appraisal.Executables, 96, "applications share"},
		"the policy wants no other TA in a shared instance": {func(i in) {
			i.e.Beside, i.p.OnlyTAs = []appraisal.Hex32{signer}, true
			more := i.w.claims.TAs[0]
			more.Component = suit.NewComponentID("tee", "other", "ta")
			i.w.claims.TAs = append(i.w.claims.TAs, more)
		}, []string{appraisal.CodeTAUnexpected}, appraisal.Executables, 96, "expected TAs"},
		"TA that the policy wants": {func(i in) {
			i.p.TAs = []appraisal.TAExpectation{{Component: taID, Digests: []appraisal.Digest{appraisal.SHA256Digest([32]byte{1})}}}
		}, []string{appraisal.CodeTADigest}, appraisal.Executables, 96, "policy"},
		"hardware": {func(i in) { i.p.Hardware = []evidence.Hardware{evidence.TDX} },
			[]string{appraisal.CodeHardware}, appraisal.HardwareClaim, 96, "hardware"},
		"emulated, not named": {func(i in) { i.p.Anchors[0].Fingerprint = appraisal.Hex32{1} },
			[]string{appraisal.CodeEmulated}, appraisal.HardwareClaim, 32, "anchors"},
		"emulated, named as real": {func(i in) { i.p.Anchors[0].Emulated = false },
			[]string{appraisal.CodeEmulated}, appraisal.InstanceIdentity, 32, "anchors"},
		"emulated in production": {func(i in) { i.p.Production = true },
			[]string{appraisal.CodeEmulated}, appraisal.HardwareClaim, 96, "anchors"},
	} {
		w := newWorld(t)
		p, e := w.policy(t), w.expect()
		c.change(in{w, p, &e})
		r, v := appraisal.AppraiseBundle(w.bundle(t), w.input(), p, e)
		t.Run(name, func(t *testing.T) {
			if v == nil {
				t.Fatalf("it did not verify: %+v", r.Failed())
			}
			if r.OK() || r.Status == appraisal.TierAffirming || !slices.Equal(failed(r), c.codes) || r.Vector[c.claim].Value != c.value {
				t.Fatalf("status %s, failed %v, %s is %+v", r.Status, failed(r), c.claim, r.Vector[c.claim])
			}
			f := r.Failed()[0]
			if f.Expected == "" || f.Got == "" || f.Expected == f.Got || f.Hint == "" || !strings.Contains(f.Source, c.source) {
				t.Errorf("finding %+v", f)
			}
		})
	}
}

func TestAllMismatchesReported(t *testing.T) {
	w := newWorld(t)
	w.change = func(k *psa.Token) {
		k.Components[0].Value = bytes.Repeat([]byte{1}, 32)
		k.Lifecycle = psa.LifecycleAssembly
	}
	w.config = []byte("another")
	w.claims.TAs[0].Digest, w.claims.TAs[0].Sequence = suit.SHA256([]byte("evil")), 1
	r, _ := appraisal.AppraiseBundle(w.bundle(t), w.input(), w.policy(t), w.expect())
	want := []string{appraisal.CodeLifecycle, appraisal.CodeMeasurement, appraisal.CodeConfig, appraisal.CodeTADigest, appraisal.CodeTASequence}
	if got := failed(r); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The two ways to be content with a warning: the policy says so; and never for what is contraindicated.
func TestAcceptWarning(t *testing.T) {
	w := newWorld(t)
	p := w.policy(t)
	p.Accept = appraisal.TierWarning
	e := w.expect()
	e.ConfigDigest = nil
	r := appraisal.Appraise(w.verified(t), p, now, e)
	if r.Status != appraisal.TierWarning || !r.OK() {
		t.Errorf("status %s", r.Status)
	}
	w.claims.TAs[0].Digest = suit.SHA256([]byte("evil"))
	if r := appraisal.Appraise(w.verified(t), p, now, w.expect()); r.OK() {
		t.Errorf("status %s", r.Status)
	}
}

// Without expectations about TAs the Agent is affirmed and the TAs are not: the M/OC's admission.
func TestTAsNotJudged(t *testing.T) {
	w := newWorld(t)
	e := w.expect()
	e.TAs, e.OnlyTAs = nil, false
	r := appraisal.Appraise(w.verified(t), w.policy(t), now, e)
	if !r.OK() || r.Vector[appraisal.Executables].Value != 3 {
		t.Errorf("status %s, executables %+v", r.Status, r.Vector[appraisal.Executables])
	}
	w.claims.TAs = nil
	if r := appraisal.Appraise(w.verified(t), w.policy(t), now, e); r.Vector[appraisal.Executables].Value != 2 {
		t.Errorf("executables %+v", r.Vector[appraisal.Executables])
	}
}

// Whoever shares an instance is told of the other TAs and accepts them by their signer.
func TestBeside(t *testing.T) {
	w := newWorld(t)
	more := w.claims.TAs[0]
	more.Component, more.Digest = suit.NewComponentID("tee", "other", "ta"), suit.SHA256([]byte("another program"))
	w.claims.TAs = append(w.claims.TAs, more)
	e := w.expect()
	e.Beside = []appraisal.Hex32{signer}
	r := appraisal.Appraise(w.verified(t), w.policy(t), now, e)
	told := slices.ContainsFunc(r.Findings, func(f appraisal.Finding) bool { return f.OK && f.Claim == "TA tee/other/ta" })
	if !r.OK() || r.Vector[appraisal.Executables].Value != 2 || !told {
		t.Errorf("status %s, executables %+v, %+v", r.Status, r.Vector[appraisal.Executables], r.Findings)
	}
}

// What did not verify is contraindicated, and its findings are the mismatches.
func TestVerificationFailures(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		change func(*evidence.Input)
		code   string
		claim  string
	}{
		"replay": {func(in *evidence.Input) {
			in.Challenge = append(bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{8}, 32)...)
		}, evidence.CodeNonce, "owner"},
		"root":      {func(in *evidence.Input) { in.Anchors = evidence.Anchors{} }, evidence.CodeRoot, "root"},
		"agent key": {func(in *evidence.Input) { in.AgentKey = newKey(t) }, evidence.CodeAgentKey, "cnf"},
	} {
		in := w.input()
		c.change(&in)
		r, v := appraisal.AppraiseBundle(w.bundle(t), in, w.policy(t), w.expect())
		if v != nil || r.OK() || r.Status != appraisal.TierContraindicated || r.Vector[appraisal.HardwareClaim].Value != 99 {
			t.Errorf("%s: status %s", name, r.Status)
		}
		if got := failed(r); len(got) != 1 || got[0] != c.code || !strings.Contains(r.Failed()[0].Claim, c.claim) {
			t.Errorf("%s: %+v", name, r.Failed())
		}
	}
	b, err := evidence.ParseBundle(w.bundle(t))
	must(t, err)
	b.Hardware[len(b.Hardware)-1] ^= 1
	r, _ := appraisal.AppraiseBundle(b.Marshal(), w.input(), w.policy(t), w.expect())
	if got := failed(r); !slices.Equal(got, []string{evidence.CodeSignature}) {
		t.Errorf("signature: %+v", r.Failed())
	}
}

func TestUnverifiedEvidence(t *testing.T) {
	w := newWorld(t)
	for _, v := range []*evidence.Verified{nil, {Hardware: evidence.TrustZone, Claims: &evidence.Claims{}}} {
		if r := appraisal.Appraise(v, w.policy(t), now); r == nil || r.OK() || r.Status != appraisal.TierContraindicated {
			t.Errorf("got %+v", r)
		}
	}
}

// A finding that is not satisfied and an affirming status exclude each other, whatever the policy.
func TestNoPassWithFailedFinding(t *testing.T) {
	w := newWorld(t)
	for mask := range 1 << 6 {
		p, e := w.policy(t), w.expect()
		for bit, change := range []func(){
			func() { p.Hardware = []evidence.Hardware{evidence.CSV} },
			func() { p.Anchors[0].Emulated = false },
			func() { p.ReferenceValues[0].Digests = []appraisal.Digest{appraisal.SHA256Digest([32]byte{1})} },
			func() { e.ConfigDigest = new([32]byte) },
			func() { e.TAs[0].MinSequence = 99 },
			func() { e.TAs = nil },
		} {
			if mask&(1<<bit) != 0 {
				if bit == 4 && mask&(1<<5) != 0 {
					continue
				}
				change()
			}
		}
		r := appraisal.Appraise(w.verified(t), p, now, e)
		if (len(r.Failed()) == 0) != r.OK() || (mask == 0) != r.OK() {
			t.Errorf("%06b: status %s with %v", mask, r.Status, failed(r))
		}
	}
}

func TestExplainGolden(t *testing.T) {
	w := newWorld(t)
	w.claims.TAs[0].Digest = suit.SHA256([]byte("evil"))
	r, _ := appraisal.AppraiseBundle(w.bundle(t), w.input(), w.policy(t), w.expect())
	var b bytes.Buffer
	must(t, r.Explain(&b))
	// Keys and fingerprints are new in every run.
	text := b.String()
	text = strings.ReplaceAll(text, w.pki.Anchor().FingerprintText(), "<root>")
	text = strings.ReplaceAll(text, appraisal.Hex32(w.agentKey.Thumbprint()).String(), "<agent key>")
	golden(t, "explain.txt", []byte(text))
	if !strings.Contains(text, "EMULATED") || !strings.Contains(text, "differs: TA tee/stats/ta digest") {
		t.Error(text)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; run with -update and read the difference. Got:\n%s", path, got)
	}
}

func BenchmarkAppraiseBundle(b *testing.B) {
	w := newWorld(b)
	data, in, p, e := w.bundle(b), w.input(), w.policy(b), w.expect()
	b.ReportAllocs()
	for b.Loop() {
		if r, _ := appraisal.AppraiseBundle(data, in, p, e); !r.OK() {
			b.Fatal(r.Failed())
		}
	}
}
