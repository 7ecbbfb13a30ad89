// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"sealift/evidence"
	"sealift/internal/sharedtest"
)

// TestForeignQE guards against an enclave of the platform's ruler in the place of Intel's quoting enclave: the PCK vouches
// for the key of either. Also where no collateral says who the quoting enclave has to be, such a quote is refused.
func TestForeignQE(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*EnclaveReport)
		want   []string
	}{
		"as it is": {func(*EnclaveReport) {}, nil},
		"newer":    {func(r *EnclaveReport) { r.ISVSVN++; r.MREnclave[0]++ }, nil},
		"signer":   {func(r *EnclaveReport) { r.MRSigner[0]++ }, []string{"MRSIGNER of the QE"}},
		"product":  {func(r *EnclaveReport) { r.ISVProdID++ }, []string{"ISVPRODID of the QE"}},
		"debug":    {func(r *EnclaveReport) { r.Attributes[0] |= AttributeDebug }, []string{"ATTRIBUTES of the QE"}},
		"everything": {func(r *EnclaveReport) { *r = EnclaveReport{Attributes: [16]byte{AttributeDebug}} },
			[]string{"MRSIGNER of the QE", "ISVPRODID of the QE", "ATTRIBUTES of the QE"}},
	} {
		for _, tee := range []TEE{SGX, TDX} {
			p := platform(t, nil)
			report := QE(tee)
			c.change(&report)
			if err := p.SetQE(rand.Reader, tee, report); err != nil {
				t.Fatal(err)
			}
			_, err := verify(t, p, tee)
			var got []string
			for _, m := range evidence.Mismatches(err) {
				got = append(got, m.Claim)
			}
			if !slices.Equal(got, c.want) || err != nil && !errors.Is(err, ErrQEReport) {
				t.Errorf("%s, %v: got %v, want %v: %v", name, tee, got, c.want, err)
			}
		}
	}
}

// TestOtherTEEsQE wants a quote of SGX refused that the quoting enclave of TDX signed, and the reverse.
func TestOtherTEEsQE(t *testing.T) {
	p := platform(t, nil)
	for tee, td := range map[TEE]*TDXPlatform{SGX: &tdx, TDX: nil} {
		s, err := p.Sign(rand.Reader, tee, []byte("quote"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewCache(1).Verify([]byte("quote"), s, td, Input{Roots: []*x509.Certificate{emulated().Root}, Now: now})
		if !errors.Is(err, ErrQEReport) {
			t.Errorf("signed by the QE of %v: %v", tee, err)
		}
	}
}

// TestQuotingEnclaves compares what is built in with Intel's signed identities.
func TestQuotingEnclaves(t *testing.T) {
	for tee, file := range map[TEE]string{SGX: "sgx/phala_sgx.collateral.json", TDX: "tdx/phala_tdx_quote.collateral.json"} {
		c, err := ParseCollateral(sharedtest.Read(t, "evidence", file))
		if err != nil {
			t.Fatal(err)
		}
		v, err := c.Verify(VendorRoot(), realTime)
		if err != nil {
			t.Fatal(err)
		}
		if got := (qe{hex.EncodeToString(v.QEIdentity().MRSigner), v.QEIdentity().ISVProdID}); got != quotingEnclaves[tee] {
			t.Errorf("%v: Intel says %v", tee, got)
		}
	}
}
