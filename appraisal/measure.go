// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"sealift/evidence"
	"sealift/evidence/tpm"
)

// coveredBy names measurements that say nothing beyond another one: whose MRENCLAVE is expected may have any signer.
var coveredBy = map[evidence.Hardware]map[string]string{evidence.SGX: {"MRSIGNER": "MRENCLAVE"}}

// measurements compares every measurement but the configuration with its reference values. One that has no reference
// value is not recognized; a reference value without its measurement is a mismatch.
func (a *appraiser) measurements() {
	reason := "the Agent and all loaded TAs are the expected ones"
	if a.r.HardwareOnly {
		reason = "what was launched is the expected one"
	}
	a.set(Executables, valueApproved, reason)
	var names []string
	for _, r := range a.p.ReferenceValues {
		if a.concerns(r.Hardware) && !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}
	for _, name := range names {
		a.measurement(name)
	}
	for _, m := range a.v.Measurements {
		if !slices.Contains(names, m.Name) {
			a.unknownMeasurement(m, names)
		}
	}
}

// concerns reports whether an entry of the policy for hw is for the hardware of the Evidence.
func (a *appraiser) concerns(hw evidence.Hardware) bool { return hw == "" || hw == a.v.Hardware }

// measurement compares what the Evidence measured under a name with the policy's entries of that name.
func (a *appraiser) measurement(name string) {
	var got [][]byte
	for _, m := range a.v.Measurements {
		if m.Name == name {
			got = append(got, m.Value)
		}
	}
	if slices.Contains(launchNames[a.v.Hardware], name) && len(got) > 1 {
		got = nil // which of them was launched?
	}
	if len(got) == 0 && ofTPM(name) && !a.quoted() {
		a.ok(Finding{Code: CodeMeasurement, Claim: name, Expected: "not judged: there is no quote of a TPM; what was launched is judged as a whole",
			Got: "nothing", Source: a.policy("reference values")})
		return
	}
	if len(got) == 0 {
		got = [][]byte{nil}
	}
	for _, value := range got {
		a.compare(name, value)
	}
}

// ofTPM reports whether a TPM measures what has that name (package evidence/tpm).
func ofTPM(name string) bool { return strings.HasPrefix(name, tpm.Prefix) }

// quoted reports whether the Evidence has a quote of a TPM. Whether a machine has one is part of its launch measurement, and that it
// was taken out of the Evidence on the way does not verify, so where there is none, nothing is missing.
func (a *appraiser) quoted() bool { return a.v.Claims != nil && len(a.v.Claims.QuoteKey) > 0 }

// measuredDigest returns a measurement of that name as a digest. A TPM's are SHA-256 on every architecture.
func measuredDigest(hw evidence.Hardware, name string, value []byte) (Digest, error) {
	if ofTPM(name) {
		hw = ""
	}
	return LaunchDigest(hw, value)
}

func (a *appraiser) compare(name string, value []byte) {
	f := Finding{Code: CodeMeasurement, Claim: name, Got: a.measurementText(name, value)}
	var expected, sources []string
	var stale *ReferenceValue // lists the digest and does not count now
	for i := range a.p.ReferenceValues {
		r := &a.p.ReferenceValues[i]
		if r.Name != name || !a.concerns(r.Hardware) {
			continue
		}
		digests, with := a.launched(name, r.Digests)
		f.Source = a.policy("reference value "+name+originOf(r.Source)) + with
		matches := len(value) > 0 && slices.ContainsFunc(digests, func(d Digest) bool { return bytes.Equal(d.Bytes, value) })
		switch {
		case r.Any && len(value) > 0:
			f.Expected = "anything: the policy does not judge it"
			a.ok(f)
			return
		case matches && r.valid(a.now):
			f.Expected = joinDigests(digests)
			a.ok(f)
			return
		case matches:
			stale = r
		}
		expected = append(expected, joinDigests(digests)+r.validity())
		sources = append(sources, "reference value "+name+originOf(r.Source)+with)
	}
	if stale != nil {
		f.Code, f.Expected, f.Got = CodeReferenceTime, "a reference value that is valid"+stale.validity(), f.Got+" at "+Time{a.now}.String()
		f.Source = a.policy("reference value " + name + originOf(stale.Source))
		f.Hint = "whoever stated this reference value limited it in time: get the present one, or extend it in the policy"
		a.fail(f, name+" has a reference value that does not count at this time", valueUnrecognized, Executables)
		return
	}
	f.Expected, f.Source = strings.Join(expected, " or "), a.policy(strings.Join(sources, ", "))
	f.Hint = "the device runs something else than you expect: if you changed or updated it, add the new digest to the policy"
	a.fail(f, name+" is not the expected one", valueContraindicated, Executables)
}

// expectLaunch takes the first expectation about what was launched.
func (a *appraiser) expectLaunch(expect []Expect) {
	for _, e := range expect {
		if e.Launch != nil && a.launch == nil {
			a.launch, a.launchSource = e.Launch, e.LaunchSource
		}
	}
}

// launched returns what to expect for digests of a reference value with that name, and what was added to the image, for people.
func (a *appraiser) launched(name string, digests []Digest) (expected []Digest, with string) {
	if a.launch == nil || !slices.Contains(launchNames[a.v.Hardware], name) {
		return digests, ""
	}
	for _, d := range digests {
		if e, err := LaunchDigest(a.v.Hardware, a.launch(a.v.Hardware, d.Bytes)); err == nil {
			expected = append(expected, e)
		}
	}
	return expected, " with " + a.launchSource
}

// unknownMeasurement judges a measurement for which there is no entry. A register of zeros was never extended: nothing
// was measured into it.
func (a *appraiser) unknownMeasurement(m evidence.Measurement, names []string) {
	f := Finding{Code: CodeUnknownMeasurement, Claim: m.Name, Expected: "a measurement with a reference value",
		Got: a.measurementText(m.Name, m.Value), Source: a.policy("reference values")}
	cover := coveredBy[a.v.Hardware][m.Name]
	switch launch := slices.Contains(launchNames[a.v.Hardware], m.Name); {
	case cover != "" && slices.Contains(names, cover):
		f.Expected = "not judged: " + cover + " is"
		a.ok(f)
	case !launch && len(bytes.Trim(m.Value, "\x00")) == 0:
		f.Expected = "not judged: a register of zeros holds no measurement"
		a.ok(f)
	default:
		f.Hint = "add a reference value for it, or \"any\": true if it does not matter to you"
		a.fail(f, m.Name+" is not recognized", valueUnrecognized, Executables)
	}
}

// measurementText prints a measurement as a digest, where it is one.
func (a *appraiser) measurementText(name string, value []byte) string {
	if len(value) == 0 {
		return "nothing"
	}
	if d, err := measuredDigest(a.v.Hardware, name, value); err == nil {
		return d.String()
	}
	return fmt.Sprintf("%d bytes %s", len(value), hex.EncodeToString(value))
}
