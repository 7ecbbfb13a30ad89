// SPDX-License-Identifier: Apache-2.0

package cose

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"io"
	"sync/atomic"

	"sealift/cose/wire"
)

const (
	// MaxGCMPayload bounds plaintexts under AES-GCM: they are buffered, because no byte may be released before the tag at
	// the end was checked. Larger payloads take AES-CTR and a digest.
	MaxGCMPayload = 16 << 20

	gcmIVSize      = 12
	gcmLooseIVSize = 16 // seen in examples of suit-firmware-encryption's tools; accepted, never made
	gcmTagSize     = 16
	streamBuffer   = 256 << 10
	contextEncrypt = "Encrypt"
)

// ContentCipher turns one payload into ciphertext, or back. It is made by NewEncrypter or OpenInfo.
type ContentCipher interface {
	// Seal encrypts src into dst and returns the number of bytes written. It works once, and only on a cipher that
	// NewEncrypter made: a second payload under the same key and IV would betray both.
	Seal(dst io.Writer, src io.Reader) (n int64, err error)
	// Open decrypts src into dst and returns the number of bytes written. AES-GCM writes nothing unless the whole
	// ciphertext is authentic. AES-CTR streams, and what it writes is to be trusted only after its digest was checked.
	Open(dst io.Writer, src io.Reader) (n int64, err error)
}

// contentKeySize gives the size in bytes of the keys of a content encryption algorithm, and whether it authenticates.
func contentKeySize(alg Algorithm) (size int, aead bool, err error) {
	switch alg {
	case AlgA128GCM:
		return 16, true, nil
	case AlgA256GCM:
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
	block   cipher.Block
	iv      []byte
	aad     []byte      // of an AEAD
	sealing atomic.Bool // may still encrypt
}

// newContent makes the cipher of alg. protected is the content's protected header as received.
func newContent(alg Algorithm, key, iv, protected []byte) (ContentCipher, *content, error) {
	size, aead, err := contentKeySize(alg)
	if err != nil {
		return nil, nil, err
	}
	if len(key) != size {
		return nil, nil, malformedf("content key of %d bytes for %v", len(key), alg)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	c := &content{block: block, iv: bytes.Clone(iv)}
	if !aead {
		if len(iv) != aes.BlockSize {
			return nil, nil, malformedf("IV of %d bytes for %v", len(iv), alg)
		}
		return &ctrContent{c}, c, nil
	}
	if len(iv) != gcmIVSize && len(iv) != gcmLooseIVSize {
		return nil, nil, malformedf("IV of %d bytes for %v", len(iv), alg)
	}
	// Enc_structure of RFC 9052 section 5.3, without external data.
	c.aad = wire.AppendText(wire.AppendArray(nil, 3), contextEncrypt)
	c.aad = wire.AppendBytes(wire.AppendBytes(c.aad, protected), nil)
	gcm, err := cipher.NewGCMWithNonceSize(block, len(iv))
	if err != nil {
		return nil, nil, err
	}
	return &gcmContent{c, gcm}, c, nil
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
	var total int64
	for {
		n, err := src.Read(buf)
		if n > 0 {
			stream.XORKeyStream(buf[:n], buf[:n])
			w, werr := dst.Write(buf[:n])
			total += int64(w)
			if werr != nil {
				return total, werr
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// gcmContent is AES-GCM over a bounded, buffered payload.
type gcmContent struct {
	*content
	gcm cipher.AEAD
}

func (c *gcmContent) Seal(dst io.Writer, src io.Reader) (int64, error) {
	plain, err := readBounded(src, MaxGCMPayload)
	if err != nil {
		return 0, err
	}
	if err := c.startSeal(); err != nil {
		return 0, err
	}
	n, err := dst.Write(c.gcm.Seal(plain[:0], c.iv, plain, c.aad))
	return int64(n), err
}

func (c *gcmContent) Open(dst io.Writer, src io.Reader) (int64, error) {
	sealed, err := readBounded(src, MaxGCMPayload+gcmTagSize)
	if err != nil {
		return 0, err
	}
	plain, err := c.gcm.Open(sealed[:0], c.iv, sealed, c.aad)
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
