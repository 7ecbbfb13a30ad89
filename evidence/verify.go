// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"mime"
	"slices"
	"strings"
	"time"

	"sealift/cose"
)

// Names of the two software components in the PSA token of a TEE instance. Other hardware has names of its own.
const (
	MeasurementAgent  = "AGENT"  // SHA-256 of the Agent's binary
	MeasurementConfig = "CONFIG" // SHA-256 of the measured configuration
)

// Input is what the verifier knows itself.
type Input struct {
	Challenge []byte    // the challenge of the QueryRequest: [MixChallenge]
	AgentKey  *cose.Key // the key that verified the TEEP message (for the owner: the key that it is asked to believe)
	Anchors   Anchors
	Now       time.Time

	// Verifiers are those of the hardware architectures that the caller accepts Evidence of. The PSA verifier of
	// TrustZone is always there.
	Verifiers []HardwareVerifier
	// Endorsements and CRLs are what the verifier keeps itself; both may be nil. See also [RevocationLists].
	Endorsements Endorsements
	CRLs         []*x509.RevocationList

	// ChallengeSource says in a report where the challenge came from; empty means "the challenge that this verifier
	// issued".
	ChallengeSource string
	// Issued and MaxAge bound the age of the challenge; nothing is checked where MaxAge is zero.
	Issued time.Time
	MaxAge time.Duration
}

// Measurement is a measured thing with its digest.
type Measurement struct {
	Name   string
	Value  []byte
	Source string // which part of the Evidence says so
}

// Verified is authentic, fresh Evidence. Only [Verify] makes one.
type Verified struct {
	Hardware     Hardware
	Emulated     bool
	Root         Anchor
	Measurements []Measurement
	Fields       map[string]any // claims of this hardware by name, for example "lifecycle": psa.Lifecycle
	Claims       *Claims
	Config       []byte
	Time         time.Time // when it was verified
	Until        time.Time // when the first thing that was relied on ends to be valid; zero if nothing does
	UntilWhat    string    // what that is
	Digest       [32]byte  // SHA-256 of the bundle

	ok bool
}

// Authentic reports whether the value was made by [Verify]; the zero value and copies by hand are not.
func (v *Verified) Authentic() bool { return v != nil && v.ok }

// Measurement returns the measurement with that name; false if there is none or more than one.
func (v *Verified) Measurement(name string) (Measurement, bool) {
	var found Measurement
	n := 0
	for _, m := range v.Measurements {
		if m.Name == name {
			found = m
			n++
		}
	}
	return found, n == 1
}

// TA returns the claim of the loaded TA with that component identifier (its text form).
func (v *Verified) TA(component string) (TAClaim, bool) {
	for _, t := range v.Claims.TAs {
		if t.Component.String() == component {
			return t, true
		}
	}
	return TAClaim{}, false
}

// Verify checks that a bundle is authentic and fresh: the certificate chain to one of the anchors, the hardware's
// signature, and the binding, recomputed from the challenge and the Agent's key. The error joins a [*Mismatch] for
// everything that is wrong (see [Mismatches]).
func Verify(bundle []byte, in Input) (*Verified, error) {
	f := &findings{}
	in.check(f)
	b, err := ParseBundle(bundle)
	if err != nil {
		f.malformed("bundle", "a CMW collection with hw, claims and config", err)
		return nil, f.err()
	}
	claims, err := ParseClaims(b.Claims)
	if err != nil {
		f.malformed("claims record", "EAT claims of profile "+Profile, err)
	}
	hw := verifyHardware(b, in, f)
	if claims != nil {
		checkClaims(claims, in, f)
	}
	if hw != nil && claims != nil {
		checkBinding(b, claims, hw, in, f)
		checkConfig(b, claims, hw, f)
		checkInstance(claims, hw, f)
		checkLoads(claims, hw, f)
		checkQuote(b, claims, hw, f)
	}
	if len(f.all) > 0 || hw == nil || claims == nil {
		return nil, f.err()
	}
	return &Verified{
		Hardware: hw.hardware, Emulated: hw.Root.IsEmulated(), Root: hw.Root, Measurements: hw.Measurements,
		Fields: hw.Fields, Until: hw.Until, UntilWhat: hw.UntilWhat, Claims: claims, Config: b.Config, Time: in.Now, Digest: sha256.Sum256(bundle), ok: true,
	}, nil
}

