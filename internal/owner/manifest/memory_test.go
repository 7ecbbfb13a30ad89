// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"fmt"
	"io"
	"io/fs"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/processor"
	"sealift/usecase"
)

// memory is a device that keeps components in maps: the abstract machine without a TEE. What a run stages is visible at once; a
// test that wants a failed run to leave nothing looks at the error.
type memory struct {
	cell       usecase.Cell
	components map[string][]byte
	manifests  map[string][]byte // envelopes by manifest-component-id
	remote     map[string][]byte // what Fetch finds, by URI
	key        *ecdsa.PrivateKey // opens payloads
	invoked    []string
	args       map[string][]byte
	fetched    int
}

func newMemory(cell usecase.Cell, key *ecdsa.PrivateKey) *memory {
	return &memory{cell: cell, key: key, components: map[string][]byte{}, manifests: map[string][]byte{}, remote: map[string][]byte{},
		args: map[string][]byte{}}
}

func (m *memory) VendorIDs(suit.ComponentID) [][]byte {
	id := suit.VendorID(suit.SealiftVendorDomain)
	return [][]byte{id[:]}
}

func (m *memory) ClassIDs(suit.ComponentID) [][]byte {
	id := suit.ClassID(suit.VendorID(suit.SealiftVendorDomain), m.cell.String())
	return [][]byte{id[:]}
}

func (m *memory) DeviceIDs(suit.ComponentID) [][]byte { return nil }

func (m *memory) Authorize(_ *cose.Key, c suit.ComponentID) error {
	if len(c) != 3 || string(c[1]) != "stats" {
		return fmt.Errorf("%v is not this application's", c)
	}
	return nil
}

func (m *memory) InstalledSequence(id suit.ComponentID) (uint64, bool) {
	envelope, ok := m.manifests[id.String()]
	if !ok {
		return 0, false
	}
	e, err := suit.ParseEnvelope(envelope)
	if err != nil {
		return 0, false
	}
	man, err := e.ManifestInsecure()
	return man.Sequence, err == nil
}

func (m *memory) Size(_ context.Context, c suit.ComponentID) (int64, error) {
	data, ok := m.components[c.String()]
	if !ok {
		return 0, fs.ErrNotExist
	}
	return int64(len(data)), nil
}

func (m *memory) Digest(_ context.Context, c suit.ComponentID, alg cose.Algorithm) (suit.Digest, error) {
	data, ok := m.components[c.String()]
	if !ok {
		return suit.Digest{}, fs.ErrNotExist
	}
	return suit.Digest{Alg: alg}.Of(data)
}

func (m *memory) Open(_ context.Context, c suit.ComponentID) (io.ReadCloser, error) {
	data, ok := m.components[c.String()]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (m *memory) Create(_ context.Context, c suit.ComponentID) (processor.Writer, error) {
	return &memoryWriter{m: m, id: c.String()}, nil
}

func (m *memory) Remove(_ context.Context, c suit.ComponentID) error {
	delete(m.components, c.String())
	delete(m.manifests, c.String())
	return nil
}

func (m *memory) Unlink(context.Context, suit.ComponentID, suit.ComponentID) (int, error) {
	return 0, nil
}

func (m *memory) Fetch(_ context.Context, uri string, limit int64) (io.ReadCloser, error) {
	data, ok := m.remote[uri]
	if !ok {
		return nil, fmt.Errorf("%s: %w", uri, fs.ErrNotExist)
	}
	m.fetched++
	return io.NopCloser(io.LimitReader(bytes.NewReader(data), limit)), nil
}

func (m *memory) Keys() cose.Recipients { return m }

func (m *memory) ECDH([]byte) []*ecdh.PrivateKey {
	priv, err := m.key.ECDH()
	if err != nil {
		return nil
	}
	return []*ecdh.PrivateKey{priv}
}

func (m *memory) KEK([]byte) [][]byte { return nil }

func (m *memory) Dependency(_ context.Context, id suit.ComponentID) ([]byte, error) {
	envelope, ok := m.manifests[id.String()]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return envelope, nil
}

func (m *memory) Invoke(_ context.Context, c suit.ComponentID, args []byte) error {
	m.invoked = append(m.invoked, c.String())
	m.args[c.String()] = args
	return nil
}

type memoryWriter struct {
	bytes.Buffer
	m  *memory
	id string
}

func (w *memoryWriter) Close() error {
	w.m.components[w.id] = bytes.Clone(w.Bytes())
	return nil
}

func (w *memoryWriter) Abort() error { return nil }
