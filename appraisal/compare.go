// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"sealift/evidence"
)

// config compares the measured configuration with all expectations that there are. Without any, the configuration is
// unknown to this verifier, which is a warning.
func (a *appraiser) config(expect []Expect) {
	got := Hex32(sha256.Sum256(a.v.Config)) // the verification checked it against the measurement
	var rules []ConfigRule
	if a.p.Config != nil {
		rules = append(rules, ConfigRule{a.p.Config.Digests, a.policy("config" + originOf(a.p.Config.Source))})
	}
	for _, e := range expect {
		if e.ConfigDigest != nil {
			rules = append(rules, ConfigRule{[]Hex32{*e.ConfigDigest}, e.ConfigSource})
		}
		for _, f := range e.ConfigChecks {
			if f.OK {
				a.ok(f)
				continue
			}
			a.fail(f, "the measured configuration holds what is not expected: "+f.Claim, valueContraindicated, Configuration)
		}
	}
	if len(rules) == 0 {
		a.fail(Finding{Code: CodeConfig, Claim: evidence.MeasurementConfig, Expected: "an expectation", Got: got.String(),
			Source: a.policy("config"), Hint: "state the expected configuration in the policy, or pass the one that you asked for"},
			"nobody says what configuration is expected", valueConfigUnknown, Configuration)
	}
	for _, rule := range rules {
		want := make([]string, len(rule.Digests))
		for i, d := range rule.Digests {
			want[i] = d.String()
		}
		f := Finding{Code: CodeConfig, Claim: evidence.MeasurementConfig, Expected: strings.Join(want, " or "), Got: got.String(),
			Source: rule.Source}
		if slices.Contains(rule.Digests, got) {
			a.ok(f)
			a.set(Configuration, valueApproved, "the measured configuration is the expected one")
			continue
		}
		f.Hint = "the instance was launched with another configuration: read it and see whose keys stand in it"
		a.fail(f, "the measured configuration is not the expected one", valueContraindicated, Configuration)
	}
}

// tas checks the loaded TAs against the policy and against each set of expectations.
func (a *appraiser) tas(expect []Expect) {
	only := a.p.OnlyTAs
	expected := map[string]bool{}
	var beside []string // signers
	for _, t := range a.p.TAs {
		t.Source = a.policy("tas" + originOf(t.Source))
		expected[t.Component.String()] = true
		a.ta(t)
	}
	for _, e := range expect {
		only = only || e.OnlyTAs
		beside = append(beside, hexes(e.Beside)...)
		for _, t := range e.TAs {
			expected[t.Component.String()] = true
			a.ta(t)
		}
	}
	for _, t := range a.v.Claims.TAs {
		name := t.Component.String()
		if expected[name] {
			continue
		}
		f := Finding{Code: CodeTAUnexpected, Claim: "TA " + name, Expected: "no other TA", Got: t.Digest.String(),
			Source: "the set of expected TAs"}
		if signer := hex.EncodeToString(t.Signer); len(beside) > 0 && !a.p.OnlyTAs {
			f.Expected, f.Got, f.Source = "signed by "+orText(beside), t.Digest.String()+", signed by "+signer, "whose applications share this instance"
			if slices.Contains(beside, signer) {
				a.ok(f)
				continue
			}
		}
		if only {
			f.Hint = "something else runs beside your TA; remove it or expect it"
			a.fail(f, "TA "+name+" is loaded and not expected", valueContraindicated, Executables)
			continue
		}
		f.Expected = "not judged"
		a.ok(f)
		a.set(Executables, valueBootApproved, "the Agent is the expected one; it loaded TAs that this appraisal does not judge")
	}
	a.loads(expected)
}

// loads tells of programs that were loaded since the start and are not any more; the hardware's register vouches for the list. Earlier
// versions of an expected TA are history. What else ran beside is refused where the policy wants no other TA.
func (a *appraiser) loads(expected map[string]bool) {
	for _, l := range a.v.Claims.Loads {
		name := l.Component.String()
		if now, found := a.v.TA(name); found && now.Digest.Equal(l.Digest) {
			continue // judged as it is
		}
		f := Finding{Code: CodeTAUnexpected, Claim: "TA " + name + ", loaded earlier", Expected: "not judged", Got: l.Digest.String(),
			Source: "the set of expected TAs"}
		if !a.p.OnlyTAs || expected[name] {
			a.ok(f)
			continue
		}
		f.Expected, f.Source = "no other TA", a.policy("only_tas")
		f.Hint = "it ran in this TEE before yours did, or beside it: start a new instance, or expect it"
		a.fail(f, "TA "+name+" was loaded and not expected", valueContraindicated, Executables)
	}
}

func (a *appraiser) ta(want TAExpectation) {
	name := want.Component.String()
	got, found := a.v.TA(name)
	f := Finding{Claim: "TA " + name, Source: want.Source}
	if !found {
		f.Code, f.Expected, f.Got = CodeTAMissing, joinDigests(want.Digests), "not loaded"
		f.Hint = "the TA is not installed, or under another name"
		a.fail(f, "TA "+name+" is not loaded", valueContraindicated, Executables)
		return
	}
	f.Code, f.Claim, f.Expected, f.Got = CodeTADigest, "TA "+name+" digest", joinDigests(want.Digests), got.Digest.String()
	f.Hint = "another binary runs under this name: release nothing to it"
	matches := slices.ContainsFunc(want.Digests, func(d Digest) bool { return d.Equal(got.Digest) })
	a.judge(f, matches, "TA "+name+" is another binary")

	f.Code, f.Claim, f.Expected = CodeTASequence, "TA "+name+" sequence number", fmt.Sprintf("at least %d", want.MinSequence)
	f.Got, f.Hint = fmt.Sprint(got.Sequence), "an older version was installed: a rollback"
	a.judge(f, got.Sequence >= want.MinSequence, "TA "+name+" is older than expected")

	if len(want.Signers) == 0 {
		return
	}
	signers := hexes(want.Signers)
	f.Code, f.Claim, f.Expected = CodeTASigner, "TA "+name+" signer", orText(signers)
	f.Got, f.Hint = hex.EncodeToString(got.Signer), "somebody else signed this TA's manifest"
	a.judge(f, slices.Contains(signers, f.Got), "TA "+name+" has another signer")
}

func (a *appraiser) judge(f Finding, ok bool, reason string) {
	if ok {
		f.Hint = ""
		a.ok(f)
		return
	}
	a.fail(f, reason, valueContraindicated, Executables)
}

func joinDigests(ds []Digest) string {
	out := make([]string, len(ds))
	for i, d := range ds {
		out[i] = d.String()
	}
	return strings.Join(out, " or ")
}

func hexes(list []Hex32) (out []string) {
	for _, h := range list {
		out = append(out, h.String())
	}
	return out
}

func orText(list []string) string { return strings.Join(list, " or ") }

func originOf(source string) string {
	if source == "" {
		return ""
	}
	return " (" + source + ")"
}
