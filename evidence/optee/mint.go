// SPDX-License-Identifier: Apache-2.0

package optee

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"slices"
)

// emulatedKeyBits is OP-TEE's default.
const emulatedKeyBits = 3072

// Device is an emulated OP-TEE device: the attestation PTA with its key.
type Device struct {
	Name string
	key  *rsa.PrivateKey
}

// NewDevice makes a device called name. Its RSA key takes a good part of a second: make one and keep it
// ([Device.Marshal]).
func NewDevice(rand io.Reader, name string) (*Device, error) {
	return newDevice(rand, name, emulatedKeyBits)
}

func newDevice(rand io.Reader, name string, size int) (*Device, error) {
	for {
		k, err := rsa.GenerateKey(rand, size)
		if err != nil {
			return nil, fmt.Errorf("make the key of an emulated OP-TEE device: %w", err)
		}
		if key, ok := withExponent(k, exponentEmulated); ok {
			return &Device{Name: name, key: key}, nil
		}
	}
}

// withExponent makes a key of the same primes with another public exponent; false if the two do not go together.
func withExponent(k *rsa.PrivateKey, e int64) (*rsa.PrivateKey, bool) {
	one, phi := big.NewInt(1), big.NewInt(1)
	for _, p := range k.Primes {
		phi.Mul(phi, new(big.Int).Sub(p, one))
	}
	d := new(big.Int).ModInverse(big.NewInt(e), phi)
	if d == nil {
		return nil, false
	}
	out := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: k.N, E: int(e)}, D: d, Primes: slices.Clone(k.Primes)}
	out.Precompute()
	return out, out.Validate() == nil
}

// Key returns the device's public key as a verifier enrols it.
func (d *Device) Key() *Key { return &Key{Public: &d.key.PublicKey, Name: d.Name} }

// Invoke does what the PTA does for commands 1 to 3: it signs a digest over any nonce.
func (d *Device) Invoke(rand io.Reader, c Command, nonce []byte, digest [sha256.Size]byte) (Output, error) {
	h := sha256.New()
	h.Write(nonce)
	h.Write(digest[:])
	signature, err := rsa.SignPSS(rand, d.key, crypto.SHA256, h.Sum(nil), &rsa.PSSOptions{SaltLength: sha256.Size})
	if err != nil {
		return Output{}, fmt.Errorf("sign the output of %v: %w", c, err)
	}
	return Output{Command: c, Digest: digest, Signature: signature}, nil
}

// Mint makes Evidence of a TA with these digests, by command.
func (d *Device) Mint(rand io.Reader, binding [64]byte, config [32]byte, digests map[Command][32]byte) ([]byte, error) {
	r := &Report{Key: d.Key().Fingerprint(), Binding: binding, Config: config}
	for c := TAHeader; c <= TEEMemory; c++ {
		digest, ok := digests[c]
		if !ok {
			continue
		}
		nonce := Nonce(c, binding, config)
		o, err := d.Invoke(rand, c, nonce[:], digest)
		if err != nil {
			return nil, err
		}
		r.Outputs = append(r.Outputs, o)
	}
	return r.Marshal(), nil
}

// Marshal returns the device's private key in PEM, to be kept where only its owner can read it.
func (d *Device) Marshal() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(d.key)
	if err != nil {
		return nil, fmt.Errorf("save an emulated OP-TEE device: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseDevice reads what [Device.Marshal] wrote. It refuses a key that does not say that it is emulated.
func ParseDevice(data []byte, name string) (*Device, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
		return nil, fmt.Errorf("%w: want one PEM block PRIVATE KEY", ErrKey)
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	key, ok := private.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: it is a %T, want an RSA key", ErrKey, private)
	}
	k, err := NewKey(&key.PublicKey, name)
	if err != nil {
		return nil, err
	}
	if !k.Emulated() {
		return nil, fmt.Errorf("%w: it is no emulated device's", ErrKey)
	}
	return &Device{Name: name, key: key}, nil
}
