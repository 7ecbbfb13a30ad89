// SPDX-License-Identifier: Apache-2.0

// Package emuroot plays the vendors of secure hardware: for each architecture a root, the keys and certificates under it,
// and devices that sign Evidence in the architecture's own format, made by the package that also verifies it. The emulator
// uses it to sign Evidence, tests use it to make some.
//
// A [PKI] is the vendor of one architecture: an IAK's root for TrustZone, ARK and ASK of AMD, Intel's root with its
// intermediate and its signed TCB information, a root of CPAKs for CCA, HRK and HSK of Hygon. A [Device] is one chip of it.
//
// Every emulator makes a root of its own and keeps the key. No root is built in, so that nobody can trust one without
// having named its fingerprint. The root's subject, or what takes its place, carries the word EMULATED
// ([evidence.EmulatedMark]), by which a verifier tells such a root from a vendor's.
package emuroot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sealift/cose"
	"sealift/evidence"
)

// Files of a saved PKI. The root, which is public, is the last to be written.
const (
	rootFile   = "root.pem"
	vendorFile = "vendor.cbor"
	oldKeyFile = "root-key.pem" // of TrustZone only, before there were other architectures
)

// Certificates are valid from a day before they were made, so that a clock that is a little behind accepts them.
const (
	backdate     = 24 * time.Hour
	rootValidity = 20 * 365 * 24 * time.Hour
)

// ErrHardware reports an architecture that nothing here plays.
var ErrHardware = errors.New("emuroot: this hardware is not emulated")

// ErrPKI reports a saved PKI, or a saved device, that cannot be used.
var ErrPKI = errors.New("emuroot: saved PKI")

// PKI is an emulated vendor.
type PKI struct {
	Hardware evidence.Hardware
	vendor   vendor
}

// vendor is what a vendor of one architecture does.
type vendor interface {
	anchor() evidence.Anchor
	// marshal returns what has to be kept, private keys included.
	marshal() ([]byte, error)
	newChip(rand io.Reader, name string) (chip, error)
	// openChip reads what chip.marshal returned.
	openChip(data []byte) (chip, error)
}

// architecture makes and opens vendors.
type architecture struct {
	make func(rand io.Reader, now time.Time) (vendor, error)
	open func(data []byte) (vendor, error)
}

func architectures() map[evidence.Hardware]architecture {
	return map[evidence.Hardware]architecture{
		evidence.TrustZone: {newTrustZone, openTrustZone},
		evidence.SGX:       newIntel(evidence.SGX),
		evidence.SEVSNP:    {newSNP, openSNP},
		evidence.CCA:       {newCCA, openCCA},
		evidence.TDX:       newIntel(evidence.TDX),
		evidence.CSV:       {newCSV, openCSV},
	}
}

// Played lists the architectures for which there is a vendor.
func Played() []evidence.Hardware {
	var out []evidence.Hardware
	for _, hw := range evidence.AllHardware() {
		if _, known := architectures()[hw]; known {
			out = append(out, hw)
		}
	}
	return out
}

// New makes a vendor for a hardware architecture. Its root is valid for 20 years from now. One for SEV-SNP takes seconds,
// since its format demands RSA-4096.
func New(rand io.Reader, hw evidence.Hardware, now time.Time) (*PKI, error) {
	a, known := architectures()[hw]
	if !known {
		return nil, fmt.Errorf("%w: %q", ErrHardware, hw)
	}
	v, err := a.make(rand, now)
	if err != nil {
		return nil, fmt.Errorf("make an emulated vendor of %s: %w", hw, err)
	}
	return &PKI{Hardware: hw, vendor: v}, nil
}

// record is a vendor on disk.
type record struct {
	Version  uint   `cbor:"1,keyasint"`
	Hardware string `cbor:"2,keyasint"`
	Vendor   []byte `cbor:"3,keyasint"`
}

const recordVersion = 1

// Marshal returns the vendor with its private keys, to be kept where only their owner can read them.
func (p *PKI) Marshal() ([]byte, error) {
	data, err := p.vendor.marshal()
	if err != nil {
		return nil, err
	}
	return cose.Marshal(record{Version: recordVersion, Hardware: string(p.Hardware), Vendor: data})
}

