// SPDX-License-Identifier: Apache-2.0

package optee

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"sealift/evidence"
)

// Sizes of device keys in bits. OP-TEE's default is 3072; it can be built for others.
const (
	minKeyBits = 2048
	maxKeyBits = 4096
)

// Public exponents. OP-TEE makes its keys with 65537. An emulator's have another one: a bare key has no name that could
// say EMULATED, and so the key itself says it, wherever it is enrolled.
const (
	exponent         = 65537
	exponentEmulated = 65539
)

// Key is the enrolled public key of one device.
type Key struct {
	Public *rsa.PublicKey
	Name   string // for people
}

// NewKey checks that a public key is one that OP-TEE's PTA, or our emulator, can have made.
func NewKey(pub crypto.PublicKey, name string) (*Key, error) {
	k, ok := pub.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: it is a %T, want an RSA key", ErrKey, pub)
	}
	if n := k.N.BitLen(); n < minKeyBits || n > maxKeyBits || n%8 != 0 || k.E != exponent && k.E != exponentEmulated {
		return nil, fmt.Errorf("%w: modulus of %d bits and exponent %d, want %d to %d bits, a multiple of 8, and exponent %d",
			ErrKey, n, k.E, minKeyBits, maxKeyBits, exponent)
	}
	return &Key{Public: k, Name: name}, nil
}

// ParseKey reads an enrolled key from PEM (PUBLIC KEY). Command 0 gives exponent and modulus, from which it is made.
func ParseKey(data []byte, name string) (*Key, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 {
		return nil, fmt.Errorf("%w: want one PEM block PUBLIC KEY", ErrKey)
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return NewKey(pub, name)
}

// Fingerprint is the SHA-256 of the key's SubjectPublicKeyInfo, as in [evidence.Anchor].
func (k *Key) Fingerprint() [32]byte {
	der, err := x509.MarshalPKIXPublicKey(k.Public)
	if err != nil {
		panic(err) // an RSA key can always be encoded
	}
	return sha256.Sum256(der)
}

// InstanceID identifies the device: 0x01 (RAND, RFC 9711 section 4.2.1.1) and the key's fingerprint.
func (k *Key) InstanceID() [33]byte {
	fingerprint := k.Fingerprint()
	return [33]byte(append([]byte{0x01}, fingerprint[:]...))
}

// Emulated reports whether the key is an emulator's.
func (k *Key) Emulated() bool { return k.Public.E == exponentEmulated }

// String names the key for people.
func (k *Key) String() string {
	name := k.Name
	if k.Emulated() {
		name = evidence.EmulatedMark + " " + name
	}
	return fmt.Sprintf("%s (%x)", name, k.Fingerprint())
}

// Verify checks an output that the PTA made for a nonce.
func (o *Output) Verify(k *Key, nonce []byte) error {
	h := sha256.New()
	h.Write(nonce)
	h.Write(o.Digest[:])
	err := rsa.VerifyPSS(k.Public, crypto.SHA256, h.Sum(nil), o.Signature, &rsa.PSSOptions{SaltLength: sha256.Size})
	if err != nil {
		return fmt.Errorf("%w: %v, with the key %v: %w", ErrSignature, o.Command, k, err)
	}
	return nil
}

// Verified is Evidence whose signatures were checked.
type Verified struct {
	Report *Report
	Key    *Key // the enrolled key that signed
}

// Emulated reports whether an emulator made the Evidence.
func (v *Verified) Emulated() bool { return v.Key.Emulated() }

// Measurements returns the digests by the names of their commands.
func (v *Verified) Measurements() []evidence.Measurement { return v.Report.measurements() }

func (r *Report) measurements() []evidence.Measurement {
	out := make([]evidence.Measurement, len(r.Outputs))
	for i := range r.Outputs {
		o := &r.Outputs[i]
		out[i] = evidence.Measurement{Name: o.Command.String(), Value: o.Digest[:],
			Source: fmt.Sprintf("command %d of OP-TEE's attestation PTA", uint32(o.Command))}
	}
	return out
}

// Verify checks Evidence: that its key is one of the enrolled ones, that every output carries its signature over the
// nonce with the binding and the configuration, and that TA-MEMORY is among them. The error joins everything that was
// found. The format has no time in it: a key is good for as long as it is enrolled.
func Verify(data []byte, enrolled ...*Key) (*Verified, error) {
	r, err := Parse(data)
	if err != nil {
		return nil, err
	}
	var all []error
	if !r.bound() {
		all = append(all, ErrUnbound)
	}
	k := r.find(enrolled)
	if k == nil {
		return nil, errors.Join(append(all, fmt.Errorf("%w: %x", ErrNotEnrolled, r.Key))...)
	}
	if err := errors.Join(append(all, r.checkSignatures(k)...)...); err != nil {
		return nil, err
	}
	return &Verified{Report: r, Key: k}, nil
}

func (r *Report) bound() bool {
	for _, o := range r.Outputs {
		if o.Command == TAMemory {
			return true
		}
	}
	return false
}

func (r *Report) find(enrolled []*Key) *Key {
	for _, k := range enrolled {
		if k.Fingerprint() == r.Key {
			return k
		}
	}
	return nil
}

func (r *Report) checkSignatures(k *Key) (all []error) {
	for i := range r.Outputs {
		o := &r.Outputs[i]
		nonce := Nonce(o.Command, r.Binding, r.Config)
		if err := o.Verify(k, nonce[:]); err != nil {
			all = append(all, err)
		}
	}
	return all
}
