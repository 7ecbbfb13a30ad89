// SPDX-License-Identifier: Apache-2.0

package optee

import (
	"encoding/hex"
	"fmt"

	"sealift/evidence"
)

// Hardware verifies OP-TEE Evidence for [evidence.Verify]. Anchors are the public keys of devices
// ([evidence.Anchor.Public]); it asks for no endorsements, and there is nothing to revoke but the enrolment.
//
// Measurements: "TA-MEMORY", which stands for the Agent, and where they are sent "TA-HEADER" and "TEE-MEMORY". The
// configuration ("NONCE") is what the measured TA handed in; see the package comment for what that is worth. Field:
// "device-key", the key's fingerprint in hexadecimal.
type Hardware struct{}

// Hardware implements [evidence.HardwareVerifier].
func (Hardware) Hardware() evidence.Hardware { return evidence.TrustZone }

// MediaTypes implements [evidence.HardwareVerifier].
func (Hardware) MediaTypes() []string { return []string{MediaType} }

// Reads reports true: no other architecture has this media type.
func (Hardware) Reads(evidence.HardwareEvidence) bool { return true }

// VerifyHardware implements [evidence.HardwareVerifier].
func (Hardware) VerifyHardware(e evidence.HardwareEvidence, in evidence.HardwareInput) (*evidence.Signed, []*evidence.Mismatch) {
	r, err := Parse(e.Data)
	if err != nil {
		return nil, []*evidence.Mismatch{{Code: evidence.CodeMalformed, Claim: "Evidence of OP-TEE's attestation PTA",
			Expected: "the array of " + MediaType, Got: err.Error(), Source: "the format", Err: err,
			Hint: "the bytes were damaged on the way, or the device speaks another version"}}
	}
	instance := (&[33]byte{0x01})[:]
	copy(instance[1:], r.Key[:])
	s := &evidence.Signed{ReportData: r.Binding[:], InstanceID: instance, Config: r.Config[:], ConfigField: "NONCE",
		Measurements: r.measurements(), Fields: map[string]any{"device-key": hex.EncodeToString(r.Key[:])}}
	var all []*evidence.Mismatch
	if len(e.Collateral) > 0 {
		all = append(all, &evidence.Mismatch{Code: evidence.CodeMalformed, Claim: "certificate chain", Expected: "none",
			Got: fmt.Sprintf("%d certificates", len(e.Collateral)), Source: "the format: a device's key is enrolled"})
	}
	if !r.bound() {
		all = append(all, &evidence.Mismatch{Code: evidence.CodeBinding, Claim: TAMemory.String(), Expected: "an output of command 2",
			Got: "none", Source: "the only command whose nonce the measured code chooses", Err: ErrUnbound,
			Hint: "the Trusted Application itself has to ask the attestation PTA; the normal world cannot do it in its place"})
	}
	k, anchor := r.findAnchor(in.Anchors)
	if k == nil {
		return s, append(all, &evidence.Mismatch{Code: evidence.CodeRoot, Claim: "device key", Expected: "the key of an enrolled device",
			Got: hex.EncodeToString(r.Key[:]), Source: fmt.Sprintf("the verifier's %d trust anchors for TrustZone", len(in.Anchors)),
			Err: ErrNotEnrolled, Hint: "enrol the device's public key only if you know which device it is of"})
	}
	s.Root, s.Rooted = anchor, true
	s.Root.Emulated = anchor.IsEmulated() || k.Emulated()
	for i := range r.Outputs {
		o := &r.Outputs[i]
		nonce := Nonce(o.Command, r.Binding, r.Config)
		if err := o.Verify(k, nonce[:]); err != nil {
			all = append(all, &evidence.Mismatch{Code: evidence.CodeSignature, Claim: "signature of " + o.Command.String(),
				Expected: "a signature by the device's key over binding, configuration and digest", Got: "a signature that does not verify",
				Source: "the trust anchor " + s.Root.String(), Err: err, Hint: "the Evidence was changed on the way, or another device made it"})
		}
	}
	return s, all
}

// findAnchor returns the anchor with the fingerprint that the Evidence names, if its key is fit.
func (r *Report) findAnchor(anchors []evidence.Anchor) (*Key, evidence.Anchor) {
	for _, a := range anchors {
		if a.Public == nil || a.Fingerprint() != r.Key {
			continue
		}
		if k, err := NewKey(a.Public, a.Name); err == nil {
			return k, a
		}
	}
	return nil, evidence.Anchor{}
}

// Anchor returns the key as a trust anchor.
func (k *Key) Anchor() evidence.Anchor {
	return evidence.Anchor{Public: k.Public, Name: k.Name, Hardware: evidence.TrustZone, Emulated: k.Emulated()}
}
