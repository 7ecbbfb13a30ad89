// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"crypto/x509"
	"hash"
	"time"
)

// HardwareVerifier verifies what one hardware architecture signs. Packages below this one implement it (evidence/snp,
// evidence/tdx, ...), and the caller hands those that it wants to [Verify] in [Input.Verifiers], so that a program links
// only the ones that it uses. Implementations MUST be safe for concurrent use and MUST NOT go to a network.
type HardwareVerifier interface {
	// Hardware is the architecture.
	Hardware() Hardware
	// MediaTypes lists what it reads: base media types, without parameters.
	MediaTypes() []string
	// Reads reports whether e, of one of its media types, is for it. Several architectures share the type of a kernel's
	// report (package evidence/tsm), so media types alone do not tell.
	Reads(e HardwareEvidence) bool
	// VerifyHardware answers whether e is authentic: form, certificate chain to an anchor, endorsements, revocation,
	// signature. It MUST report every mismatch that it can find, each with its own claim and code. It returns what the
	// hardware says also where there are mismatches, and nil only where that cannot be read. The binding, the
	// configuration and the instance ID are compared by [Verify], not here.
	VerifyHardware(e HardwareEvidence, in HardwareInput) (*Signed, []*Mismatch)
}

// HardwareInput is what a HardwareVerifier may rely on.
type HardwareInput struct {
	Anchors      []Anchor     // those that may vouch for this hardware
	Endorsements Endorsements // what the verifier itself keeps; may be nil
	CRLs         []*x509.RevocationList
	Now          time.Time
}

// CheckInstance checks that the enrolled key which vouches for s (its Root) is that of the instance that s names: the one
// that the anchor was enrolled for, and none that another key was enrolled for. Without it a device could take another's name.
func (in HardwareInput) CheckInstance(s *Signed) []*Mismatch {
	want := s.Root.Instance
	for _, a := range in.Anchors {
		other := a.publicKey() != nil && a.Fingerprint() != s.Root.Fingerprint()
		if other && len(a.Instance) > 0 && bytes.Equal(a.Instance, s.InstanceID) {
			return []*Mismatch{{Code: CodeRoot, Claim: "attestation key of the instance", Expected: a.String(), Got: s.Root.String(),
				Source: "the instance ID that this key was enrolled for", Hint: "another enrolled device has taken this one's name"}}
		}
	}
	if len(want) == 0 || bytes.Equal(want, s.InstanceID) {
		return nil
	}
	return []*Mismatch{{Code: CodeInstance, Claim: "instance ID", Expected: text(want), Got: text(s.InstanceID),
		Source: "the enrolment of " + s.Root.String(), Hint: "the key is of another device than the Evidence says"}}
}

// Endorsements is a store of signed material about devices that does not come with the Evidence: certificates of chips,
// TCB information, revocation lists. It need not be trusted: whatever it returns is verified under an anchor. Each
// verifier's package documents the kinds and keys that it asks for.
type Endorsements interface {
	// Find returns everything that is kept of that kind under that key, best first; none is no error.
	Find(kind, key string) [][]byte
}

// RevocationLists is what [Endorsements] implement that keep revocation lists as well. They count beside those of [Input.CRLs], and
// are asked for with each Evidence, so that a list which was added counts at once.
type RevocationLists interface {
	// RevocationLists returns all that are kept.
	RevocationLists() []*x509.RevocationList
}

// of returns what a verifier of the hardware may rely on.
func (in Input) of(hw Hardware) HardwareInput {
	lists := in.CRLs
	if kept, ok := in.Endorsements.(RevocationLists); ok {
		lists = append(lists[:len(lists):len(lists)], kept.RevocationLists()...)
	}
	return HardwareInput{Anchors: in.Anchors.of(hw), Endorsements: in.Endorsements, CRLs: lists, Now: in.Now}
}

// Signed is what the hardware signed, as a HardwareVerifier found it.
type Signed struct {
	Root   Anchor // the anchor that vouches
	Rooted bool   // false if none does; then Root is the zero value

	ReportData []byte // 64 bytes that the Agent gave: compared with the [Binding]
	InstanceID []byte // identity of the device, 7 to 33 bytes: compared with the ueid of the claims record

	// Config is the SHA-256 of the configuration as the hardware has it, and ConfigField the hardware's name of the
	// field ("HOST_DATA", "CONFIGID"). The verifier has checked that padding around it is zero.
	Config      []byte
	ConfigField string

	// Measurements are what was launched and what vouches for the platform, under the hardware's own names
	// ("MRENCLAVE", "MRTD"), without the configuration. All of them need a reference value in a policy.
	Measurements []Measurement
	// Register names the measurement that an Agent extends by what it loads, and RegisterHash is the function that extends it
	// (see [Load]). Empty where the hardware has none.
	Register     string
	RegisterHash func() hash.Hash
	// Fields are further claims by name: numbers, flags, typed values with a String method. The package that made
	// them documents them; policies refer to them by these names.
	Fields map[string]any
	// Until is the time at which the first thing that was relied on (a certificate, collateral) ends to be valid, with
	// its name. Zero if nothing ends.
	Until     time.Time
	UntilWhat string
}
