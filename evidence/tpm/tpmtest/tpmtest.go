// SPDX-License-Identifier: Apache-2.0

// Package tpmtest makes quotes without a TPM, for tests: with a key that anybody could have.
package tpmtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"sealift/evidence/eventlog"
	"sealift/evidence/tpm"
)

// Key plays an attestation key.
type Key struct {
	key    *ecdsa.PrivateKey
	public []byte
}

// NewKey makes one.
func NewKey(t testing.TB) *Key {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	public := tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: raw[1:33]},
			Y: tpm2.TPM2BECCParameter{Buffer: raw[33:]}}),
	}
	return &Key{k, tpm2.Marshal(public)}
}

// Name is the key's name.
func (k *Key) Name() []byte { n := tpm.Name(k.public); return n[:] }

// Boot is what a machine is said to have booted.
type Boot struct{ Kernel, Cmdline, Initramfs string }

// Quote quotes the registers of a machine after a boot, for a nonce.
func (k *Key) Quote(t testing.TB, nonce [32]byte, b Boot) *tpm.Quote {
	t.Helper()
	log := b.log()
	l, err := eventlog.Parse(log)
	if err != nil {
		t.Fatal(err)
	}
	values := l.Replay(0, sha256.New, 16)
	q := &tpm.Quote{Public: k.public, Log: log}
	for _, r := range tpm.Registers() {
		q.PCRs = append(q.PCRs, [32]byte(values[r]))
	}
	sum := sha256.Sum256(slices.Concat(append(values[:10:10], values[11:]...)...))
	q.Attest = tpm2.Marshal(tpm2.TPMSAttest{Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestQuote,
		ExtraData: tpm2.TPM2BData{Buffer: nonce[:]}, Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{
			PCRDigest: tpm2.TPM2BDigest{Buffer: sum[:]}, PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
				{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(tpm.Registers()...)}}}})})
	digest := sha256.Sum256(q.Attest)
	r, s, err := ecdsa.Sign(rand.Reader, k.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	q.Signature = tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA,
		&tpm2.TPMSSignatureECC{Hash: tpm2.TPMAlgSHA256, SignatureR: tpm2.TPM2BECCParameter{Buffer: r.Bytes()},
			SignatureS: tpm2.TPM2BECCParameter{Buffer: s.Bytes()}})})
	return q
}

// log lists the boot as firmware and kernel do, by SHA-256 alone.
func (b Boot) log() []byte {
	le := binary.LittleEndian
	body := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	body = le.AppendUint32(body, 1)
	body = append(le.AppendUint16(le.AppendUint16(body, eventlog.SHA256), 32), 0)
	out := append(le.AppendUint32(le.AppendUint32(nil, 0), uint32(eventlog.NoAction)), make([]byte, 20)...)
	out = append(le.AppendUint32(out, uint32(len(body))), body...)
	for _, e := range []struct {
		pcr        uint32
		kind       eventlog.Type
		what, data string
	}{
		{4, eventlog.BootApplication, b.Kernel, "a path"},
		{4, eventlog.Separator, "\x00\x00\x00\x00", "\x00\x00\x00\x00"},
		{9, eventlog.EventTag, b.Cmdline, "\xed\x22\x3b\x8f\x1a\x00\x00\x00LOADED_IMAGE::LoadOptions\x00"},
		{9, eventlog.EventTag, b.Initramfs, "\xec\x22\x3b\x8f\x0d\x00\x00\x00Linux initrd\x00"},
	} {
		digest := sha256.Sum256([]byte(e.what))
		out = le.AppendUint32(le.AppendUint32(le.AppendUint32(out, e.pcr), uint32(e.kind)), 1)
		out = append(le.AppendUint16(out, eventlog.SHA256), digest[:]...)
		out = append(le.AppendUint32(out, uint32(len(e.data))), e.data...)
	}
	return out
}
