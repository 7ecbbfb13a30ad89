// SPDX-License-Identifier: Apache-2.0

// Package exhibit reads Evidence from files, to verify it apart from a deployment: an Agent's bundle, or what hardware of
// one of the six architectures signed, in its own format. The formats are told apart by their content.
//
// Evidence of hardware often needs more: certificates, Intel's collateral, revocation lists. They are files beside it, in
// any of the vendors' forms. None of them is trusted: everything is verified under an anchor.
package exhibit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sealift/appraisal"
	"sealift/evidence"
	"sealift/evidence/all"
	"sealift/evidence/cca"
	"sealift/evidence/crl"
	"sealift/evidence/csv"
	"sealift/evidence/intel"
	"sealift/evidence/optee"
	"sealift/evidence/psa"
	"sealift/evidence/sgx"
	"sealift/evidence/snp"
	"sealift/evidence/tdx"
	"sealift/evidence/tsm"
	"sealift/internal/collateral"
)

// MaxFile bounds each file, in bytes.
const MaxFile = 1 << 20

// maxFiles bounds the files that are read from one folder.
const maxFiles = 1024

// ErrUnknown reports a file that is no Evidence that this version reads.
var ErrUnknown = errors.New("neither a bundle nor Evidence of one of the six hardware architectures")

// Exhibit is Evidence from a file. Nothing in it is verified.
type Exhibit struct {
	Form     string                    // for people: "bundle", "SNP report", "CCA token"
	Bundle   []byte                    // the file, if it is a bundle
	Hardware evidence.HardwareEvidence // else what the hardware signed
}

// recognise holds a parser for each form, the most telling first.
var recognise = []struct {
	form, mediaType string
	reads           func(data []byte) bool
}{
	{"report of the kernel (configfs-tsm)", tsm.MediaType, reads(tsm.Parse)},
	{"CCA token", cca.MediaType, reads(cca.Parse)},
	{"Evidence of OP-TEE's attestation PTA", optee.MediaType, reads(optee.Parse)},
	{"PSA token", evidence.MediaTypePSAOld, reads(psa.Parse)},
	{"SGX quote", sgx.MediaType, func(data []byte) bool { return quote(data, 3, 0) }},
	{"TDX quote", tdx.MediaType, func(data []byte) bool { return quote(data, 4, 0x81) || quote(data, 5, 0x81) }},
	{"SNP report", snp.MediaType, reads(snp.Parse)},
	{"CSV report", csv.MediaType, reads(csv.Parse)},
}

func reads[T any](parse func([]byte) (T, error)) func([]byte) bool {
	return func(data []byte) bool { _, err := parse(data); return err == nil }
}

// quote looks at the header that all of Intel's quotes have: version, kind of the attestation key, kind of TEE.
func quote(data []byte, version uint16, tee uint32) bool {
	return len(data) > 48 && binary.LittleEndian.Uint16(data) == version && binary.LittleEndian.Uint16(data[2:]) == 2 &&
		binary.LittleEndian.Uint32(data[4:]) == tee
}

// Read tells what data is. Damaged Evidence of a known form is an [ErrUnknown] as well: forms are known by what reads.
func Read(data []byte) (*Exhibit, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrUnknown, MaxFile)
	}
	if _, err := evidence.ParseBundle(data); err == nil {
		return &Exhibit{Form: "bundle", Bundle: data}, nil
	}
	for _, r := range recognise {
		if r.reads(data) {
			return &Exhibit{Form: r.form, Hardware: evidence.HardwareEvidence{Data: data, MediaType: r.mediaType}}, nil
		}
	}
	return nil, ErrUnknown
}

// Beside is what lies beside Evidence. It is an [evidence.Endorsements].
type Beside struct {
	CRLs  []*x509.RevocationList
	certs [][]byte // DER: those of devices, then those of CAs, without roots
	hygon [][]byte // HSK and CEK
	intel [][]byte // collateral, in CBOR
	logs  [][]byte // event logs of TDs
	store []*collateral.Store
}

