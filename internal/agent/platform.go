// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"

	"sealift/cose"
	"sealift/internal/agent/vault"
	"sealift/internal/channel"
	"sealift/suit"
	"sealift/suit/processor"
)

// VendorIDs implements processor.Platform.
func (t *transaction) VendorIDs(suit.ComponentID) [][]byte {
	vendor := suit.VendorID(suit.SealiftVendorDomain)
	return [][]byte{vendor[:]}
}

// ClassIDs implements processor.Platform: what the measured configuration says about this instance.
func (t *transaction) ClassIDs(suit.ComponentID) [][]byte {
	class := suit.ClassID(suit.VendorID(suit.SealiftVendorDomain), t.a.config.Hardware+"/"+t.a.config.Instance)
	return [][]byte{class[:]}
}

// DeviceIDs implements processor.Platform: the first 16 bytes of the random part of the device's UEID.
func (t *transaction) DeviceIDs(suit.ComponentID) [][]byte { return [][]byte{t.a.hw.UEID[1:17]} }

// Authorize implements processor.Platform.
func (t *transaction) Authorize(signer *cose.Key, c suit.ComponentID) error {
	return t.a.authorize(signer, c)
}

// InstalledSequence implements processor.Platform.
func (t *transaction) InstalledSequence(id suit.ComponentID) (uint64, bool) {
	if m := t.next.manifest(id); m != nil {
		return m.Sequence, true
	}
	return 0, false
}

// find returns a component as this transaction sees it. One that the REE has lost does not exist.
func (t *transaction) find(id suit.ComponentID) (*component, error) {
	c := t.next.component(id)
	if c == nil || c.Blob == nil && !t.booting && t.a.isLost(id.String()) && !t.staged(id) {
		return nil, fmt.Errorf("agent: %s: %w", id, fs.ErrNotExist)
	}
	return c, nil
}

func (t *transaction) staged(id suit.ComponentID) bool {
	return slices.ContainsFunc(t.ree, func(s *reeStage) bool { return s.id.Equal(id) })
}

// Size implements processor.Platform.
func (t *transaction) Size(_ context.Context, id suit.ComponentID) (int64, error) {
	c, err := t.find(id)
	if err != nil {
		return 0, err
	}
	return c.Size, nil
}

// Digest implements processor.Platform. The SHA-256 was computed while the component was written and is kept in the sealed state;
// other digests need the bytes.
func (t *transaction) Digest(_ context.Context, id suit.ComponentID, alg cose.Algorithm) (suit.Digest, error) {
	c, err := t.find(id)
	if err != nil {
		return suit.Digest{}, err
	}
	if c.Digest.Alg == alg {
		return c.Digest, nil
	}
	h, err := suit.NewHash(alg)
	if err != nil {
		return suit.Digest{}, err
	}
	if c.Blob == nil {
		return suit.Digest{}, fmt.Errorf("%w: %s is in the REE and was not hashed with algorithm %d", suit.ErrUnsupported, id, alg)
	}
	r, err := t.a.vault.Open(*c.Blob)
	if err != nil {
		return suit.Digest{}, err
	}
	defer r.Close()
	if _, err := io.Copy(h, r); err != nil {
		return suit.Digest{}, err
	}
	return suit.Digest{Alg: alg, Bytes: h.Sum(nil)}, nil
}

// Open implements processor.Platform. Only ciphertext that waits to be copied can be read: no command of a manifest gets at the bytes of
// a TA or of PD, so none can copy them into a component of the REE.
func (t *transaction) Open(_ context.Context, id suit.ComponentID) (io.ReadCloser, error) {
	c, err := t.find(id)
	if err != nil {
		return nil, err
	}
	if class(id) != classStaged || c.Blob == nil {
		return nil, fmt.Errorf("%w: %s is not a source", errWayOut, id)
	}
	r, err := t.a.vault.Open(*c.Blob)
	if err != nil {
		return nil, err
	}
	t.source = c.Digest.Bytes
	if err := t.flow(); err != nil {
		t.source = nil
		return nil, errors.Join(err, r.Close())
	}
	return &sourceReader{r, t}, nil
}

