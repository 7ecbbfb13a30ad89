// SPDX-License-Identifier: Apache-2.0

package appraisal_test

import (
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"testing"

	"sealift/appraisal"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/evidence/tpm"
	"sealift/evidence/tpm/tpmtest"
)

// TestQuote appraises what a TPM quoted beside the hardware's Evidence: what differs is named, what nobody expects is refused, and
// an instance without a TPM under the same policy lacks nothing.
func TestQuote(t *testing.T) {
	good := tpmtest.Boot{Kernel: "kernel", Cmdline: "command line", Initramfs: "initramfs"}
	reference := func(name, what string) appraisal.ReferenceValue {
		return appraisal.ReferenceValue{Name: name, Digests: []appraisal.Digest{appraisal.SHA256Digest(sha256.Sum256([]byte(what)))}, Source: "the image"}
	}
	all := []appraisal.ReferenceValue{reference(tpm.Kernel, "kernel"), reference(tpm.Cmdline, "command line"), reference(tpm.Initramfs, "initramfs")}
	for name, c := range map[string]struct {
		boot   *tpmtest.Boot // nil: no TPM
		refs   []appraisal.ReferenceValue
		rules  []appraisal.Rule
		failed []string
	}{
		"as expected":       {boot: &good, refs: all},
		"another kernel":    {boot: &tpmtest.Boot{Kernel: "other", Cmdline: good.Cmdline, Initramfs: good.Initramfs}, refs: all, failed: []string{tpm.Kernel}},
		"another line":      {boot: &tpmtest.Boot{Kernel: good.Kernel, Cmdline: "other", Initramfs: good.Initramfs}, refs: all, failed: []string{tpm.Cmdline}},
		"another initramfs": {boot: &tpmtest.Boot{Kernel: good.Kernel, Cmdline: good.Cmdline, Initramfs: "other"}, refs: all, failed: []string{tpm.Initramfs}},
		"nobody expects it": {boot: &good, failed: []string{tpm.Kernel, tpm.Cmdline, tpm.Initramfs}},
		"no TPM":            {refs: all},
		"a TPM is demanded": {refs: all, failed: []string{"tpm.resets"},
			rules: []appraisal.Rule{{Name: "a TPM", Field: "tpm.resets", Op: appraisal.OpAtLeast, Value: appraisal.NumberValue(0), Source: "the owner"}}},
		"and is there": {boot: &good, refs: all,
			rules: []appraisal.Rule{{Name: "a TPM", Field: "tpm.resets", Op: appraisal.OpAtLeast, Value: appraisal.NumberValue(0), Source: "the owner"}}},
	} {
		w := newWorld(t)
		p := w.policy(t)
		p.ReferenceValues = append(p.ReferenceValues, c.refs...)
		p.Rules = c.rules
		must(t, p.Validate())
		k := tpmtest.NewKey(t)
		if c.boot != nil {
			w.claims.QuoteKey = k.Name()
		}
		data, err := evidence.Collect(w.claims, "emu:trustzone", w.agentKey, w.config, func(b [64]byte) (evidence.HardwareEvidence, error) {
			e, err := w.device.Evidence(rand.Reader, emuroot.Request{Binding: b, Launch: agentHash[:], Config: sha256.Sum256(w.config)})
			if c.boot != nil {
				e.Quote = k.Quote(t, tpm.Nonce(b[:]), *c.boot).Marshal()
			}
			return e, err
		})
		must(t, err)
		r, _ := appraisal.AppraiseBundle(data, w.input(), p, w.expect())
		var failed []string
		for _, f := range r.Failed() {
			failed = append(failed, f.Claim)
		}
		if !slices.Equal(failed, c.failed) || r.OK() != (c.failed == nil) {
			t.Errorf("%s: OK is %v, failed %v, want %v", name, r.OK(), failed, c.failed)
		}
	}
}