// Add reads a file or all files of a folder. A folder may also be one that `sealift collateral` keeps. Files of no known form
// are passed over when they stand in a folder, and an error by themselves.
func (b *Beside) Add(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return b.addFile(path, true)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	if len(entries) > maxFiles {
		return fmt.Errorf("%s holds %d files, at most %d", path, len(entries), maxFiles)
	}
	for _, e := range entries {
		if e.Type()&fs.ModeType == 0 {
			if err := b.addFile(filepath.Join(path, e.Name()), false); err != nil {
				return err
			}
		}
	}
	b.AddStore(collateral.Open(path))
	return nil
}

// AddStore adds what is kept in a store.
func (b *Beside) AddStore(s *collateral.Store) { b.store = append(b.store, s) }

func (b *Beside) addFile(path string, must bool) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > MaxFile {
		if must {
			return fmt.Errorf("%s has more than %d bytes", path, MaxFile)
		}
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if known := b.add(data); !known && must {
		return fmt.Errorf("%s is neither a certificate, nor a revocation list, Intel's collateral, or an event log of a TD", path)
	}
	return nil
}

// add keeps data if it is of a known form.
func (b *Beside) add(data []byte) bool {
	if c, err := intel.ParseCollateral(data); err == nil {
		b.intel = append(b.intel, c.Marshal())
		return true
	}
	if tdx.IsEventLog(data) {
		b.logs = append(b.logs, data)
		return true
	}
	if list, err := crl.Parse(data); err == nil {
		b.CRLs = append(b.CRLs, list)
		return true
	}
	switch len(data) {
	case csv.RootSize + csv.CEKSize:
		b.hygon = append(b.hygon, data[:csv.RootSize], data[csv.RootSize:])
		return true
	case csv.RootSize, csv.CEKSize:
		b.hygon = append(b.hygon, data)
		return true
	}
	return b.addCertificates(data)
}

func (b *Beside) addCertificates(data []byte) bool {
	var ders [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			ders = append(ders, block.Bytes)
		}
	}
	if len(ders) == 0 {
		ders = [][]byte{data}
	}
	for _, der := range ders {
		cert, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			return false
		case bytes.Equal(cert.RawIssuer, cert.RawSubject): // a root is an anchor, or it is nothing
		case cert.IsCA:
			b.certs = append(b.certs, der)
		default:
			b.certs = append([][]byte{der}, b.certs...)
		}
	}
	return true
}

// Find implements [evidence.Endorsements].
func (b *Beside) Find(kind, key string) [][]byte {
	var out [][]byte
	for _, s := range b.store {
		out = append(out, s.Find(kind, key)...)
	}
	switch kind {
	case intel.EndorsementKind(intel.SGX), intel.EndorsementKind(intel.TDX):
		out = append(out, b.intel...)
	case csv.KindChain:
		if chain := b.chainCSV(); len(chain) == 2 {
			out = append(out, bytes.Join(chain, nil))
		}
	}
	return out
}

// RevocationLists implements [evidence.RevocationLists].
func (b *Beside) RevocationLists() []*x509.RevocationList {
	lists := slices.Clone(b.CRLs)
	for _, s := range b.store {
		lists = append(lists, s.RevocationLists()...)
	}
	return lists
}

// chainCSV returns HSK and CEK; the root lies beside them in some folders, and does not belong there.
func (b *Beside) chainCSV() [][]byte {
	var chain [][]byte
	for _, c := range b.hygon {
		if len(c) == csv.RootSize && len(chain) == 0 {
			if _, err := csv.ParseRoot(c); err != nil {
				chain = append(chain, c)
			}
		}
	}
	for _, c := range b.hygon {
		if len(c) == csv.CEKSize && len(chain) == 1 {
			chain = append(chain, c)
		}
	}
	return chain
}

// Complete gives Evidence what lies beside it and belongs to its form.
func (b *Beside) Complete(e evidence.HardwareEvidence) evidence.HardwareEvidence {
	switch e.MediaType {
	case csv.MediaType, optee.MediaType:
	case sgx.MediaType, tdx.MediaType:
		e.Collateral = append(e.Collateral, b.intel...)
		if e.MediaType == tdx.MediaType {
			e.Collateral = append(e.Collateral, b.logs...)
		}
	case snp.MediaType:
		e.Collateral = append(e.Collateral, b.certsSNP(e.Data)...)
	case tsm.MediaType:
		if w, err := tsm.Parse(e.Data); err == nil && w.Provider == tsm.ProviderSNP {
			if len(w.AuxBlob) == 0 {
				e.Collateral = append(e.Collateral, b.certsSNP(w.OutBlob)...)
			}
			break
		}
		e.Collateral = append(append(append(e.Collateral, b.intel...), b.logs...), b.certs...)
	default:
		e.Collateral = append(e.Collateral, b.certs...)
	}
	return e
}

