// SPDX-License-Identifier: Apache-2.0

package serial_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sealift/internal/platform/serial"
)

type word struct {
	Text string `cbor:"1,keyasint"`
}

// TestMessages: what is sent is received, signs of life in between, and the end.
func TestMessages(t *testing.T) {
	a, b := net.Pipe()
	one, two := serial.NewMessages(a), serial.NewMessages(b)
	go func() {
		_ = one.Send(word{"hello"})
		_ = one.Alive()
		_ = one.Send(word{"again"})
		one.Close()
	}()
	var got []string
	for {
		var w word
		alive, err := two.Receive(&w)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if alive {
			w.Text = "-"
		}
		got = append(got, w.Text)
	}
	if strings.Join(got, " ") != "hello - again" {
		t.Error(got)
	}
	if err := one.Send(word{strings.Repeat("x", serial.MaxMessage)}); err == nil {
		t.Error("a message beyond the bound was sent")
	}
}

// stream reads from what is given and takes every write.
type stream struct {
	io.Reader
	io.Writer
}

func (stream) Close() error { return nil }

// TestMalformed: what is no message is an error of its own, and never larger than the bound.
func TestMalformed(t *testing.T) {
	for name, data := range map[string]string{
		"large": "\x00\x10\x00\x01", "garbage": "\x00\x00\x00\x01\xff", "trailing": "\x00\x00\x00\x02\xa0\xa0", "kind": "\x00\x00\x00\x01\x05",
	} {
		_, err := serial.NewMessages(stream{strings.NewReader(data), io.Discard}).Receive(&word{})
		if !errors.Is(err, serial.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, data := range []string{"", "\x00", "\x00\x00\x00\x05\xa0"} {
		if _, err := serial.NewMessages(stream{strings.NewReader(data), io.Discard}).Receive(&word{}); !errors.Is(err, io.EOF) {
			t.Errorf("%q: %v", data, err)
		}
	}
}

// lines joins two ends of a port; channels that the guest's end accepts come out of the channel.
func lines(t *testing.T) (*serial.Line, chan net.Conn) {
	a, b := net.Pipe()
	accepted := make(chan net.Conn, 8)
	guest := serial.AcceptLine(b, func(c net.Conn) { accepted <- c })
	host := serial.NewLine(a)
	t.Cleanup(func() { host.Close(); guest.Close() })
	return host, accepted
}

// TestLine: bytes pass both ways, whole; the newest channel supersedes; an end at either side is the end at the other.
func TestLine(t *testing.T) {
	host, accepted := lines(t)
	open := func() (broker, agent net.Conn) {
		broker, inner := net.Pipe()
		if err := host.Open(inner); err != nil {
			t.Fatal(err)
		}
		return broker, <-accepted
	}
	broker, agent := open()
	payload := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	go func() { _, _ = broker.Write(payload); broker.Close() }()
	got, err := io.ReadAll(agent)
	if err != nil || !bytes.Equal(got, payload) {
		t.Errorf("%d of %d bytes, %v", len(got), len(payload), err)
	}

	stuck, wedged := open() // nobody reads from the Agent's end
	go func() { _, _ = stuck.Write(payload) }()
	broker, agent = open()
	if _, err := io.ReadAll(wedged); err != nil {
		t.Error(err)
	}
	go func() { _, _ = agent.Write(payload); agent.Close() }()
	if got, err = io.ReadAll(broker); err != nil || !bytes.Equal(got, payload) {
		t.Errorf("%d of %d bytes, %v", len(got), len(payload), err)
	}

	broker, agent = open()
	host.Close()
	if _, err := agent.Read(make([]byte, 1)); err == nil {
		t.Error("the channel outlives the port")
	}
	if _, err := broker.Read(make([]byte, 1)); err == nil {
		t.Error("the channel outlives the port")
	}
	_, inner := net.Pipe()
	if err := host.Open(inner); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestLineMalformed: frames that the protocol does not have end the port.
func TestLineMalformed(t *testing.T) {
	for name, frame := range map[string]string{
		"kind":            "\x09\x00\x00\x00\x01\x00\x00\x00\x00",
		"size":            "\x00\x00\x00\x00\x01\x00\x01\x00\x00",
		"open with bytes": "\x01\x00\x00\x00\x01\x00\x00\x00\x01x",
		"number back":     "\x01\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		a, b := net.Pipe()
		guest := serial.AcceptLine(b, func(c net.Conn) { c.Close() })
		go func() { _, _ = io.WriteString(a, frame) }()
		if _, err := io.ReadAll(a); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: %v", name, err)
		}
		guest.Close()
	}
	a, b := net.Pipe() // the guest opens no channels
	host := serial.NewLine(b)
	go func() { _, _ = io.WriteString(a, "\x01\x00\x00\x00\x01\x00\x00\x00\x00") }()
	if _, err := io.ReadAll(a); err != nil {
		t.Error(err)
	}
	host.Close()
}

func folder(t *testing.T) (*serial.Folder, string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- serial.ServeFolder(b, root) }()
	f := serial.NewFolder(a)
	t.Cleanup(func() {
		f.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		root.Close()
	})
	return f, dir
}

// TestFolder: files as the vault needs them.
func TestFolder(t *testing.T) {
	f, dir := folder(t)
	if err := f.MkdirAll("blobs/x"); err != nil {
		t.Fatal(err)
	}
	payload := bytes.Repeat([]byte("data"), 200_000)
	w, err := f.Create("blobs/new")
	if err != nil {
		t.Fatal(err)
	}
	n, err := w.Write(payload)
	if err := errors.Join(err, w.Sync(), w.Close(), f.Rename("blobs/new", "blobs/one"), f.SyncDir("blobs")); err != nil || n != len(payload) {
		t.Fatal(n, err)
	}
	if size, err := f.Size("blobs/one"); err != nil || size != int64(len(payload)) {
		t.Error(size, err)
	}
	if names, err := f.ReadDir("blobs"); err != nil || len(names) != 2 {
		t.Error(names, err)
	}
	r, err := f.Open("blobs/one")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, payload) {
		t.Error(len(got), err)
	}
	if err := errors.Join(r.Close(), f.Remove("blobs/one")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "blobs/one")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestFolderErrors: errors keep what they are, and nothing outside the folder is reached.
func TestFolderErrors(t *testing.T) {
	f, dir := folder(t)
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("the host's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink(outside, filepath.Join(dir, "link")), syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for _, name := range []string{"link", "../" + filepath.Base(filepath.Dir(outside)) + "/secret", outside, ".", "pipe", strings.Repeat("x", 2000)} {
		if r, err := f.Open(name); err == nil {
			t.Errorf("%.40s was opened", name)
			r.Close()
		}
		if _, err := f.Create(name); err == nil {
			t.Errorf("%.40s was made", name)
		}
	}
	if err := f.Rename("link", "../escaped"); err == nil {
		t.Error("a file was moved out")
	}
	var open []*serial.File
	for {
		w, err := f.Create("many")
		if err != nil {
			if !errors.Is(err, syscall.EMFILE) {
				t.Error(err)
			}
			break
		}
		if open = append(open, w); len(open) > 1000 {
			t.Fatal("handles have no bound")
		}
	}
	for _, w := range open {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := open[0].Write([]byte("x")); !errors.Is(err, syscall.EBADF) {
		t.Error(err)
	}
	if data, err := os.ReadFile(outside); err != nil || string(data) != "the host's" {
		t.Errorf("%q, %v", data, err)
	}
}

// FuzzFolder lets a guest send whatever it likes to the one that serves its folder.
func FuzzFolder(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x07\xa2\x01\x01\x02\x61\x78\x00"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x03\xa1\x01\x06"))
	f.Fuzz(func(t *testing.T, data []byte) {
		root, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		if err := serial.ServeFolder(stream{bytes.NewReader(data), io.Discard}, root); err != nil && !errors.Is(err, serial.ErrMalformed) {
			t.Error(err)
		}
	})
}

// FuzzLine lets either end of a channel's port send whatever it likes.
func FuzzLine(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02hi\x02\x00\x00\x00\x01\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ended := make(chan bool)
		port := endStream{stream{bytes.NewReader(data), io.Discard}, ended}
		l := serial.AcceptLine(port, func(c net.Conn) { go func() { _, _ = io.Copy(io.Discard, c) }() })
		<-ended
		l.Close()
	})
}

type endStream struct {
	stream
	ended chan bool
}

func (s endStream) Close() error {
	select {
	case <-s.ended:
	default:
		close(s.ended)
	}
	return nil
}
