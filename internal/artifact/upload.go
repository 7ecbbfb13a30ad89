// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// upload is a blob on its way. Its file is named by its id.
type upload struct {
	mu   sync.Mutex // one request at a time
	repo string
	path string
	size int64
	last time.Time // guarded by Store.mu
}

// begin starts an upload and forgets those without progress.
func (s *Store) begin(repo string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opts.Now()
	for id, u := range s.uploads {
		if now.Sub(u.last) > s.opts.UploadAge {
			os.Remove(u.path)
			delete(s.uploads, id)
		}
	}
	if len(s.uploads) >= s.opts.MaxUploads {
		return "", ErrBusy
	}
	id := randomName()
	path := filepath.Join(s.dir, "uploads", id)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("starting an upload: %w", err)
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	s.uploads[id] = &upload{repo: repo, path: path, last: now}
	return id, nil
}

// find returns an upload of a repository.
func (s *Store) find(repo, id string) (*upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.uploads[id]
	if u == nil || u.repo != repo {
		return nil, ErrNotFound
	}
	u.last = s.opts.Now()
	return u, nil
}

// cancel ends an upload and deletes what has arrived.
func (s *Store) cancel(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.uploads[id]; u != nil {
		os.Remove(u.path)
		delete(s.uploads, id)
	}
}

// errOffset says that a chunk does not begin where the last one ended.
var errOffset = errors.New("artifact: the chunk does not continue the upload")

// add appends body to an upload; start is the offset that the client claims, -1 if it claims none.
func (s *Store) add(u *upload, start int64, body io.Reader) error {
	if start >= 0 && start != u.size {
		return errOffset
	}
	f, err := os.OpenFile(u.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	// One byte more than allowed tells too large from just fitting.
	n, err := io.Copy(f, io.LimitReader(body, s.opts.MaxBlob-u.size+1))
	u.size += n
	if err == nil && u.size > s.opts.MaxBlob {
		err = ErrTooLarge
	}
	return errors.Join(err, f.Close())
}

// finish checks an upload's digest and moves it to its place.
func (s *Store) finish(id string, u *upload, digest string) error {
	defer s.cancel(id)
	f, err := os.OpenFile(u.path, os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := hashFile(f)
	if err != nil {
		return err
	}
	if got != digest {
		return fmt.Errorf("%w: named %s, is %s", ErrDigest, digest, got)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	s.collect.RLock()
	defer s.collect.RUnlock()
	if err := os.Rename(u.path, s.blobPath(digest)); err != nil {
		return err
	}
	if err := syncDir(filepath.Join(s.dir, "blobs")); err != nil {
		return err
	}
	return writeFile(s.linkPath(u.repo, digest), nil)
}
