// SPDX-License-Identifier: Apache-2.0

package emuroot

import (
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"sealift/evidence"
)

// Device is an emulated device: what a vendor puts into one when it is made.
type Device struct {
	Hardware   evidence.Hardware
	InstanceID [33]byte // also the ueid in the Agent's claims
	chip       chip
}

// chip is a device of one architecture.
type chip interface {
	instanceID() ([33]byte, error)
	// marshal returns what has to be kept, private keys included.
	marshal() ([]byte, error)
	evidence(rand io.Reader, r Request) (evidence.HardwareEvidence, error)
}

// Request says what a device signs.
type Request struct {
	Binding [64]byte // see evidence.Binding
	Launch  []byte   // the launch measurement, as long as this architecture has it
	Config  [32]byte // SHA-256 of the measured configuration
	// BootSeed differs at each start; 32 bytes, for TrustZone only. May be empty.
	BootSeed []byte
	// Now is the time at which a vendor signs what lives for a short time (Intel's TCB information). Zero means the time
	// when the vendor was made.
	Now time.Time
	// Change, if it is set, alters the content before it is signed: a *psa.Token, *sgx.Report, *snp.Report, *cca.Token,
	// *tdx.Report or *csv.Report.
	// Tests of verifiers use it.
	Change func(content any)
}

// change calls Change.
func (r Request) change(content any) {
	if r.Change != nil {
		r.Change(content)
	}
}

// launch copies the measurement to where it has a fixed size.
func (r Request) launch(into []byte) error {
	if len(r.Launch) != len(into) {
		return fmt.Errorf("emuroot: a launch measurement of %d bytes, this hardware has %d", len(r.Launch), len(into))
	}
	copy(into, r.Launch)
	return nil
}

// NewDevice makes a device called name.
func (p *PKI) NewDevice(rand io.Reader, name string) (*Device, error) {
	c, err := p.vendor.newChip(rand, name)
	if err != nil {
		return nil, fmt.Errorf("make an emulated device: %w", err)
	}
	return p.device(c)
}

// OpenDevice reads what [Device.Marshal] wrote.
func (p *PKI) OpenDevice(data []byte) (*Device, error) {
	c, err := p.vendor.openChip(data)
	if err != nil {
		return nil, fmt.Errorf("%w: device: %w", ErrPKI, err)
	}
	return p.device(c)
}

func (p *PKI) device(c chip) (*Device, error) {
	id, err := c.instanceID()
	if err != nil {
		return nil, fmt.Errorf("emulated device: %w", err)
	}
	return &Device{Hardware: p.Hardware, InstanceID: id, chip: c}, nil
}

// Marshal returns the device with its private keys, to be kept where only their owner can read them.
func (d *Device) Marshal() ([]byte, error) { return d.chip.marshal() }

// Evidence signs what the request says, as the device's hardware does.
func (d *Device) Evidence(rand io.Reader, r Request) (evidence.HardwareEvidence, error) {
	return d.chip.evidence(rand, r)
}

// ImplementationID names the emulated hardware assembly; all devices of one architecture share it.
func ImplementationID(hw evidence.Hardware) [32]byte {
	return sha256.Sum256([]byte("sealift " + hw.BindingName(true)))
}

// Firmware returns the reference values of what emulated hardware measures beside what is launched: its own platform, or who
// signed it. They are the same on all devices; most architectures have none.
func Firmware(hw evidence.Hardware) []evidence.Measurement {
	var out []evidence.Measurement
	for _, name := range firmware[hw] {
		sum := sha256.Sum256([]byte("sealift " + hw.BindingName(true) + " " + name))
		out = append(out, evidence.Measurement{Name: name, Value: sum[:], Source: "the emulator"})
	}
	return out
}

var firmware = map[evidence.Hardware][]string{evidence.SGX: {"MRSIGNER"}, evidence.CCA: {"TF-A", "RMM"}}
