// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// upload is a blob on its way. Its file is named by its id.
type upload struct {
	mu   sync.Mutex // one request at a time
	repo string
	path string
	size int64
	last time.Time // guarded by Store.mu, like the next
	// cutOff: the client has gone in the middle, and may come back.
	cutOff bool
}

// begin starts an upload and forgets those without progress.
func (s *Store) begin(repo string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opts.Now()
	for id, u := range s.uploads {
		if now.Sub(u.last) > s.opts.UploadAge {
			u.remove()
			delete(s.uploads, id)
		}
	}
	if len(s.uploads) >= s.opts.MaxUploads && !s.dropCutOff() {
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
	if err := os.WriteFile(path+repoSuffix, []byte(repo), 0o600); err != nil {
		return "", errors.Join(fmt.Errorf("starting an upload: %w", err), os.Remove(path))
	}
	s.uploads[id] = &upload{repo: repo, path: path, last: now}
	return id, nil
}

// repoSuffix ends the name of the file that says which repository an upload is for.
const repoSuffix = ".repository"

func (u *upload) remove() {
	_ = os.Remove(u.path)
	_ = os.Remove(u.path + repoSuffix)
}

// resumeUploads takes over what a former process was sent. Its content is hashed at the end as ever, so it need not have been
// synced. What is too old, or not whole, goes.
func (s *Store) resumeUploads() error {
	dir := filepath.Join(s.dir, "uploads")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		id, isRepo := strings.CutSuffix(e.Name(), repoSuffix)
		path := filepath.Join(dir, id)
		if !isRepo {
			if _, err := os.Stat(path + repoSuffix); err != nil {
				_ = os.Remove(path)
			}
			continue
		}
		u := &upload{path: path}
		st, err := os.Stat(path)
		repo, readErr := os.ReadFile(path + repoSuffix)
		u.repo = string(repo)
		if err != nil || readErr != nil || !ValidRepository(u.repo) || s.opts.Now().Sub(st.ModTime()) > s.opts.UploadAge ||
			len(s.uploads) >= s.opts.MaxUploads {
			u.remove()
			continue
		}
		u.size, u.last, u.cutOff = st.Size(), st.ModTime(), true
		s.uploads[id] = u
	}
	return nil
}

// dropCutOff makes room: of the uploads whose client has gone, the one goes that has waited for longest. The caller holds s.mu.
func (s *Store) dropCutOff() bool {
	oldest := ""
	for id, u := range s.uploads {
		if u.cutOff && (oldest == "" || u.last.Before(s.uploads[oldest].last)) {
			oldest = id
		}
	}
	if oldest == "" {
		return false
	}
	s.uploads[oldest].remove()
	delete(s.uploads, oldest)
	return true
}

// setCutOff notes that the client of an upload has gone.
func (s *Store) setCutOff(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.uploads[id]; u != nil {
		u.cutOff = true
	}
}

// find returns an upload of a repository.
func (s *Store) find(repo, id string) (*upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.uploads[id]
	if u == nil || u.repo != repo {
		return nil, ErrNotFound
	}
	u.last, u.cutOff = s.opts.Now(), false
	return u, nil
}

// cancel ends an upload and deletes what has arrived.
func (s *Store) cancel(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.uploads[id]; u != nil {
		u.remove()
		delete(s.uploads, id)
	}
}

// errOffset says that a chunk does not begin where the last one ended.
var errOffset = errors.New("artifact: the chunk does not continue the upload")

// errCutOff says that a chunk ended before its end.
var errCutOff = errors.New("artifact: the chunk was cut off")

// readErrors marks the errors of a body, to tell them from those of the disk.
type readErrors struct{ io.Reader }

func (r readErrors) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", errCutOff, err)
	}
	return n, err
}

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
	n, err := io.Copy(f, io.LimitReader(readErrors{body}, s.opts.MaxBlob-u.size+1))
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
