// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"crypto"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/evidence/psa"
	"sealift/internal/platform"
	"sealift/internal/platform/hw"
)

// device is what is fused into the chip: a secret that never leaves, and an attestation key with the vendor's certificate.
type device struct {
	secret []byte
	dev    *emuroot.Device
	root   [32]byte
	rand   io.Reader
}

// deviceRecord is a device on disk.
type deviceRecord struct {
	Version  uint     `cbor:"1,keyasint"`
	Hardware string   `cbor:"2,keyasint"`
	Secret   []byte   `cbor:"3,keyasint"`
	IAK      []byte   `cbor:"4,keyasint"` // PEM
	Chain    [][]byte `cbor:"5,keyasint"`
}

const recordVersion = 1

// openDevice loads the device of dir, or makes one, with its vendor.
func openDevice(dir string, o Options) (*device, error) {
	if o.Hardware != evidence.TrustZone {
		return nil, fmt.Errorf("%w: emulated %s; this emulator plays %s", platform.ErrUnsupported, o.Hardware, evidence.TrustZone)
	}
	pki, err := emuroot.LoadOrNew(filepath.Join(dir, "pki"), o.Rand, o.Hardware, o.Now())
	if err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	if pki.Hardware != o.Hardware {
		return nil, fmt.Errorf("emulator: the state folder is that of emulated %s, not %s", pki.Hardware, o.Hardware)
	}
	var r deviceRecord
	file := filepath.Join(dir, "device.cbor")
	err = readRecord(file, &r)
	if errors.Is(err, fs.ErrNotExist) {
		if r, err = newDevice(pki, o.Rand); err == nil {
			err = writeRecord(file, r)
		}
	}
	if err != nil {
		return nil, err
	}
	return r.open(pki, o.Rand)
}

func newDevice(pki *emuroot.PKI, rand io.Reader) (deviceRecord, error) {
	dev, err := pki.NewDevice(rand, "device")
	if err != nil {
		return deviceRecord{}, fmt.Errorf("emulator: %w", err)
	}
	iak, err := cose.MarshalPrivatePEM(dev.IAK)
	if err != nil {
		return deviceRecord{}, fmt.Errorf("emulator: %w", err)
	}
	secret := make([]byte, 32)
	if _, err := io.ReadFull(rand, secret); err != nil {
		return deviceRecord{}, fmt.Errorf("emulator: %w", err)
	}
	return deviceRecord{
		Version: recordVersion, Hardware: string(pki.Hardware), Secret: secret, IAK: iak, Chain: dev.Chain,
	}, nil
}

func (r deviceRecord) open(pki *emuroot.PKI, rand io.Reader) (*device, error) {
	if r.Version != recordVersion || r.Hardware != string(pki.Hardware) || len(r.Secret) != 32 || len(r.Chain) == 0 {
		return nil, fmt.Errorf("%w: device record", errState)
	}
	iak, err := cose.ParsePrivatePEM(r.IAK)
	if err != nil {
		return nil, fmt.Errorf("%w: attestation key: %w", errState, err)
	}
	id, err := psa.InstanceID(iak.Public())
	if err != nil {
		return nil, fmt.Errorf("%w: attestation key: %w", errState, err)
	}
	return &device{
		secret: r.Secret, root: pki.Fingerprint(), rand: rand,
		dev: &emuroot.Device{
			IAK: crypto.Signer(iak), Chain: r.Chain, InstanceID: id, SignerID: pki.SignerID(), Hardware: pki.Hardware,
		},
	}, nil
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

// token signs Evidence over the binding b for an instance with measurement m (ATTESTATION.md section 5).
func (d *device) token(b [64]byte, m measurement, bootSeed []byte) (*hw.WireToken, error) {
	t := d.dev.Token(b, m.agent, m.config)
	t.BootSeed = bootSeed
	token, err := psa.Mint(d.rand, d.dev.IAK, t)
	if err != nil {
		return nil, err
	}
	return &hw.WireToken{Token: token, MediaType: evidence.MediaTypePSA, Chain: d.dev.Chain}, nil
}

// sealingKey derives a key that only an instance with this salt and this measurement has.
func (d *device) sealingKey(salt []byte, m measurement, label string) ([]byte, error) {
	info := cose.MustMarshal([]any{"sealift-emulator-seal-v1", m.agent[:], m.config[:], label})
	return hkdf.Key(sha256.New, d.secret, salt, string(info), 32)
}
