// SPDX-License-Identifier: Apache-2.0

// Package tpm makes and verifies quotes of a TPM 2.0 together with the event log that explains them: Evidence of a measured boot,
// which stands beside that of the hardware.
//
// A TPM has registers (PCRs) that firmware, boot loader and kernel extend by the digest of whatever they start next, before they
// start it. TPM2_Quote signs a digest over their values with an attestation key (TPM 2.0 Library, Part 3, section 18.4): a
// restricted key, which signs nothing that the TPM has not made itself. The event log lists by what the registers were extended
// (package eventlog); [Quote.Verify] replays it into them, and finds in it what was booted ([Verified.Measurements]).
//
// What travels ([Quote]) is a CBOR array, of the media type [MediaType], which is this project's own:
//
//	["sealift-tpm-quote-v1", TPMT_PUBLIC, TPMS_ATTEST, TPMT_SIGNATURE, PCR values, event log]
//
// Registers 0 to 9 and 11 to 15 of the SHA-256 bank are quoted ([Registers]), no more and no fewer. Register 10 is the kernel's own,
// for files (IMA), and the ones from 16 on can be set back.
//
// # Who vouches for the key
//
// A quote is worth what its attestation key is worth. Here the key's name (the hash of its public area) stands in the claims record
// that the hardware's Evidence binds, so whoever is measured in there says that this is the key of the TPM that it found, and the
// quote's nonce is made from the same binding ([Nonce]). That ties both together, and does not make the TPM a root: a host that plays
// the TPM of a guest can extend and quote what it likes. Beside the launch measurement, which covers the same firmware, kernel,
// command line and initramfs as one digest, the quote says which of them differs.
package tpm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"sealift/cose"
	"sealift/evidence/eventlog"
)

// MediaType is the media type of a [Quote], private to this project.
const MediaType = "application/vnd.sealift.tpm-quote+cbor"

// label stands first in a quote and in what its nonce is made from.
const label = "sealift-tpm-quote-v1"

// Errors of this package. An error of [Quote.Verify] joins a [*Fault] for everything that is wrong.
var (
	ErrMalformed = errors.New("tpm: malformed quote")
	ErrKey       = errors.New("tpm: unfit attestation key")
	ErrOtherKey  = errors.New("tpm: another attestation key than the expected one")
	ErrSignature = errors.New("tpm: signature of the quote does not verify")
	ErrNonce     = errors.New("tpm: the quote answers another challenge")
	ErrPCR       = errors.New("tpm: the values of the registers are not the quoted ones")
	ErrLog       = errors.New("tpm: the event log does not give the quoted registers")
)

// Fault is one reason why a quote is not authentic. It is an error.
type Fault struct {
	Err           error  // one of the errors of this package
	Claim         string // what differs: "PCR4"
	Expected, Got string
}

// Error gives everything in one line.
func (f *Fault) Error() string {
	return fmt.Sprintf("%v: %s: expected %s, got %s", f.Err, f.Claim, f.Expected, f.Got)
}

// Unwrap returns the kind of error.
func (f *Fault) Unwrap() error { return f.Err }

// Bounds of the parts of a quote, in bytes.
const (
	maxPublic    = 1 << 10
	maxAttest    = 1 << 10
	maxSignature = 1 << 10
	maxLog       = 256 << 10
)

// NameSize is the length of a key's name: the number of SHA-256, then the digest of the public area.
const NameSize = 2 + sha256.Size

// registers are those that a quote covers, in the order of their values.
var registers = []uint{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15}

// Registers returns the numbers of the registers that a quote covers, in the order of their values.
func Registers() []uint { return slices.Clone(registers) }

// Quote is what travels. Nothing in it is verified.
type Quote struct {
	Public    []byte     // TPMT_PUBLIC of the attestation key
	Attest    []byte     // TPMS_ATTEST, what the key has signed
	Signature []byte     // TPMT_SIGNATURE
	PCRs      [][32]byte // values of the registers, in the order of [Registers]
	Log       []byte     // event log, as the kernel shows it in binary_bios_measurements
}

type wireQuote struct {
	_         struct{} `cbor:",toarray"`
	Label     string
	Public    []byte
	Attest    []byte
	Signature []byte
	PCRs      []byte
	Log       []byte
}

// Marshal returns the array in deterministic CBOR.
func (q *Quote) Marshal() []byte {
	w := wireQuote{Label: label, Public: q.Public, Attest: q.Attest, Signature: q.Signature, Log: q.Log}
	for _, value := range q.PCRs {
		w.PCRs = append(w.PCRs, value[:]...)
	}
	return cose.MustMarshal(w)
}

// Parse reads a quote. It checks the array and the bounds; what is in it, [Quote.Verify] does.
func Parse(data []byte) (*Quote, error) {
	var w wireQuote
	if err := cose.Unmarshal(data, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if w.Label != label {
		return nil, fmt.Errorf("%w: it begins with %q, want %q", ErrMalformed, w.Label, label)
	}
	for _, part := range []struct {
		name   string
		n, max int
	}{{"public area", len(w.Public), maxPublic}, {"attestation", len(w.Attest), maxAttest}, {"signature", len(w.Signature), maxSignature},
		{"event log", len(w.Log), maxLog}} {
		if part.n == 0 || part.n > part.max {
			return nil, fmt.Errorf("%w: %s: %d bytes, want 1 to %d", ErrMalformed, part.name, part.n, part.max)
		}
	}
	if len(w.PCRs) != len(registers)*sha256.Size {
		return nil, fmt.Errorf("%w: %d bytes of registers, want %d", ErrMalformed, len(w.PCRs), len(registers)*sha256.Size)
	}
	q := &Quote{Public: w.Public, Attest: w.Attest, Signature: w.Signature, Log: w.Log}
	for value := range slices.Chunk(w.PCRs, sha256.Size) {
		q.PCRs = append(q.PCRs, [32]byte(value))
	}
	if !slices.Equal(q.Marshal(), data) {
		return nil, fmt.Errorf("%w: not in deterministic encoding", ErrMalformed)
	}
	return q, nil
}

// EventsInsecure returns the events of the log, without any proof that they are those of a boot.
func (q *Quote) EventsInsecure() ([]eventlog.Event, error) {
	l, err := eventlog.Parse(q.Log)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return l.Events, nil
}

// NonceInsecure returns the nonce that the quote claims to answer; nil where it cannot be read.
func (q *Quote) NonceInsecure() []byte {
	a, err := parseAttest(q.Attest)
	if err != nil {
		return nil
	}
	return a.ExtraData.Buffer
}

// Name returns the name of the key with that public area (TPM 2.0 Library, Part 1, section 16), which identifies key and attributes.
func Name(public []byte) (name [NameSize]byte) {
	sum := sha256.Sum256(public)
	name[0], name[1] = byte(tpm2.TPMAlgSHA256>>8), byte(tpm2.TPMAlgSHA256&0xff)
	copy(name[2:], sum[:])
	return name
}

// Nonce returns what a TPM is given as qualifying data for the binding of Evidence (evidence.Binding): SHA-256 over the deterministic
// CBOR of ["sealift-tpm-quote-v1", binding]. The binding itself is longer than what every TPM takes.
func Nonce(binding []byte) [32]byte {
	return sha256.Sum256(cose.MustMarshal([]any{label, binding}))
}

// selection is the selection of registers that a quote has.
func selection() tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(registers...)}}}
}