// signed is what a verifier found, with whose verifier it was.
type signed struct {
	*Signed
	hardware Hardware
}

func verifyHardware(b *Bundle, in Input, f *findings) *signed {
	base, _, err := mime.ParseMediaType(b.HardwareType)
	verifiers := append([]HardwareVerifier{psaVerifier{}}, in.Verifiers...)
	e := HardwareEvidence{Data: b.Hardware, MediaType: b.HardwareType, Collateral: b.Collateral}
	known := false
	for _, v := range verifiers {
		if err != nil || !slices.Contains(v.MediaTypes(), base) {
			continue
		}
		known = true
		if !v.Reads(e) {
			continue
		}
		s, mismatches := v.VerifyHardware(e, in.of(v.Hardware()))
		for _, m := range mismatches {
			f.add(*m)
		}
		if s == nil {
			return nil
		}
		return &signed{Signed: s, hardware: v.Hardware()}
	}
	if known {
		f.add(Mismatch{Code: CodeMalformed, Claim: "the hardware's Evidence", Expected: "Evidence of a hardware that has the type " + base,
			Got: "bytes that none of the verifiers for this type reads", Source: "the format",
			Hint: "the bytes were damaged on the way, or they are of hardware that this program does not know"})
		return nil
	}
	f.add(Mismatch{Code: CodeType, Claim: "media type of the hardware's Evidence", Expected: mediaTypes(verifiers),
		Got: b.HardwareType, Source: "the verifiers of this program"})
	return nil
}

func mediaTypes(verifiers []HardwareVerifier) string {
	var all []string
	for _, v := range verifiers {
		all = append(all, v.MediaTypes()...)
	}
	return strings.Join(all, " or ")
}

// check refuses input with which no Evidence could be fresh. It guards against a caller's mistake: without a challenge
// or a key the comparison below would be with nothing.
func (in Input) check(f *findings) {
	if len(in.Challenge) != 2*NonceSize || isZero(in.Challenge) {
		f.add(Mismatch{Code: CodeChallenge, Claim: "challenge", Source: in.challengeSource(),
			Expected: fmt.Sprintf("%d bytes, not all zero", 2*NonceSize), Got: text(in.Challenge)})
	}
	if in.AgentKey == nil {
		f.add(Mismatch{Code: CodeAgentKey, Claim: "Agent key", Expected: "the key that verified the TEEP message", Got: "none",
			Source: "the caller"})
	}
	if in.MaxAge > 0 {
		age := in.Now.Sub(in.Issued)
		if age > in.MaxAge || age < 0 {
			f.add(Mismatch{Code: CodeFreshness, Claim: "age of the challenge", Expected: "at most " + in.MaxAge.String(),
				Got: age.String(), Source: in.challengeSource(), Hint: "ask for new Evidence with a new nonce"})
		}
	}
}

func (in Input) challengeSource() string {
	if in.ChallengeSource != "" {
		return in.ChallengeSource
	}
	return "the challenge that this verifier issued"
}

// checkClaims compares what the claims record says of challenge and key with what the verifier knows. The binding
// covers both as well; this comparison is what names the one that differs.
func checkClaims(c *Claims, in Input, f *findings) {
	const hint = "this Evidence answers another challenge: it is a replay, or challenges were mixed up; ask for new Evidence"
	for _, part := range []struct {
		name     string
		from, to int
	}{{"eat_nonce (owner's part)", NonceSize, 2 * NonceSize}, {"eat_nonce (TAM's part)", 0, NonceSize}} {
		if len(in.Challenge) != 2*NonceSize {
			break
		}
		want, got := in.Challenge[part.from:part.to], c.Nonce[part.from:part.to]
		if !bytes.Equal(want, got) {
			f.add(Mismatch{Code: CodeNonce, Claim: part.name, Expected: text(want), Got: text(got),
				Source: in.challengeSource(), Hint: hint})
		}
	}
	if in.AgentKey != nil && !bytes.Equal(in.AgentKey.KID(), c.AgentKID) {
		f.add(Mismatch{Code: CodeAgentKey, Claim: "cnf (Agent key)", Expected: text(in.AgentKey.KID()), Got: text(c.AgentKID),
			Source: "the key that verified the TEEP message", Hint: "the message and the Evidence are of different Agents"})
	}
}

