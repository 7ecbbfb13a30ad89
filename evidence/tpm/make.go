// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Key is an attestation key in a TPM: ECDSA on P-256 with SHA-256, in the null hierarchy, so that it ends with the TPM's next reset
// and nothing of it is stored. It is not safe for concurrent use.
type Key struct {
	tpm    transport.TPM
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public []byte
}

// NewKey makes an attestation key in a TPM.
func NewKey(t transport.TPM) (*Key, error) {
	r, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHNull, InPublic: tpm2.New2B(template)}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("tpm: making an attestation key: %w", err)
	}
	public, err := r.OutPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("tpm: making an attestation key: %w", err)
	}
	return &Key{t, r.ObjectHandle, r.Name, tpm2.Marshal(public)}, nil
}

// template is the public area of an attestation key, without the key.
var template = tpm2.TPMTPublic{
	Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
	ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true,
		Restricted: true, SignEncrypt: true},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
		CurveID: tpm2.TPMECCNistP256,
	}),
}

// Name is the key's name, as [Name] gives it.
func (k *Key) Name() [NameSize]byte { return Name(k.public) }

// Quote quotes the registers for a nonce ([Nonce]), and puts the event log of the boot beside it.
func (k *Key) Quote(nonce [32]byte, log []byte) (*Quote, error) {
	// Registers that something extends between the reading and the quote do not fit it; who quotes then asks again.
	values, err := readPCRs(k.tpm)
	if err != nil {
		return nil, err
	}
	r, err := tpm2.Quote{
		SignHandle:     tpm2.AuthHandle{Handle: k.handle, Name: k.name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: nonce[:]}, PCRSelect: selection(),
	}.Execute(k.tpm)
	if err != nil {
		return nil, fmt.Errorf("tpm: quoting: %w", err)
	}
	return &Quote{Public: k.public, Attest: r.Quoted.Bytes(), Signature: tpm2.Marshal(r.Signature), PCRs: values, Log: log}, nil
}

// readPCRs reads the registers. A TPM gives some at a time (Part 3, section 22.4).
func readPCRs(t transport.TPM) ([][32]byte, error) {
	var values [][32]byte
	for len(values) < len(registers) {
		r, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
			{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(registers[len(values):]...)}}}}.Execute(t)
		if err != nil {
			return nil, fmt.Errorf("tpm: reading its registers: %w", err)
		}
		digests := r.PCRValues.Digests
		if len(digests) == 0 || len(digests) > len(registers)-len(values) {
			return nil, fmt.Errorf("tpm: reading its registers: it gave %d", len(digests))
		}
		for _, d := range digests {
			if len(d.Buffer) != 32 {
				return nil, fmt.Errorf("tpm: reading its registers: a value of %d bytes", len(d.Buffer))
			}
			values = append(values, [32]byte(d.Buffer))
		}
	}
	return values, nil
}

// Close takes the key out of the TPM.
func (k *Key) Close() error {
	if _, err := (tpm2.FlushContext{FlushHandle: k.handle}).Execute(k.tpm); err != nil {
		return fmt.Errorf("tpm: %w", err)
	}
	return nil
}
