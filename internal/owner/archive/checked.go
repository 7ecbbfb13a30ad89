// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
)

// checked passes content on and compares its size and digest at the end: a reader that saw EOF has seen the right bytes.
type checked struct {
	r    io.ReadCloser
	blob Blob
	hash hash.Hash
	n    int64
}

func newChecked(r io.ReadCloser, b Blob) *checked { return &checked{r: r, blob: b, hash: sha256.New()} }

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.hash.Write(p[:n])
	c.n += int64(n)
	if c.n > c.blob.Size || (err == io.EOF && c.n < c.blob.Size) {
		return 0, fmt.Errorf("%w: blob %s has another size than %d bytes", ErrFormat, c.blob.Digest, c.blob.Size)
	}
	if err == io.EOF && "sha256:"+hex.EncodeToString(c.hash.Sum(nil)) != c.blob.Digest {
		return 0, fmt.Errorf("%w: blob %s has other bytes", ErrFormat, c.blob.Digest)
	}
	return n, err
}

func (c *checked) Close() error { return c.r.Close() }

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func bytesOpener(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}
