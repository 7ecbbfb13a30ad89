// SPDX-License-Identifier: Apache-2.0

package cose

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// wrapBlock is the unit of AES key wrap, in bytes.
const wrapBlock = 8

// wrapIV is the initial value of RFC 3394 section 2.2.3.1.
var wrapIV = [wrapBlock]byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}

// wrapKey wraps key under kek (RFC 3394 section 2.2.1). key has a multiple of 8 bytes, 16 at least.
func wrapKey(kek, key []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if len(key)%wrapBlock != 0 || len(key) < 2*wrapBlock {
		return nil, fmt.Errorf("%w: wrapping a key of %d bytes", ErrUnsupported, len(key))
	}
	n := len(key) / wrapBlock
	out := append(wrapIV[:], key...)
	var b [aes.BlockSize]byte
	copy(b[:wrapBlock], out)
	for t := range 6 * n {
		r := out[(t%n+1)*wrapBlock:][:wrapBlock]
		copy(b[wrapBlock:], r)
		block.Encrypt(b[:], b[:])
		copy(r, b[wrapBlock:])
		xorCounter(b[:wrapBlock], t+1)
	}
	copy(out, b[:wrapBlock])
	return out, nil
}

// unwrapKey is the reverse (RFC 3394 section 2.2.2). It fails with ErrDecrypt where kek is not the one that wrapped.
func unwrapKey(kek, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if len(wrapped)%wrapBlock != 0 || len(wrapped) < 3*wrapBlock {
		return nil, malformedf("wrapped key of %d bytes", len(wrapped))
	}
	n := len(wrapped)/wrapBlock - 1
	out := append([]byte(nil), wrapped[wrapBlock:]...)
	var b [aes.BlockSize]byte
	copy(b[:wrapBlock], wrapped)
	for t := 6*n - 1; t >= 0; t-- {
		r := out[t%n*wrapBlock:][:wrapBlock]
		xorCounter(b[:wrapBlock], t+1)
		copy(b[wrapBlock:], r)
		block.Decrypt(b[:], b[:])
		copy(r, b[wrapBlock:])
	}
	if subtle.ConstantTimeCompare(b[:wrapBlock], wrapIV[:]) != 1 {
		return nil, fmt.Errorf("%w: key unwrap", ErrDecrypt)
	}
	return out, nil
}

// xorCounter mixes the step number into a, big-endian.
func xorCounter(a []byte, t int) {
	binary.BigEndian.PutUint64(a, binary.BigEndian.Uint64(a)^uint64(t))
}
