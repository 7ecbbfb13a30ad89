// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"crypto/sha256"
	"time"
)

// PSA returns the verifier of PSA tokens, which [Verify] always has.
func PSA() HardwareVerifier { return psaVerifier{} }

// VerifiedHardware is authentic Evidence of hardware by itself, without an Agent's claims record. It says what was launched
// on which device, and not who answers: nothing in it vouches for a key, and unless report data was compared, nothing
// says that it is fresh. Only [VerifyHardware] and [VerifyRecorded] make one. It cannot become a [Verified].
type VerifiedHardware struct {
	Hardware     Hardware
	Emulated     bool
	Root         Anchor
	Measurements []Measurement
	Fields       map[string]any
	ReportData   []byte    // what the Evidence's maker had the hardware sign
	Compared     bool      // ReportData is what the caller expected
	InstanceID   []byte    // of the device
	Config       []byte    // SHA-256 of the measured configuration, as the hardware has it; nil where it has none
	ConfigField  string    // the hardware's name for it
	Time         time.Time // when it was verified
	Until        time.Time // as in Verified
	UntilWhat    string
	Digest       [32]byte // SHA-256 of the Evidence

	// Claims and Configuration are those of a bundle: [VerifyRecorded]. The hardware signed them, so they are the Agent's;
	// whether that Agent answers now is not known.
	Claims        *Claims
	Configuration []byte

	ok bool
}

// Authentic reports whether the value was made by one of these two.
func (v *VerifiedHardware) Authentic() bool { return v != nil && v.ok }

// VerifyHardware verifies what hardware signed: chain to an anchor, endorsements, revocation, signature. Where reportData
// is given it is compared with what the hardware signed, which is longer where the hardware fills up with zeros. Of in it
// uses Anchors, Now, Verifiers, Endorsements and CRLs. The error joins a [*Mismatch] for everything that is wrong.
func VerifyHardware(e HardwareEvidence, reportData []byte, in Input) (*VerifiedHardware, error) {
	f := &findings{}
	hw := verifyHardware(&Bundle{Hardware: e.Data, HardwareType: e.MediaType, Collateral: e.Collateral}, in, f)
	if hw != nil && reportData != nil {
		want := bytes.Clone(reportData)
		if len(want) < len(hw.ReportData) {
			want = append(want, make([]byte, len(hw.ReportData)-len(want))...)
		}
		if !bytes.Equal(want, hw.ReportData) {
			f.add(Mismatch{Code: CodeNonce, Claim: "report data", Expected: text(want), Got: text(hw.ReportData), Source: "the caller",
				Hint: "this Evidence answers another challenge, or binds another key: ask for new Evidence"})
		}
	}
	if len(f.all) > 0 || hw == nil {
		return nil, f.err()
	}
	return hw.verified(in.Now, sha256.Sum256(e.Data), reportData != nil), nil
}

// VerifyRecorded verifies a bundle that was kept: all that [Verify] does, except that nobody knows the key which signed the
// message that it came in. Its claims name that key by its thumbprint. A challenge is compared where one is given: all 64
// bytes, or the owner's 32. Of in it uses what [VerifyHardware] does.
func VerifyRecorded(bundle, challenge []byte, in Input) (*VerifiedHardware, error) {
	f := &findings{}
	b, err := ParseBundle(bundle)
	if err != nil {
		f.malformed("bundle", "a CMW collection with hw, claims and config", err)
		return nil, f.err()
	}
	c, err := ParseClaims(b.Claims)
	if err != nil {
		f.malformed("claims record", "EAT claims of profile "+Profile, err)
	}
	hw := verifyHardware(b, in, f)
	if c != nil && challenge != nil {
		got := c.Nonce
		if len(challenge) == NonceSize {
			got = got[NonceSize:]
		}
		if !bytes.Equal(got, challenge) {
			f.add(Mismatch{Code: CodeNonce, Claim: "eat_nonce", Expected: text(challenge), Got: text(got), Source: "the caller",
				Hint: "this Evidence answers another challenge: ask for new Evidence"})
		}
	}
	if hw != nil && c != nil {
		bind := func(emulated bool) [64]byte {
			return Binding(hw.hardware.BindingName(emulated), c.Nonce, [32]byte(c.AgentKID), sha256.Sum256(b.Claims))
		}
		want := bind(hw.Root.IsEmulated())
		ok := bytes.Equal(want[:], hw.ReportData)
		if other := bind(true); !hw.Rooted && bytes.Equal(other[:], hw.ReportData) {
			ok = true // without a root nobody knows which of the two names is right; that is reported already
		}
		if !ok {
			f.add(Mismatch{Code: CodeBinding, Claim: "binding (nonce in the hardware's Evidence)", Expected: text(want[:]), Got: text(hw.ReportData),
				Source: "SHA-512 over the hardware's name, and challenge and key as the claims record has them",
				Hint:   "the hardware did not sign this claims record: it was changed, or put together from two Evidences"})
		}
		checkConfig(b, c, hw, f)
		checkInstance(c, hw, f)
		checkLoads(c, hw, f)
		checkQuote(b, c, hw, f)
	}
	if len(f.all) > 0 || hw == nil || c == nil {
		return nil, f.err()
	}
	v := hw.verified(in.Now, sha256.Sum256(bundle), challenge != nil)
	v.Claims, v.Configuration = c, b.Config
	return v, nil
}

func (s *signed) verified(now time.Time, digest [32]byte, compared bool) *VerifiedHardware {
	return &VerifiedHardware{Hardware: s.hardware, Emulated: s.Root.IsEmulated(), Root: s.Root, Measurements: s.Measurements,
		Fields: s.Fields, ReportData: s.ReportData, Compared: compared, InstanceID: s.InstanceID, Config: s.Config,
		ConfigField: s.ConfigField, Time: now, Until: s.Until, UntilWhat: s.UntilWhat, Digest: digest, ok: true}
}

// ReadInsecure returns what Evidence says although it does not verify, for explanations: the result is not authentic, and
// nothing may be decided by it. It is nil where the Evidence cannot be read. The bundle counts where it is not empty.
func ReadInsecure(bundle []byte, e HardwareEvidence, in Input) *VerifiedHardware {
	b := &Bundle{Hardware: e.Data, HardwareType: e.MediaType, Collateral: e.Collateral}
	if len(bundle) > 0 {
		var err error
		if b, err = ParseBundle(bundle); err != nil {
			return nil
		}
	}
	hw := verifyHardware(b, in, &findings{})
	if hw == nil {
		return nil
	}
	v := hw.verified(in.Now, [32]byte{}, false)
	v.ok = false
	return v
}
