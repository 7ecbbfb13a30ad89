// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"

	"sealift/evidence"
	"sealift/evidence/all"
	"sealift/evidence/tpm"
)

// kindQuote is the kind of a TPM's quote by itself.
const kindQuote = "quote of a TPM"

// quote shows a TPM's quote. name is that of the key which a bundle's claims name, and reportData what its hardware signed; both nil
// for a quote by itself, in which the key and the nonce are taken as they stand there.
func (f *File) quote(q *tpm.Quote, name, reportData []byte) {
	c := Check{What: kindQuote, Key: fmt.Sprintf("%x", tpm.Name(q.Public))}
	key, nonce := tpm.Name(q.Public), [32]byte{}
	copy(nonce[:], q.NonceInsecure())
	detail := "signature, registers and event log; nothing here vouches for the key"
	if len(name) == tpm.NameSize {
		key, nonce = [tpm.NameSize]byte(name), tpm.Nonce(reportData)
		detail = "signature, registers and event log, by the key that the claims name, for the binding in the hardware's Evidence; who vouches for that is not checked here"
	}
	v, err := q.Verify(key, nonce)
	if err != nil {
		c.State, c.Detail = Refused, err.Error()
		f.Checks = append(f.Checks, c)
		return
	}
	c.State, c.Detail = Verified, detail
	f.Checks = append(f.Checks, c)
	f.Facts = append(f.Facts, fmt.Sprintf("TPM: nonce %x, resets %d, restarts %d, clock %d ms", nonce, v.Resets, v.Restarts, v.Clock))
	for _, m := range v.Boot {
		f.Facts = append(f.Facts, fmt.Sprintf("measurement %s %x (PCR%d)", m.Name, m.Digest, m.PCR))
	}
	for _, r := range tpm.Registers() {
		f.Facts = append(f.Facts, fmt.Sprintf("PCR%d %x", r, v.PCRs[r]))
	}
	for i, e := range v.Events {
		f.Facts = append(f.Facts, fmt.Sprintf("event %d: PCR%d %s, %d bytes of data", i+1, e.Register, e.Type, len(e.Data)))
	}
}

// bundleQuote shows the quote in a bundle, beside the hardware's Evidence.
func (f *File) bundleQuote(b *evidence.Bundle, c *evidence.Claims) {
	q, err := tpm.Parse(b.Quote)
	if err != nil {
		f.Checks = append(f.Checks, Check{What: kindQuote, State: Refused, Detail: err.Error()})
		return
	}
	e := evidence.HardwareEvidence{Data: b.Hardware, MediaType: b.HardwareType, Collateral: b.Collateral}
	read := evidence.ReadInsecure(nil, e, evidence.Input{Verifiers: all.New()})
	if read == nil || len(c.QuoteKey) != tpm.NameSize {
		f.quote(q, nil, nil)
		return
	}
	f.quote(q, c.QuoteKey, read.ReportData)
}
