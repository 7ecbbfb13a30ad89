// SPDX-License-Identifier: Apache-2.0

package csv

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/emmansun/gmsm/sm3"

	"sealift/evidence"
)

// Root is a trusted Hygon root key (HRK).
type Root struct{ cert *certificate }

// ParseRoot reads the certificate of an HRK, which must be signed by itself.
func ParseRoot(data []byte) (*Root, error) {
	c, err := parseCA(bytes.Clone(data), usageHRK)
	if err != nil {
		return nil, err
	}
	if err := c.issued(c); err != nil || c.keyID != c.issuer {
		return nil, fmt.Errorf("%w: the certificate is not self-signed", ErrNoRoot)
	}
	return &Root{c}, nil
}

// Fingerprint is the SHA-256 of the certificate.
func (r *Root) Fingerprint() [32]byte { return sha256.Sum256(r.cert.raw) }

// Name is the root's user id.
func (r *Root) Name() string { return string(r.cert.uid) }

// Emulated reports whether the root is an emulator's, which its user id says.
func (r *Root) Emulated() bool { return strings.Contains(r.Name(), evidence.EmulatedMark) }

// Raw returns the certificate.
func (r *Root) Raw() []byte { return bytes.Clone(r.cert.raw) }

// Verified is a report whose signature and chain were checked.
type Verified struct {
	Report *Report
	Chip   [32]byte // identity of the chip: SHA-256 of its CEK's certificate
	Root   *Root
	Time   time.Time // when it was verified; the format has no times of its own
}

// Emulated reports whether an emulator's root vouches for the report.
func (v *Verified) Emulated() bool { return v.Root.Emulated() }

// Measurements returns what was measured of the guest: "MEASURE", and "RTMR0" to "RTMR4" of a version 2 report.
func (v *Verified) Measurements() []evidence.Measurement {
	const source = "CSV report"
	out := []evidence.Measurement{{Name: "MEASURE", Value: v.Report.Measure[:], Source: source}}
	if v.Report.Version == 2 {
		for i := range v.Report.RTMR {
			out = append(out, evidence.Measurement{Name: fmt.Sprintf("RTMR%d", i), Value: v.Report.RTMR[i][:], Source: source})
		}
	}
	return out
}

// Verify parses and verifies a report in one go: see [Message.Verify].
func Verify(report []byte, certs [][]byte, now time.Time, roots ...*Root) (*Verified, error) {
	m, err := Parse(report)
	if err != nil {
		return nil, err
	}
	return m.Verify(certs, now, roots...)
}

// Verify checks the chain from a root over HSK, CEK and PEK, the report's signature, and the MAC. certs are the
// certificates of HSK and CEK, apart or in one piece as the vendor's server gives them; they may come with the Evidence,
// the root never does. now is recorded only. The error joins everything that was found.
func (m *Message) Verify(certs [][]byte, now time.Time, roots ...*Root) (*Verified, error) {
	var signature, chipErr error
	if !m.pek.verify(m.signed, &m.signature) {
		signature = ErrSignature
	}
	hsk, cek, err := parseChain(certs)
	if err != nil {
		return nil, errors.Join(err, signature, m.checkMAC())
	}
	if err := cek.issued(hsk); err != nil || cek.issuer != hsk.keyID {
		chipErr = fmt.Errorf("%w: the CEK's certificate is not signed by the HSK", ErrChain)
	}
	root, rootErr := findRoot(hsk, roots)
	if err := errors.Join(rootErr, chipErr, m.pek.issued(cek), signature, m.checkMAC()); err != nil {
		return nil, err
	}
	return &Verified{Report: &m.report, Chip: sha256.Sum256(cek.raw), Root: root, Time: now}, nil
}

func parseChain(certs [][]byte) (hsk, cek *certificate, err error) {
	both := bytes.Join(certs, nil)
	if len(both) != RootSize+CEKSize {
		return nil, nil, fmt.Errorf("%w: want the certificates of HSK and CEK, %d bytes, got %d", ErrCertificate, RootSize+CEKSize, len(both))
	}
	if hsk, err = parseCA(both[:RootSize], usageHSK); err != nil {
		return nil, nil, err
	}
	if cek, err = parseCSV(both[RootSize:], usageCEK); err != nil {
		return nil, nil, err
	}
	if last := cek.slots[1]; cek.slots[0].Usage != usageHSK || last.Usage != usageNone {
		return nil, nil, fmt.Errorf("%w: a CEK's certificate has one signature, the HSK's", ErrCertificate)
	}
	return hsk, cek, nil
}

func findRoot(hsk *certificate, roots []*Root) (*Root, error) {
	if len(roots) == 0 {
		return nil, ErrNoRoot
	}
	for _, r := range roots {
		if hsk.issuer == r.cert.keyID && hsk.issued(r.cert) == nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("%w: the HSK's certificate names issuer %x and is signed by none of %d trusted roots", ErrChain, hsk.issuer, len(roots))
}

// checkMAC checks that the signer's block is undamaged.
func (m *Message) checkMAC() error {
	if got := m.mac(); !hmac.Equal(got, m.signer.MAC[:]) {
		return ErrMAC
	}
	return nil
}

func (m *Message) mac() []byte {
	h := hmac.New(sm3.New, m.report.MNonce[:])
	h.Write(m.signer.PEK[:])
	h.Write(m.signer.Serial[:])
	h.Write(m.signer.Reserved[:])
	return h.Sum(nil)
}
