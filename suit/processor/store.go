// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync"

	"sealift/suit"
)

// transfer describes one stream into a component.
type transfer struct {
	fill  func(w io.Writer) error
	limit int64       // bytes at most
	want  suit.Params // of the component: image-digest makes the stream be hashed
	sum   []byte      // SHA-256 that the stream must have, or nil
	note  suit.Params // further properties for the report
}

// store streams into a component, counting and hashing on the way.
func (m *machine) store(c *component, t transfer) error {
	sink := &m.sink // one transfer at a time
	*sink = boundedWriter{left: min(t.limit, m.options.Limits.TotalBytes-m.written)}
	want, hasDigest := t.want.Digest()
	if t.sum != nil && !hasDigest {
		want.Alg = suit.AlgSHA256
	}
	if hasDigest || t.sum != nil {
		h, err := suit.NewHash(want.Alg)
		if err != nil {
			return err
		}
		sink.hash = h
	}
	w, err := m.create(c, t.want)
	if err != nil {
		return fmt.Errorf("create %v: %w", c.id, err)
	}
	sink.dst = w
	own, hashes := w.(Digester)
	if hashes = hashes && sink.hash != nil && own.Algorithm() == want.Alg; hashes {
		sink.hash = nil
	}
	err = t.fill(sink)
	m.written += sink.n
	got := suit.Digest{}
	switch {
	case hashes:
		got = suit.Digest{Alg: want.Alg, Bytes: own.Sum()}
	case sink.hash != nil:
		got = suit.Digest{Alg: want.Alg, Bytes: sink.hash.Sum(nil)}
	}
	if err == nil && t.sum != nil && want.Alg == suit.AlgSHA256 && subtle.ConstantTimeCompare(t.sum, got.Bytes) != 1 {
		err = fmt.Errorf("%w: the URI names other content", suit.ErrDigest)
	}
	if err != nil {
		w.Abort()
		return fmt.Errorf("write %v: %w", c.id, err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("write %v: %w", c.id, err)
	}
	m.stored(c, sink.n, got, hasDigest, t.note)
	return nil
}

// create opens a component for writing, with its metadata where parameter component-metadata is set.
func (m *machine) create(c *component, params suit.Params) (Writer, error) {
	encoded, ok := params.Bytes(suit.ParamComponentMetadata)
	if !ok {
		return m.platform.Create(m.ctx, c.id)
	}
	meta, err := suit.ParseMetadata(encoded)
	if err != nil {
		return nil, err
	}
	return m.platform.(MetadataWriter).CreateWith(m.ctx, c.id, meta)
}

// stored notes the new content of a component.
func (m *machine) stored(c *component, n int64, got suit.Digest, hasDigest bool, note suit.Params) {
	c.forget()
	properties := note.Clone()
	if properties == nil {
		properties = suit.Params{suit.ParamSize: uint64(n)}
	}
	done := Touched{Size: n}
	if hasDigest {
		c.state.digest = got
		properties[suit.ParamDigest] = c.state.digestRecord(got)[suit.ParamDigest]
		done.Digest = got
	}
	m.touch(c, done, properties)
}

// boundedWriter refuses the first byte over its limit.
type boundedWriter struct {
	dst  io.Writer
	hash hash.Hash
	n    int64
	left int64
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrLimit, b.n+b.left)
	}
	n, err := b.dst.Write(p)
	b.n += int64(n)
	b.left -= int64(n)
	if b.hash != nil {
		b.hash.Write(p[:n])
	}
	return n, err
}

// Payloads are copied in pieces of this size.
const pieceBytes = 256 << 10

var pieces = sync.Pool{New: func() any { return new([pieceBytes]byte) }}

// copyStream copies without the short cuts of io.Copy, so that every byte passes in pieces of bounded size. Like io.Copy it
// takes whatever a Read delivers before its error.
func copyStream(w io.Writer, r io.Reader) error {
	piece := pieces.Get().(*[pieceBytes]byte)
	defer pieces.Put(piece)
	for {
		n, err := r.Read(piece[:])
		if n > 0 {
			if _, werr := w.Write(piece[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// ni returns the SHA-256 that a URI of RFC 6920 names ("ni:///sha-256;..."), or nil for any other URI.
func ni(uri string) []byte {
	rest, ok := strings.CutPrefix(uri, "ni://")
	if !ok {
		return nil
	}
	_, rest, ok = strings.Cut(rest, "/sha-256;")
	if !ok {
		return nil
	}
	rest, _, _ = strings.Cut(rest, "?")
	sum, err := base64.RawURLEncoding.DecodeString(rest)
	if err != nil || len(sum) != 32 {
		return nil
	}
	return sum
}
