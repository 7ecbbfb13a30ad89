// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Delete removes a manifest and, at once, the blobs that no other manifest refers to.
func (s *Store) Delete(repo, digest string) error {
	if !ValidRepository(repo) || !ValidDigest(digest) {
		return ErrNotFound
	}
	s.collect.Lock()
	defer s.collect.Unlock()
	data, err := os.ReadFile(s.manifestPath(repo, digest))
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	if err := s.dropManifest(repo, digest); err != nil {
		return err
	}
	m, err := parseManifest(data)
	if err != nil {
		return nil // nothing that it could refer to
	}
	used, err := s.references()
	if err != nil {
		return err
	}
	for _, d := range m.blobs() {
		if !used[d.Digest] {
			if err := s.dropBlob(d.Digest); err != nil {
				return err
			}
		} else if !used[repo+"@"+d.Digest] {
			if err := remove(s.linkPath(repo, d.Digest)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Collect deletes manifests that keep does not name and blobs that no manifest refers to, if they are older than
// Options.GarbageAge. It returns how many files it deleted.
func (s *Store) Collect(keep map[string]bool) (deleted int, err error) {
	s.collect.Lock()
	defer s.collect.Unlock()
	err = s.repositories(func(repo string) error {
		return s.old(s.repo(repo, "_manifests"), func(name string) error {
			if keep["sha256:"+name] {
				return nil
			}
			deleted++
			return s.dropManifest(repo, "sha256:"+name)
		})
	})
	if err != nil {
		return deleted, fmt.Errorf("collecting artifacts: %w", err)
	}
	used, err := s.references()
	if err != nil {
		return deleted, fmt.Errorf("collecting artifacts: %w", err)
	}
	err = s.old(filepath.Join(s.dir, "blobs"), func(name string) error {
		if used["sha256:"+name] {
			return nil
		}
		deleted++
		return s.dropBlob("sha256:" + name)
	})
	if err != nil {
		return deleted, fmt.Errorf("collecting artifacts: %w", err)
	}
	return deleted, nil
}

// old calls each for the files of dir that are old enough to be garbage.
func (s *Store) old(dir string, each func(name string) error) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || s.opts.Now().Sub(info.ModTime()) < s.opts.GarbageAge {
			continue
		}
		if strings.HasPrefix(e.Name(), ".") { // of a write that a kill cut off
			if err := remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
			continue
		}
		if err := each(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// references returns the blobs that manifests refer to, alone and as "<repository>@<digest>".
func (s *Store) references() (map[string]bool, error) {
	used := map[string]bool{}
	err := s.repositories(func(repo string) error {
		entries, err := os.ReadDir(s.repo(repo, "_manifests"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			data, err := os.ReadFile(s.repo(repo, "_manifests", e.Name()))
			if err != nil {
				return err
			}
			m, err := parseManifest(data)
			if err != nil {
				continue
			}
			for _, d := range m.blobs() {
				used[d.Digest], used[repo+"@"+d.Digest] = true, true
			}
		}
		return nil
	})
	return used, err
}

// dropManifest deletes a manifest and the tags on it.
func (s *Store) dropManifest(repo, digest string) error {
	tags, err := s.tags(repo)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	for _, tag := range tags {
		if at, err := s.tagged(repo, tag); err == nil && at == digest {
			if err := remove(s.tagPath(repo, tag)); err != nil {
				return err
			}
		}
	}
	return remove(s.manifestPath(repo, digest))
}

// dropBlob deletes a blob and all links to it.
func (s *Store) dropBlob(digest string) error {
	err := s.repositories(func(repo string) error { return remove(s.linkPath(repo, digest)) })
	return errors.Join(err, remove(s.blobPath(digest)))
}

func remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
