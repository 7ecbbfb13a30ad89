// SPDX-License-Identifier: Apache-2.0

// Package collateral keeps what vendors say about devices and what does not come with their Evidence: certificates of AMD's
// chips, Intel's TCB information, Hygon's certificates, revocation lists.
//
// A Store is a folder. Nobody has to trust it: everything in it is signed by a vendor, and the verifiers of package evidence
// check that under their own anchors. Whoever controls the folder can withhold something, or keep something old; both show
// in the appraisal. Files get there by the operator's hand ([Store.Add]) or, where there is a network, from the vendors'
// services ([Fetcher]). A verifier itself never goes to a network.
//
//	DIR/KIND/KEY/SHA-256.bin
//
// Kind and key are those that the verifiers ask for; evidence/snp, evidence/intel and evidence/csv document theirs.
// Revocation lists have the kind "crl" and their issuer as key.
package collateral

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"sealift/evidence/crl"
)

// KindCRL is the kind of revocation lists.
const KindCRL = "crl"

// maxFile bounds one file, in bytes.
const maxFile = crl.MaxSize

// Errors of a Store.
var (
	// ErrUnknown means that the bytes are nothing that a verifier here would ask for.
	ErrUnknown = errors.New("collateral: not a kind of collateral that is known here")
	// ErrKey means that a key cannot name anything.
	ErrKey = errors.New("collateral: malformed key")
)

// Item is one thing that is kept.
type Item struct {
	Kind  string    `json:"kind"`
	Key   string    `json:"key"`
	What  string    `json:"what"`            // for people
	From  time.Time `json:"from,omitzero"`   // issued, or valid from; zero where the format has no times
	Until time.Time `json:"until,omitzero"`  // has to be replaced by then; zero where it does not end
	Ends  string    `json:"ends,omitempty"`  // which part ends first
	File  string    `json:"file"`            // name in the store
	Error string    `json:"error,omitempty"` // why it is of no use
	data  []byte
}

// Store is a folder with collateral. It is safe for concurrent use, also by several processes.
type Store struct {
	dir string

	mu    sync.Mutex
	lists map[string]*x509.RevocationList // by their files, which are named by their content; nil: of no use
}

// Open returns the store in dir, which is made when something is added.
func Open(dir string) *Store { return &Store{dir: dir} }

