// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"sealift/evidence/eventlog"
)

// Verified is a quote that is authentic: signed by the expected attestation key, for the expected challenge, and explained by its
// event log. Only [Quote.Verify] makes one.
type Verified struct {
	Key      crypto.PublicKey // of the attestation key
	PCRs     map[uint][32]byte
	Events   []eventlog.Event // the digests are those of the boot; types and data are not signed
	Boot     []Measurement    // see Measurements
	Clock    uint64           // milliseconds that the TPM has been powered since it was cleared
	Resets   uint32           // since it was cleared
	Restarts uint32           // since the last reset
	Safe     bool             // Clock never went back
	Firmware uint64           // the TPM's own version, of its maker's choice
}

// Verify checks that the quote was made by the attestation key with that name ([Name]) for that nonce ([Nonce]), that it covers the
// values of the registers, and that the event log gives these values. The error joins a [*Fault] for everything that is wrong.
func (q *Quote) Verify(name [NameSize]byte, nonce [32]byte) (*Verified, error) {
	var faults []error
	fault := func(err error, claim, expected, got string) {
		faults = append(faults, &Fault{err, claim, expected, got})
	}
	v := &Verified{PCRs: map[uint][32]byte{}}
	if got := Name(q.Public); got != name {
		fault(ErrOtherKey, "attestation key of the TPM", hex.EncodeToString(name[:]), hex.EncodeToString(got[:]))
	}
	if key, err := parseKey(q.Public); err != nil {
		fault(err, "attestation key of the TPM", "a restricted signing key: ECDSA on P-256, or RSA, with SHA-256", err.Error())
	} else {
		v.Key = key.public
		if err := key.verify(q.Attest, q.Signature); err != nil {
			fault(err, "signature of the TPM", "a signature by the attestation key "+hex.EncodeToString(name[:]), "a signature that does not verify")
		}
	}
	if a, err := parseAttest(q.Attest); err != nil {
		fault(err, "what the TPM signed", "a TPMS_ATTEST of TPM2_Quote over the registers "+fmt.Sprint(registers), err.Error())
	} else {
		if !bytes.Equal(a.ExtraData.Buffer, nonce[:]) {
			fault(ErrNonce, "nonce of the TPM's quote", hex.EncodeToString(nonce[:]), hex.EncodeToString(a.ExtraData.Buffer))
		}
		v.read(a)
		q.checkDigest(a, fault)
	}
	q.checkLog(v, fault)
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return v, nil
}

func (v *Verified) read(a *tpm2.TPMSAttest) {
	v.Clock, v.Safe, v.Firmware = a.ClockInfo.Clock, bool(a.ClockInfo.Safe), a.FirmwareVersion
	v.Resets, v.Restarts = a.ClockInfo.ResetCount, a.ClockInfo.RestartCount
}

// parseAttest reads a TPMS_ATTEST of TPM2_Quote (Part 2, section 10.12.8). The magic number, with which it begins, is what a restricted
// key signs of nobody but its TPM.
func parseAttest(data []byte) (*tpm2.TPMSAttest, error) {
	a, err := tpm2.Unmarshal[tpm2.TPMSAttest](data)
	if err != nil {
		return nil, fmt.Errorf("%w: attestation: %w", ErrMalformed, err)
	}
	if a.Magic != tpm2.TPMGeneratedValue || a.Type != tpm2.TPMSTAttestQuote {
		return nil, fmt.Errorf("%w: attestation: magic 0x%x, type 0x%x: no quote that a TPM has made", ErrMalformed, uint32(a.Magic), uint16(a.Type))
	}
	quote, err := a.Attested.Quote()
	if err != nil {
		return nil, fmt.Errorf("%w: attestation: %w", ErrMalformed, err)
	}
	if !bytes.Equal(tpm2.Marshal(a), data) {
		return nil, fmt.Errorf("%w: attestation: another encoding, or bytes behind it", ErrMalformed)
	}
	if got := tpm2.Marshal(quote.PCRSelect); !bytes.Equal(got, tpm2.Marshal(selection())) {
		return nil, fmt.Errorf("%w: the registers that were quoted: selection %x", ErrPCR, got)
	}
	return a, nil
}

// checkDigest compares the values of the registers with their digest in the quote.
func (q *Quote) checkDigest(a *tpm2.TPMSAttest, fault func(err error, claim, expected, got string)) {
	h := sha256.New()
	for _, value := range q.PCRs {
		h.Write(value[:])
	}
	quote, err := a.Attested.Quote()
	if sum := h.Sum(nil); err != nil || !bytes.Equal(sum, quote.PCRDigest.Buffer) {
		fault(ErrPCR, "digest over the TPM's registers", hex.EncodeToString(quote.PCRDigest.Buffer), hex.EncodeToString(sum))
	}
}

// checkLog replays the event log and compares it with the values of the registers.
func (q *Quote) checkLog(v *Verified, fault func(err error, claim, expected, got string)) {
	l, err := eventlog.Parse(q.Log)
	i := -1
	if err == nil {
		if i = l.Index(eventlog.SHA256); i < 0 || l.Algorithms[i].Size != sha256.Size {
			err = fmt.Errorf("no digests by SHA-256 among the algorithms %v", l.Algorithms)
		}
	}
	if err != nil {
		fault(ErrMalformed, "event log of the boot", "a crypto-agile log with SHA-256", err.Error())
		return
	}
	if len(q.PCRs) != len(registers) {
		fault(ErrMalformed, "the TPM's registers", fmt.Sprintf("%d values", len(registers)), fmt.Sprint(len(q.PCRs)))
		return
	}
	values := l.Replay(i, sha256.New, 16)
	for k, r := range registers {
		v.PCRs[r] = q.PCRs[k]
		if !bytes.Equal(values[r], q.PCRs[k][:]) {
			fault(ErrLog, fmt.Sprintf("PCR%d", r), hex.EncodeToString(q.PCRs[k][:]), hex.EncodeToString(values[r]))
		}
	}
	v.Events, v.Boot = l.Events, measurements(l, i)
}
