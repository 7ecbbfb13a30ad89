// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hw_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sealift/internal/platform/hw"
	"sealift/internal/platform/packet"
)

// open makes a TEE whose platform is the test.
func open(t *testing.T) (hw.TEE, *packet.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	platform, err := packet.FromFile(os.NewFile(uintptr(fds[0]), "platform"))
	if err != nil {
		t.Fatal(err)
	}
	tee, err := hw.Open(uintptr(fds[1]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { platform.Close(); tee.Close() })
	return tee, platform
}

// answer serves requests with f until the connection ends.
func answer(platform *packet.Conn, f func(hw.Request) hw.Answer) {
	go func() {
		for {
			var q hw.Request
			if _, err := platform.Receive(&q, 0); err != nil {
				return
			}
			a := f(q)
			a.ID = q.ID
			if platform.Send(a, time.Second) != nil {
				return
			}
		}
	}()
}

// TestCalls guards that each caller gets its own answer, and what the codes become.
func TestCalls(t *testing.T) {
	tee, platform := open(t)
	answer(platform, func(q hw.Request) hw.Answer {
		switch q.Op {
		case hw.OpInfo:
			return hw.Answer{Info: &hw.WireInfo{Hardware: "emu:trustzone", Config: []byte("config")}}
		case hw.OpEvidence:
			return hw.Answer{Token: &hw.WireToken{Token: q.Binding, MediaType: "m", Chain: [][]byte{{1}}}}
		case hw.OpSealingKey:
			return hw.Answer{Code: hw.CodeRefused, Text: "no"}
		case hw.OpIncrement:
			if q.Expect == 5 {
				return hw.Answer{Code: hw.CodeCounter, Text: "it is at 6"}
			}
			return hw.Answer{Counter: q.Expect + 1}
		}
		return hw.Answer{Counter: 9}
	})
	info, err := tee.Info()
	if err != nil || info.Hardware != "emu:trustzone" || string(info.Config) != "config" {
		t.Errorf("%+v, %v", info, err)
	}
	info.Config[0] = 'X'
	if info, _ = tee.Info(); string(info.Config) != "config" {
		t.Error("a caller can change the configuration that others read")
	}
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			b := [64]byte{byte(i)}
			e, err := tee.Evidence(t.Context(), b)
			if err != nil || [64]byte(e.Token) != b {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	all.Wait()
	if _, err := tee.SealingKey("x"); !errors.Is(err, hw.ErrRefused) {
		t.Error(err)
	}
	if n, err := tee.Increment(7); n != 8 || err != nil {
		t.Error(n, err)
	}
	if _, err := tee.Increment(5); !errors.Is(err, hw.ErrCounter) {
		t.Error(err)
	}
	if n, err := tee.Counter(); n != 9 || err != nil {
		t.Error(n, err)
	}
}

// TestWrongAnswers guards the Agent against a platform that answers something else than it was asked.
func TestWrongAnswers(t *testing.T) {
	tee, platform := open(t)
	answer(platform, func(hw.Request) hw.Answer { return hw.Answer{Counter: 3, Key: []byte("short")} })
	if _, err := tee.Info(); err == nil {
		t.Error("no info")
	}
	if _, err := tee.Evidence(t.Context(), [64]byte{}); err == nil {
		t.Error("no token")
	}
	if _, err := tee.SealingKey("x"); err == nil {
		t.Error("a short key")
	}
	if _, err := tee.Increment(7); err == nil {
		t.Error("a counter that jumps")
	}
}

// TestGone guards that nobody waits for a platform that has died, and that the channels end.
func TestGone(t *testing.T) {
	tee, platform := open(t)
	done := make(chan error)
	go func() {
		_, err := tee.Counter()
		done <- err
	}()
	var q hw.Request
	if _, err := platform.Receive(&q, time.Second); err != nil {
		t.Fatal(err)
	}
	platform.Close()
	if err := <-done; !errors.Is(err, hw.ErrGone) {
		t.Error(err)
	}
	if _, ok := <-tee.Channels(); ok {
		t.Error("a channel from nowhere")
	}
	if _, err := tee.Counter(); !errors.Is(err, hw.ErrGone) {
		t.Error(err)
	}
	tee, _ = open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tee.Evidence(ctx, [64]byte{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestChannels guards that the newest channel is delivered and closes the ones before, delivered or not.
func TestChannels(t *testing.T) {
	tee, platform := open(t)
	give := func() net.Conn {
		t.Helper()
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		theirs := os.NewFile(uintptr(fds[1]), "theirs")
		defer theirs.Close()
		if err := platform.Send(hw.Answer{}, time.Second, theirs); err != nil {
			t.Fatal(err)
		}
		ours := os.NewFile(uintptr(fds[0]), "ours")
		defer ours.Close()
		conn, err := net.FileConn(ours)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	ended := func(c net.Conn) bool {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err := c.Read(make([]byte, 1))
		return errors.Is(err, io.EOF)
	}
	first := give()
	got := <-tee.Channels()
	second, third := give(), give()
	if !ended(first) || !ended(second) {
		t.Error("a superseded channel is open")
	}
	if _, err := got.Write([]byte("x")); err == nil {
		t.Error("the Agent can still write to the superseded channel")
	}
	got = <-tee.Channels()
	if _, err := got.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(third, buf); err != nil || string(buf) != "hello" {
		t.Errorf("%q, %v", buf, err)
	}
	if err := platform.Send(hw.Answer{}, time.Second); err != nil { // news without a file is no news
		t.Fatal(err)
	}
	answer(platform, func(hw.Request) hw.Answer { return hw.Answer{Counter: 1} })
	if _, err := tee.Counter(); err != nil {
		t.Error(err)
	}
}

// TestOpenRefuses guards the message for an Agent that is started by hand.
func TestOpenRefuses(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(f.Fd()))
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hw.Open(uintptr(fd)); err == nil {
		t.Error("/dev/null is no hardware interface")
	}
	if _, err := hw.Open(1 << 20); err == nil {
		t.Error("a closed descriptor is no hardware interface")
	}
}
