// SPDX-License-Identifier: Apache-2.0

// Package artifact is the M/OC's artifact store: an OCI registry (OCI Distribution Specification 1.1: push, pull, tags)
// that lives in a folder, plus the reading side that the M/OC itself needs.
//
// A package is an OCI image manifest whose first layer is a SUIT envelope and whose other layers are payloads; see
// [Package]. Since a layer's digest is also the payload's RFC 6920 name, a device fetches payloads by what they are.
//
// Everything is on disk. Blobs arrive in a file of their own, are hashed, synced and renamed into place, so a blob or
// manifest that exists is whole and has the digest that it is named by; the state after a kill is the state before the
// last rename. A blob can be read only through a repository that it was pushed to, so knowing a digest is not a right
// to read. Garbage is bounded: unfinished uploads are limited in number and age, and what no kept manifest refers to
// goes at the next [Store.Collect].
package artifact

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Media types of a package.
const (
	TypePackage  = "application/vnd.sealift.package.v1" // artifactType
	TypeEnvelope = "application/suit-envelope+cose"     // layer 0
	TypePayload  = "application/octet-stream"           // the other layers
	TypeManifest = "application/vnd.oci.image.manifest.v1+json"
)

// Errors of the store.
var (
	ErrNotFound = errors.New("artifact: not found")
	ErrDigest   = errors.New("artifact: content does not match its digest")
	ErrTooLarge = errors.New("artifact: too large")
	ErrBusy     = errors.New("artifact: too many uploads at once")
	ErrInvalid  = errors.New("artifact: not a valid manifest or name")
)

// Options bound a Store. Zero values mean the defaults named beside them.
type Options struct {
	Now         func() time.Time
	MaxBlob     int64         // 8 GiB
	MaxManifest int64         // 1 MiB
	MaxEnvelope int64         // 1 MiB
	MaxUploads  int           // at one time; 64
	UploadAge   time.Duration // an upload without progress; 1 h
	GarbageAge  time.Duration // how old something unused must be to be collected; 24 h
}

// Store is an artifact store in a folder. Its methods may be called concurrently.
type Store struct {
	dir  string
	opts Options

	// collect is held for reading while something is added or linked, and for writing while something is deleted.
	collect sync.RWMutex
	mu      sync.Mutex
	uploads map[string]*upload
}

// Open opens or makes the store in dir. Uploads of a former process may go on.
func Open(dir string, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, d := range []struct {
		value    *int64
		standard int64
	}{{&o.MaxBlob, 8 << 30}, {&o.MaxManifest, 1 << 20}, {&o.MaxEnvelope, 1 << 20}} {
		if *d.value <= 0 {
			*d.value = d.standard
		}
	}
	if o.MaxUploads <= 0 {
		o.MaxUploads = 64
	}
	if o.UploadAge <= 0 {
		o.UploadAge = time.Hour
	}
	if o.GarbageAge <= 0 {
		o.GarbageAge = 24 * time.Hour
	}
	s := &Store{dir: dir, opts: o, uploads: map[string]*upload{}}
	for _, sub := range []string{"uploads", "blobs", "repositories"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("opening the artifact store: %w", err)
		}
	}
	if err := s.resumeUploads(); err != nil {
		return nil, fmt.Errorf("opening the artifact store: %w", err)
	}
	return s, nil
}

// Names: OCI Distribution Specification section "Pulling manifests".
var (
	repositoryName = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagName        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	digestName     = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

const maxRepository = 200

// ValidRepository reports whether name can be a repository.
func ValidRepository(name string) bool {
	return len(name) <= maxRepository && repositoryName.MatchString(name)
}

// ValidDigest reports whether d is a digest that this store knows: "sha256:" and 64 lower-case hexadecimal digits.
func ValidDigest(d string) bool { return digestName.MatchString(d) }

func hexOf(digest string) string { return strings.TrimPrefix(digest, "sha256:") }

// Paths. A repository's folders begin with "_", which no part of a repository's name can.
func (s *Store) blobPath(digest string) string { return filepath.Join(s.dir, "blobs", hexOf(digest)) }
func (s *Store) repo(name string, elem ...string) string {
	return filepath.Join(append([]string{s.dir, "repositories", filepath.FromSlash(name)}, elem...)...)
}
func (s *Store) manifestPath(repo, digest string) string {
	return s.repo(repo, "_manifests", hexOf(digest))
}
func (s *Store) linkPath(repo, digest string) string { return s.repo(repo, "_blobs", hexOf(digest)) }
func (s *Store) tagPath(repo, tag string) string     { return s.repo(repo, "_tags", tag) }

// OpenBlob opens a blob by its digest, whatever repository it is in, for callers that have decided about access. The
// caller closes it.
func (s *Store) OpenBlob(digest string) (*os.File, error) {
	if !ValidDigest(digest) {
		return nil, ErrNotFound
	}
	return openFile(s.blobPath(digest))
}

// hasBlob reports whether a blob was pushed to a repository.
// Check reads a blob and compares it with its digest: ErrNotFound if there is none, ErrDigest if the disk has other bytes. Those are
// removed, because they are good for nothing, and would keep the blob from being pushed again.
func (s *Store) Check(digest string) error {
	f, err := s.OpenBlob(digest)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := hashFile(f)
	if err != nil || got == digest {
		return err
	}
	read, err := f.Stat()
	if err != nil {
		return err
	}
	s.collect.Lock()
	defer s.collect.Unlock()
	if now, err := os.Stat(s.blobPath(digest)); err == nil && os.SameFile(read, now) { // else it was pushed again meanwhile
		if err := remove(s.blobPath(digest)); err != nil {
			return err
		}
	}
	return ErrDigest
}

func (s *Store) hasBlob(repo, digest string) bool {
	if _, err := os.Stat(s.linkPath(repo, digest)); err != nil {
		return false
	}
	_, err := os.Stat(s.blobPath(digest))
	return err == nil
}

func openFile(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	return f, err
}

// writeFile makes a file durable under its final name, or leaves nothing.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), ".new-"+randomName())
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func randomName() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// hashFile returns the digest of a file's whole content.
func hashFile(f io.ReadSeeker) (string, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// DigestOf returns the digest of data as this store names it.
func DigestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}
