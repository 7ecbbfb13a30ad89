// SPDX-License-Identifier: Apache-2.0

package all_test

import (
	"testing"

	"sealift/evidence"
	"sealift/evidence/all"
)

// BenchmarkVerify verifies a whole bundle: claims, binding, configuration, and what the hardware signed. Cold is with verifiers
// that remember nothing.
func BenchmarkVerify(b *testing.B) {
	for _, hw := range evidence.AllHardware() {
		w := newWorld(b, hw)
		data, in := w.bundle(b), w.input()
		run := func(b *testing.B, prepare func()) {
			b.ReportAllocs()
			for b.Loop() {
				prepare()
				if _, err := evidence.Verify(data, in); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.Run(string(hw)+"/warm", func(b *testing.B) { run(b, func() {}) })
		b.Run(string(hw)+"/cold", func(b *testing.B) { run(b, func() { in.Verifiers = all.New() }) })
	}
}
