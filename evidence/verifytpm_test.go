// SPDX-License-Identifier: Apache-2.0

package evidence_test

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"sealift/evidence"
	"sealift/evidence/tpm"
	"sealift/evidence/tpm/tpmtest"
)

var booted = tpmtest.Boot{Kernel: "kernel", Cmdline: "command line", Initramfs: "initramfs"}

// withTPM gives a world a TPM. change is what a test does to a quote.
func withTPM(t testing.TB, w *world, change func(q *tpm.Quote, k *tpmtest.Key)) {
	k := tpmtest.NewKey(t)
	w.claims.QuoteKey = k.Name()
	var binding []byte
	w.change = func(e *evidence.HardwareEvidence) {
		q := k.Quote(t, tpm.Nonce(binding), booted)
		if change != nil {
			change(q, k)
		}
		e.Quote = q.Marshal()
	}
	w.binding = func(b []byte) { binding = b }
}

func TestQuote(t *testing.T) {
	w := newWorld(t)
	withTPM(t, w, nil)
	data := w.bundle(t)
	v, err := evidence.Verify(data, w.input())
	must(t, err)
	for name, what := range map[string]string{tpm.Kernel: "kernel", tpm.Cmdline: "command line", tpm.Initramfs: "initramfs"} {
		want := sha256.Sum256([]byte(what))
		if m, ok := v.Measurement(name); !ok || !bytes.Equal(m.Value, want[:]) || !strings.HasPrefix(m.Source, "TPM quote, PCR") {
			t.Errorf("%s: %+v", name, m)
		}
	}
	if len(v.Measurements) != 4 || len(v.Fields["tpm.pcr4"].(string)) != 64 || !bytes.Equal(v.Claims.QuoteKey, w.claims.QuoteKey) {
		t.Errorf("%d measurements, fields %v", len(v.Measurements), v.Fields)
	}
	if r, err := evidence.VerifyRecorded(data, nil, w.input()); err != nil || len(r.Measurements) != 4 {
		t.Errorf("recorded: %v", err)
	}
}

func TestQuoteRefused(t *testing.T) {
	other := tpmtest.NewKey(t)
	for name, c := range map[string]struct {
		change func(q *tpm.Quote, k *tpmtest.Key)
		after  func(b *evidence.Bundle)
		want   []string
		claim  string
	}{
		"for other Evidence": {change: func(q *tpm.Quote, k *tpmtest.Key) { *q = *k.Quote(t, tpm.Nonce([]byte("other")), booted) },
			want: []string{evidence.CodeNonce}, claim: "nonce of the TPM's quote"},
		"by another key": {change: func(q *tpm.Quote, k *tpmtest.Key) { q.Public = other.Quote(t, [32]byte{}, booted).Public },
			want: []string{evidence.CodeBinding, evidence.CodeSignature}, claim: "attestation key of the TPM"},
		"signature": {change: func(q *tpm.Quote, _ *tpmtest.Key) { q.Signature[len(q.Signature)-1] ^= 1 },
			want: []string{evidence.CodeSignature}, claim: "signature of the TPM"},
		"another boot's log": {change: func(q *tpm.Quote, k *tpmtest.Key) {
			q.Log = k.Quote(t, [32]byte{}, tpmtest.Boot{Kernel: "kernel", Cmdline: "command line", Initramfs: "another"}).Log
		}, want: []string{evidence.CodeBinding}, claim: "PCR9"},
		"no log": {change: func(q *tpm.Quote, _ *tpmtest.Key) { q.Log = []byte{1} }, want: []string{evidence.CodeMalformed},
			claim: "event log of the boot"},
		"taken out": {after: func(b *evidence.Bundle) { b.Quote = nil }, want: []string{evidence.CodeBinding}, claim: "quote of the TPM"},
		"no quote":  {after: func(b *evidence.Bundle) { b.Quote = []byte{0xa0} }, want: []string{evidence.CodeMalformed}, claim: "quote of the TPM"},
	} {
		w := newWorld(t)
		withTPM(t, w, c.change)
		b, err := evidence.ParseBundle(w.bundle(t))
		must(t, err)
		if c.after != nil {
			c.after(b)
		}
		_, err = evidence.Verify(b.Marshal(), w.input())
		if got := evidence.Mismatches(err); !slices.Equal(codes(err), c.want) || got[0].Claim != c.claim {
			t.Errorf("%s: %v, want %v of %s", name, err, c.want, c.claim)
		}
	}

	// A quote that no claim names.
	w := newWorld(t)
	with := newWorld(t)
	withTPM(t, with, nil)
	quoted, err := evidence.ParseBundle(with.bundle(t))
	must(t, err)
	b, err := evidence.ParseBundle(w.bundle(t))
	must(t, err)
	b.Quote = quoted.Quote
	_, err = evidence.Verify(b.Marshal(), w.input())
	wantCodes(t, err, evidence.CodeBinding)

	w.claims.QuoteKey = []byte{1, 2, 3}
	if err := w.claims.Validate(); err == nil {
		t.Error("a name of 3 bytes is valid")
	}
}
