// SPDX-License-Identifier: Apache-2.0

package emuroot

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"sealift/evidence"
	"sealift/evidence/cca"
	"sealift/evidence/csv"
	"sealift/evidence/snp"
	"sealift/evidence/tsm"
)

// snpVendor is AMD for one product.
type snpVendor struct{ pki *snp.PKI }

// level is the firmware level of emulated processors.
var level = snp.TCB{Bootloader: 4, SNP: 24, Microcode: 219}

func newSNP(rand io.Reader, now time.Time) (vendor, error) {
	pki, err := snp.NewPKI(rand, snp.Milan, now, snp.VCEK)
	return &snpVendor{pki}, err
}

func openSNP(data []byte) (vendor, error) {
	pki, err := snp.ParsePKI(data)
	return &snpVendor{pki}, err
}

func (v *snpVendor) anchor() evidence.Anchor  { return v.pki.Root.Anchor() }
func (v *snpVendor) marshal() ([]byte, error) { return v.pki.Marshal() }

func (v *snpVendor) newChip(rand io.Reader, _ string) (chip, error) {
	spec := snp.DeviceSpec{Signer: snp.VCEK, TCB: level}
	if _, err := io.ReadFull(rand, spec.Chip[:]); err != nil {
		return nil, err
	}
	d, err := v.pki.NewDevice(rand, spec)
	return &snpChip{d}, err
}

func (v *snpVendor) openChip(data []byte) (chip, error) {
	d, err := snp.ParseDevice(data)
	return &snpChip{d}, err
}

// snpChip signs SNP reports with a VCEK, whose certificate the report's wrapper brings.
type snpChip struct{ d *snp.Device }

func (c *snpChip) instanceID() ([33]byte, error) { return snp.InstanceID(c.d.Chip), nil }
func (c *snpChip) marshal() ([]byte, error)      { return c.d.Marshal() }

func (c *snpChip) evidence(rand io.Reader, r Request) (evidence.HardwareEvidence, error) {
	var measurement [48]byte
	if err := r.launch(measurement[:]); err != nil {
		return evidence.HardwareEvidence{}, err
	}
	report := c.d.Report(r.Binding, measurement, r.Config)
	r.change(report)
	data, err := c.d.Mint(rand, report)
	if err != nil {
		return evidence.HardwareEvidence{}, err
	}
	table := snp.CertTable{VCEK: c.d.Cert}
	wrapped := tsm.Report{Provider: tsm.ProviderSNP, OutBlob: data, AuxBlob: table.Marshal()}
	return evidence.HardwareEvidence{Data: wrapped.Marshal(), MediaType: tsm.MediaType}, nil
}

// ccaVendor certifies CPAKs.
type ccaVendor struct{ pki *cca.PKI }

func newCCA(rand io.Reader, now time.Time) (vendor, error) {
	pki, err := cca.NewPKI(rand, now)
	return &ccaVendor{pki}, err
}

func openCCA(data []byte) (vendor, error) {
	certs, key, err := parsePEM(data)
	if err != nil {
		return nil, err
	}
	pki, err := cca.OpenPKI(certs[0], key)
	return &ccaVendor{pki}, err
}

func (v *ccaVendor) anchor() evidence.Anchor {
	return evidence.Anchor{Cert: v.pki.Root, Name: v.pki.Root.Subject.CommonName}
}

func (v *ccaVendor) marshal() ([]byte, error) {
	return marshalPEM([][]byte{v.pki.Root.Raw}, v.pki.Key())
}

func (v *ccaVendor) newChip(rand io.Reader, _ string) (chip, error) {
	key, chain, err := v.pki.IssueCPAK(rand, v.pki.Root.NotBefore, v.pki.Root.NotAfter)
	return &ccaChip{cpak: key, chain: chain, signer: sha256.Sum256(v.pki.Root.RawSubjectPublicKeyInfo)}, err
}

func (v *ccaVendor) openChip(data []byte) (chip, error) {
	certs, key, err := parsePEM(data)
	if err != nil {
		return nil, err
	}
	c := &ccaChip{cpak: key, signer: sha256.Sum256(v.pki.Root.RawSubjectPublicKeyInfo)}
	for _, cert := range certs {
		c.chain = append(c.chain, cert.Raw)
	}
	return c, nil
}

// ccaChip signs CCA tokens. It makes a RAK when it is first asked, as firmware does at each start.
type ccaChip struct {
	cpak   *ecdsa.PrivateKey
	chain  [][]byte
	signer [32]byte

	mu  sync.Mutex
	rak *ecdsa.PrivateKey
}

