// SPDX-License-Identifier: Apache-2.0

// Package home is the data owner's folder on the owner's own machine: its signing keys, the M/OCs it knows, the policies by which
// it appraises, the sequence numbers it has used, and what it has found out about its deployments.
//
//	keys/NAME.pem            signing keys, PKCS #8
//	contexts/NAME.json       an M/OC: address, token, the TAM keys that its Agents may obey
//	context                  name of the context in use
//	policies/NAME.json       appraisal policies; "default" is used when none is named
//	anchors/NAME.pem         trust anchors for hardware; a policy says by fingerprint which of them count
//	apps/NAME.json           the last sequence number of each application
//	deployments/ID.json      what was deployed, what was appraised, what was released
//	removals/ID.json         what the Agent of a removed deployment has signed for
//
// Every file is written beside its final name, synced and renamed, so that a kill leaves the old one or the new one; all are readable
// by their owner alone. Reading and changing a file takes a lock of the whole folder, so that two commands at one time do not give
// one sequence number to two manifests.
package home

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors of this package.
var (
	ErrNotFound = errors.New("not found in the owner's folder")
	ErrExists   = errors.New("exists already in the owner's folder")
	ErrName     = errors.New("not a name: letters, digits, dots, hyphens and underscores, not beginning with a dot")
	ErrDamaged  = errors.New("a file of the owner's folder is damaged")
)

// Kinds of files that a Home holds.
const (
	kindKey        = "keys"
	kindContext    = "contexts"
	kindPolicy     = "policies"
	kindAnchor     = "anchors"
	kindApp        = "apps"
	kindDeployment = "deployments"
	kindRemoval    = "removals"
)

var fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,79}$`)

// Home is an owner's folder. It holds nothing in memory: every call reads or writes files.
type Home struct{ dir string }

// Open returns the Home in dir. The folder is made when something is first written.
func Open(dir string) (*Home, error) {
	if dir == "" {
		return nil, errors.New("the owner's folder is not known: set SEALIFT_HOME or give --home")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("the owner's folder: %w", err)
	}
	return &Home{dir: abs}, nil
}

// Dir returns the folder.
func (h *Home) Dir() string { return h.dir }

func (h *Home) path(kind, name, ext string) (string, error) {
	if !fileName.MatchString(name) {
		return "", fmt.Errorf("%q is %w", name, ErrName)
	}
	return filepath.Join(h.dir, kind, name+ext), nil
}

func (h *Home) read(kind, name, ext string) ([]byte, error) {
	path, err := h.path(kind, name, ext)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s/%s: %w", kind, name, ErrNotFound)
	}
	return data, err
}

func (h *Home) readJSON(kind, name string, v any) error {
	data, err := h.read(kind, name, ".json")
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, filepath.Join(h.dir, kind, name+".json"), err)
	}
	return nil
}

func (h *Home) writeJSON(kind, name string, v any) error {
	path, err := h.path(kind, name, ".json")
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s/%s: %w", kind, name, err)
	}
	return writeFile(path, append(data, '\n'))
}

// list returns the names of the files of a kind, sorted.
func (h *Home) list(kind, ext string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(h.dir, kind))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ext); ok && fileName.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, err
}

func (h *Home) remove(kind, name, ext string) error {
	path, err := h.path(kind, name, ext)
	if err != nil {
		return err
	}
	if err := os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s/%s: %w", kind, name, ErrNotFound)
	} else if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// lock holds the folder against other commands until the returned function is called.
func (h *Home) lock() (func(), error) {
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(h.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", h.dir, err)
	}
	return func() { f.Close() }, nil
}

// writeFile replaces the file at path by data in one step, readable by its owner alone.
func writeFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