type sourceReader struct {
	io.ReadCloser
	t *transaction
}

func (r *sourceReader) Close() error {
	r.t.source = nil
	return r.ReadCloser.Close()
}

// flow is called when a source is opened and when a target is created, in whichever order a copy does that. It makes sure that
// one ciphertext has one kind of destination: what was opened as a TA or PD is never opened again as something for the REE.
func (t *transaction) flow() error {
	if t.source == nil || t.target == nil {
		return nil
	}
	out := class(t.target.id) == classREE
	for _, c := range t.next.Components {
		if slices.Equal(c.Origin, t.source) && (class(c.ID) == classREE) != out {
			return fmt.Errorf("%w: the ciphertext of %s is also that of %s", errWayOut, t.target.id, c.ID)
		}
	}
	t.target.origin = t.source
	return nil
}

// Create implements processor.Platform.
func (t *transaction) Create(ctx context.Context, id suit.ComponentID) (processor.Writer, error) {
	if !validID(id) || class(id) == classManifest {
		return nil, fmt.Errorf("%w: %s", processor.ErrUnsupportedComponent, id)
	}
	old := t.next.component(id)
	if old != nil && slices.ContainsFunc(old.Users, func(u string) bool { return u != t.root.String() }) {
		return nil, fmt.Errorf("agent: %s belongs to another manifest as well", id)
	}
	if old == nil && len(t.next.Components) >= int(t.a.limits.Components) {
		return nil, fmt.Errorf("%w: %d components", errLimit, t.a.limits.Components)
	}
	w := &stageWriter{t: t, id: id, hash: sha256.New(), left: t.room()}
	t.target = w
	err := t.flow()
	switch {
	case err != nil:
	case class(id) == classREE && !t.held:
		err = w.openREE(ctx)
	default:
		w.blob, err = t.blob()
	}
	if err != nil {
		t.target = nil
		return nil, err
	}
	return w, nil
}

// room is how many bytes a component may have now.
func (t *transaction) room() int64 {
	room := min(int64(t.a.limits.PayloadBytes), int64(t.a.limits.StoreBytes)-t.next.storedBytes())
	if t.live != nil {
		room = min(room, t.a.liveRoom()-t.next.liveBytes())
	}
	return room
}

// blob begins a blob of what is being installed: in sealed storage, or in memory only for what its owner delivers.
func (t *transaction) blob() (*vault.Writer, error) {
	if t.live != nil {
		return t.a.vault.CreateVolatile()
	}
	return t.a.vault.Create()
}

// Remove implements processor.Platform.
func (t *transaction) Remove(_ context.Context, id suit.ComponentID) error {
	if class(id) == classManifest {
		t.next.dropManifest(id)
		return nil
	}
	c := t.next.component(id)
	if c == nil {
		return nil
	}
	if slices.ContainsFunc(c.Users, func(u string) bool { return u != t.root.String() }) {
		return fmt.Errorf("agent: %s belongs to another manifest as well", id)
	}
	if c.Blob == nil {
		t.removed = append(t.removed, id)
	}
	t.next.dropComponent(id)
	return nil
}

// Unlink implements processor.Platform. An installed manifest counts as a reference to itself: it goes when a TAM says that it
// is not needed, not when its last dependent does.
func (t *transaction) Unlink(_ context.Context, manifest, id suit.ComponentID) (int, error) {
	if class(id) != classManifest {
		return t.next.unlink(manifest.String(), id), nil
	}
	if m := t.next.manifest(manifest); m != nil {
		m.Depends = slices.DeleteFunc(slices.Clone(m.Depends), id.Equal)
	}
	if t.next.manifest(id) == nil {
		return 0, nil
	}
	return 1 + len(t.next.dependents(id)), nil
}

// Fetch implements processor.Platform: the Broker gets the bytes, and nobody believes it. What an owner delivers it sends itself.
func (t *transaction) Fetch(ctx context.Context, uri string, limit int64) (io.ReadCloser, error) {
	if t.live != nil {
		r, err := t.live.fetch(uri, limit)
		if err != nil {
			return nil, err
		}
		return fetchedReader{r, t}, nil
	}
	b, err := t.a.brokerNow()
	if err != nil {
		return nil, err
	}
	r, err := b.Fetch(ctx, uri, limit)
	if err != nil {
		return nil, err
	}
	return fetchedReader{r, t}, nil
}

