// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/platform"
	"sealift/internal/platform/hw"
)

// device is what is fused into the chip: a secret that never leaves, and what it signs Evidence with, under the vendor.
type device struct {
	secret []byte
	dev    *emuroot.Device
	root   [32]byte
	rand   io.Reader
	now    func() time.Time
}

// deviceRecord is a device on disk. Version 1, which knew TrustZone only, had the attestation key and its certificates in
// members of their own; version 2 has what the device of any architecture keeps (emuroot.Device.Marshal).
type deviceRecord struct {
	Version  uint     `cbor:"1,keyasint"`
	Hardware string   `cbor:"2,keyasint"`
	Secret   []byte   `cbor:"3,keyasint"`
	IAK      []byte   `cbor:"4,keyasint,omitempty"` // version 1: PEM
	Chain    [][]byte `cbor:"5,keyasint,omitempty"` // version 1
	Device   []byte   `cbor:"6,keyasint,omitempty"`
}

const deviceVersion = 2

// openDevice loads the device of dir, or makes one, with its vendor.
func openDevice(dir string, o Options) (*device, error) {
	pki, err := emuroot.LoadOrNew(filepath.Join(dir, "pki"), o.Rand, o.Hardware, o.Now())
	if errors.Is(err, emuroot.ErrHardware) {
		return nil, fmt.Errorf("%w: %w", platform.ErrUnsupported, err)
	}
	if err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	var r deviceRecord
	file := filepath.Join(dir, "device.cbor")
	err = readRecord(file, &r)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if r, err = newDevice(pki, o.Rand); err == nil {
			err = writeRecord(file, r)
		}
	case err == nil && r.Version == 1:
		if r, err = r.migrate(); err == nil {
			err = writeRecord(file, r)
		}
	}
	if err != nil {
		return nil, err
	}
	return r.open(pki, o)
}

func newDevice(pki *emuroot.PKI, rand io.Reader) (deviceRecord, error) {
	dev, err := pki.NewDevice(rand, "device")
	if err != nil {
		return deviceRecord{}, fmt.Errorf("emulator: %w", err)
	}
	data, err := dev.Marshal()
	if err != nil {
		return deviceRecord{}, fmt.Errorf("emulator: %w", err)
	}
	secret := make([]byte, 32)
	if _, err := io.ReadFull(rand, secret); err != nil {
		return deviceRecord{}, fmt.Errorf("emulator: %w", err)
	}
	return deviceRecord{Version: deviceVersion, Hardware: string(pki.Hardware), Secret: secret, Device: data}, nil
}

// migrate turns a record of version 1 into one of version 2. The device stays the same, and so do its sealing keys.
func (r deviceRecord) migrate() (deviceRecord, error) {
	if r.Hardware != string(evidence.TrustZone) || len(r.Chain) == 0 {
		return r, fmt.Errorf("%w: device record", errState)
	}
	data, err := emuroot.MigrateIAK(r.IAK, r.Chain)
	if err != nil {
		return r, fmt.Errorf("%w: %w", errState, err)
	}
	return deviceRecord{Version: deviceVersion, Hardware: r.Hardware, Secret: r.Secret, Device: data}, nil
}

func (r deviceRecord) open(pki *emuroot.PKI, o Options) (*device, error) {
	if r.Version != deviceVersion || r.Hardware != string(pki.Hardware) || len(r.Secret) != 32 {
		return nil, fmt.Errorf("%w: device record", errState)
	}
	dev, err := pki.OpenDevice(r.Device)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errState, err)
	}
	return &device{secret: r.Secret, root: pki.Fingerprint(), rand: o.Rand, now: o.Now, dev: dev}, nil
}

// measurement is what an instance was launched from.
type measurement struct {
	agent  [32]byte // SHA-256
	launch string   // launch measurement as it stands in this architecture's Evidence: raw bytes, comparable
	config [32]byte // SHA-256
}

// id names a measurement in an instance's record.
func (m measurement) id() [32]byte {
	return sha256.Sum256(cose.MustMarshal([]any{"sealift-emulator-measurement-v1", m.agent[:], m.config[:]}))
}

// token signs Evidence over the binding b for an instance with measurement m, in the architecture's own format.
func (d *device) token(b [64]byte, m measurement, register, bootSeed []byte) (*hw.WireToken, error) {
	e, err := d.dev.Evidence(d.rand, emuroot.Request{
		Binding: b, Launch: []byte(m.launch), Config: m.config, BootSeed: bootSeed, Now: d.now(), Change: setRegister(register),
	})
	if err != nil {
		return nil, err
	}
	return &hw.WireToken{Token: e.Data, MediaType: e.MediaType, Chain: e.Collateral}, nil
}

// sealingKey derives a key that only an instance with this salt and this measurement has.
func (d *device) sealingKey(salt []byte, m measurement, label string) ([]byte, error) {
	info := cose.MustMarshal([]any{"sealift-emulator-seal-v1", m.agent[:], m.config[:], label})
	return hkdf.Key(sha256.New, d.secret, salt, string(info), 32)
}
