// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"hash"

	"sealift/cose"
	"sealift/cose/wire"
)

// Digest is a SUIT_Digest (suit-manifest section 8.3): the COSE number of a hash algorithm and its output.
type Digest struct {
	Alg   cose.Algorithm
	Bytes []byte
}

// Hash algorithms of suit-manifest section 8.3. SHA-256 is mandatory and the only one that Sealift emits.
const (
	AlgSHA256   = cose.AlgSHA256
	AlgSHAKE128 = cose.Algorithm(-18)
	AlgSHA384   = cose.Algorithm(-43)
	AlgSHA512   = cose.Algorithm(-44)
	AlgSHAKE256 = cose.Algorithm(-45)
)

// NewHash returns a running hash for alg, or ErrUnsupported.
func NewHash(alg cose.Algorithm) (hash.Hash, error) {
	switch alg {
	case AlgSHA256:
		return sha256.New(), nil
	case AlgSHA384:
		return sha512.New384(), nil
	case AlgSHA512:
		return sha512.New(), nil
	case AlgSHAKE128:
		return &shakeHash{SHAKE: sha3.NewSHAKE128(), size: 32}, nil
	case AlgSHAKE256:
		return &shakeHash{SHAKE: sha3.NewSHAKE256(), size: 64}, nil
	}
	return nil, fmt.Errorf("%w: digest algorithm %d", ErrUnsupported, alg)
}

// SHA256 returns the SHA-256 digest of data.
func SHA256(data []byte) Digest {
	sum := sha256.Sum256(data)
	return Digest{Alg: AlgSHA256, Bytes: sum[:]}
}

// Of returns the digest of data under the same algorithm as d.
func (d Digest) Of(data []byte) (Digest, error) {
	if d.Alg == AlgSHA256 {
		return SHA256(data), nil
	}
	h, err := NewHash(d.Alg)
	if err != nil {
		return Digest{}, err
	}
	h.Write(data)
	return Digest{Alg: d.Alg, Bytes: h.Sum(nil)}, nil
}

// Equal compares algorithm and bytes, the bytes in constant time.
func (d Digest) Equal(o Digest) bool {
	return d.Alg == o.Alg && len(d.Bytes) > 0 && subtle.ConstantTimeCompare(d.Bytes, o.Bytes) == 1
}

// IsZero reports whether d holds no digest.
func (d Digest) IsZero() bool { return d.Alg == 0 && len(d.Bytes) == 0 }

// String prints "sha-256:<hex>", or the algorithm's number where it has no name here.
func (d Digest) String() string {
	name, ok := hashNames[d.Alg]
	if !ok {
		name = fmt.Sprintf("alg(%d)", d.Alg)
	}
	return name + ":" + hex.EncodeToString(d.Bytes)
}

var hashNames = map[cose.Algorithm]string{
	AlgSHA256: "sha-256", AlgSHA384: "sha-384", AlgSHA512: "sha-512", AlgSHAKE128: "shake128", AlgSHAKE256: "shake256",
}

type wireDigest struct {
	_     struct{} `cbor:",toarray"`
	Alg   int64
	Bytes []byte
}

// MarshalCBOR encodes the array [alg, bytes].
func (d Digest) MarshalCBOR() ([]byte, error) {
	return cose.Marshal(wireDigest{Alg: int64(d.Alg), Bytes: d.Bytes})
}

// UnmarshalCBOR decodes the array [alg, bytes] and checks the length of the bytes where the algorithm is known.
func (d *Digest) UnmarshalCBOR(data []byte) (err error) {
	*d, err = readDigest(wire.NewReader(data))
	return err
}

// hashSizes are the lengths of the digests that are known here.
var hashSizes = map[cose.Algorithm]int{AlgSHA256: 32, AlgSHA384: 48, AlgSHA512: 64, AlgSHAKE128: 32, AlgSHAKE256: 64}

func readDigest(r *wire.Reader) (Digest, error) {
	n := r.Array()
	d := Digest{Alg: cose.Algorithm(r.Int()), Bytes: r.Bytes()}
	if err := r.Err(); err != nil {
		return Digest{}, fmt.Errorf("%w: digest: %w", ErrMalformed, err)
	}
	if n != 2 {
		return Digest{}, fmt.Errorf("%w: digest of %d elements", ErrMalformed, n)
	}
	if size, ok := hashSizes[d.Alg]; ok && size != len(d.Bytes) || len(d.Bytes) == 0 {
		return Digest{}, fmt.Errorf("%w: a digest of algorithm %d has %d bytes", ErrMalformed, d.Alg, len(d.Bytes))
	}
	return d, nil
}

// shakeHash gives SHAKE the fixed output length that RFC 9054 section 2.4 assigns to it in COSE.
type shakeHash struct {
	*sha3.SHAKE
	size int
}

func (s *shakeHash) Size() int { return s.size }

func (s *shakeHash) Sum(b []byte) []byte {
	clone := *s.SHAKE
	out := make([]byte, s.size)
	clone.Read(out)
	return append(b, out...)
}
