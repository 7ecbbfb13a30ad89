// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/processor"
)

// folder is a device whose components are files in one folder, which os.Root does not let anything leave.
type folder struct {
	root    *os.Root
	setup   Setup
	effects []string
}

func (f *folder) did(format string, args ...any) {
	f.effects = append(f.effects, fmt.Sprintf(format, args...))
}

// fileName makes a file name of an identifier. It has a letter in front, so that none is "." or "..", and "+" for "/".
func fileName(c suit.ComponentID) string {
	s := "c-" + strings.ReplaceAll(c.String(), "/", "+")
	if len(s) > 200 {
		s = fmt.Sprintf("h-%x", sha256.Sum256([]byte(s)))
	}
	return s
}

func (f *folder) VendorIDs(suit.ComponentID) [][]byte { return f.setup.Vendors }
func (f *folder) ClassIDs(suit.ComponentID) [][]byte  { return f.setup.Classes }
func (f *folder) DeviceIDs(suit.ComponentID) [][]byte { return f.setup.Devices }

func (f *folder) Authorize(*cose.Key, suit.ComponentID) error { return nil }

func (f *folder) InstalledSequence(suit.ComponentID) (uint64, bool) {
	return f.setup.Sequence, f.setup.Sequence > 0
}

func (f *folder) Size(_ context.Context, c suit.ComponentID) (int64, error) {
	st, err := f.root.Stat(fileName(c))
	if err != nil {
		return 0, missing(c, err)
	}
	return st.Size(), nil
}

func missing(c suit.ComponentID, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("component %v: %w", c, fs.ErrNotExist)
	}
	return fmt.Errorf("component %v: %w", c, err)
}

func (f *folder) Digest(ctx context.Context, c suit.ComponentID, alg cose.Algorithm) (suit.Digest, error) {
	h, err := suit.NewHash(alg)
	if err != nil {
		return suit.Digest{}, err
	}
	r, err := f.Open(ctx, c)
	if err != nil {
		return suit.Digest{}, err
	}
	defer r.Close()
	if _, err := io.Copy(h, r); err != nil {
		return suit.Digest{}, err
	}
	return suit.Digest{Alg: alg, Bytes: h.Sum(nil)}, nil
}

func (f *folder) Open(_ context.Context, c suit.ComponentID) (io.ReadCloser, error) {
	r, err := f.root.Open(fileName(c))
	if err != nil {
		return nil, missing(c, err)
	}
	return r, nil
}

// Create writes beside the component; Close puts the new content in its place.
func (f *folder) Create(_ context.Context, c suit.ComponentID) (processor.Writer, error) {
	w, err := f.root.Create("new")
	if err != nil {
		return nil, err
	}
	return &writer{File: w, folder: f, component: c}, nil
}

type writer struct {
	*os.File
	folder    *folder
	component suit.ComponentID
	n         int64
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.File.Write(p)
	w.n += int64(n)
	return n, err
}

func (w *writer) Close() error {
	err := w.File.Close()
	if err == nil {
		err = w.folder.root.Rename("new", fileName(w.component))
	}
	if err == nil {
		w.folder.did("wrote %v, %d bytes", w.component, w.n)
	}
	return err
}

func (w *writer) Abort() error {
	w.folder.did("dropped %d bytes of what would become %v", w.n, w.component)
	return errors.Join(w.File.Close(), w.folder.root.Remove("new"))
}

func (f *folder) CreateWith(ctx context.Context, c suit.ComponentID, m *suit.Metadata) (processor.Writer, error) {
	f.did("metadata of %v: %+v", c, *m)
	return f.Create(ctx, c)
}

func (f *folder) Remove(_ context.Context, c suit.ComponentID) error {
	if err := f.root.Remove(fileName(c)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f.did("removed %v", c)
	return nil
}

func (f *folder) Unlink(_ context.Context, _, c suit.ComponentID) (int, error) {
	f.did("unlinked %v, which nothing else refers to", c)
	return 0, nil
}

// Fetch serves what the caller gave a file for, and nothing from any network.
func (f *folder) Fetch(_ context.Context, uri string, _ int64) (io.ReadCloser, error) {
	data, ok := f.setup.Payloads[uri]
	if !ok {
		return nil, fmt.Errorf("no file was given for %q: %w", uri, fs.ErrNotExist)
	}
	f.did("fetched %q", uri)
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (f *folder) Keys() cose.Recipients { return f.setup.Ring }

func (f *folder) Dependency(_ context.Context, manifest suit.ComponentID) ([]byte, error) {
	data, ok := f.setup.Dependencies[manifest.String()]
	if !ok {
		return nil, fmt.Errorf("no stored manifest %v was given: %w", manifest, fs.ErrNotExist)
	}
	return data, nil
}

func (f *folder) Invoke(_ context.Context, c suit.ComponentID, args []byte) error {
	f.did("would start %v with %d bytes of arguments", c, len(args))
	return nil
}

func (f *folder) Swap(_ context.Context, a, b suit.ComponentID) error {
	for _, step := range [][2]string{{fileName(a), "new"}, {fileName(b), fileName(a)}, {"new", fileName(b)}} {
		if err := f.root.Rename(step[0], step[1]); err != nil {
			return err
		}
	}
	f.did("swapped %v and %v", a, b)
	return nil
}

func (f *folder) Slot(suit.ComponentID) (uint64, bool) { return f.setup.Slot, true }

func (f *folder) Now() (time.Time, bool) { return f.setup.Now, true }

func (f *folder) BatteryLevel() (uint64, bool) { return f.setup.Battery, true }

func (f *folder) AuthorizeUpdate(context.Context, *suit.Verified, int64) error { return nil }

func (f *folder) Version(suit.ComponentID) (suit.Version, bool) {
	return f.setup.Version, f.setup.Version != nil
}

func (f *folder) CanWait(suit.WaitEvent) bool { return true }

func (f *folder) Wait(_ context.Context, all suit.WaitInfo) error {
	f.did("would wait for %d events", len(all))
	return nil
}
