// SPDX-License-Identifier: Apache-2.0

// Package crl checks certificate chains of hardware vendors against certificate revocation lists (RFC 5280 section 5
// and 6.3) that the caller has: files of the operator, or answers of a vendor's service that were kept. Nothing is
// fetched.
//
// Lists need not be trusted. A list counts only if the certificate that issued the certificate in question signed it, so
// that whoever controls the store can withhold a list and cannot forge one. What was withheld shows: every certificate
// for which no list counts is named in [Result.Unchecked], and the caller decides whether that is acceptable.
//
// Where no list that counts is in force at the time asked for, that is reported, and the revocations in the others still
// hold: a certificate that was revoked does not become good again. Lists that are in force only later count with the
// revocations that had taken effect by the time asked for.
//
// Complete lists of the issuer itself are supported. Delta lists, indirect lists, and lists whose scope a critical
// extension restricts are not, and never count (RFC 5280 section 5.2).
package crl

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Errors of this package; an error of [Checker.Check] may join several.
var (
	ErrMalformed = errors.New("crl: malformed revocation list")
	ErrRevoked   = errors.New("crl: certificate is revoked")
	ErrStale     = errors.New("crl: revocation list is out of date")
)

// Bounds. A vendor's list for a product has some hundred entries; Intel's has the most, below 64 kB.
const (
	MaxSize   = 4 << 20
	maxCached = 256
)

// Parse reads one list in PEM (X509 CRL) or DER. It is not verified.
func Parse(data []byte) (*x509.RevocationList, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(data), MaxSize)
	}
	if block, rest := pem.Decode(data); block != nil {
		if block.Type != "X509 CRL" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, fmt.Errorf("%w: want one PEM block X509 CRL", ErrMalformed)
		}
		data = block.Bytes
	}
	list, err := x509.ParseRevocationList(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if list.NextUpdate.IsZero() {
		return nil, fmt.Errorf("%w: no nextUpdate (RFC 5280 section 5.1.2.5)", ErrMalformed)
	}
	return list, nil
}

// Result is what a check found beside errors.
type Result struct {
	Unchecked []Unchecked // certificates for which no list counts
	Until     time.Time   // when the first of the lists that count has to be replaced; zero without such a list
	UntilWhat string      // which that is
}

// Unchecked is a certificate whose revocation nobody can tell.
type Unchecked struct {
	Subject string
	Why     string
}

// Checker checks chains. It remembers which lists it has verified, by SHA-256, so that a list costs its signature once.
// The zero value is ready; it is safe for concurrent use.
type Checker struct {
	mu       sync.Mutex
	verified map[[sha256.Size]byte]error
}

// Check checks every certificate of a verified chain, leaf first and root last, against the lists of its issuer. The root
// itself is not checked: whoever trusts it decides on it by itself. The error joins everything that was found.
func (c *Checker) Check(chain []*x509.Certificate, lists []*x509.RevocationList, now time.Time) (Result, error) {
	var r Result
	var all []error
	for i := 0; i+1 < len(chain); i++ {
		cert, issuer := chain[i], chain[i+1]
		counting, why := c.counting(lists, issuer)
		if len(counting) == 0 {
			r.Unchecked = append(r.Unchecked, Unchecked{Subject: cert.Subject.String(), Why: why})
			continue
		}
		newest := counting[0]
		for _, list := range counting {
			all = append(all, revoked(cert, list, now)...)
			if !now.Before(list.ThisUpdate) && list.NextUpdate.After(newest.NextUpdate) || now.Before(newest.ThisUpdate) {
				newest = list
			}
		}
		if err := outOfDate(newest, now); err != nil {
			all = append(all, err)
		}
		if r.Until.IsZero() || newest.NextUpdate.Before(r.Until) {
			r.Until, r.UntilWhat = newest.NextUpdate, name(newest)
		}
	}
	return r, errors.Join(all...)
}

// counting returns the lists that count for certificates of the issuer, and if there are none, why.
func (c *Checker) counting(lists []*x509.RevocationList, issuer *x509.Certificate) (out []*x509.RevocationList, why string) {
	why = fmt.Sprintf("no list of %q", issuer.Subject)
	for _, list := range lists {
		if !bytes.Equal(list.RawIssuer, issuer.RawSubject) {
			continue
		}
		if err := c.counts(list, issuer); err != nil {
			why = err.Error()
			continue
		}
		out = append(out, list)
	}
	return out, why
}

// counts reports whether the list may be used: the issuer signed it, and it has no critical extension.
func (c *Checker) counts(list *x509.RevocationList, issuer *x509.Certificate) error {
	h := sha256.New()
	for _, part := range [][]byte{list.Raw, issuer.Raw} {
		sum := sha256.Sum256(part)
		h.Write(sum[:])
	}
	key := [sha256.Size]byte(h.Sum(nil))
	c.mu.Lock()
	err, known := c.verified[key]
	c.mu.Unlock()
	if known {
		return err
	}
	err = verify(list, issuer)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.verified == nil || len(c.verified) >= maxCached {
		c.verified = map[[sha256.Size]byte]error{}
	}
	c.verified[key] = err
	return err
}

// Extensions that may be critical. All others say something about the list that this package does not know.
var oidNumber = asn1.ObjectIdentifier{2, 5, 29, 20}

func verify(list *x509.RevocationList, issuer *x509.Certificate) error {
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("%s is not signed by %q: %w", name(list), issuer.Subject, err)
	}
	for _, x := range list.Extensions {
		if x.Critical && !x.Id.Equal(oidNumber) {
			return fmt.Errorf("%s has the critical extension %v, so it is no complete list of its issuer", name(list), x.Id)
		}
	}
	for _, e := range list.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Critical {
				return fmt.Errorf("%s has an entry with the critical extension %v", name(list), x.Id)
			}
		}
	}
	return nil
}

// revoked looks for the certificate in one list that counts.
func revoked(cert *x509.Certificate, list *x509.RevocationList, now time.Time) (all []error) {
	for _, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(cert.SerialNumber) == 0 && !e.RevocationTime.After(now) {
			all = append(all, fmt.Errorf("%w: %q, serial number %x, since %s, says %s", ErrRevoked, cert.Subject, cert.SerialNumber,
				e.RevocationTime.UTC().Format(time.RFC3339), name(list)))
		}
	}
	return all
}

func outOfDate(list *x509.RevocationList, now time.Time) error {
	if !now.Before(list.ThisUpdate) && !now.After(list.NextUpdate) {
		return nil
	}
	return fmt.Errorf("%w: %s is in force from %s to %s, not at %s", ErrStale, name(list), list.ThisUpdate.UTC().Format(time.RFC3339),
		list.NextUpdate.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
}

func name(list *x509.RevocationList) string {
	if list.Number == nil {
		return fmt.Sprintf("the revocation list of %q of %s", list.Issuer, list.ThisUpdate.UTC().Format(time.DateOnly))
	}
	return fmt.Sprintf("revocation list %v of %q of %s", list.Number, list.Issuer, list.ThisUpdate.UTC().Format(time.DateOnly))
}