// certsSNP returns the certificates of VCEKs and VLEKs, that which is for this report first. Others follow, because a host can
// hide which chip a report is of.
func (b *Beside) certsSNP(report []byte) (certs [][]byte) {
	r, err := snp.Parse(report)
	if err != nil {
		return nil
	}
	for _, der := range b.certs {
		_, key, _, err := snp.IdentifyEndorsement(der)
		product, _, _ := strings.Cut(key, "/")
		switch {
		case err != nil:
		case key == snp.EndorsementKey(snp.Product(product), r):
			certs = append([][]byte{der}, certs...)
		default:
			certs = append(certs, der)
		}
	}
	return certs
}

// Recorded returns what to verify: the bundle, or the hardware's Evidence with what lies beside it and belongs to its form.
// nonce is what to compare with, nil for nothing: see [appraisal.Recorded].
func (x *Exhibit) Recorded(b *Beside, nonce []byte) *appraisal.Recorded {
	if x.Bundle != nil {
		return &appraisal.Recorded{Bundle: x.Bundle, Nonce: nonce}
	}
	return &appraisal.Recorded{Hardware: b.Complete(x.Hardware), Nonce: nonce}
}

// Input returns what a verifier relies on.
func Input(anchors []evidence.Anchor, b *Beside, now time.Time) evidence.Input {
	return evidence.Input{Anchors: evidence.Anchors{Roots: anchors}, Now: now, Verifiers: all.New(), Endorsements: b}
}

// VendorAnchors returns the roots that this program knows: AMD's and Intel's. A policy still has to name them.
func VendorAnchors() ([]evidence.Anchor, error) {
	anchors, err := snp.VendorAnchors()
	if err != nil {
		return nil, err
	}
	return append(anchors, intel.VendorAnchor(evidence.SGX), intel.VendorAnchor(evidence.TDX)), nil
}

// parseJWK reads the public key of a device as a JWK (RFC 7517), in which the CPAKs of CCA are published.
func parseJWK(data []byte) (evidence.Anchor, error) {
	var j struct{ Kty, Crv, X, Y, D string }
	if err := json.Unmarshal(data, &j); err != nil {
		return evidence.Anchor{}, err
	}
	curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384()}[j.Crv]
	if j.Kty != "EC" || curve == nil || j.D != "" {
		return evidence.Anchor{}, errors.New("no public EC key on P-256 or P-384")
	}
	point := []byte{4} // uncompressed
	for _, c := range []string{j.X, j.Y} {
		b, err := base64.RawURLEncoding.DecodeString(c)
		if err != nil {
			return evidence.Anchor{}, err
		}
		point = append(point, b...)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return evidence.Anchor{}, err
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return evidence.Anchor{}, err
	}
	return evidence.ParseAnchorPEM(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// ReadAnchor reads a trust anchor from a file: PEM as [evidence.ParseAnchorPEM] has it, a certificate in DER, the public key of a
// device as a JWK, or Hygon's root.
func ReadAnchor(path string) (evidence.Anchor, error) {
	info, err := os.Stat(path)
	if err != nil {
		return evidence.Anchor{}, err
	}
	if info.Size() > MaxFile {
		return evidence.Anchor{}, fmt.Errorf("%s has more than %d bytes", path, MaxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return evidence.Anchor{}, err
	}
	if len(data) == csv.RootSize {
		root, err := csv.ParseRoot(data)
		if err != nil {
			return evidence.Anchor{}, fmt.Errorf("%s: %w", path, err)
		}
		return root.Anchor(), nil
	}
	if key, err := parseJWK(data); err == nil {
		return key, nil
	}
	if cert, err := x509.ParseCertificate(data); err == nil {
		data = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	}
	a, err := evidence.ParseAnchorPEM(data)
	if err != nil {
		return evidence.Anchor{}, fmt.Errorf("%s: %w", path, err)
	}
	return a, nil
}
