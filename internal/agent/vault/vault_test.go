// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sealift/internal/agent/vault"
	"sealift/internal/agent/vault/crashfs"
)

var key = [32]byte{1}

func open(t *testing.T, fs vault.FS, ctr vault.Counter) *vault.Vault {
	t.Helper()
	v, err := vault.Open(fs, key, ctr, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func commit(t *testing.T, v *vault.Vault, s string) {
	t.Helper()
	if err := v.Commit([]byte(s)); err != nil {
		t.Fatal(err)
	}
}

// TestCrashAtEveryStep runs start, three commits with blobs, and a removal, dies at each single operation in turn, and starts
// again from what a disk may hold then. The state must be the last acknowledged one or the one being committed, and the blobs that
// it names must be whole.
func TestCrashAtEveryStep(t *testing.T) {
	for dieAt := 1; ; dieAt++ {
		finished := false
		for _, keep := range []bool{false, true} {
			fs := crashfs.New()
			fs.DieAt = dieAt
			ctr := &counter{fs: fs}
			acked, tried, refs := scenario(fs, ctr)
			finished = acked == "4"
			after := fs.Reboot(keep)
			ctr.fs = nil
			v, err := vault.Open(after, key, ctr, rand.Reader)
			if err != nil {
				t.Fatalf("operation %d, keep %v: %v", dieAt, keep, err)
			}
			got := string(v.State())
			if got != acked && got != tried {
				t.Fatalf("operation %d, keep %v: state %q, acknowledged %q, tried %q", dieAt, keep, got, acked, tried)
			}
			if ref, ok := refs[got]; ok {
				if content, err := readBlob(v, ref); err != nil || content != "blob "+got {
					t.Fatalf("operation %d, keep %v: state %q: blob %q, %v", dieAt, keep, got, content, err)
				}
			}
			commit(t, v, "next")
		}
		if finished {
			t.Logf("%d operations", dieAt-1)
			return
		}
	}
}

func scenario(fs *crashfs.FS, ctr *counter) (acked, tried string, refs map[string]vault.Ref) {
	refs = map[string]vault.Ref{}
	v, err := vault.Open(fs, key, ctr, rand.Reader)
	if err != nil {
		return
	}
	for i := 1; i <= 4; i++ {
		name := fmt.Sprint(i)
		w, err := v.Create()
		if err != nil {
			return
		}
		fmt.Fprint(w, "blob "+name)
		ref, err := w.Close()
		if err != nil {
			return
		}
		refs[name], tried = ref, name
		if v.Commit([]byte(name)) != nil {
			return
		}
		acked = name
		if i > 1 {
			if v.Remove(refs[fmt.Sprint(i-1)]) != nil && i < 4 {
				return
			}
		}
	}
	return
}

func readBlob(v *vault.Vault, ref vault.Ref) (string, error) {
	r, err := v.Open(ref)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

func TestRollbackIsRefused(t *testing.T) {
	fs, ctr := crashfs.New(), &counter{}
	v := open(t, fs, ctr)
	commit(t, v, "a")
	old := fs.Get("state")
	commit(t, v, "b")
	fs.Put("state", old)
	if _, err := vault.Open(fs, key, ctr, rand.Reader); !errors.Is(err, vault.ErrRolledBack) {
		t.Fatal(err)
	}
	fs.Put("state", nil)
	if _, err := vault.Open(fs, key, ctr, rand.Reader); !errors.Is(err, vault.ErrRolledBack) {
		t.Fatalf("a deleted state: %v", err)
	}
}

// TestForkIsRefused keeps a state that was written but never committed, lets another be committed in its place, and presents
// the kept one: its number was acceptable once and must not be any more. This is what committing twice is for.
func TestForkIsRefused(t *testing.T) {
	fs, ctr := crashfs.New(), &counter{}
	v := open(t, fs, ctr)
	commit(t, v, "base")
	base := fs.Get("state")
	ctr.dead = true
	if err := v.Commit([]byte("abandoned")); !errors.Is(err, vault.ErrBroken) {
		t.Fatal(err)
	}
	if err := v.Commit([]byte("more")); !errors.Is(err, vault.ErrBroken) {
		t.Fatalf("a broken vault went on: %v", err)
	}
	ctr.dead = false
	abandoned := fs.Get("state")

	fs.Put("state", base)
	v = open(t, fs, ctr) // from here on the Agent may tell what it holds
	told := fs.Get("state")
	fs.Put("state", abandoned)
	if _, err := vault.Open(fs, key, ctr, rand.Reader); !errors.Is(err, vault.ErrRolledBack) {
		t.Fatalf("an abandoned state was accepted: %v", err)
	}
	fs.Put("state", told)
	commit(t, v, "acknowledged")
	acknowledged := fs.Get("state")
	for _, old := range [][]byte{abandoned, base} {
		fs.Put("state", old)
		if _, err := vault.Open(fs, key, ctr, rand.Reader); !errors.Is(err, vault.ErrRolledBack) {
			t.Fatalf("an abandoned state was accepted: %v", err)
		}
	}
	fs.Put("state", acknowledged)
	if got := string(open(t, fs, ctr).State()); got != "acknowledged" {
		t.Fatal(got)
	}
}

func TestTampering(t *testing.T) {
	fs, ctr := crashfs.New(), &counter{}
	v := open(t, fs, ctr)
	commit(t, v, "state")
	good := fs.Get("state")
	for i := range good {
		fs.Put("state", flip(good, i))
		if _, err := vault.Open(fs, key, ctr, rand.Reader); err == nil {
			t.Fatalf("bit of byte %d", i)
		}
	}
	for n := range len(good) {
		fs.Put("state", good[:n])
		if _, err := vault.Open(fs, key, ctr, rand.Reader); !errors.Is(err, vault.ErrTampered) {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
	fs.Put("state", good)
	if _, err := vault.Open(fs, [32]byte{2}, ctr, rand.Reader); !errors.Is(err, vault.ErrTampered) {
		t.Fatalf("another measurement's key opened the state: %v", err)
	}
}

func TestBlobs(t *testing.T) {
	const chunk = 64 << 10
	fs, ctr := crashfs.New(), &counter{}
	v := open(t, fs, ctr)
	for _, size := range []int{0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk, 3*chunk + 7} {
		data := make([]byte, size)
		rand.Read(data)
		w, err := v.Create()
		if err != nil {
			t.Fatal(err)
		}
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 50_000)
			w.Write(rest[:n])
			rest = rest[n:]
		}
		ref, err := w.Close()
		if err != nil || ref.Size != int64(size) {
			t.Fatal(ref.Size, err)
		}
		if got, err := readBlob(v, ref); err != nil || got != string(data) {
			t.Fatalf("size %d: %d bytes, %v", size, len(got), err)
		}
		file := "blobs/" + ref.ID
		if size > 100 && bytes.Contains(fs.Get(file), data[:64]) {
			t.Fatal("content in the clear")
		}
		good := fs.Get(file)
		sealed := chunk + 16
		for name, bad := range map[string][]byte{
			"bit":      flip(good, len(good)/2),
			"last bit": flip(good, len(good)-1),
			"cut":      good[:len(good)-1],
			"chunks swapped": func() []byte {
				if len(good) < 2*sealed {
					return flip(good, 0)
				}
				return append(append(bytes.Clone(good[sealed:2*sealed]), good[:sealed]...), good[2*sealed:]...)
			}(),
		} {
			fs.Put(file, bad)
			if _, err := readBlob(v, ref); !errors.Is(err, vault.ErrTampered) {
				t.Fatalf("size %d, %s: %v", size, name, err)
			}
		}
		fs.Put(file, good)
		short := ref
		short.Size -= min(short.Size, chunk)
		if got, err := readBlob(v, short); size > 0 && err == nil {
			t.Fatalf("a shorter size was read: %d bytes", len(got))
		}
	}
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 0x80
	return b
}

func TestFullDisk(t *testing.T) {
	fs, ctr := crashfs.New(), &counter{}
	v := open(t, fs, ctr)
	commit(t, v, "before")
	fs.Space = 100_000
	w, err := v.Create()
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		w.Write(make([]byte, 50_000))
	}
	if _, err := w.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	fs.Space = 0
	commit(t, v, "removal on a full disk") // the reserve makes room
	if got := string(open(t, fs, ctr).State()); got != "removal on a full disk" {
		t.Fatal(got)
	}
}

func TestCommitThatCannotBeWrittenLeavesTheOldState(t *testing.T) {
	fs, ctr := crashfs.New(), &counter{}
	v := open(t, fs, ctr)
	commit(t, v, "old")
	fs.Put("reserve", nil)
	fs.Space = 10
	if err := v.Commit([]byte("new")); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if v.Broken() || string(v.State()) != "old" {
		t.Fatal("the old state is gone")
	}
	fs.Space = -1
	commit(t, v, "newer")
	if got := string(open(t, fs, ctr).State()); got != "newer" {
		t.Fatal(got)
	}
}

// TestLargeBlobOnDisk: what is large goes past the page cache, both ways, and is judged all the same.
func TestLargeBlobOnDisk(t *testing.T) {
	dir := t.TempDir()
	fs, err := vault.Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	v := open(t, fs, &counter{})
	content := make([]byte, 9<<20+7)
	_, _ = rand.Read(content)
	w, err := v.Create()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	ref, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	got, err := readBlob(v, ref)
	if err != nil || got != string(content) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	path := filepath.Join(dir, "blobs", ref.ID)
	sealed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 5 << 20, len(sealed) - 1} {
		bad := bytes.Clone(sealed)
		bad[at] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readBlob(v, ref)
		if !errors.Is(err, vault.ErrTampered) || !strings.HasPrefix(string(content), got) {
			t.Errorf("byte %d changed: %d bytes, %v", at, len(got), err)
		}
	}
}

func TestSweepAndFolder(t *testing.T) {
	dir := t.TempDir()
	fs, err := vault.Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctr := &counter{}
	v := open(t, fs, ctr)
	var refs []vault.Ref
	for range 2 {
		w, err := v.Create()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(w, "x")
		ref, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	commit(t, v, "s")
	if err := v.Sweep(map[string]bool{refs[0].ID: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := readBlob(v, refs[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := readBlob(v, refs[1]); !errors.Is(err, vault.ErrTampered) {
		t.Fatal(err)
	}
	if got := string(open(t, fs, ctr).State()); got != "s" {
		t.Fatal(got)
	}
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Open("link"); err == nil {
		t.Fatal("a link led out of the folder")
	}
}

func BenchmarkBlob(b *testing.B) {
	fs, err := vault.Dir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	v, err := vault.Open(fs, key, &counter{}, rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 1<<20)
	b.SetBytes(256 << 20)
	for b.Loop() {
		w, err := v.Create()
		if err != nil {
			b.Fatal(err)
		}
		for range 256 {
			w.Write(data)
		}
		ref, err := w.Close()
		if err != nil {
			b.Fatal(err)
		}
		v.Remove(ref)
	}
}

// counter is the hardware's; it dies with the file system.
type counter struct {
	n    uint64
	fs   *crashfs.FS
	dead bool
}

func (c *counter) Counter() (uint64, error) { return c.n, nil }

func (c *counter) Increment(expect uint64) (uint64, error) {
	if c.dead || c.fs != nil && c.fs.Dead() {
		return 0, crashfs.ErrCrash
	}
	if c.n != expect {
		return 0, errors.New("counter differs")
	}
	c.n++
	return c.n, nil
}

// TestVolatile: a blob in memory is read like any other, lies in no file, and is gone with the process.
func TestVolatile(t *testing.T) {
	fs, ctr := crashfs.New(), &counter{}
	v := open(t, fs, ctr)
	files := len(fs.Files())
	for _, size := range []int{0, 1, 64 << 10, 5 << 20} {
		data := make([]byte, size)
		rand.Read(data)
		w, err := v.CreateVolatile()
		if err != nil {
			t.Fatal(err)
		}
		w.Write(data)
		ref, err := w.Close()
		if err != nil || !ref.Volatile {
			t.Fatal(ref, err)
		}
		if got, err := readBlob(v, ref); err != nil || got != string(data) {
			t.Fatalf("size %d: %d bytes, %v", size, len(got), err)
		}
		if n := len(fs.Files()); n != files {
			t.Fatalf("%d files, %d before", n, files)
		}
		if _, err := readBlob(open(t, fs, ctr), ref); !errors.Is(err, vault.ErrTampered) {
			t.Fatalf("after a restart: %v", err)
		}
		if err := v.Remove(ref); err != nil {
			t.Fatal(err)
		}
		if _, err := readBlob(v, ref); err == nil {
			t.Fatal("a removed blob is still there")
		}
	}
	w, err := v.CreateVolatile()
	if err != nil {
		t.Fatal(err)
	}
	w.Write(make([]byte, 5<<20))
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
}
