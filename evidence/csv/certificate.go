// SPDX-License-Identifier: Apache-2.0

package csv

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"

	"github.com/emmansun/gmsm/sm2"
)

// Sizes of certificates.
const (
	RootSize    = 832  // HRK and HSK
	CEKSize     = 2084 // CEK and PEK
	fieldSize   = 72   // of a coordinate, or of r or s
	sm2Size     = 32
	caSigned    = 576
	csvSigned   = 1044
	curveSM2    = 3
	algSM2Sign  = 4
	maxUIDBytes = 254
)

// wireKey is a public key with the user id of its signatures.
type wireKey struct {
	Curve   uint32
	X, Y    [fieldSize]byte
	UIDSize uint16
	UID     [maxUIDBytes]byte
}

type wireSignature struct{ R, S [fieldSize]byte }

// wireCA is the layout of the certificates of HRK and HSK.
type wireCA struct {
	Version       uint32
	KeyID, Issuer [16]byte
	Usage         usage
	Reserved0     [24]byte
	Key           wireKey
	Reserved1     [108]byte
	Signature     wireSignature
	Reserved2     [112]byte
}

// wireCSV is the layout of the certificates of CEK and PEK.
type wireCSV struct {
	Version    uint32
	Firmware   [2]uint8
	Reserved0  uint16
	Usage      usage
	Alg        uint32
	Key        wireKey
	Issuer     [16]byte
	Reserved1  [608]byte
	Signatures [2]wireSlot
}

type wireSlot struct {
	Usage     usage
	Alg       uint32
	Signature wireSignature
	Reserved  [368]byte
}

// certificate is one that was read and not verified.
type certificate struct {
	usage         usage
	key           *ecdsa.PublicKey
	uid           []byte
	keyID, issuer [16]byte // keyID only of HRK and HSK
	signed        []byte
	slots         []wireSlot
	raw           []byte
}

func decode(data []byte, into any, what usage) error {
	if len(data) != binary.Size(into) {
		return fmt.Errorf("%w: %v has %d bytes, want %d", ErrCertificate, what, len(data), binary.Size(into))
	}
	if _, err := binary.Decode(data, binary.LittleEndian, into); err != nil {
		return fmt.Errorf("%w: %v: %w", ErrCertificate, what, err)
	}
	return nil
}

// parseCA reads the certificate of an HRK or HSK strictly.
func parseCA(data []byte, want usage) (*certificate, error) {
	var w wireCA
	if err := decode(data, &w, want); err != nil {
		return nil, err
	}
	if w.Version != 1 || w.Usage != want || !zero(w.Reserved0[:]) || !zero(w.Reserved1[:]) || !zero(w.Reserved2[:]) {
		return nil, fmt.Errorf("%w: want a version 1 certificate of an %v, this is version %d of an %v, or a reserved field is not zero",
			ErrCertificate, want, w.Version, w.Usage)
	}
	c := &certificate{usage: want, keyID: w.KeyID, issuer: w.Issuer, signed: data[:caSigned], raw: data,
		slots: []wireSlot{{Signature: w.Signature}}}
	return c, c.readKey(&w.Key)
}

// parseCSV reads the certificate of a CEK or PEK strictly.
func parseCSV(data []byte, want usage) (*certificate, error) {
	var w wireCSV
	if err := decode(data, &w, want); err != nil {
		return nil, err
	}
	if w.Version < 1 || w.Version > 2 || w.Usage != want || w.Alg != algSM2Sign || w.Reserved0 != 0 || !zero(w.Reserved1[:]) {
		return nil, fmt.Errorf("%w: want a certificate of a %v for SM2, this is version %d of a %v with algorithm %d, or a reserved field is not zero",
			ErrCertificate, want, w.Version, w.Usage, w.Alg)
	}
	for i, s := range w.Signatures {
		empty := s.Usage == usageNone && s.Alg == 0 && s.Signature == wireSignature{}
		if !zero(s.Reserved[:]) || !empty && s.Alg != algSM2Sign {
			return nil, fmt.Errorf("%w: %v: signature %d is neither of SM2 nor empty", ErrCertificate, want, i)
		}
	}
	c := &certificate{usage: want, issuer: w.Issuer, signed: data[:csvSigned], raw: data, slots: w.Signatures[:]}
	return c, c.readKey(&w.Key)
}

func (c *certificate) readKey(k *wireKey) error {
	x, okX := bigEndian(k.X[:])
	y, okY := bigEndian(k.Y[:])
	n := int(k.UIDSize)
	if k.Curve != curveSM2 || !okX || !okY || n == 0 || n > len(k.UID) || !zero(k.UID[n:]) {
		return fmt.Errorf("%w: %v: want a key on the SM2 curve and a user id", ErrCertificate, c.usage)
	}
	key, err := sm2.NewPublicKey(slices.Concat([]byte{4}, x, y))
	if err != nil {
		return fmt.Errorf("%w: %v: %w", ErrCertificate, c.usage, err)
	}
	c.key, c.uid = key, bytes.Clone(k.UID[:n])
	return nil
}

// issued checks that c is signed with the key of issuer.
func (c *certificate) issued(issuer *certificate) error {
	for _, s := range c.slots {
		if (len(c.slots) == 1 || s.Usage == issuer.usage) && issuer.verify(c.signed, &s.Signature) {
			return nil
		}
	}
	return fmt.Errorf("%w: the %v's certificate is not signed by the %v", ErrChain, c.usage, issuer.usage)
}

// verify checks a signature with the key and the user id of c.
func (c *certificate) verify(msg []byte, sig *wireSignature) bool {
	r, okR := bigEndian(sig.R[:])
	s, okS := bigEndian(sig.S[:])
	if !okR || !okS {
		return false
	}
	digest, err := sm2.CalculateSM2Hash(c.key, msg, c.uid)
	return err == nil && sm2.Verify(c.key, digest, new(big.Int).SetBytes(r), new(big.Int).SetBytes(s))
}

// bigEndian turns a little-endian field around; false if it does not fit the curve.
func bigEndian(field []byte) ([]byte, bool) {
	out := bytes.Clone(field[:sm2Size])
	slices.Reverse(out)
	return out, zero(field[sm2Size:])
}

// littleEndian is the inverse of bigEndian.
func littleEndian(n *big.Int) (field [fieldSize]byte) {
	n.FillBytes(field[:sm2Size])
	slices.Reverse(field[:sm2Size])
	return field
}

func zero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
