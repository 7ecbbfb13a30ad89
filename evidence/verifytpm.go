// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"sealift/evidence/tpm"
)

// FieldsTPM begins the names of the fields that a TPM's quote gives: "tpm.pcr0" and so on, each register in hexadecimal, and
// "tpm.clock", "tpm.clock-safe", "tpm.resets", "tpm.restarts", "tpm.firmware".
const FieldsTPM = "tpm."

// checkQuote verifies what the TEE's TPM quoted (package tpm) by the key that the claims name, for the binding that the hardware
// signed. What was booted becomes measurements beside the hardware's own. A claim without a quote, or a quote without a claim, is a
// mismatch: who carries Evidence can neither take one out nor put one in.
func checkQuote(b *Bundle, c *Claims, hw *signed, f *findings) {
	const source = "the claims record, which the hardware signed"
	switch {
	case len(b.Quote) == 0 && len(c.QuoteKey) == 0:
		return
	case len(b.Quote) == 0:
		f.add(Mismatch{Code: CodeBinding, Claim: "quote of the TPM", Expected: "one by the key " + text(c.QuoteKey), Got: "none", Source: source,
			Hint: "the quote was taken out on the way"})
		return
	case len(c.QuoteKey) == 0:
		f.add(Mismatch{Code: CodeBinding, Claim: "quote of the TPM", Expected: "none", Got: "a quote by a key that nobody vouches for", Source: source,
			Hint: "the quote was put in on the way"})
		return
	}
	q, err := tpm.Parse(b.Quote)
	if err != nil {
		f.malformed("quote of the TPM", "the array of "+tpm.MediaType, err)
		return
	}
	v, err := q.Verify([tpm.NameSize]byte(c.QuoteKey), tpm.Nonce(hw.ReportData))
	if err != nil {
		f.quote(err, source)
		return
	}
	hw.Measurements = slices.Clone(hw.Measurements)
	for _, m := range v.Boot {
		hw.Measurements = append(hw.Measurements, Measurement{Name: m.Name, Value: m.Digest[:], Source: fmt.Sprintf("TPM quote, PCR%d", m.PCR)})
	}
	hw.Fields = maps.Clone(hw.Fields)
	if hw.Fields == nil {
		hw.Fields = map[string]any{}
	}
	maps.Copy(hw.Fields, quoteFields(v))
}

func quoteFields(v *tpm.Verified) map[string]any {
	fields := map[string]any{FieldsTPM + "clock": v.Clock, FieldsTPM + "clock-safe": v.Safe, FieldsTPM + "resets": uint64(v.Resets),
		FieldsTPM + "restarts": uint64(v.Restarts), FieldsTPM + "firmware": v.Firmware}
	for n, value := range v.PCRs {
		fields[fmt.Sprintf("%spcr%d", FieldsTPM, n)] = hex.EncodeToString(value[:])
	}
	return fields
}

// quote adds what is wrong with a quote.
func (f *findings) quote(err error, source string) {
	for _, one := range unjoin(err) {
		var fault *tpm.Fault
		if !errors.As(one, &fault) {
			f.malformed("quote of the TPM", "an authentic one", one)
			continue
		}
		m := Mismatch{Code: CodeBinding, Claim: fault.Claim, Expected: fault.Expected, Got: fault.Got, Source: source, Err: one}
		switch {
		case errors.Is(one, tpm.ErrMalformed), errors.Is(one, tpm.ErrKey):
			m.Code, m.Source = CodeMalformed, "the format"
		case errors.Is(one, tpm.ErrSignature):
			m.Code, m.Hint = CodeSignature, "the quote was changed on the way, or another TPM made it"
		case errors.Is(one, tpm.ErrNonce):
			m.Code, m.Source, m.Hint = CodeNonce, "the binding that the hardware signed", "the quote was made for other Evidence: it is a replay"
		case errors.Is(one, tpm.ErrPCR), errors.Is(one, tpm.ErrLog):
			m.Source, m.Hint = "the quote", "the event log or the values of the registers are of another boot, were changed, or lack events"
		}
		f.add(m)
	}
}

func unjoin(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}
