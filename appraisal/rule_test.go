// SPDX-License-Identifier: Apache-2.0

package appraisal_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/suit"
)

// chosen is hardware whose verified fields a test chooses: what is tested is the appraisal of them. Only the time is
// judged, so that collateral can end.
type chosen struct {
	hardware evidence.Hardware
	root     evidence.Anchor
	data     evidence.Signed
}

const mediaTypeChosen = "application/vnd.sealift.test"

func (c *chosen) Hardware() evidence.Hardware          { return c.hardware }
func (c *chosen) MediaTypes() []string                 { return []string{mediaTypeChosen} }
func (c *chosen) Reads(evidence.HardwareEvidence) bool { return true }

func (c *chosen) VerifyHardware(_ evidence.HardwareEvidence, in evidence.HardwareInput) (*evidence.Signed, []*evidence.Mismatch) {
	s := c.data
	s.Root, s.Rooted = c.root, true
	if !s.Until.IsZero() && in.Now.After(s.Until) {
		return &s, []*evidence.Mismatch{{Code: evidence.CodeCertificate, Claim: "validity", Expected: "later", Got: s.Until.String(), Source: "clock"}}
	}
	return &s, nil
}

// fields are what a healthy device of each architecture says.
func fields(hw evidence.Hardware) map[string]any {
	switch hw {
	case evidence.SEVSNP:
		return map[string]any{"POLICY": uint64(0x30000), "VMPL": uint32(0), "REPORTED_TCB": struct{ SNP, Microcode uint8 }{20, 210}}
	case evidence.TDX, evidence.SGX:
		return map[string]any{"ATTRIBUTES": uint64(5), "TDATTRIBUTES": uint64(1 << 28), "tcb-status": "UpToDate", "TEE_TCB_SVN": [16]byte{3, 1, 2}, "tcb-date": time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
	}
	return map[string]any{"lifecycle": uint16(0x3000), "version": "1.10.2", "debug": false, "client-id": int32(-1), "impl": []byte{0xab}}
}

// appraiseFields appraises the fields of a device that is otherwise as the policy wants it.
func appraiseFields(t *testing.T, hw evidence.Hardware, changeEvidence func(*evidence.Signed), change func(*appraisal.Policy)) *appraisal.Result {
	t.Helper()
	w := newWorld(t)
	pki, err := emuroot.New(rand.Reader, evidence.TrustZone, now)
	must(t, err)
	root := pki.Anchor()
	root.Hardware = ""
	launch := appraisal.Launch{Hardware: hw, Name: "AGENT", Digest: agentHash[:], Source: "the build"}
	for other, name := range map[evidence.Hardware]string{evidence.SEVSNP: "MEASUREMENT", evidence.TDX: "MRTD", evidence.SGX: "MRENCLAVE"} {
		if other == hw {
			launch.Name = name
		}
	}
	if hw == evidence.SEVSNP || hw == evidence.TDX {
		launch.Digest = append(launch.Digest, make([]byte, 16)...)
	}
	p, err := appraisal.NewPolicy(appraisal.NewPolicyInput{Name: "test", Hardware: []evidence.Hardware{hw}, Roots: []evidence.Anchor{root},
		Launch: []appraisal.Launch{launch}})
	must(t, err)
	if change != nil {
		change(p)
	}
	must(t, p.Validate())
	c := &chosen{hardware: hw, root: root}
	bundle, err := evidence.Collect(w.claims, "emu:"+string(hw), w.agentKey, w.config, func(b [64]byte) (evidence.HardwareEvidence, error) {
		config := sha256.Sum256(w.config)
		c.data = evidence.Signed{ReportData: b[:], InstanceID: w.claims.UEID, Config: config[:], ConfigField: "CONFIG", Fields: fields(hw),
			Measurements: []evidence.Measurement{{Name: launch.Name, Value: launch.Digest, Source: "test"}}}
		if changeEvidence != nil {
			changeEvidence(&c.data)
		}
		return evidence.HardwareEvidence{Data: []byte{1}, MediaType: mediaTypeChosen}, nil
	})
	must(t, err)
	in := w.input()
	in.Anchors, in.Verifiers = evidence.Anchors{Roots: []evidence.Anchor{root}}, []evidence.HardwareVerifier{c}
	r, _ := appraisal.AppraiseBundle(bundle, in, p, w.expect())
	return r
}

func set(name string, value any) func(*evidence.Signed) {
	return func(s *evidence.Signed) { s.Fields[name] = value }
}

func unset(name string) func(*evidence.Signed) {
	return func(s *evidence.Signed) { delete(s.Fields, name) }
}

func TestHealthyHardware(t *testing.T) {
	for _, hw := range []evidence.Hardware{evidence.TrustZone, evidence.SEVSNP, evidence.TDX, evidence.SGX} {
		if r := appraiseFields(t, hw, nil, nil); !r.OK() || len(r.Failed()) > 0 {
			t.Errorf("%s: %s: %+v", hw, r.Status, r.Failed())
		}
	}
}

// TestDefaults guards that each check that nobody asked for refuses by itself, under its own code, and can be waived.
func TestDefaults(t *testing.T) {
	for name, c := range map[string]struct {
		hw     evidence.Hardware
		change func(*evidence.Signed)
		code   string
		waive  string
	}{
		"SNP debug":        {evidence.SEVSNP, set("POLICY", uint64(0xb0000)), appraisal.CodeDebug, appraisal.RuleNoDebug},
		"SNP migration":    {evidence.SEVSNP, set("POLICY", uint64(0x70000)), appraisal.CodeMigratable, appraisal.RuleNotMigrating},
		"SNP VMPL":         {evidence.SEVSNP, set("VMPL", uint32(1)), appraisal.CodeVMPL, appraisal.RuleVMPL},
		"SNP says nothing": {evidence.SEVSNP, unset("VMPL"), appraisal.CodeField, appraisal.RuleVMPL},
		"TDX debug":        {evidence.TDX, set("TDATTRIBUTES", uint64(1<<28|1)), appraisal.CodeDebug, appraisal.RuleNoDebug},
		"TDX migration":    {evidence.TDX, set("TDATTRIBUTES", uint64(1<<29)), appraisal.CodeMigratable, appraisal.RuleNotMigrating},
		"SGX debug":        {evidence.SGX, set("ATTRIBUTES", uint64(7)), appraisal.CodeDebug, appraisal.RuleNoDebug},
		"open device":      {evidence.TrustZone, set("lifecycle", uint16(0x4000)), appraisal.CodeLifecycle, appraisal.RuleLifecycle},
		"TDX out of date":  {evidence.TDX, set("tcb-status", "OutOfDate"), appraisal.CodeTCBStatus, appraisal.RuleTCB},
		"SGX out of date":  {evidence.SGX, set("tcb-status", "SWHardeningNeeded"), appraisal.CodeTCBStatus, appraisal.RuleTCB},
		"TDX without word": {evidence.TDX, unset("tcb-status"), appraisal.CodeTCBStatus, appraisal.RuleTCB},
	} {
		r := appraiseFields(t, c.hw, c.change, nil)
		if r.OK() || !slices.Equal(failed(r), []string{c.code}) {
			t.Errorf("%s: %s, %v", name, r.Status, failed(r))
		}
		r = appraiseFields(t, c.hw, c.change, func(p *appraisal.Policy) {
			p.Waive = []appraisal.Waiver{{Rule: c.waive, Hardware: c.hw, Source: "for the test"}}
		})
		if !r.OK() {
			t.Errorf("%s, waived: %v", name, failed(r))
		}
		r = appraiseFields(t, c.hw, c.change, func(p *appraisal.Policy) {
			p.Waive = []appraisal.Waiver{{Rule: c.waive, Hardware: evidence.CSV, Source: "for the test"}}
		})
		if r.OK() {
			t.Errorf("%s: waived for other hardware", name)
		}
	}
}

func TestTCBRule(t *testing.T) {
	hardening := func(s *evidence.Signed) {
		s.Fields["tcb-status"], s.Fields["advisories"] = "SWHardeningNeeded", []string{"INTEL-SA-1", "INTEL-SA-2"}
	}
	for name, c := range map[string]struct {
		rule  appraisal.TCBRule
		codes []string
	}{
		"status and advisories": {appraisal.TCBRule{Statuses: []string{"UpToDate", "SWHardeningNeeded"}, Advisories: []string{"INTEL-SA-2", "INTEL-SA-1"}}, []string{}},
		"any advisory":          {appraisal.TCBRule{Statuses: []string{"SWHardeningNeeded"}, AnyAdvisory: true}, []string{}},
		"one advisory":          {appraisal.TCBRule{Statuses: []string{"SWHardeningNeeded"}, Advisories: []string{"INTEL-SA-1"}}, []string{appraisal.CodeAdvisory}},
		"another status":        {appraisal.TCBRule{Statuses: []string{"OutOfDate"}, AnyAdvisory: true}, []string{appraisal.CodeTCBStatus}},
		"neither":               {appraisal.TCBRule{Statuses: []string{"UpToDate"}}, []string{appraisal.CodeTCBStatus, appraisal.CodeAdvisory}},
	} {
		r := appraiseFields(t, evidence.TDX, hardening, func(p *appraisal.Policy) { p.TCB = &c.rule })
		if !slices.Equal(failed(r), c.codes) {
			t.Errorf("%s: %v", name, failed(r))
		}
	}
}

// TestRules guards each operator: what holds, what does not, and what cannot be compared.
func TestRules(t *testing.T) {
	num, text, list := appraisal.NumberValue, appraisal.TextValue, appraisal.ListValue
	for _, c := range []struct {
		hw    evidence.Hardware
		field string
		op    appraisal.Op
		value *appraisal.Value
		holds bool
	}{
		{evidence.SEVSNP, "REPORTED_TCB.SNP", appraisal.OpAtLeast, num(20), true},
		{evidence.SEVSNP, "REPORTED_TCB.snp", appraisal.OpAtLeast, num(21), false},
		{evidence.SEVSNP, "REPORTED_TCB.Microcode", appraisal.OpEquals, num(210), true},
		{evidence.SEVSNP, "REPORTED_TCB", appraisal.OpAtLeast, num(1), false},
		{evidence.SEVSNP, "VMPL", appraisal.OpAtMost, num(0), true},
		{evidence.SEVSNP, "POLICY", appraisal.OpSet, text("0x20000"), true},
		{evidence.SEVSNP, "POLICY", appraisal.OpSet, text("0x60000"), false},
		{evidence.SEVSNP, "POLICY", appraisal.OpClear, text("0x40000"), true},
		{evidence.SEVSNP, "POLICY", appraisal.OpClear, nil, false},
		{evidence.SEVSNP, "POLICY", appraisal.OpEquals, text("0x30000"), true},
		{evidence.TDX, "TEE_TCB_SVN", appraisal.OpAtLeast, text("03010200000000000000000000000000"), true},
		{evidence.TDX, "TEE_TCB_SVN", appraisal.OpAtLeast, text("02020000000000000000000000000000"), false},
		{evidence.TDX, "TEE_TCB_SVN", appraisal.OpAtLeast, text("0301"), false},
		{evidence.TDX, "tcb-date", appraisal.OpAtLeast, text("2026-01-01T00:00:00Z"), true},
		{evidence.TDX, "tcb-date", appraisal.OpAtLeast, text("2026-02-01T00:00:00Z"), false},
		{evidence.TDX, "tcb-status", appraisal.OpOneOf, list("UpToDate", "OutOfDate"), true},
		{evidence.TDX, "tcb-status", appraisal.OpOneOf, list("OutOfDate"), false},
		{evidence.TrustZone, "version", appraisal.OpAtLeast, text("1.9"), true},
		{evidence.TrustZone, "version", appraisal.OpAtLeast, text("1.10.2"), true},
		{evidence.TrustZone, "version", appraisal.OpAtLeast, text("1.10.3"), false},
		{evidence.TrustZone, "version", appraisal.OpAtLeast, text("one"), false},
		{evidence.TrustZone, "debug", appraisal.OpClear, nil, true},
		{evidence.TrustZone, "debug", appraisal.OpSet, nil, false},
		{evidence.TrustZone, "debug", appraisal.OpEquals, appraisal.FlagValue(false), true},
		{evidence.TrustZone, "client-id", appraisal.OpEquals, num(-1), true},
		{evidence.TrustZone, "client-id", appraisal.OpClear, text("0x1"), false},
		{evidence.TrustZone, "impl", appraisal.OpEquals, text("ab"), true},
		{evidence.TrustZone, "impl", appraisal.OpEquals, text("ac"), false},
		{evidence.TrustZone, "version", appraisal.OpWithin, list("1.10.2"), true},
	} {
		name := fmt.Sprintf("%s %s %s %v", c.hw, c.field, c.op, c.value)
		rule := appraisal.Rule{Name: "mine", Field: c.field, Op: c.op, Value: c.value, Claim: appraisal.Configuration, Fail: 40, Source: "a decision"}
		r := appraiseFields(t, c.hw, nil, func(p *appraisal.Policy) { p.Rules = []appraisal.Rule{rule} })
		switch {
		case c.holds && !r.OK():
			t.Errorf("%s: %+v", name, r.Failed())
		case !c.holds && (len(r.Failed()) != 1 || r.Failed()[0].Code != appraisal.CodeRule || r.Vector[appraisal.Configuration].Value != 40):
			t.Errorf("%s: %+v, %+v", name, r.Failed(), r.Vector)
		case !c.holds && !strings.Contains(r.Failed()[0].Source, `policy "test", rule mine (a decision)`):
			t.Errorf("%s: source %q", name, r.Failed()[0].Source)
		}
	}
}

func TestRuleWithoutField(t *testing.T) {
	rule := appraisal.Rule{Name: "mine", Field: "nothing.there", Op: appraisal.OpSet}
	r := appraiseFields(t, evidence.TDX, nil, func(p *appraisal.Policy) { p.Rules = []appraisal.Rule{rule} })
	if !slices.Equal(failed(r), []string{appraisal.CodeField}) {
		t.Errorf("a field that is not there: %v", failed(r))
	}
	rule.Optional = true
	if r := appraiseFields(t, evidence.TDX, nil, func(p *appraisal.Policy) { p.Rules = []appraisal.Rule{rule} }); !r.OK() {
		t.Errorf("an optional one: %v", failed(r))
	}
	rule.Optional, rule.Hardware = false, evidence.SGX
	if r := appraiseFields(t, evidence.TDX, nil, func(p *appraisal.Policy) { p.Rules = []appraisal.Rule{rule} }); !r.OK() {
		t.Errorf("for other hardware: %v", failed(r))
	}
}

func TestMapping(t *testing.T) {
	old := set("tcb-status", "OutOfDate")
	mild := func(p *appraisal.Policy) {
		p.Mapping = []appraisal.Mapping{{Code: appraisal.CodeTCBStatus, Claim: appraisal.RuntimeOpaque, Value: 33}}
	}
	r := appraiseFields(t, evidence.TDX, old, mild)
	if r.Status != appraisal.TierWarning || r.OK() || r.Vector[appraisal.RuntimeOpaque].Value != 33 || r.Vector[appraisal.HardwareClaim].Value != 2 {
		t.Errorf("status %s, vector %+v", r.Status, r.Vector)
	}
	r = appraiseFields(t, evidence.TDX, old, func(p *appraisal.Policy) { mild(p); p.Accept = appraisal.TierWarning })
	if !r.OK() {
		t.Errorf("a policy that accepts warnings: %s", r.Status)
	}
}

// TestCollateralGrace guards that what ended is tolerated for as long as the policy says and no longer.
func TestCollateralGrace(t *testing.T) {
	ended := func(s *evidence.Signed) { s.Until, s.UntilWhat = now.Add(-time.Hour), "the TCB info" }
	if r := appraiseFields(t, evidence.TDX, ended, nil); !slices.Equal(failed(r), []string{evidence.CodeCertificate}) {
		t.Errorf("without grace: %v", failed(r))
	}
	r := appraiseFields(t, evidence.TDX, ended, func(p *appraisal.Policy) { p.CollateralGrace = 3700 })
	i := slices.IndexFunc(r.Findings, func(f appraisal.Finding) bool { return f.Code == appraisal.CodeCollateral })
	if !r.OK() || i < 0 || !strings.Contains(r.Findings[i].Source, "collateral_grace") {
		t.Errorf("within the grace: %v", failed(r))
	}
	if r := appraiseFields(t, evidence.TDX, ended, func(p *appraisal.Policy) { p.CollateralGrace = 3500 }); r.OK() {
		t.Error("after the grace")
	}
}

// TestLoads guards that a program which was loaded earlier is told, and refused where a policy wants no other TA.
func TestLoads(t *testing.T) {
	w := newWorld(t)
	w.claims.Loads = []evidence.Load{{Component: suit.NewComponentID("tee", "other", "ta"), Digest: suit.SHA256([]byte("x")), Sequence: 1},
		{Component: taID, Digest: suit.SHA256([]byte("old")), Sequence: 2}, {Component: taID, Digest: suit.SHA256([]byte("ta")), Sequence: 3}}
	p := w.policy(t)
	c := &chosen{hardware: evidence.TrustZone, root: w.pki.Anchor()}
	bundle, err := evidence.Collect(w.claims, "emu:trustzone", w.agentKey, w.config, func(b [64]byte) (evidence.HardwareEvidence, error) {
		config := sha256.Sum256(w.config)
		c.data = evidence.Signed{ReportData: b[:], InstanceID: w.claims.UEID, Config: config[:], ConfigField: "CONFIG", Fields: fields(evidence.TrustZone),
			Register: "R", RegisterHash: sha256.New, Measurements: []evidence.Measurement{{Name: "AGENT", Value: agentHash[:]},
				{Name: "R", Value: evidence.ReplayLoads(sha256.New, w.claims.Loads)}}}
		return evidence.HardwareEvidence{Data: []byte{1}, MediaType: mediaTypeChosen}, nil
	})
	must(t, err)
	in := w.input()
	in.Verifiers = []evidence.HardwareVerifier{c}
	r, _ := appraisal.AppraiseBundle(bundle, in, p, w.expect())
	earlier := 0
	for _, f := range r.Findings {
		if strings.Contains(f.Claim, "loaded earlier") {
			earlier++
		}
	}
	if !r.OK() || earlier != 2 {
		t.Errorf("%s, %d earlier ones: %+v", r.Status, earlier, r.Failed())
	}
	p.OnlyTAs = true
	if r, _ = appraisal.AppraiseBundle(bundle, in, p, w.expect()); !slices.Equal(failed(r), []string{appraisal.CodeTAUnexpected}) {
		t.Errorf("%+v", r.Failed())
	}
	recorded, _ := appraisal.AppraiseRecorded(&appraisal.Recorded{Bundle: bundle}, in, w.policy(t))
	if recorded.FirstCause != nil {
		t.Errorf("kept: %+v", recorded.Failed())
	}
}

const fullPolicy = `{"version": 2, "name": "all", "production": false, "accept": "affirming", "hardware": ["tdx", "sev-snp"],
  "anchors": [{"fingerprint": "1111111111111111111111111111111111111111111111111111111111111111", "emulated": false}],
  "reference_values": [
    {"name": "MRTD", "hardware": "tdx", "digests": ["sha-384:MRTD"], "not_after": "2030-01-01T00:00:00Z", "source": "build"},
    {"name": "RTMR0", "hardware": "tdx", "any": true, "source": "not ours"},
    {"name": "MEASUREMENT", "digests": ["sha-384:MRTD"], "source": "build"}],
  "lifecycle": ["secured"], "only_tas": true,
  "tas": [{"component": "tee/stats/ta", "digests": ["sha-256:4444444444444444444444444444444444444444444444444444444444444444"], "source": "package"}],
  "rules": [
    {"name": "snp tcb", "hardware": "sev-snp", "field": "REPORTED_TCB.SNP", "op": "at-least", "value": 20, "source": "AMD-SB-3019"},
    {"name": "smt", "hardware": "sev-snp", "field": "PLATFORM_INFO", "op": "clear", "value": "0x1", "fail": 33, "claim": "runtime-opaque"},
    {"name": "flag", "field": "x", "op": "equals", "value": true, "optional": true},
    {"name": "list", "field": "y", "op": "within", "value": ["a", "b"], "optional": true},
    {"name": "minus", "field": "z", "op": "at-most", "value": -5, "optional": true}],
  "waive": [{"rule": "vmpl-0", "hardware": "sev-snp", "source": "a paravisor is at VMPL 0"}],
  "tcb": {"statuses": ["UpToDate", "SWHardeningNeeded"], "advisories": ["INTEL-SA-00615"], "source": "me"},
  "collateral_grace": 86400,
  "mapping": [{"code": "appraisal.advisory", "value": 33}]}`

func parseFull(t testing.TB) *appraisal.Policy {
	t.Helper()
	p, err := appraisal.ParsePolicy([]byte(strings.ReplaceAll(fullPolicy, "MRTD\"]", strings.Repeat("a", 96)+`"]`)))
	must(t, err)
	return p
}

// TestPolicyForms guards that JSON, CBOR and the signed form hold the same policy with the same hash.
func TestPolicyForms(t *testing.T) {
	p := parseFull(t)
	plain, err := p.MarshalCBOR()
	must(t, err)
	key, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	must(t, err)
	s, err := cose.NewSigner(key)
	must(t, err)
	signed, err := appraisal.SignPolicy(rand.Reader, s, p)
	must(t, err)
	text, err := p.Marshal()
	must(t, err)
	for name, data := range map[string][]byte{"CBOR": plain, "COSE": signed, "JSON": text} {
		f, err := appraisal.ReadPolicy(data)
		must(t, err)
		again, err := f.Policy.Marshal()
		must(t, err)
		if f.Policy.Hash() != p.Hash() || !bytes.Equal(again, text) || f.Signed != (name == "COSE") || f.Signer != nil {
			t.Errorf("%s: %+v\n%s", name, f, again)
		}
		f, err = appraisal.ReadPolicy(data, newKey(t), s.Key())
		if name == "COSE" {
			if err != nil || !f.Signer.Equal(s.Key()) {
				t.Errorf("signed by a known key: %v", err)
			}
			_, err = appraisal.ReadPolicy(data, newKey(t))
		}
		if !errors.Is(err, appraisal.ErrPolicySigner) {
			t.Errorf("%s without a known signature: %v", name, err)
		}
	}
	for i := range plain {
		if _, err := appraisal.ParsePolicyCBOR(plain[:i]); !errors.Is(err, appraisal.ErrPolicy) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	for i := range signed {
		changed := bytes.Clone(signed)
		changed[i] ^= 1
		if f, err := appraisal.ReadPolicy(changed, s.Key()); err == nil && f.Policy.Hash() != p.Hash() {
			t.Fatalf("byte %d changed: another policy", i)
		}
	}
	other, err := cose.Sign1(rand.Reader, s, plain)
	must(t, err)
	if _, err := appraisal.ReadPolicy(other, s.Key()); !errors.Is(err, appraisal.ErrPolicy) {
		t.Errorf("signed as something else: %v", err)
	}
}

func TestRuleIsRefused(t *testing.T) {
	for name, change := range map[string]func(*appraisal.Policy){
		"no name":                func(p *appraisal.Policy) { p.Rules[0].Name = "" },
		"name of a default":      func(p *appraisal.Policy) { p.Rules[0].Name = appraisal.RuleNoDebug },
		"name twice":             func(p *appraisal.Policy) { p.Rules[0].Name = "smt" },
		"no field":               func(p *appraisal.Policy) { p.Rules[0].Field = "" },
		"hardware":               func(p *appraisal.Policy) { p.Rules[0].Hardware = "abacus" },
		"operator":               func(p *appraisal.Policy) { p.Rules[0].Op = "like" },
		"no value":               func(p *appraisal.Policy) { p.Rules[0].Value = nil },
		"list for a number":      func(p *appraisal.Policy) { p.Rules[0].Value = appraisal.ListValue("a") },
		"flag to be at least":    func(p *appraisal.Policy) { p.Rules[0].Value = appraisal.FlagValue(true) },
		"mask of nothing":        func(p *appraisal.Policy) { p.Rules[1].Value = appraisal.NumberValue(0) },
		"text for a list":        func(p *appraisal.Policy) { p.Rules[3].Value = appraisal.TextValue("a") },
		"fails into affirming":   func(p *appraisal.Policy) { p.Rules[0].Fail = 2 },
		"claim":                  func(p *appraisal.Policy) { p.Rules[0].Claim = "mood" },
		"waive unknown":          func(p *appraisal.Policy) { p.Waive[0].Rule = "all" },
		"waive without source":   func(p *appraisal.Policy) { p.Waive[0].Source = "" },
		"production and debug":   func(p *appraisal.Policy) { p.Production, p.Waive[0].Rule = true, appraisal.RuleNoDebug },
		"no status":              func(p *appraisal.Policy) { p.TCB.Statuses = nil },
		"mapping to affirming":   func(p *appraisal.Policy) { p.Mapping[0].Value = 2 },
		"mapping of measurement": func(p *appraisal.Policy) { p.Mapping[0].Code = appraisal.CodeMeasurement },
		"mapping of signature":   func(p *appraisal.Policy) { p.Mapping[0].Code = evidence.CodeSignature },
		"version 1":              func(p *appraisal.Policy) { p.Version = 1 },
	} {
		p := parseFull(t)
		change(p)
		if err := p.Validate(); !errors.Is(err, appraisal.ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Marshal(); err == nil {
			t.Errorf("%s: was written", name)
		}
	}
}

// TestHashOfVersion1 guards that what was recorded of a policy of the first format keeps naming it.
func TestHashOfVersion1(t *testing.T) {
	p, err := appraisal.ParsePolicy([]byte(goodPolicy))
	must(t, err)
	compact := &bytes.Buffer{}
	must(t, json.Compact(compact, []byte(goodPolicy)))
	if sha256.Sum256(compact.Bytes()) != p.Hash() {
		t.Error("the hash of a policy of version 1 changed")
	}
}

func FuzzParsePolicyCBOR(f *testing.F) {
	plain, err := parseFull(f).MarshalCBOR()
	must(f, err)
	f.Add(plain)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := appraisal.ParsePolicyCBOR(data)
		if err != nil {
			return
		}
		text, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := appraisal.ParsePolicy(text)
		if err != nil || again.Hash() != p.Hash() {
			t.Fatalf("read again from JSON, it differs: %v", err)
		}
	})
}