// Parse reads what [PKI.Marshal] wrote.
func Parse(data []byte) (*PKI, error) {
	var r record
	if err := cose.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPKI, err)
	}
	hw := evidence.Hardware(r.Hardware)
	a, known := architectures()[hw]
	if r.Version != recordVersion || !known {
		return nil, fmt.Errorf("%w: version %d of a vendor of %q", ErrPKI, r.Version, r.Hardware)
	}
	v, err := a.open(r.Vendor)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPKI, err)
	}
	p := &PKI{Hardware: hw, vendor: v}
	if !p.Anchor().IsEmulated() {
		return nil, fmt.Errorf("%w: the root does not say that it is emulated", ErrPKI)
	}
	return p, nil
}

// Load reads the vendor that [PKI.Save] wrote to dir. The error is an fs.ErrNotExist if there is none.
func Load(dir string) (*PKI, error) {
	root, err := os.ReadFile(filepath.Join(dir, rootFile))
	if err != nil {
		return nil, fmt.Errorf("load the emulated root: %w", err)
	}
	data, err := os.ReadFile(filepath.Join(dir, vendorFile))
	var p *PKI
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p, err = loadOld(dir, root)
	case err == nil:
		p, err = Parse(data)
	}
	if err != nil {
		return nil, fmt.Errorf("load the emulated root: %w", err)
	}
	a, err := evidence.ParseAnchorPEM(root)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPKI, err)
	}
	if a.Fingerprint() != p.Fingerprint() {
		return nil, fmt.Errorf("%w: %s is not this vendor's root", ErrPKI, rootFile)
	}
	return p, nil
}

// loadOld reads a vendor of TrustZone as it was saved before there were other architectures.
func loadOld(dir string, root []byte) (*PKI, error) {
	key, err := os.ReadFile(filepath.Join(dir, oldKeyFile))
	if err != nil {
		return nil, err
	}
	v, err := openTrustZone(append(bytes.Clone(root), key...))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPKI, err)
	}
	return &PKI{Hardware: evidence.TrustZone, vendor: v}, nil
}

// LoadOrNew loads the vendor of dir, or makes and saves one where there is none.
func LoadOrNew(dir string, rand io.Reader, hw evidence.Hardware, now time.Time) (*PKI, error) {
	p, err := Load(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if p, err = New(rand, hw, now); err != nil {
			return nil, err
		}
		return p, p.Save(dir)
	case err != nil:
		return nil, err
	case p.Hardware != hw:
		return nil, fmt.Errorf("%w: it is a vendor of %s, want %s", ErrPKI, p.Hardware, hw)
	}
	return p, nil
}

// Save writes the vendor to dir: the keys first and each file by rename, so that a root without its keys is never left
// behind. The file with the keys is readable by its owner only.
func (p *PKI) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save the emulated root: %w", err)
	}
	data, err := p.Marshal()
	if err != nil {
		return fmt.Errorf("save the emulated root: %w", err)
	}
	if err := writeFile(filepath.Join(dir, vendorFile), data, 0o600); err != nil {
		return fmt.Errorf("save the emulated root: %w", err)
	}
	root, err := p.Anchor().PEM()
	if err != nil {
		return fmt.Errorf("save the emulated root: %w", err)
	}
	if err := writeFile(filepath.Join(dir, rootFile), root, 0o644); err != nil {
		return fmt.Errorf("save the emulated root: %w", err)
	}
	return nil
}

// writeFile puts data on the disk under a temporary name before it takes the name path.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Fingerprint identifies the root, as an [evidence.Anchor] does.
func (p *PKI) Fingerprint() [32]byte { return p.Anchor().Fingerprint() }

// Anchor returns the root as a trust anchor for this hardware, marked as emulated.
func (p *PKI) Anchor() evidence.Anchor {
	a := p.vendor.anchor()
	a.Hardware, a.Emulated = p.Hardware, true
	return a
}
