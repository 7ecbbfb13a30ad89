// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"io"

	"github.com/emmansun/gmsm/sm3"

	"sealift/cose"
	"sealift/evidence"
)

// Hash returns the hash function by which an architecture measures what it launches.
func Hash(hw evidence.Hardware) func() hash.Hash {
	switch hw {
	case evidence.SEVSNP, evidence.TDX:
		return sha512.New384
	case evidence.CSV:
		return sm3.New
	}
	return sha256.New
}

// Measurement is the name of the launch measurement in an architecture's Evidence.
func Measurement(hw evidence.Hardware) string {
	switch hw {
	case evidence.SGX:
		return "MRENCLAVE"
	case evidence.SEVSNP:
		return "MEASUREMENT"
	case evidence.TDX:
		return "MRTD"
	case evidence.CCA:
		return "RIM"
	case evidence.CSV:
		return "MEASURE"
	}
	return evidence.MeasurementAgent
}

// Measure returns the launch measurement of the image that r reads, made with newHash. For a process it is the hash of the
// Agent's executable; otherwise
//
//	H(deterministic CBOR ["sealift-launch-v1", instance type, [[part, H(part)], ...], command line, processors, memory in MiB])
//
// with the parts in file order, and true at the end where the vm has a TPM. A vendor's hardware computes its own function of the same inputs, page by page; the emulator
// puts this one where the hardware's Evidence has it.
func (i *Image) Measure(r io.ReaderAt, newHash func() hash.Hash) ([]byte, error) {
	parts := make([][]any, 0, len(i.Parts))
	for _, p := range i.Parts {
		h := newHash()
		if _, err := io.Copy(h, io.NewSectionReader(r, p.offset, p.Size)); err != nil {
			return nil, fmt.Errorf("image: measuring %q: %w", p.Name, err)
		}
		if i.Instance == Process {
			return h.Sum(nil), nil
		}
		parts = append(parts, []any{p.Name, h.Sum(nil)})
	}
	launch := []any{"sealift-launch-v1", i.Instance, parts, i.Cmdline, i.VCPUs, i.MemoryMiB}
	if i.TPM {
		launch = append(launch, true)
	}
	h := newHash()
	h.Write(cose.MustMarshal(launch))
	return h.Sum(nil), nil
}

// WithLayer returns the launch measurement of a guest that was booted with a guest payload beside the initramfs of its image:
//
//	H(deterministic CBOR ["sealift-launch-layer-v1", launch measurement of the image alone, SHA-256 of the payload])
//
// So whoever knows the reference value of an image and signed the payload knows what to expect (see LayerLaunch). newHash is the
// architecture's ([Hash]).
func WithLayer(newHash func() hash.Hash, launch []byte, layer [sha256.Size]byte) []byte {
	h := newHash()
	h.Write(cose.MustMarshal([]any{"sealift-launch-layer-v1", launch, layer[:]}))
	return h.Sum(nil)
}

// LayerLaunch returns the function that makes the launch measurement of an image one of the image with a guest payload, for an appraisal
// (appraisal.Expect.Launch).
func LayerLaunch(layer [sha256.Size]byte) func(evidence.Hardware, []byte) []byte {
	return func(hw evidence.Hardware, reference []byte) []byte { return WithLayer(Hash(hw), reference, layer) }
}
