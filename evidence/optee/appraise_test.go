// SPDX-License-Identifier: Apache-2.0

package optee

import (
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"testing"

	"sealift/appraisal"
	"sealift/evidence"
)

// TestAppraised appraises Evidence under a policy that expects this TA: its memory alone; an unexpected OP-TEE core; and the
// output of command 1 that was made for the nonce of command 2, which verifies and must not get further.
func TestAppraised(t *testing.T) {
	d := emulated()
	a, anchor := newAgent(t, d), d.Key().Anchor()
	want := digests[TAMemory]
	policy, err := appraisal.NewPolicy(appraisal.NewPolicyInput{Name: "test", Hardware: []evidence.Hardware{evidence.TrustZone},
		Roots:  []evidence.Anchor{anchor},
		Launch: []appraisal.Launch{{Hardware: evidence.TrustZone, Name: TAMemory.String(), Digest: want[:], Source: "a device"}}})
	if err != nil {
		t.Fatal(err)
	}
	policy.Config = &appraisal.ConfigRule{Digests: []appraisal.Hex32{sha256.Sum256(a.config)}, Source: "the owner"}
	for name, c := range map[string]struct {
		change func(*Report)
		failed []string
	}{
		"as expected": {func(r *Report) { r.Outputs = r.Outputs[1:2] }, nil},
		"with OP-TEE": {func(r *Report) { r.Outputs = r.Outputs[1:] }, []string{"TEE-MEMORY"}},
		"another TA": {func(r *Report) {
			r.Outputs = []Output{invoke(t, d, TAMemory, r, [32]byte{9})}
		}, []string{"TA-MEMORY"}},
		"a header in memory's name": {func(r *Report) {
			r.Outputs = []Output{invoke(t, d, TAMemory, r, digests[TAHeader])}
		}, []string{"TA-MEMORY"}},
		"only the header": {func(r *Report) { r.Outputs = r.Outputs[:1] },
			[]string{"TA-MEMORY", "TA-MEMORY (not verified)", "TA-HEADER (not verified)"}},
	} {
		result, _ := appraisal.AppraiseBundle(a.bundle(t, d, "emu:trustzone", c.change), a.input(anchor), policy)
		var failed []string
		for _, f := range result.Failed() {
			failed = append(failed, f.Claim)
		}
		if !slices.Equal(failed, c.failed) || result.OK() != (c.failed == nil) {
			t.Errorf("%s: OK is %v, failed %v, want %v", name, result.OK(), failed, c.failed)
		}
	}
}

// invoke makes an output for the nonce of a command and the binding of a report, as the normal world can do with command 1.
func invoke(t *testing.T, d *Device, c Command, r *Report, digest [sha256.Size]byte) Output {
	t.Helper()
	nonce := Nonce(c, r.Binding, r.Config)
	o, err := d.Invoke(rand.Reader, c, nonce[:], digest)
	if err != nil {
		t.Fatal(err)
	}
	return o
}
