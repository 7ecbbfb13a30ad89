// SPDX-License-Identifier: Apache-2.0

package appraisal_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealift/appraisal"
	"sealift/evidence"
	"sealift/suit"
)

const goodPolicy = `{
  "version": 1, "name": "mine", "production": false, "accept": "affirming", "hardware": ["trustzone"],
  "anchors": [{"fingerprint": "1111111111111111111111111111111111111111111111111111111111111111", "emulated": true, "name": "EMULATED root"}],
  "reference_values": [{"name": "AGENT", "digests": ["sha-256:2222222222222222222222222222222222222222222222222222222222222222"], "source": "build 7"}],
  "config": {"digests": ["3333333333333333333333333333333333333333333333333333333333333333"], "source": "operator"},
  "lifecycle": ["secured"],
  "tas": [{"component": "tee/stats/ta", "digests": ["sha-256:4444444444444444444444444444444444444444444444444444444444444444"],
    "min_sequence": 2, "signers": ["5555555555555555555555555555555555555555555555555555555555555555"], "source": "package"}],
  "only_tas": true
}`

func TestParsePolicy(t *testing.T) {
	p, err := appraisal.ParsePolicy([]byte(goodPolicy))
	must(t, err)
	if p.TAs[0].Component.String() != "tee/stats/ta" || p.TAs[0].MinSequence != 2 || p.Accept != appraisal.TierAffirming || !p.OnlyTAs {
		t.Errorf("got %+v", p)
	}
	out, err := p.Marshal()
	must(t, err)
	again, err := appraisal.ParsePolicy(out)
	must(t, err)
	if again.Hash() != p.Hash() {
		t.Error("white space changes the hash")
	}
	again.Name = "other"
	if again.Hash() == p.Hash() {
		t.Error("the name does not change the hash")
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	swap := func(old, new string) string { return strings.Replace(goodPolicy, old, new, 1) }
	for name, bad := range map[string]string{
		"empty":                   "",
		"null":                    "null",
		"list":                    "[]",
		"unknown member":          swap(`"only_tas"`, `"only_ta"`),
		"member twice":            swap(`"production": false`, `"production": true, "production": false`),
		"member in other case":    swap(`"production": false`, `"production": true, "PRODUCTION": false`),
		"nested member twice":     swap(`"emulated": true`, `"emulated": false, "emulated": true`),
		"trailing":                goodPolicy + "{}",
		"version":                 swap(`"version": 1`, `"version": 3`),
		"version 1 with hardware": swap(`"name": "AGENT"`, `"name": "AGENT", "hardware": "trustzone"`),
		"no accept":               swap(`"accept": "affirming", `, ""),
		"accept none":             swap(`"affirming"`, `"none"`),
		"accept contraindicated":  swap(`"affirming"`, `"contraindicated"`),
		"accept unknown":          swap(`"affirming"`, `"sure"`),
		"production and warning":  swap(`"production": false, "accept": "affirming"`, `"production": true, "accept": "warning"`),
		"production and emulated": swap(`"production": false`, `"production": true`),
		"hardware unknown":        swap(`"trustzone"`, `"emu:trustzone"`),
		"no hardware":             swap(`["trustzone"]`, `[]`),
		"no anchors":              swap(`"anchors": [{`, `"anchors": [], "x": [{`),
		"fingerprint short":       swap(`"1111`, `"11`),
		"fingerprint of zeros":    swap(strings.Repeat("1", 64), strings.Repeat("0", 64)),
		"no AGENT":                swap(`"AGENT"`, `"BOOT"`),
		"reference for CONFIG":    swap(`"AGENT"`, `"CONFIG"`),
		"digest without name":     swap(`"sha-256:2222`, `"2222`),
		"digest short":            swap(`"sha-256:2222`, `"sha-256:22`),
		"digest in capitals":      swap(`"sha-256:2222`, `"sha-256:AA22`),
		"digest algorithm":        swap(`"sha-256:2222`, `"md5:2222`),
		"no digests":              swap(`["sha-256:`+strings.Repeat("2", 64)+`"]`, `[]`),
		"config without digest":   swap(`["`+strings.Repeat("3", 64)+`"]`, `[]`),
		"lifecycle":               swap(`["secured"]`, `["any"]`),
		"TA without name":         swap(`"tee/stats/ta"`, `""`),
		"TA without digest":       swap(`["sha-256:`+strings.Repeat("4", 64)+`"]`, `[]`),
		"signer":                  swap(`"5555`, `"x`),
		"number as text":          swap(`"min_sequence": 2`, `"min_sequence": "2"`),
		"nested deeply":           swap(`"mine"`, strings.Repeat("[", 40)+strings.Repeat("]", 40)),
		"huge":                    strings.Repeat(" ", 1<<21),
	} {
		if _, err := appraisal.ParsePolicy([]byte(bad)); !errors.Is(err, appraisal.ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range len(goodPolicy) {
		if _, err := appraisal.ParsePolicy([]byte(goodPolicy[:n])); !errors.Is(err, appraisal.ErrPolicy) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestNewPolicy(t *testing.T) {
	w := newWorld(t)
	p := w.policy(t)
	if !p.Anchors[0].Emulated || !strings.Contains(p.Anchors[0].Name, evidence.EmulatedMark) {
		t.Errorf("anchor %+v", p.Anchors[0])
	}
	out, err := p.Marshal()
	must(t, err)
	back, err := appraisal.ParsePolicy(out)
	must(t, err)
	if back.Hash() != p.Hash() {
		t.Error("read again, it differs")
	}
	_, err = appraisal.NewPolicy(appraisal.NewPolicyInput{Name: "p", Hardware: p.Hardware, Roots: []evidence.Anchor{w.pki.Anchor()},
		AgentDigest: agentHash, Production: true})
	if !errors.Is(err, appraisal.ErrPolicy) {
		t.Errorf("a production policy over an emulated root: %v", err)
	}
}

func TestResultJSON(t *testing.T) {
	w := newWorld(t)
	r := appraisal.Appraise(w.verified(t), w.policy(t), now, w.expect())
	data, err := json.Marshal(r)
	must(t, err)
	var back appraisal.Result
	must(t, json.Unmarshal(data, &back))
	if !back.OK() || back.PolicyHash != r.PolicyHash || !bytes.Contains(data, []byte(`"status":"affirming"`)) {
		t.Errorf("got %s", data)
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(goodPolicy))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := appraisal.ParsePolicy(data)
		if err != nil {
			return
		}
		out, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := appraisal.ParsePolicy(out)
		if err != nil || again.Hash() != p.Hash() {
			t.Fatalf("read again, it differs: %v", err)
		}
	})
}

// TestReferences guards the reference values of version 2: per hardware, with validity, with every digest algorithm.
func TestReferences(t *testing.T) {
	swap := func(old, new string) string {
		return strings.Replace(strings.Replace(goodPolicy, `"version": 1`, `"version": 2`, 1), old, new, 1)
	}
	agent := `{"name": "AGENT", "digests": ["sha-256:` + strings.Repeat("2", 64) + `"], "source": "build 7"}`
	mrtd := `{"name": "MRTD", "hardware": "tdx", "digests": ["sha-384:` + strings.Repeat("5", 96) + `"], "source": "build 7"}`
	measure := `{"name": "MEASURE", "hardware": "csv", "digests": ["sm3:` + strings.Repeat("6", 64) + `"], "source": "build 7"}`
	for name, good := range map[string]string{
		"three architectures": swap(agent, agent+","+mrtd+","+measure),
		"validity":            swap(`"source": "build 7"`, `"not_before": "2026-01-01T00:00:00Z", "not_after": "2027-01-01T00:00:00Z", "source": ""`),
		"two entries":         swap(agent, agent+","+agent),
		"sha-512":             swap(`"sha-256:`+strings.Repeat("2", 64), `"sha-512:`+strings.Repeat("2", 128)),
	} {
		p, err := appraisal.ParsePolicy([]byte(good))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		out, err := p.Marshal()
		must(t, err)
		again, err := appraisal.ParsePolicy(out)
		must(t, err)
		if again.Hash() != p.Hash() {
			t.Errorf("%s: read again, it differs", name)
		}
	}
	for name, bad := range map[string]string{
		"no value for a hardware":   swap(`["trustzone"]`, `["trustzone", "tdx"]`),
		"unknown hardware":          swap(`"name": "AGENT"`, `"name": "AGENT", "hardware": "abacus"`),
		"any beside digests":        swap(`"source": "build 7"`, `"any": true, "source": "build 7"`),
		"any Agent":                 swap(agent, `{"name": "AGENT", "any": true, "source": ""}`),
		"ends before it begins":     swap(`"source": "build 7"`, `"not_before": "2027-01-01T00:00:00Z", "not_after": "2026-01-01T00:00:00Z", "source": ""`),
		"time in another zone":      swap(`"source": "build 7"`, `"not_after": "2027-01-01T00:00:00+01:00", "source": ""`),
		"time with fractions":       swap(`"source": "build 7"`, `"not_after": "2027-01-01T00:00:00.5Z", "source": ""`),
		"time as number":            swap(`"source": "build 7"`, `"not_after": 17, "source": ""`),
		"sm3 of a wrong length":     swap(agent, agent+","+strings.Replace(measure, "sm3:66", "sm3:", 1)),
		"sha-384 of SHA-256's size": swap(`"sha-256:2222`, `"sha-384:2222`),
	} {
		if _, err := appraisal.ParsePolicy([]byte(bad)); !errors.Is(err, appraisal.ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewPolicyOfAllHardware(t *testing.T) {
	in := appraisal.NewPolicyInput{Name: "p", Hardware: evidence.AllHardware(), Roots: []evidence.Anchor{newWorld(t).pki.Anchor()}}
	names := map[evidence.Hardware]string{evidence.TrustZone: "AGENT", evidence.SGX: "MRENCLAVE", evidence.SEVSNP: "MEASUREMENT",
		evidence.CCA: "RIM", evidence.TDX: "MRTD", evidence.CSV: "MEASURE"}
	sizes := map[evidence.Hardware]int{evidence.SEVSNP: 48, evidence.TDX: 48}
	for hw, name := range names {
		for range 2 {
			in.Launch = append(in.Launch, appraisal.Launch{Hardware: hw, Name: name, Digest: bytes.Repeat([]byte{1}, max(32, sizes[hw])), Source: "x"})
		}
	}
	p, err := appraisal.NewPolicy(in)
	must(t, err)
	if len(p.ReferenceValues) != 6 {
		t.Errorf("%d reference values: %+v", len(p.ReferenceValues), p.ReferenceValues)
	}
	in.Launch = in.Launch[2:]
	if _, err := appraisal.NewPolicy(in); !errors.Is(err, appraisal.ErrPolicy) {
		t.Errorf("without a value for one of them: %v", err)
	}
}

// TestDocumentedRules guards that the examples of docs/policy.md are rules.
func TestDocumentedRules(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "docs", "policy.md"))
	must(t, err)
	n := 0
	for _, line := range strings.Split(string(doc), "\n") {
		if !strings.HasPrefix(line, `{"name"`) {
			continue
		}
		n++
		var r appraisal.Rule
		dec := json.NewDecoder(strings.NewReader(line))
		dec.DisallowUnknownFields()
		must(t, dec.Decode(&r))
		p := parseFull(t)
		p.Rules = []appraisal.Rule{r}
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if n < 5 {
		t.Errorf("%d examples", n)
	}
	for _, r := range appraisal.Defaults() {
		if !strings.Contains(string(doc), "`"+r.Name+"`") || !strings.Contains(string(doc), "`"+r.Field+"`") {
			t.Errorf("the check %s on %s is not documented", r.Name, r.Field)
		}
	}
}

// TestSigner guards that a policy which accepts SGX enclaves by their signer says which, and from which version on.
func TestSigner(t *testing.T) {
	value := func(name, rest string) string {
		return `{"name": "` + name + `", "hardware": "sgx", ` + rest + `, "source": "x"}`
	}
	digest := `"digests": ["sha-256:` + strings.Repeat("2", 64) + `"]`
	rule := func(field, op, value, more string) string {
		return `{"name": "` + field + `", "field": "` + field + `", "op": "` + op + `", "value": ` + value + more + `}`
	}
	product, version := rule("ISVPRODID", "equals", "7", ""), rule("ISVSVN", "at-least", "3", "")
	for name, c := range map[string]struct {
		values, rules string
		missing       []string
	}{
		"signer alone":           {value("MRSIGNER", digest), "", []string{"ISVPRODID", "ISVSVN"}},
		"with its product":       {value("MRSIGNER", digest), product, []string{"ISVSVN"}},
		"with both":              {value("MRSIGNER", digest), product + "," + version, nil},
		"any enclave":            {value("MRSIGNER", digest) + "," + value("MRENCLAVE", `"any": true`), "", []string{"ISVPRODID", "ISVSVN"}},
		"a rule that is no rule": {value("MRSIGNER", digest), product + "," + rule("ISVSVN", "at-least", "3", `, "optional": true`), []string{"ISVSVN"}},
		"a rule that warns":      {value("MRSIGNER", digest), product + "," + rule("ISVSVN", "at-least", "3", `, "fail": 33`), []string{"ISVSVN"}},
		"another's rule":         {value("MRSIGNER", digest), product + "," + rule("ISVSVN", "at-least", "3", `, "hardware": "tdx"`), []string{"ISVSVN"}},
		"at most":                {value("MRSIGNER", digest), product + "," + rule("ISVSVN", "at-most", "3", ""), []string{"ISVSVN"}},
		"enclave":                {value("MRENCLAVE", digest), "", nil},
		"enclave and signer":     {value("MRENCLAVE", digest) + "," + value("MRSIGNER", digest), "", nil},
	} {
		_, err := appraisal.ParsePolicy([]byte(`{"version": 2, "name": "p", "accept": "affirming", "hardware": ["sgx"], "anchors": [{"fingerprint": "` +
			strings.Repeat("1", 64) + `", "name": "r"}], "reference_values": [` + c.values + `], "rules": [` + c.rules + `]}`))
		if (err == nil) != (len(c.missing) == 0) {
			t.Errorf("%s: %v", name, err)
		}
		for _, field := range c.missing {
			if !errors.Is(err, appraisal.ErrPolicy) || !strings.Contains(err.Error(), field) {
				t.Errorf("%s: %v, want %s", name, err, field)
			}
		}
	}
}

// TestExpectLaunch: where more was launched than the image that a reference value is of, the measurement that follows from it is expected,
// that of the image alone is not, and a mismatch names the measurement and what was to be added.
func TestExpectLaunch(t *testing.T) {
	w := newWorld(t)
	image := sha256.Sum256([]byte("the image alone"))
	p := w.policy(t)
	p.ReferenceValues[0].Digests = []appraisal.Digest{{Digest: suit.Digest{Alg: suit.AlgSHA256, Bytes: image[:]}}}
	expect := w.expect()
	expect.LaunchSource = "the payload that was signed"
	added := agentHash
	expect.Launch = func(_ evidence.Hardware, reference []byte) []byte {
		if !bytes.Equal(reference, image[:]) {
			t.Errorf("a reference value of %x", reference)
		}
		return added[:]
	}
	if r := appraisal.Appraise(w.verified(t), p, now, expect); !r.OK() {
		t.Errorf("%+v", r.Failed())
	}
	for name, e := range map[string]appraisal.Expect{"another payload": expect, "no payload": w.expect()} {
		added[0] ^= 1
		r := appraisal.Appraise(w.verified(t), p, now, e)
		if failed := r.Failed(); r.OK() || len(failed) != 1 || failed[0].Claim != evidence.MeasurementAgent || failed[0].Code != appraisal.CodeMeasurement {
			t.Errorf("%s: %+v", name, failed)
		} else if says := strings.Contains(failed[0].Source, "with the payload that was signed"); says != (e.Launch != nil) {
			t.Errorf("%s: the source is %q", name, failed[0].Source)
		}
		added = agentHash
	}
	if r, _ := appraisal.AppraiseBundle(w.bundle(t), evidence.Input{Challenge: make([]byte, 64), AgentKey: w.agentKey, Now: now,
		Anchors: w.input().Anchors}, p, expect); r.OK() || strings.Contains(r.Failed()[len(r.Failed())-1].Claim, evidence.MeasurementAgent) {
		t.Errorf("Evidence for another challenge: %+v", r.Failed())
	}
}
