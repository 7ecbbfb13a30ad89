// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"crypto/sha256"
	"time"
)

// VerifiedHardware is authentic Evidence of hardware by itself, without an Agent's claims record. It says what was launched
// on which device, and not who answers: nothing in it vouches for a key, and unless report data was compared, nothing
// says that it is fresh. Only [VerifyHardware] makes one. It cannot become a [Verified].
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

	ok bool
}

// Authentic reports whether the value was made by [VerifyHardware].
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
	return &VerifiedHardware{Hardware: hw.hardware, Emulated: hw.Root.IsEmulated(), Root: hw.Root, Measurements: hw.Measurements,
		Fields: hw.Fields, ReportData: hw.ReportData, Compared: reportData != nil, InstanceID: hw.InstanceID, Config: hw.Config,
		ConfigField: hw.ConfigField, Time: in.Now, Until: hw.Until, UntilWhat: hw.UntilWhat, Digest: sha256.Sum256(e.Data), ok: true}, nil
}
