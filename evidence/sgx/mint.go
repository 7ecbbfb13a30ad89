// SPDX-License-Identifier: Apache-2.0

package sgx

import (
	"io"

	"sealift/evidence/intel"
)

// Device is an emulated machine with SGX: it makes quotes of the same format, under an emulated Intel ([intel.PKI]).
type Device struct {
	Platform *intel.Platform
}

// xfrmUsual allows x87, SSE, AVX and AVX-512, as enclaves on servers do.
const xfrmUsual = 0xe7

// NewReport returns the report of a release enclave with key separation and sharing, which [Device.Mint] would sign. The
// caller changes what it wants different.
func (d *Device) NewReport(reportData [64]byte, mrEnclave, mrSigner, config [32]byte) *Report {
	return &Report{CPUSVN: d.Platform.PCK.CPUSVN, Attributes: AttrInit | AttrMode64 | AttrKSS, XFRM: xfrmUsual, MREnclave: mrEnclave,
		MRSigner: mrSigner, ConfigID: ConfigID(config), ISVProdID: 1, ISVSVN: 1, ReportData: reportData}
}

// Mint signs a report as the platform's quoting enclave does and returns the quote's bytes.
func (d *Device) Mint(rand io.Reader, r *Report) ([]byte, error) {
	q := &Quote{Header: Header{QESVN: intel.QE(intel.SGX).ISVSVN, PCESVN: d.Platform.PCK.PCESVN}, Report: *r}
	var err error
	if q.Signature, err = d.Platform.Sign(rand, intel.SGX, q.signedPart()); err != nil {
		return nil, err
	}
	return q.Marshal(), nil
}
