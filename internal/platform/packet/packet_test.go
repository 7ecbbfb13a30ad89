// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sealift/cose"
	"sealift/internal/platform/packet"
)

// message is some message.
type message struct {
	N    uint64 `cbor:"1,keyasint"`
	Data []byte `cbor:"2,keyasint,omitempty"`
}

// pair makes two connected ends: one of the package, one raw.
func pair(t testing.TB) (*packet.Conn, *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := packet.FromFile(os.NewFile(uintptr(fds[0]), "a"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := packet.FromFile(os.NewFile(uintptr(fds[1]), "b"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); other.Close() })
	return conn, other.Raw()
}

// TestSendReceive guards that messages keep their boundaries, also large ones, and that files arrive usable.
func TestSendReceive(t *testing.T) {
	a, raw := pair(t)
	b := packet.New(raw)
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("through the socket"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	big := bytes.Repeat([]byte("x"), packet.MaxBytes-100)
	var sender sync.WaitGroup
	defer sender.Wait()
	sender.Go(func() {
		_ = a.Send(message{N: 1}, time.Second)
		_ = a.Send(message{N: 2, Data: big}, time.Second, f, f)
		_ = a.Send(message{N: 3}, time.Second)
		a.Close()
	})
	var m message
	if files, err := b.Receive(&m, time.Second); err != nil || m.N != 1 || len(files) != 0 {
		t.Errorf("%v %v", m.N, err)
	}
	files, err := b.Receive(&m, time.Second)
	if err != nil || m.N != 2 || !bytes.Equal(m.Data, big) || len(files) != 2 {
		t.Fatalf("%v, %d files, %v", m.N, len(files), err)
	}
	data, err := io.ReadAll(files[1])
	if err != nil || string(data) != "through the socket" {
		t.Errorf("%q, %v", data, err)
	}
	for _, f := range files {
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Error("a received file would be inherited")
		}
		f.Close()
	}
	if _, err := b.Receive(&m, time.Second); err != nil || m.N != 3 {
		t.Errorf("%v %v", m.N, err)
	}
	if _, err := b.Receive(&m, time.Second); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

// TestBounds guards both ends against what is too large, and the receiver's descriptors.
func TestBounds(t *testing.T) {
	a, raw := pair(t)
	if err := a.Send(message{Data: make([]byte, packet.MaxBytes)}, time.Second); err == nil {
		t.Error("too large a message was sent")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := a.Send(message{}, time.Second, null, null, null, null, null); err == nil {
		t.Error("too many files were sent")
	}
	fd := int(null.Fd())
	before := openFiles(t)
	for name, c := range map[string]struct {
		data []byte
		fds  []int
	}{
		"too large":      {cose.MustMarshal(message{Data: make([]byte, packet.MaxBytes)}), nil},
		"too many files": {cose.MustMarshal(message{N: 1}), []int{fd, fd, fd, fd, fd, fd}},
		"garbage":        {[]byte("garbage"), []int{fd}},
		"trailing":       {append(cose.MustMarshal(message{N: 1}), 0), []int{fd, fd}},
		"other shape":    {cose.MustMarshal([]int{1}), []int{fd}},
	} {
		if _, _, err := raw.WriteMsgUnix(c.data, syscall.UnixRights(c.fds...), nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var m message
		if files, err := a.Receive(&m, time.Second); !errors.Is(err, packet.ErrMalformed) || len(files) != 0 {
			t.Errorf("%s: %v, %d files", name, err, len(files))
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors, then %d", before, after)
	}
	if _, err := a.Receive(&message{}, 10*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nothing to receive: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer a.Interrupt(ctx)()
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := a.Receive(&message{}, 0); err == nil {
		t.Error("an interrupted receive returned nothing")
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestListen guards the names of sockets: stale ones are replaced, others never.
func TestListen(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "s"), filepath.Join(dir, strings.Repeat("long", 30), "s")} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		l, err := packet.Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := os.Lstat(path); err != nil || st.Mode() != os.ModeSocket|0o600 {
			t.Errorf("%v, %v", st.Mode(), err)
		}
		if _, err := packet.Listen(path); !errors.Is(err, packet.ErrInUse) {
			t.Errorf("a second listener: %v", err)
		}
		c, err := packet.Dial(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		stale := path + ".stale"
		if err := os.Link(path, stale); err != nil {
			t.Fatal(err)
		}
		l.Close()
		if l, err = packet.Listen(stale); err != nil {
			t.Fatalf("a socket that nobody serves is in the way: %v", err)
		}
		l.Close()
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 1 {
			t.Errorf("left: %v", left)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := packet.Listen(file); err == nil {
		t.Error("a file was replaced by a socket")
	}
	if _, err := packet.FromFile(mustOpen(t, file)); err == nil {
		t.Error("a file is no connection")
	}
}

func mustOpen(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// FuzzReceive guards that any packet is either a message, which encodes to something that is received as the same, or an error.
func FuzzReceive(f *testing.F) {
	f.Add(cose.MustMarshal(message{N: 1, Data: []byte("x")}))
	f.Add([]byte{0xbf, 1, 1, 0xff})
	f.Add([]byte{0xa2, 1, 1, 1, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 || len(data) > packet.MaxBytes {
			return
		}
		a, raw := pair(t)
		if _, err := raw.Write(data); err != nil {
			t.Fatal(err)
		}
		var m, again message
		if _, err := a.Receive(&m, time.Second); err != nil {
			if !errors.Is(err, packet.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		b := packet.New(raw)
		if err := b.Send(m, time.Second); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Receive(&again, time.Second); err != nil || again.N != m.N || !bytes.Equal(again.Data, m.Data) {
			t.Fatalf("%+v, then %+v: %v", m, again, err)
		}
	})
}