// Keys implements processor.Platform.
func (t *transaction) Keys() cose.Recipients { return t.keys }

// Dependency implements processor.Platform.
func (t *transaction) Dependency(_ context.Context, id suit.ComponentID) ([]byte, error) {
	m := t.next.manifest(id)
	if m == nil {
		return nil, fmt.Errorf("agent: %s: %w", id, fs.ErrNotExist)
	}
	return t.a.envelope(m)
}

// envelope reads a stored manifest.
func (a *Agent) envelope(m *manifest) ([]byte, error) {
	r, err := a.vault.Open(m.Envelope)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Invoke implements processor.Platform. A TA is started at once, or when its UA asks for it. A program of the REE is started when the
// transaction is committed or, where a TA is to be started after it, before that. The parameters are kept: they start the program
// again when only its data changes.
func (t *transaction) Invoke(ctx context.Context, id suit.ComponentID, args []byte) error {
	c, err := t.find(id)
	if err != nil {
		return err
	}
	if args == nil {
		args = []byte{}
	}
	switch class(id) {
	case classTEE:
		c.Args = args
		if c.Waits = t.mustWait(c); c.Waits {
			return nil
		}
		if len(t.starts) > 0 && !t.held { // the manifest has its UA first
			if err := t.stagedOut(ctx); err != nil {
				return err
			}
		}
		return t.startTA(ctx, c, args)
	case classREE:
		c.Args = args
		t.starts = append(t.starts, reeStart{id, args})
		return nil
	}
	return fmt.Errorf("%w: %s is no program", processor.ErrUnsupportedComponent, id)
}

// stageWriter takes the content of one component.
type stageWriter struct {
	t      *transaction
	id     suit.ComponentID
	blob   *vault.Writer
	ree    channel.REEWriter
	hash   hash.Hash
	size   int64
	left   int64
	origin []byte // digest of the ciphertext that the content was decrypted from
}

func (w *stageWriter) openREE(ctx context.Context) error {
	b, err := w.t.a.brokerNow()
	if err != nil {
		return err
	}
	w.ree, err = b.REEInstall(ctx, w.id)
	return err
}

func (w *stageWriter) Write(p []byte) (int, error) {
	if w.left -= int64(len(p)); w.left < 0 {
		return 0, fmt.Errorf("%w: %s is too large", errLimit, w.id)
	}
	w.hash.Write(p)
	w.size += int64(len(p))
	if w.ree != nil {
		return w.ree.Write(p)
	}
	return w.blob.Write(p)
}

// Close stages the content in the place of what was there.
func (w *stageWriter) Close() error {
	w.t.target = nil
	c := component{ID: w.id, Digest: suit.Digest{Alg: suit.AlgSHA256, Bytes: w.hash.Sum(nil)}, Size: w.size, Origin: w.origin}
	if w.ree != nil {
		w.t.ree = append(w.t.ree, &reeStage{id: w.id, writer: w.ree})
	} else {
		ref, err := w.blob.Close()
		if err != nil {
			return err
		}
		w.t.blobs = append(w.t.blobs, ref)
		c.Blob = &ref
	}
	if old := w.t.next.component(w.id); old != nil {
		c.Users, c.TA = old.Users, old.TA
		if !old.Digest.Equal(c.Digest) {
			c.TA = nil // another program gets other keys
		}
	}
	if class(w.id) == classTEE && c.TA == nil {
		var err error
		if c.TA, err = newTAKeys(w.t.a.opts.Rand); err != nil {
			return err
		}
	}
	w.t.next.putComponent(c)
	w.t.written = append(w.t.written, w.id)
	return nil
}

// Abort drops the content.
func (w *stageWriter) Abort() error {
	w.t.target = nil
	if w.ree != nil {
		return w.ree.Abort()
	}
	return w.blob.Abort()
}
