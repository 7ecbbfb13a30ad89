// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"bytes"
	"context"
	"io"

	"sealift/cose"
	"sealift/suit"
)

// benchPlatform is a device with one component that costs next to nothing, so that a benchmark shows the processor.
type benchPlatform struct {
	*memPlatform
	payload []byte // what every fetch delivers
	content []byte
	written bool
	source  bytes.Reader
}

func (p *benchPlatform) Fetch(context.Context, string, int64) (io.ReadCloser, error) {
	p.source.Reset(p.payload)
	return p, nil
}

func (p *benchPlatform) Read(b []byte) (int, error) { return p.source.Read(b) }
func (p *benchPlatform) Close() error               { return nil }
func (p *benchPlatform) Abort() error               { return nil }

func (p *benchPlatform) Create(context.Context, suit.ComponentID) (Writer, error) {
	p.content, p.written = p.content[:0], true
	return p, nil
}

func (p *benchPlatform) Write(b []byte) (int, error) {
	p.content = append(p.content, b...)
	return len(b), nil
}

func (p *benchPlatform) Size(context.Context, suit.ComponentID) (int64, error) {
	if !p.written {
		return 0, errAbsent
	}
	return int64(len(p.content)), nil
}

func (p *benchPlatform) InstalledSequence(suit.ComponentID) (uint64, bool) { return 0, false }

func (p *benchPlatform) Digest(_ context.Context, _ suit.ComponentID, alg cose.Algorithm) (suit.Digest, error) {
	return suit.Digest{Alg: alg}.Of(p.content)
}
