// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package ree is the REE half of a device's applications: it keeps the components that Agents hand out of their TEEs (the
// UAs), runs them as supervised programs, and gives each a Unix socket that reaches its TA.
//
// UAs are strangers to the Broker and to each other. Each runs under a user of its own, where the Broker is root, and in a sandbox of its
// own (sandbox.ProfileUA): of the host's files it sees its own folder, two sockets, and what is needed to find others in the network; it
// listens on its published ports and on no other; its limits bind all its processes together. See Host.Missing for what may not be had.
//
// A component is written to a staging file, synced, and renamed into place, so a crash leaves the old version or the new
// one, never a part. What a program is started with is stored beside it in the same way; after a crash of the Broker the
// programs come back without the Agents having to ask again.
package ree

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"sealift/internal/agentconfig"
	"sealift/internal/channel"
	"sealift/suit"
)

// File names within a component's folder.
const (
	programFile = "program"
	launchFile  = "launch.cbor"
	portsFile   = "ports.json"
	userFile    = "user"
	logFile     = "log"
	workDir     = "work"
)

const stagingDir = ".staging"

// key names a component of one TEE instance. Its parts have been checked: they are safe as file names.
type key struct{ instance, app, name string }

// keyOf checks that id is a component of the REE, ["ree", app, name]: nothing else can be addressed to it.
func keyOf(instance string, id suit.ComponentID) (key, error) {
	if len(id) != 3 || string(id[0]) != "ree" {
		return key{}, fmt.Errorf("%w: %s is not a component of the REE", channel.ErrRefused, id)
	}
	k := key{instance, string(id[1]), string(id[2])}
	for _, s := range []string{k.instance, k.app, k.name} {
		if !agentconfig.ValidName(s) {
			return key{}, fmt.Errorf("%w: the name %q is not allowed", channel.ErrRefused, s)
		}
	}
	return k, nil
}

func (k key) id() suit.ComponentID {
	return suit.ComponentID{[]byte("ree"), []byte(k.app), []byte(k.name)}
}

// Store keeps components in files. All its methods may be called concurrently.
type Store struct {
	dir string
	max int64
}

// OpenStore opens the store in dir and removes what an interrupted installation has left. maxBytes bounds one component.
func OpenStore(dir string, maxBytes int64) (*Store, error) {
	staging := filepath.Join(dir, stagingDir)
	if err := os.RemoveAll(staging); err != nil {
		return nil, fmt.Errorf("cleaning the REE's staging area: %w", err)
	}
	if err := os.MkdirAll(staging, 0o700); err != nil {
		return nil, fmt.Errorf("making the REE's staging area: %w", err)
	}
	return &Store{dir: dir, max: maxBytes}, nil
}

func (s *Store) path(k key, elem ...string) string {
	return filepath.Join(append([]string{s.dir, k.instance, k.app, k.name}, elem...)...)
}

// create stages the content of a component.
func (s *Store) create(k key) (*writer, error) {
	f, err := os.OpenFile(filepath.Join(s.dir, stagingDir, rand.Text()), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, classify(err)
	}
	return &writer{store: s, key: k, file: f}, nil
}

// writer is the channel.REEWriter of one component.
type writer struct {
	store *Store
	key   key
	file  *os.File
	size  int64
	err   error // the first failure; Commit fails then, whatever was written after
}

func (w *writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.size+int64(len(p)) > w.store.max {
		w.err = fmt.Errorf("%w: a component of the REE has at most %d bytes", channel.ErrTooLarge, w.store.max)
		return 0, w.err
	}
	n, err := w.file.Write(p)
	w.size += int64(n)
	w.err = classify(err)
	return n, w.err
}

// Commit makes the staged bytes the component.
func (w *writer) Commit() error {
	if w.err != nil {
		return errors.Join(w.err, w.Abort())
	}
	if err := errors.Join(w.file.Chmod(0o700), w.file.Sync(), w.file.Close()); err != nil {
		os.Remove(w.file.Name())
		return classify(err)
	}
	if err := w.store.place(w.file.Name(), w.key, programFile); err != nil {
		os.Remove(w.file.Name())
		return err
	}
	return nil
}

// Abort drops the staged bytes.
func (w *writer) Abort() error {
	_ = w.file.Close()
	return classify(os.Remove(w.file.Name()))
}

// place renames a staged and synced file into a component's folder.
func (s *Store) place(staged string, k key, name string) error {
	dir := s.path(k)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return classify(err)
	}
	if err := os.Rename(staged, filepath.Join(dir, name)); err != nil {
		return classify(err)
	}
	// The folders may be new as well: all of them up to the store's own must reach the disk.
	for _, d := range []string{dir, filepath.Dir(dir), filepath.Dir(filepath.Dir(dir)), s.dir} {
		if err := syncDir(d); err != nil {
			return classify(err)
		}
	}
	return nil
}

// put writes a small file of a component in the same atomic way.
func (s *Store) put(k key, name string, data []byte) error {
	w, err := s.create(k)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return errors.Join(err, w.Abort())
	}
	if err := errors.Join(w.file.Sync(), w.file.Close()); err != nil {
		os.Remove(w.file.Name())
		return classify(err)
	}
	return s.place(w.file.Name(), k, name)
}

// remove deletes a component and everything that belongs to it.
func (s *Store) remove(k key) error {
	if err := os.RemoveAll(s.path(k)); err != nil {
		return classify(err)
	}
	parent := filepath.Dir(s.path(k))
	if err := syncDir(parent); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return classify(err)
	}
	return nil
}

// removeInstance deletes all components of a TEE instance.
func (s *Store) removeInstance(instance string) error {
	if err := os.RemoveAll(filepath.Join(s.dir, instance)); err != nil {
		return classify(err)
	}
	return classify(syncDir(s.dir))
}

// keys lists the components that are in place.
func (s *Store) keys() ([]key, error) {
	found, err := filepath.Glob(filepath.Join(s.dir, "*", "*", "*", programFile))
	if err != nil {
		return nil, err
	}
	var keys []key
	for _, path := range found {
		dir := filepath.Dir(path)
		app := filepath.Dir(dir)
		k := key{filepath.Base(filepath.Dir(app)), filepath.Base(app), filepath.Base(dir)}
		if k.instance != stagingDir {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// instances lists the TEE instances of which something is stored.
func (s *Store) instances() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	var names []string
	for _, e := range entries {
		if e.IsDir() && e.Name() != stagingDir {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// classify gives an error the identity that crosses the channel to the Agent.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", channel.ErrNoSpace, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", channel.ErrNotFound, err)
	default:
		return err
	}
}