// segment is a part of a key that can be the name of a file everywhere.
var segment = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$`)

func (s *Store) folder(kind, key string) (string, error) {
	for part := range strings.SplitSeq(kind+"/"+key, "/") {
		if !segment.MatchString(part) {
			return "", fmt.Errorf("%w: %q", ErrKey, kind+"/"+key)
		}
	}
	return filepath.Join(s.dir, filepath.FromSlash(kind), filepath.FromSlash(key)), nil
}

// Find implements evidence.Endorsements: all that is kept under the key, the latest first. What cannot be read is left out;
// a verifier says that it found nothing, and [Store.List] says why.
func (s *Store) Find(kind, key string) [][]byte {
	dir, err := s.folder(kind, key)
	if err != nil {
		return nil
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var items []Item
	for _, f := range files {
		if f.IsDir() {
			continue
		}
		if item := s.load(filepath.Join(dir, f.Name())); item.Error == "" && item.Kind == kind && item.Key == key {
			items = append(items, item)
		}
	}
	slices.SortStableFunc(items, func(a, b Item) int { return b.From.Compare(a.From) })
	var out [][]byte
	for _, item := range items {
		out = append(out, item.data)
	}
	return out
}

// RevocationLists implements evidence.RevocationLists: all that are in the folder now. Each file is read once. What cannot be read is
// left out, as [Store.Find] does.
func (s *Store) RevocationLists() []*x509.RevocationList {
	files, _ := filepath.Glob(filepath.Join(s.dir, KindCRL, "*", "*.bin")) // the pattern is well-formed unless the folder's name is odd
	s.mu.Lock()
	defer s.mu.Unlock()
	known := make(map[string]*x509.RevocationList, len(files))
	var lists []*x509.RevocationList
	for _, file := range files {
		list, have := s.lists[file]
		if !have {
			if item := s.load(file); item.Error == "" {
				list, _ = crl.Parse(item.data)
			}
		}
		if known[file] = list; list != nil {
			lists = append(lists, list)
		}
	}
	s.lists = known
	return lists
}

// load reads one file and finds out what it is. The folder says the key of what does not name its own (Hygon's).
func (s *Store) load(file string) Item {
	rel, err := filepath.Rel(s.dir, file)
	item := Item{File: filepath.ToSlash(rel)}
	if err != nil {
		return Item{File: file, Error: err.Error()}
	}
	data, err := readBounded(file)
	if err != nil {
		item.Error = err.Error()
		return item
	}
	kind, key := split(item.File)
	hint := ""
	if kind == kindHygon {
		hint = key
	}
	found, err := Identify(data, hint)
	if err != nil {
		item.Kind, item.Key, item.Error = kind, key, err.Error()
		return item
	}
	found.File, found.data = item.File, data
	if found.Kind != kind || found.Key != key {
		found.Error = fmt.Sprintf("it is %s %s and lies under another key", found.Kind, found.Key)
	}
	return found
}

func readBounded(file string) ([]byte, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("collateral: %w", err)
	}
	if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, fmt.Errorf("%w: %s has %d bytes, or is no file", ErrUnknown, filepath.Base(file), st.Size())
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("collateral: %w", err)
	}
	return data, nil
}

// split returns kind and key of a file in the store. Kinds have one part (crl) or two.
func split(file string) (kind, key string) {
	parts := strings.Split(file, "/")
	n := 2
	if parts[0] == KindCRL {
		n = 1
	}
	if len(parts) < n+2 {
		return "", file
	}
	return strings.Join(parts[:n], "/"), strings.Join(parts[n:len(parts)-1], "/")
}

// Add keeps data, after finding out what it is. serial is the serial number of a Hygon chip, whose certificates do not name
// it; else it is empty. Adding what is there already changes nothing.
func (s *Store) Add(data []byte, serial string) (Item, error) {
	item, err := Identify(data, serial)
	if err != nil {
		return Item{}, err
	}
	dir, err := s.folder(item.Kind, item.Key)
	if err != nil {
		return Item{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Item{}, fmt.Errorf("collateral: %w", err)
	}
	sum := sha256.Sum256(data)
	file := filepath.Join(dir, hex.EncodeToString(sum[:])+".bin")
	rel, err := filepath.Rel(s.dir, file)
	if err != nil {
		return Item{}, fmt.Errorf("collateral: %w", err)
	}
	item.File, item.data = filepath.ToSlash(rel), data
	if have, err := os.ReadFile(file); err == nil && bytes.Equal(have, data) {
		return item, nil
	}
	return item, write(file, data)
}

// write makes file appear with all of its content, or not at all.
func write(file string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".new-")
	if err != nil {
		return fmt.Errorf("collateral: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("collateral: %w", err)
	}
	return nil
}

// List returns everything in the store, also what is of no use, sorted by kind, key and age.
func (s *Store) List() ([]Item, error) {
	var items []Item
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if path == s.dir && errors.Is(err, fs.ErrNotExist) {
				return filepath.SkipAll
			}
			return err
		}
		if !d.IsDir() && !strings.HasPrefix(d.Name(), ".new-") {
			items = append(items, s.load(path))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("collateral: %w", err)
	}
	slices.SortStableFunc(items, func(a, b Item) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key, b.Key), b.From.Compare(a.From))
	})
	return items, nil
}

// Remove deletes a file of the store, named as in Item.File.
func (s *Store) Remove(file string) error {
	for part := range strings.SplitSeq(file, "/") {
		if !segment.MatchString(part) {
			return fmt.Errorf("%w: %q", ErrKey, file)
		}
	}
	if err := os.Remove(filepath.Join(s.dir, filepath.FromSlash(file))); err != nil {
		return fmt.Errorf("collateral: %w", err)
	}
	return nil
}
