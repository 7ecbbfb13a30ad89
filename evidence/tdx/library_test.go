// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/verify"
	"github.com/google/logger"

	"sealift/evidence/intel"
)

// played answers as Intel's service does, from one piece of collateral.
type played struct{ c *intel.Collateral }

// Get implements the library's interface.
func (p played) Get(address string) (map[string][]string, []byte, error) {
	chain := func(header string, certs [][]byte) map[string][]string {
		var out []byte
		for _, der := range certs {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		return map[string][]string{header: {url.QueryEscape(string(out))}}
	}
	document := func(name string, body []byte, signature [64]byte) []byte {
		return fmt.Appendf(nil, `{"%s":%s,"signature":"%s"}`, name, body, hex.EncodeToString(signature[:]))
	}
	switch {
	case strings.Contains(address, "/tcb?"):
		return chain("Tcb-Info-Issuer-Chain", p.c.TCBInfoChain), document("tcbInfo", p.c.TCBInfo, p.c.TCBInfoSignature), nil
	case strings.HasSuffix(address, "/qe/identity"):
		return chain("Sgx-Enclave-Identity-Issuer-Chain", p.c.QEIdentityChain),
			document("enclaveIdentity", p.c.QEIdentity, p.c.QEIdentitySignature), nil
	case strings.Contains(address, "/pckcrl?"):
		return chain("Sgx-Pck-Crl-Issuer-Chain", p.c.PCKCRLChain), p.c.PCKCRL, nil
	}
	return nil, p.c.RootCRL, nil
}

// library verifies a quote with go-tdx-guest.
func library(t testing.TB, quote, collateral []byte, root *x509.Certificate, at time.Time) error {
	t.Helper()
	logger.Init("", false, false, io.Discard) // it writes to the standard output else
	c, err := intel.ParseCollateral(collateral)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	return verify.RawTdxQuote(quote, &verify.Options{CheckRevocations: true, GetCollateral: true, Getter: played{c}, TrustedRoots: roots,
		Now: &verify.TimeSet{PckCertChain: at, TcbInfo: at, QeIdentity: at, PckCrl: at, RootCaCrl: at}})
}

// TestLibraryIgnoresThePlatform guards the hole of go-tdx-guest for which this package does not lean on it: with a TDX
// module that has an identity of its own, it takes the module's status for the platform's. The test fails where our
// convergence leaves the platform out, and tells when the library is mended.
func TestLibraryIgnoresThePlatform(t *testing.T) {
	pki := emulated()
	d := device(t, pki, nil)
	quote := mint(t, d, nil)
	for _, status := range intel.AllTCBStatuses() {
		if status == intel.TDRelaunchAdvised || status == intel.TDRelaunchAdvisedConfigurationNeeded {
			continue // found by verifiers, and not in collateral
		}
		with := collateral(t, pki, d, func(s *intel.CollateralSpec) {
			s.TCBInfo.Levels[0].Status = status
			s.TCBInfo.Levels[0].Advisories = []string{"INTEL-SA-00001"}
		})
		if err := library(t, quote, with[0], pki.Root, now); err != nil {
			t.Errorf("platform %s: the library refuses what it used to accept: %v", status, err)
		}
		v, err := Verify(quote, with, now, pki.Root)
		if err != nil {
			t.Fatal(err)
		}
		if v.TCB.Status != status || v.TCB.Platform.Status != status || v.TCB.Module.Status != intel.UpToDate ||
			len(v.TCB.Advisories) != 1 {
			t.Errorf("platform %s gives %+v", status, v.TCB)
		}
	}
}

// TestLibraryAgrees compares both where they should agree: what is up to date, and what is refused.
func TestLibraryAgrees(t *testing.T) {
	pki := emulated()
	d := device(t, pki, nil)
	good := collateral(t, pki, d, nil)
	quote := mint(t, d, nil)
	altered := append([]byte(nil), quote...)
	altered[200] ^= 1
	for name, c := range map[string]struct {
		quote []byte
		with  [][]byte
		at    time.Time
	}{
		"good":            {quote, good, now},
		"a TD report 1.5": {mint(t, d, func(r *Report) { r.Extended, r.TEETCBSVN2 = true, emulatedSVN }), good, now},
		"altered":         {altered, good, now},
		"expired":         {quote, good, now.AddDate(0, 2, 0)},
		"PCK revoked": {quote, collateral(t, pki, d, func(s *intel.CollateralSpec) {
			s.RevokedPCKs = []*x509.Certificate{d.platform.PCK.Cert}
		}), now},
		"CA revoked":    {quote, collateral(t, pki, d, func(s *intel.CollateralSpec) { s.RevokedCAs = []*x509.Certificate{pki.Platform} }), now},
		"another FMSPC": {quote, collateral(t, pki, d, func(s *intel.CollateralSpec) { s.TCBInfo.FMSPC = []byte{1, 2, 3, 4, 5, 6} }), now},
		"another QE":    {quote, collateral(t, pki, d, func(s *intel.CollateralSpec) { s.QEIdentity.MRSigner = make([]byte, 32) }), now},
		"no level":      {quote, collateral(t, pki, d, func(s *intel.CollateralSpec) { s.TCBInfo.Levels[0].TCB.SGX[0].SVN++ }), now},
	} {
		_, err := Verify(c.quote, c.with, c.at, pki.Root)
		theirs := library(t, c.quote, c.with[0], pki.Root, c.at)
		if (err == nil) != (theirs == nil) {
			t.Errorf("%s: we say %v, the library %v", name, err, theirs)
		}
	}
	real := shared(t, "phala_tdx_quote.bin")
	if err := library(t, real, shared(t, "phala_tdx_quote.collateral.json"), intel.VendorRoot(), realTime); err != nil {
		t.Errorf("the real quote: %v", err)
	}
}