// checkBinding recomputes the binding. Where it differs, it looks for the part that explains it, so that the report
// can name it: a nonce or key that was reported already, or the emulated name.
func checkBinding(b *Bundle, c *Claims, hw *signed, in Input, f *findings) {
	ext := sha256.Sum256(b.Claims)
	var ckt [32]byte
	if in.AgentKey != nil {
		ckt = in.AgentKey.Thumbprint()
	}
	emulated := hw.Root.IsEmulated()
	want := Binding(hw.hardware.BindingName(emulated), in.Challenge, ckt, ext)
	if in.AgentKey != nil && bytes.Equal(want[:], hw.ReportData) {
		return
	}
	for _, emu := range []bool{emulated, !emulated} {
		for _, challenge := range [][]byte{in.Challenge, c.Nonce} {
			for _, kid := range [][32]byte{ckt, [32]byte(c.AgentKID)} {
				try := Binding(hw.hardware.BindingName(emu), challenge, kid, ext)
				if !bytes.Equal(try[:], hw.ReportData) {
					continue
				}
				if emu != emulated && hw.Rooted {
					f.add(Mismatch{Code: CodeHardware, Claim: "hardware name inside the binding",
						Expected: hw.hardware.BindingName(emulated), Got: hw.hardware.BindingName(emu),
						Source: "the trust anchor " + hw.Root.String(),
						Hint:   "an emulated device must not pass for a real one, nor the reverse"})
				}
				if len(f.all) > 0 {
					return
				}
			}
		}
	}
	f.add(Mismatch{Code: CodeBinding, Claim: "binding (nonce in the hardware's Evidence)", Expected: text(want[:]), Got: text(hw.ReportData),
		Source: "SHA-512 over the hardware's name, the challenge, the Agent's key and the claims record",
		Hint:   "the hardware did not sign this claims record: it was changed, or put together from two Evidences"})
}

// checkConfig checks that the configuration in the bundle is the one that the hardware has.
func checkConfig(b *Bundle, c *Claims, hw *signed, f *findings) {
	sum := sha256.Sum256(b.Config)
	source := "the field " + hw.ConfigField + " of the hardware's Evidence"
	if len(hw.Config) != len(sum) {
		f.add(Mismatch{Code: CodeConfig, Claim: hw.ConfigField, Expected: "one digest of a measured configuration",
			Got: text(hw.Config), Source: "the format of a TEE instance's Evidence"})
		return
	}
	if !bytes.Equal(hw.Config, sum[:]) {
		f.add(Mismatch{Code: CodeConfig, Claim: "measured configuration", Expected: text(hw.Config), Got: text(sum[:]),
			Source: source, Hint: "the configuration shown is not the one that was measured at launch"})
	}
	if !bytes.Equal(hw.Config, c.ConfigDigest[:]) {
		f.add(Mismatch{Code: CodeConfig, Claim: "configuration digest in the claims", Expected: text(hw.Config),
			Got: text(c.ConfigDigest[:]), Source: source})
	}
}

// checkInstance has nothing to compare where no certificate could tell which device it is; that was reported.
func checkInstance(c *Claims, hw *signed, f *findings) {
	if len(hw.InstanceID) == 0 && len(f.all) > 0 {
		return
	}
	if !bytes.Equal(c.UEID, hw.InstanceID) {
		f.add(Mismatch{Code: CodeInstance, Claim: "ueid", Expected: text(hw.InstanceID), Got: text(c.UEID),
			Source: "the instance ID that the hardware signed"})
	}
}

// text prints bytes for a report.
func text(b []byte) string {
	if len(b) == 0 {
		return "nothing"
	}
	return hex.EncodeToString(b)
}
