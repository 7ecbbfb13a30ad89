// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"fmt"

	"sealift/appraisal"
)

const kindPolicy = "appraisal policy"

// isPolicy tells a policy in CBOR by the types of its first members.
func isPolicy(it *Item) bool {
	version, ok := it.get(1).number64()
	return ok && version >= 1 && version <= appraisal.PolicyVersion && it.get(2).is(Text) && it.get(5).is(Array) && it.get(6).is(Array) && it.get(7).is(Array)
}

// number64 is int for an item that may be missing.
func (it *Item) number64() (int64, bool) {
	if it == nil {
		return 0, false
	}
	return it.int()
}

// policy is a policy with the numbers of its members (package appraisal).
func policy(a *annotator, it *Item) {
	source := field{"source", nil}
	hardware := field{"hardware", nil}
	digest := tuple(enum(func(n int64) string {
		return map[int64]string{-16: "SHA-256", -43: "SHA-384", -44: "SHA-512", int64(appraisal.AlgSM3): "SM3"}[n]
	}))
	labels(map[int64]field{
		1: {"version", nil}, 2: {"name", nil}, 3: {"production", nil}, 4: {"accept", tier}, 5: {"hardware", nil},
		6: {"anchors", each(labels(map[int64]field{1: {"fingerprint", nil}, 2: {"emulated", nil}, 3: {"name", nil}}))},
		7: {"reference values", each(labels(map[int64]field{1: {"name", nil}, 2: hardware, 3: {"digests", each(digest)}, 4: {"any", nil},
			5: {"not before", date}, 6: {"not after", date}, 7: source}))},
		8: {"config", labels(map[int64]field{1: {"digests", nil}, 2: source})}, 9: {"lifecycle", nil},
		10: {"TAs", each(labels(map[int64]field{1: {"component", nil}, 2: {"digests", each(digest)}, 3: {"min sequence", nil}, 4: {"signers", nil}, 5: source}))},
		11: {"only these TAs", nil},
		12: {"rules", each(labels(map[int64]field{1: {"name", nil}, 2: hardware, 3: {"field", nil}, 4: {"operator", nil}, 5: {"value", nil},
			6: {"optional", nil}, 7: {"claim", nil}, 8: {"value of the claim on failure", tier}, 9: source}))},
		13: {"waive", each(labels(map[int64]field{1: {"rule", nil}, 2: hardware, 3: source}))},
		14: {"tcb", labels(map[int64]field{1: {"statuses", nil}, 2: {"advisories", nil}, 3: {"any advisory", nil}, 4: source})},
		15: {"collateral grace in seconds", nil},
		16: {"mapping", each(labels(map[int64]field{1: {"code", nil}, 2: {"claim", nil}, 3: {"value", tier}}))},
	})(a, it)
}

// readPolicy reads a policy in JSON.
func readPolicy(f *File, data []byte, _ *Keys) bool {
	if trimmed := bytes.TrimSpace(data); len(trimmed) == 0 || trimmed[0] != '{' || !bytes.Contains(data, []byte(`"reference_values"`)) {
		return false
	}
	it, err := fromJSON(bytes.TrimSpace(data))
	if err != nil {
		return false
	}
	f.Kind = kindPolicy
	f.Parts = append(f.Parts, Part{Item: it})
	if !f.policy(data) {
		_, err := appraisal.ParsePolicy(data)
		f.Warnings = append(f.Warnings, "it is not usable: "+err.Error())
	}
	return true
}

// policy adds what a policy says, in whichever form it stands, and reports whether it is one.
func (f *File) policy(data []byte) bool {
	p, err := appraisal.ReadPolicy(data)
	if err != nil {
		return false
	}
	hash := appraisal.Hex32(p.Policy.Hash())
	f.Facts = append(f.Facts, fmt.Sprintf("policy %q, version %d, hash %s, accepts %s on %v", p.Policy.Name, p.Policy.Version, hash,
		p.Policy.Accept, p.Policy.Hardware))
	for _, a := range p.Policy.Anchors {
		f.Emulated = f.Emulated || a.Emulated
	}
	if p.Policy.Production {
		f.Facts = append(f.Facts, "for production: it never accepts emulated hardware")
	}
	for _, w := range p.Policy.Waive {
		f.Warnings = append(f.Warnings, fmt.Sprintf("the check %s is waived (%s)", w.Rule, w.Source))
	}
	if !p.Signed {
		f.Facts = append(f.Facts, "without a signature: sealift policy sign makes one")
	}
	return true
}
