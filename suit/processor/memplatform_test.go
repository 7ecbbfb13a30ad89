// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"

	"sealift/cose"
	"sealift/suit"
)

// memPlatform is a whole device in memory. Changes are staged in the same maps that reads see; a test that cares about
// commit compares before and after.
type memPlatform struct {
	vendors, classes, devices [][]byte
	components                map[string][]byte
	manifests                 map[string][]byte
	sequences                 map[string]uint64
	references                map[string]int
	web                       map[string][]byte
	slots                     map[string]uint64
	keys                      memKeys
	deny                      func(signer *cose.Key, c suit.ComponentID) error

	invoked  []string
	args     [][]byte
	creates  []string        // in order
	removed  []string        // in order
	accessed map[string]bool // every identifier that was asked for
	written  int64
	fetched  []string
	aborted  int
	finished int    // writers that were closed
	failOn   string // component whose writer fails at Close
}

type memKeys struct {
	ecdh []*ecdh.PrivateKey
	kek  [][]byte
}

func (k memKeys) ECDH([]byte) []*ecdh.PrivateKey { return k.ecdh }
func (k memKeys) KEK([]byte) [][]byte            { return k.kek }

func newMemPlatform() *memPlatform {
	return &memPlatform{
		components: map[string][]byte{}, manifests: map[string][]byte{}, sequences: map[string]uint64{},
		references: map[string]int{}, web: map[string][]byte{}, slots: map[string]uint64{}, accessed: map[string]bool{},
	}
}

func (p *memPlatform) see(c suit.ComponentID) string {
	p.accessed[c.String()] = true
	return c.String()
}

func (p *memPlatform) VendorIDs(suit.ComponentID) [][]byte { return p.vendors }
func (p *memPlatform) ClassIDs(suit.ComponentID) [][]byte  { return p.classes }
func (p *memPlatform) DeviceIDs(suit.ComponentID) [][]byte { return p.devices }

func (p *memPlatform) Authorize(signer *cose.Key, c suit.ComponentID) error {
	if p.deny != nil {
		return p.deny(signer, c)
	}
	return nil
}

func (p *memPlatform) InstalledSequence(manifest suit.ComponentID) (uint64, bool) {
	n, ok := p.sequences[manifest.String()]
	return n, ok
}

func (p *memPlatform) content(c suit.ComponentID) ([]byte, error) {
	data, ok := p.components[p.see(c)]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: c.String(), Err: fs.ErrNotExist}
	}
	return data, nil
}

func (p *memPlatform) Size(_ context.Context, c suit.ComponentID) (int64, error) {
	data, err := p.content(c)
	return int64(len(data)), err
}

func (p *memPlatform) Digest(_ context.Context, c suit.ComponentID, alg cose.Algorithm) (suit.Digest, error) {
	data, err := p.content(c)
	if err != nil {
		return suit.Digest{}, err
	}
	return suit.Digest{Alg: alg}.Of(data)
}

func (p *memPlatform) Open(_ context.Context, c suit.ComponentID) (io.ReadCloser, error) {
	data, err := p.content(c)
	return io.NopCloser(bytes.NewReader(data)), err
}

func (p *memPlatform) Create(_ context.Context, c suit.ComponentID) (Writer, error) {
	p.creates = append(p.creates, p.see(c))
	return &memWriter{platform: p, name: c.String()}, nil
}

type memWriter struct {
	bytes.Buffer
	platform *memPlatform
	name     string
	done     bool
}

func (w *memWriter) Write(b []byte) (int, error) {
	w.platform.written += int64(len(b))
	return w.Buffer.Write(b)
}

func (w *memWriter) Close() error {
	if w.done {
		return errors.New("writer used twice")
	}
	w.done = true
	if w.platform.failOn == w.name {
		return errors.New("no space left on device")
	}
	w.platform.finished++
	w.platform.components[w.name] = w.Bytes()
	return nil
}

func (w *memWriter) Abort() error {
	if w.done {
		return errors.New("writer used twice")
	}
	w.done = true
	w.platform.aborted++
	return nil
}

func (p *memPlatform) Remove(_ context.Context, c suit.ComponentID) error {
	p.removed = append(p.removed, p.see(c))
	delete(p.components, c.String())
	delete(p.manifests, c.String())
	return nil
}

func (p *memPlatform) Unlink(_ context.Context, _, c suit.ComponentID) (int, error) {
	key := p.see(c)
	if p.references[key] > 0 {
		p.references[key]--
	}
	return p.references[key], nil
}

func (p *memPlatform) Fetch(_ context.Context, uri string, _ int64) (io.ReadCloser, error) {
	p.fetched = append(p.fetched, uri)
	data, ok := p.web[uri]
	if !ok {
		return nil, fmt.Errorf("%s: %w", uri, fs.ErrNotExist)
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (p *memPlatform) Keys() cose.Recipients { return p.keys }

func (p *memPlatform) Dependency(_ context.Context, manifest suit.ComponentID) ([]byte, error) {
	data, ok := p.manifests[p.see(manifest)]
	if !ok {
		return nil, fmt.Errorf("manifest %v: %w", manifest, fs.ErrNotExist)
	}
	return data, nil
}

func (p *memPlatform) Invoke(_ context.Context, c suit.ComponentID, args []byte) error {
	p.invoked = append(p.invoked, p.see(c))
	p.args = append(p.args, args)
	return nil
}

func (p *memPlatform) Swap(_ context.Context, a, b suit.ComponentID) error {
	x, y := p.see(a), p.see(b)
	p.components[x], p.components[y] = p.components[y], p.components[x]
	return nil
}

func (p *memPlatform) Slot(c suit.ComponentID) (uint64, bool) {
	slot, ok := p.slots[c.String()]
	return slot, ok
}

// commit does what a caller does after a successful update.
func (p *memPlatform) commit(out *Outcome) {
	for _, ran := range out.Manifests {
		p.manifests[ran.Name.String()] = ran.Manifest.Envelope.Bytes()
		p.sequences[ran.Name.String()] = ran.Manifest.Sequence
		if ran.Stored {
			continue
		}
		for _, id := range append(ran.Components, ran.Dependencies...) {
			p.references[id.String()]++
		}
	}
}

func (p *memPlatform) copyComponents() map[string][]byte { return maps.Clone(p.components) }

// Platforms without slots and swap: the embedded interface hides the optional methods.
type plainPlatform struct{ Platform }
