// SPDX-License-Identifier: Apache-2.0

package cose

import (
	"bytes"
	"crypto/aes"
	crand "crypto/rand"
	"fmt"
	"io"

	"sealift/cose/wire"
)

// The strings that go into the key derivation, so that a key for one purpose opens nothing made for another.
const (
	ContextSUITPayload = "SUIT Payload Encryption" // suit-firmware-encryption section 6.2.3
	ContextEAT         = "EAT Encryption"          // teep-protocol section 8.2
	ContextSUITReport  = "SUIT Report Encryption"  // teep-protocol section 8.2
)

// NewEncrypter makes a random content key and IV, and returns the COSE_Encrypt structure with the key wrapped for r and the
// ciphertext detached, together with the cipher that makes this ciphertext. A nil rand means the system's.
func NewEncrypter(rand io.Reader, alg Algorithm, r Recipient, context string) (info []byte, enc ContentCipher, err error) {
	s, err := newSealed(rand, alg, r, context)
	if err != nil {
		return nil, nil, fmt.Errorf("encrypting: %w", err)
	}
	return s.encode(nil), s.cipher, nil
}

// Encrypt makes a COSE_Encrypt that holds its ciphertext, as encrypted EATs and SUIT reports are sent.
func Encrypt(rand io.Reader, alg Algorithm, r Recipient, context string, plaintext []byte) ([]byte, error) {
	s, err := newSealed(rand, alg, r, context)
	if err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	var ciphertext bytes.Buffer
	if _, err := s.cipher.Seal(&ciphertext, bytes.NewReader(plaintext)); err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	return s.encode(ciphertext.Bytes()), nil
}

// OpenInfo unwraps the content key from a COSE_Encrypt structure whose ciphertext is detached.
func OpenInfo(info []byte, keys Recipients, context string) (ContentCipher, error) {
	c, ciphertext, err := open(info, keys, context)
	if err == nil && ciphertext != nil {
		err = malformedf("ciphertext is attached")
	}
	if err != nil {
		return nil, fmt.Errorf("opening encryption info: %w", err)
	}
	return c, nil
}

// Decrypt opens a COSE_Encrypt that holds its ciphertext.
func Decrypt(data []byte, keys Recipients, context string) ([]byte, error) {
	c, ciphertext, err := open(data, keys, context)
	if err == nil && ciphertext == nil {
		err = malformedf("ciphertext is detached")
	}
	if err != nil {
		return nil, fmt.Errorf("decrypting: %w", err)
	}
	var plain bytes.Buffer
	if _, err := c.Open(&plain, bytes.NewReader(ciphertext)); err != nil {
		return nil, fmt.Errorf("decrypting: %w", err)
	}
	return plain.Bytes(), nil
}

// sealed is a COSE_Encrypt being made.
type sealed struct {
	alg       Algorithm
	protected []byte // content of the protected header
	iv        []byte
	recipient []byte // encoded
	cipher    ContentCipher
}

func newSealed(rand io.Reader, alg Algorithm, r Recipient, context string) (*sealed, error) {
	if rand == nil {
		rand = crand.Reader
	}
	keySize, aead, err := contentKeySize(alg)
	if err != nil {
		return nil, err
	}
	s := &sealed{alg: alg, iv: make([]byte, aes.BlockSize)}
	if aead {
		s.iv = s.iv[:aeadIVSize]
		s.protected = wire.AppendInt(wire.AppendUint(wire.AppendMap(nil, 1), labelAlg), int64(alg))
	}
	cek := make([]byte, keySize)
	for _, b := range [][]byte{cek, s.iv} {
		if _, err := io.ReadFull(rand, b); err != nil {
			return nil, fmt.Errorf("drawing a content key: %w", err)
		}
	}
	if s.recipient, err = wrapFor(rand, nil, r, cek, context); err != nil {
		return nil, err
	}
	c, state, err := newContent(alg, cek, s.iv, s.protected, contextEncrypt)
	if err != nil {
		return nil, err
	}
	state.sealing.Store(true)
	s.cipher = c
	return s, nil
}

// encode writes the COSE_Encrypt; a nil ciphertext is detached. AES-CTR cannot protect a header, so its alg stands in the
// unprotected bucket (RFC 9459 section 4).
func (s *sealed) encode(ciphertext []byte) []byte {
	b := wire.AppendArray(wire.AppendTag(nil, tagEncrypt), 4)
	b = wire.AppendBytes(b, s.protected)
	if s.protected == nil {
		b = wire.AppendInt(wire.AppendUint(wire.AppendMap(b, 2), labelAlg), int64(s.alg))
	} else {
		b = wire.AppendMap(b, 1)
	}
	b = wire.AppendBytes(wire.AppendUint(b, labelIV), s.iv)
	b = appendPayload(b, ciphertext, ciphertext == nil)
	return append(wire.AppendArray(b, 1), s.recipient...)
}

// open reads a COSE_Encrypt, unwraps its content key and returns the ciphertext, nil where it is detached.
func open(data []byte, keys Recipients, context string) (ContentCipher, []byte, error) {
	if len(data) > maxMessageSize {
		return nil, nil, malformedf("message of %d bytes", len(data))
	}
	r := wire.NewReader(data)
	if tag := r.Tag(); r.Err() == nil && tag != tagEncrypt {
		return nil, nil, malformedf("tag %d", tag)
	}
	if n := r.Array(); r.Err() == nil && n != 4 {
		return nil, nil, malformedf("COSE_Encrypt of %d elements", n)
	}
	h, err := readHeader(r)
	if err != nil {
		return nil, nil, err
	}
	var ciphertext []byte
	if r.Kind() == wire.KindNull {
		r.Null()
	} else {
		ciphertext = r.Bytes()
	}
	list, err := readRecipients(r)
	if err != nil {
		return nil, nil, err
	}
	if err := r.Err(); err != nil {
		return nil, nil, malformed(err)
	}
	alg, err := h.contentAlg()
	if err != nil {
		return nil, nil, err
	}
	cek, err := unwrapAny(list, keys, context)
	if err != nil {
		return nil, nil, err
	}
	c, _, err := newContent(alg, cek, h.iv, h.protected, contextEncrypt)
	return c, ciphertext, err
}

// contentAlg gives the content algorithm from where it has to stand: protected for an AEAD, and for AES-CTR unprotected,
// beside an empty protected header (RFC 9459 section 4).
func (h *header) contentAlg() (Algorithm, error) {
	alg := h.alg
	if !h.hasAlg {
		if !h.hasUnprot {
			return 0, malformedf("content without alg")
		}
		alg = h.unprotAlg
	}
	_, aead, err := contentKeySize(alg)
	switch {
	case err != nil:
		return 0, err
	case aead && !h.hasAlg:
		return 0, malformedf("%v is not in the protected header", alg)
	case !aead && !h.empty:
		return 0, malformedf("protected header with %v", alg)
	}
	return alg, nil
}
