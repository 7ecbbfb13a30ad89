// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
)

// Limits bound what an image may make of the TEE's memory. Zero means the default beside it.
type Limits struct {
	Bytes int64 // of all files of all layers, also of those that an upper layer removes; 1 GiB
	Files int   // entries of all layers, and the folders that they need; 100000
}

func (l Limits) withDefaults() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 1 << 30
	}
	if l.Files <= 0 {
		l.Files = 100_000
	}
	return l
}

// Unpack verifies the payload that open gives and applies its layers to root, an empty folder that nobody else changes
// meanwhile (layer.md). It returns the image's configuration and the SHA-256 of the payload. open is called a second time only for
// an image that has one layer twice.
//
// Nothing of an image leaves root: paths with ".." are refused, links on the way are resolved by the rules of a root file
// system, and every access goes through os.Root, which would refuse what slipped through. Device nodes and pipes are refused.
// Owners and the bits setuid, setgid and sticky are dropped: the container has one user. After an error root holds a part of
// the image, for the caller to remove.
func Unpack(ctx context.Context, open func() (io.ReadCloser, error), root *os.Root, arch string, l Limits) (*Config, [32]byte, error) {
	r, err := open()
	if err != nil {
		return nil, [32]byte{}, err
	}
	defer r.Close()
	payload := newDigested(ctxReader{ctx, r})
	defer payload.end()
	la := layout{tar.NewReader(payload)}
	m, c, err := la.open(arch)
	if err != nil {
		return nil, [32]byte{}, err
	}
	l = l.withDefaults()
	a := &applier{root: root, left: l.Bytes, files: l.Files, inflate: l.Bytes + 2048*int64(l.Files) + 1<<20}
	done := map[string]bool{}
	for i, d := range m.Layers {
		if done[d.Digest] {
			err = again(ctx, open, a, d, c.RootFS.DiffIDs[i])
		} else {
			err = nextLayer(la, a, d, c.RootFS.DiffIDs[i])
		}
		if err != nil {
			return nil, [32]byte{}, fmt.Errorf("layer %d of %d: %w", i+1, len(m.Layers), err)
		}
		done[d.Digest] = true
	}
	if h, err := la.tr.Next(); !errors.Is(err, io.EOF) {
		return nil, [32]byte{}, fmt.Errorf("%w: more after the last layer: %v %w", ErrMalformed, h != nil, err)
	}
	if _, err := io.Copy(io.Discard, payload); err != nil { // padding, which belongs to the payload's digest
		return nil, [32]byte{}, err
	}
	return c, payload.end(), nil
}

// nextLayer applies the layer that comes next in the payload.
func nextLayer(la layout, a *applier, d Descriptor, diffID string) error {
	h, err := la.next(blobName(d))
	if err != nil {
		return err
	}
	if h.Size != d.Size {
		return fmt.Errorf("%w: %s has %d bytes, not %d", ErrDigest, d.Digest, h.Size, d.Size)
	}
	return a.layer(la.tr, d, diffID)
}

// again applies a layer that was already passed.
func again(ctx context.Context, open func() (io.ReadCloser, error), a *applier, d Descriptor, diffID string) error {
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	tr := tar.NewReader(bufio.NewReaderSize(ctxReader{ctx, r}, 256<<10))
	for {
		h, err := tr.Next()
		if err != nil {
			return fmt.Errorf("%w: %s is missing: %w", ErrMalformed, d.Digest, err)
		}
		if h.Name == blobName(d) {
			return a.layer(tr, d, diffID)
		}
	}
}

// layer unpacks and applies one layer, and compares both of its digests.
func (a *applier) layer(r io.Reader, d Descriptor, diffID string) error {
	zipped, err := compression(d.MediaType)
	if err != nil {
		return err
	}
	blob := bufio.NewReaderSize(newChecked(r, d), 64<<10)
	content := io.Reader(blob)
	if zipped {
		gz, err := gzip.NewReader(blob)
		if err != nil {
			return broken(err)
		}
		defer gz.Close()
		content = gz
	}
	unpacked := &meter{r: content, a: a}
	if zipped {
		unpacked.hash = sha256.New()
	}
	if err := a.apply(tar.NewReader(unpacked)); err != nil {
		return broken(err)
	}
	if _, err := io.Copy(io.Discard, unpacked); err != nil {
		return broken(err)
	}
	if _, err := io.Copy(io.Discard, blob); err != nil {
		return broken(err)
	}
	digest := d.Digest // of what was not compressed the two are the same
	if zipped {
		digest = "sha256:" + hex.EncodeToString(unpacked.hash.Sum(nil))
	}
	if digest != diffID {
		return fmt.Errorf("%w: unpacked, it is not %.80q", ErrDigest, diffID)
	}
	return nil
}

// broken gives an error of a decoder its kind, unless it has one.
func broken(err error) error {
	var path *os.PathError
	for _, known := range []error{ErrDigest, ErrEntry, ErrLimit, ErrMalformed, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, known) {
			return err
		}
	}
	if errors.As(err, &path) {
		return fmt.Errorf("oci: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrMalformed, err)
}

// meter hashes an unpacked layer and bounds what decompression can make of few bytes.
type meter struct {
	r    io.Reader
	a    *applier
	hash hash.Hash // nil: not wanted
}

// Read implements io.Reader.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if m.hash != nil {
		m.hash.Write(p[:n])
	}
	if m.a.inflate -= int64(n); m.a.inflate < 0 {
		return 0, fmt.Errorf("%w: unpacked, its layers have too many bytes", ErrLimit)
	}
	return n, err
}

// ctxReader ends with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
