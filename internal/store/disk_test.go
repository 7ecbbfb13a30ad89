// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"sealift/internal/moc/mocapi"
	"sealift/usecase"
)

// TestWritesWaitForTheDisk: only with synchronous=FULL does a commit in WAL mode survive a loss of power (promise I9). A test
// cannot cut the power, so it asks the connection that writes.
func TestWritesWaitForTheDisk(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var synchronous int
	var journal string
	err = s.Write(t.Context(), func(tx *Tx) error {
		if err := tx.row("PRAGMA journal_mode", nil, &journal); err != nil {
			return err
		}
		return tx.row("PRAGMA synchronous", nil, &synchronous)
	})
	if err != nil || synchronous < 2 || journal != "wal" {
		t.Errorf("synchronous %d, want 2 (FULL); journal_mode %q; %v", synchronous, journal, err)
	}
}

// TestForgottenIsOverwritten: what was forgotten is not in the database's file any more once the log is worked in (promise I10).
func TestForgottenIsOverwritten(t *testing.T) {
	const mark = "evidence-5b1c9d07e2"
	dir := t.TempDir()
	find := func() bool {
		t.Helper()
		found := false
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(filepath.Join(dir, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			found = found || bytes.Contains(data, []byte(mark))
		}
		return found
	}
	within := func(do func(tx *Tx) error) {
		t.Helper()
		s, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Write(t.Context(), do); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "moc.db-wal")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a closed store leaves its log behind: %v", err)
		}
	}
	within(func(tx *Tx) error {
		if err := tx.PutDevice(&Device{ID: "d1"}); err != nil {
			return err
		}
		d := &Deployment{Deployment: mocapi.Deployment{ID: "x", Owner: "alpha", Device: "d1", State: mocapi.StatePending,
			Plan: make([]usecase.Step, 3)}, Wanted: map[string]*Package{}}
		if err := tx.InsertDeployment(d); err != nil {
			return err
		}
		return tx.PutEvidence(&Evidence{Evidence: mocapi.Evidence{ID: mark}, Deployment: "x", Nonce: []byte("n"), Created: tx.s.Now()})
	})
	if !find() {
		t.Fatal("the scan does not find what is there")
	}
	// The store goes on running: what it forgot leaves the log as well, at once.
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Write(t.Context(), func(tx *Tx) error { return tx.Forget("x") }); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), func(*Tx) error { return nil }); err != nil { // the writer has come back from it
		t.Fatal(err)
	}
	if find() {
		t.Error("what was forgotten can be read from the disk")
	}
}
