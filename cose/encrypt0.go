// SPDX-License-Identifier: Apache-2.0

package cose

import (
	"bytes"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"

	"sealift/cose/wire"
)

// Encrypt0 makes a COSE_Encrypt0 (RFC 9052 section 5.2), tagged and holding its ciphertext, under a content key that both
// sides have. alg must authenticate. kid may be nil. A nil rand means the system's.
func Encrypt0(rand io.Reader, alg Algorithm, key, kid, plaintext []byte) ([]byte, error) {
	if rand == nil {
		rand = crand.Reader
	}
	if _, aead, err := contentKeySize(alg); err != nil || !aead {
		return nil, fmt.Errorf("encrypting: %w: %v in a COSE_Encrypt0", ErrUnsupported, alg)
	}
	iv := make([]byte, aeadIVSize)
	if _, err := io.ReadFull(rand, iv); err != nil {
		return nil, fmt.Errorf("drawing an IV: %w", err)
	}
	protected := wire.AppendInt(wire.AppendUint(wire.AppendMap(nil, 1), labelAlg), int64(alg))
	c, state, err := newContent(alg, key, iv, protected, contextEncrypt0)
	if err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	state.sealing.Store(true)
	var ciphertext bytes.Buffer
	if _, err := c.Seal(&ciphertext, bytes.NewReader(plaintext)); err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	n := 1
	if kid != nil {
		n = 2
	}
	b := wire.AppendBytes(wire.AppendArray(wire.AppendTag(nil, tagEncrypt0), 3), protected)
	b = wire.AppendMap(b, n)
	if kid != nil {
		b = wire.AppendBytes(wire.AppendUint(b, labelKID), kid)
	}
	b = wire.AppendBytes(wire.AppendUint(b, labelIV), iv)
	return wire.AppendBytes(b, ciphertext.Bytes()), nil
}

// Decrypt0 opens a COSE_Encrypt0, tagged or not, with any of keys. Ciphers that do not authenticate are refused: there is
// nothing beside the message that could.
func Decrypt0(data []byte, keys [][]byte) ([]byte, error) {
	h, ciphertext, err := readEncrypt0(data)
	if err != nil {
		return nil, fmt.Errorf("reading a COSE_Encrypt0: %w", err)
	}
	alg, err := h.contentAlg()
	if err == nil {
		if _, aead, _ := contentKeySize(alg); !aead {
			err = fmt.Errorf("%w: %v in a COSE_Encrypt0", ErrUnsupported, alg)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("decrypting: %w", err)
	}
	size, _, _ := contentKeySize(alg)
	err = fmt.Errorf("%w: %v", ErrNoKey, alg)
	for _, key := range keys {
		if len(key) != size {
			continue
		}
		c, _, cerr := newContent(alg, key, h.iv, h.protected, contextEncrypt0)
		if cerr != nil {
			return nil, fmt.Errorf("decrypting: %w", cerr)
		}
		var plain bytes.Buffer
		if _, err = c.Open(&plain, bytes.NewReader(ciphertext)); err == nil {
			return plain.Bytes(), nil
		}
		if !errors.Is(err, ErrDecrypt) {
			break
		}
	}
	return nil, fmt.Errorf("decrypting: %w", err)
}

func readEncrypt0(data []byte) (*header, []byte, error) {
	if len(data) > maxMessageSize {
		return nil, nil, malformedf("message of %d bytes", len(data))
	}
	r := wire.NewReader(data)
	if r.Kind() == wire.KindTag {
		if tag := r.Tag(); tag != tagEncrypt0 {
			return nil, nil, malformedf("tag %d", tag)
		}
	}
	if n := r.Array(); r.Err() == nil && n != 3 {
		return nil, nil, malformedf("COSE_Encrypt0 of %d elements", n)
	}
	h, err := readHeader(r)
	if err != nil {
		return nil, nil, err
	}
	ciphertext := r.Bytes()
	if err := r.Err(); err != nil {
		return nil, nil, malformed(err)
	}
	return h, ciphertext, nil
}
