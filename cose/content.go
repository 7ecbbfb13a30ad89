// SPDX-License-Identifier: Apache-2.0

package cose

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"

	"sealift/cose/wire"
)

const (
	// MaxGCMPayload bounds plaintexts under AES-GCM and ChaCha20/Poly1305: they are buffered, because no byte may be released before the tag at
	// the end was checked. Larger payloads take AES-CTR and a digest.
	MaxGCMPayload = 16 << 20

	aeadIVSize      = 12
	gcmLooseIVSize  = 16 // seen in examples of suit-firmware-encryption's tools; accepted, never made
	aeadTagSize     = 16
	streamBuffer    = 256 << 10
	contextEncrypt  = "Encrypt"
	contextEncrypt0 = "Encrypt0"
)

// ContentCipher turns one payload into ciphertext, or back. It is made by NewEncrypter or OpenInfo.
type ContentCipher interface {
	// Seal encrypts src into dst and returns the number of bytes written. It works once, and only on a cipher that
	// NewEncrypter made: a second payload under the same key and IV would betray both.
	Seal(dst io.Writer, src io.Reader) (n int64, err error)
	// Open decrypts src into dst and returns the number of bytes written. AES-GCM writes nothing unless the whole
	// ciphertext is authentic. AES-CTR streams, and what it writes is to be trusted only after its digest was checked. src may
	// be a Pieces.
	Open(dst io.Writer, src io.Reader) (n int64, err error)
}

// Pieces is a source of bytes that Open need not copy before it decrypts them.
type Pieces interface {
	io.Reader
	// Next returns what comes next, at least one byte, which is valid until the next call and MUST NOT be changed; or an error, which
	// is io.EOF at the end.
	Next() ([]byte, error)
}

// contentKeySize gives the size in bytes of the keys of a content encryption algorithm, and whether it authenticates.
func contentKeySize(alg Algorithm) (size int, aead bool, err error) {
	switch alg {
	case AlgA128GCM:
		return 16, true, nil
	case AlgA256GCM, AlgChaCha20Poly1305:
		return 32, true, nil
	case AlgA128CTR:
		return 16, false, nil
	case AlgA256CTR:
		return 32, false, nil
	}
	return 0, false, fmt.Errorf("%w: %v for content", ErrUnsupported, alg)
}

// content holds what both ciphers share.
type content struct {
	block   cipher.Block // of AES-CTR
	iv      []byte
	aad     []byte      // of an AEAD
	sealing atomic.Bool // may still encrypt
}

// newContent makes the cipher of alg. protected is the content's protected header as received, context the first member of the
// Enc_structure.
func newContent(alg Algorithm, key, iv, protected []byte, context string) (ContentCipher, *content, error) {
	size, aead, err := contentKeySize(alg)
	if err != nil {
		return nil, nil, err
	}
	if len(key) != size {
		return nil, nil, malformedf("content key of %d bytes for %v", len(key), alg)
	}
	c := &content{iv: bytes.Clone(iv)}
	if !aead {
		if len(iv) != aes.BlockSize {
			return nil, nil, malformedf("IV of %d bytes for %v", len(iv), alg)
		}
		if c.block, err = aes.NewCipher(key); err != nil {
			return nil, nil, err
		}
		return &ctrContent{c}, c, nil
	}
	if len(iv) != aeadIVSize && (len(iv) != gcmLooseIVSize || alg == AlgChaCha20Poly1305) {
		return nil, nil, malformedf("IV of %d bytes for %v", len(iv), alg)
	}
	// Enc_structure of RFC 9052 section 5.3, without external data.
	c.aad = wire.AppendText(wire.AppendArray(nil, 3), context)
	c.aad = wire.AppendBytes(wire.AppendBytes(c.aad, protected), nil)
	a, err := newAEAD(alg, key, len(iv))
	if err != nil {
		return nil, nil, err
	}
	return &aeadContent{c, a}, c, nil
}

// newAEAD gives the authenticated cipher of alg: AES-GCM (RFC 9053 section 4.1) or ChaCha20/Poly1305 (section 4.3).
func newAEAD(alg Algorithm, key []byte, iv int) (cipher.AEAD, error) {
	if alg == AlgChaCha20Poly1305 {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithNonceSize(block, iv)
}

// startSeal takes the one permission to encrypt.
func (c *content) startSeal() error {
	if !c.sealing.CompareAndSwap(true, false) {
		return ErrReused
	}
	return nil
}

// ctrContent is AES-CTR as RFC 9459 and suit-firmware-encryption have it: the IV is the first counter block.
type ctrContent struct{ *content }

func (c *ctrContent) Seal(dst io.Writer, src io.Reader) (int64, error) {
	if err := c.startSeal(); err != nil {
		return 0, err
	}
	return c.Open(dst, src)
}

func (c *ctrContent) Open(dst io.Writer, src io.Reader) (int64, error) {
	stream := cipher.NewCTR(c.block, c.iv)
	buf := make([]byte, streamBuffer)
	next := func() ([]byte, error) {
		n, err := src.Read(buf)
		return buf[:n], err
	}
	if p, ok := src.(Pieces); ok {
		next = p.Next
	}
	var total int64
	for {
		piece, err := next()
		for len(piece) > 0 {
			n := min(len(piece), len(buf))
			stream.XORKeyStream(buf[:n], piece[:n])
			w, werr := dst.Write(buf[:n])
			total += int64(w)
			if werr != nil {
				return total, werr
			}
			piece = piece[n:]
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// aeadContent is AES-GCM or ChaCha20/Poly1305 over a bounded, buffered payload.
type aeadContent struct {
	*content
	aead cipher.AEAD
}

func (c *aeadContent) Seal(dst io.Writer, src io.Reader) (int64, error) {
	plain, err := readBounded(src, MaxGCMPayload)
	if err != nil {
		return 0, err
	}
	if err := c.startSeal(); err != nil {
		return 0, err
	}
	n, err := dst.Write(c.aead.Seal(plain[:0], c.iv, plain, c.aad))
	return int64(n), err
}

func (c *aeadContent) Open(dst io.Writer, src io.Reader) (int64, error) {
	sealed, err := readBounded(src, MaxGCMPayload+aeadTagSize)
	if err != nil {
		return 0, err
	}
	plain, err := c.aead.Open(sealed[:0], c.iv, sealed, c.aad)
	if err != nil {
		return 0, fmt.Errorf("%w: content", ErrDecrypt)
	}
	n, err := dst.Write(plain)
	return int64(n), err
}

// readBounded reads all of src, at most limit bytes, with room for a tag behind them.
func readBounded(src io.Reader, limit int64) ([]byte, error) {
	var buf bytes.Buffer
	n, err := buf.ReadFrom(io.LimitReader(src, limit+1))
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return buf.Bytes(), nil
}