func (c *ccaChip) instanceID() ([33]byte, error) { return cca.InstanceID(&c.cpak.PublicKey) }
func (c *ccaChip) marshal() ([]byte, error)      { return marshalPEM(c.chain, c.cpak) }

func (c *ccaChip) realmKey(rand io.Reader) (*ecdsa.PrivateKey, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	if c.rak == nil {
		c.rak, err = ecdsa.GenerateKey(elliptic.P384(), rand)
	}
	return c.rak, err
}

// Values of an emulated platform.
const (
	securedLifecycle = 0x3000
	hashName         = "sha-256"
)

func (c *ccaChip) evidence(rand io.Reader, r Request) (evidence.HardwareEvidence, error) {
	var rim [32]byte
	rak, err := c.realmKey(rand)
	if err := errors.Join(err, r.launch(rim[:])); err != nil {
		return evidence.HardwareEvidence{}, err
	}
	id, err := c.instanceID()
	if err != nil {
		return evidence.HardwareEvidence{}, err
	}
	impl := ImplementationID(evidence.CCA)
	t := cca.Token{
		Platform: cca.Platform{Profile: cca.ProfilePlatform, ImplementationID: impl[:], InstanceID: id[:],
			Config: []byte(evidence.EmulatedMark), Lifecycle: securedLifecycle, HashAlg: hashName},
		Realm: cca.Realm{Challenge: r.Binding[:], Personalization: slices.Concat(r.Config[:], make([]byte, 32)), Initial: rim[:],
			HashAlg: hashName, PublicKeyHash: hashName},
	}
	for i := range t.Realm.Extensible {
		t.Realm.Extensible[i] = make([]byte, len(rim))
	}
	for _, m := range Firmware(evidence.CCA) {
		t.Platform.Components = append(t.Platform.Components, cca.Component{Type: m.Name, Value: m.Value, Version: "1",
			SignerID: c.signer[:], HashAlg: hashName})
	}
	r.change(&t)
	token, err := cca.Mint(rand, c.cpak, rak, t)
	return evidence.HardwareEvidence{Data: token, MediaType: cca.MediaTypeOf(t.Platform.Profile), Collateral: c.chain}, err
}

// csvVendor is Hygon.
type csvVendor struct{ pki *csv.PKI }

func newCSV(rand io.Reader, _ time.Time) (vendor, error) {
	pki, err := csv.NewPKI(rand)
	return &csvVendor{pki}, err
}

func openCSV(data []byte) (vendor, error) {
	pki, err := csv.ParsePKI(data)
	return &csvVendor{pki}, err
}

func (v *csvVendor) anchor() evidence.Anchor  { return v.pki.Root.Anchor() }
func (v *csvVendor) marshal() ([]byte, error) { return v.pki.Marshal(), nil }

func (v *csvVendor) newChip(rand io.Reader, _ string) (chip, error) {
	var serial [8]byte
	if _, err := io.ReadFull(rand, serial[:]); err != nil {
		return nil, err
	}
	d, err := v.pki.NewDevice(rand, "EMU"+hex.EncodeToString(serial[:]))
	return &csvChip{d}, err
}

func (v *csvVendor) openChip(data []byte) (chip, error) {
	d, err := csv.ParseDevice(data)
	return &csvChip{d}, err
}

// csvChip signs version 2 reports.
type csvChip struct{ d *csv.Device }

func (c *csvChip) instanceID() ([33]byte, error) { return csv.InstanceID(c.d.Chip()), nil }
func (c *csvChip) marshal() ([]byte, error)      { return c.d.Marshal(), nil }

// releasePolicy forbids what lets the host into the guest: debugging, sharing keys, sending it away.
const releasePolicy = csv.PolicyNoDebug | csv.PolicyNoShare | csv.PolicyNoSend | csv.PolicyCSV | csv.PolicyCSV2

func (c *csvChip) evidence(rand io.Reader, r Request) (evidence.HardwareEvidence, error) {
	report := csv.Report{Version: 2, ReportData: r.Binding, VMID: [16]byte(r.Config[:16]), VMVersion: [16]byte(r.Config[16:]),
		Policy: releasePolicy, Build: 1, RTMRVersion: 1}
	if err := r.launch(report.Measure[:]); err != nil {
		return evidence.HardwareEvidence{}, err
	}
	if _, err := io.ReadFull(rand, report.MNonce[:]); err != nil {
		return evidence.HardwareEvidence{}, fmt.Errorf("emuroot: %w", err)
	}
	r.change(&report)
	data, err := c.d.Mint(rand, report)
	return evidence.HardwareEvidence{Data: data, MediaType: csv.MediaType, Collateral: c.d.Chain}, err
}
