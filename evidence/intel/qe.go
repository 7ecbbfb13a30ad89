// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"encoding/hex"
	"fmt"

	"sealift/evidence"
)

// qe is who a quoting enclave has to be.
type qe struct {
	signer  string // MRSIGNER in hexadecimal
	product uint16 // ISVPRODID
}

// quotingEnclaves are Intel's, as its signed identities of them have said since they exist.
var quotingEnclaves = map[TEE]qe{
	SGX: {"8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff", 1},
	TDX: {"dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5", 2},
}

// checkQE checks, where there is no collateral with the identity of the quoting enclave, that it is one of Intel's. The PCK
// vouches for the key of any enclave that has the provisioning key, and whoever is root on a platform can give that to an
// enclave of his own. Such an enclave can sign whatever it likes; a genuine processor alone proves nothing of a quote.
func (r *EnclaveReport) checkQE(t TEE, emulated bool) error {
	const source = "the quoting enclaves that this verifier knows, as there is no collateral"
	want := quotingEnclaves[t]
	if emulated {
		own := QE(t)
		want = qe{hex.EncodeToString(own.MRSigner[:]), own.ISVProdID}
	}
	var all []error
	differ := func(claim, want, got string) {
		p := problem(evidence.CodeCertificate, ErrQEReport, claim+" of the QE", want, got, source)
		p.Hint = "another enclave than Intel's signed this quote: anybody who rules a platform can run one"
		all = append(all, p)
	}
	if signer := hex.EncodeToString(r.MRSigner[:]); signer != want.signer {
		differ("MRSIGNER", want.signer, signer)
	}
	if r.ISVProdID != want.product {
		differ("ISVPRODID", fmt.Sprint(want.product), fmt.Sprint(r.ISVProdID))
	}
	if r.Debug() {
		differ("ATTRIBUTES", "without DEBUG", hex.EncodeToString(r.Attributes[:]))
	}
	return join(all...)
}
