// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// start runs a transfer server in front of a TA that sends everything back, and returns its address.
func start(t *testing.T, l limits) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "ta")
	echo, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, ln, socket, l) }()
	t.Cleanup(func() {
		cancel()
		ln.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		echo.Close()
	})
	return ln.Addr().String()
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.TCPConn)
}

func TestBothWaysAndHalfClose(t *testing.T) {
	c := dial(t, start(t, limits{connections: 2, idle: 10 * time.Second, bytes: 1 << 20}))
	if _, err := io.WriteString(c, "question"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "question" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestIdleConnectionIsClosed(t *testing.T) {
	c := dial(t, start(t, limits{connections: 1, idle: 20 * time.Millisecond, bytes: 1 << 20}))
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d bytes, %v from an idle connection", n, err)
	}
	// The slot is free again.
	d := dial(t, start(t, limits{connections: 1, idle: time.Second, bytes: 4}))
	_, _ = io.WriteString(d, "12345678")
	if got, _ := io.ReadAll(d); string(got) != "1234" {
		t.Errorf("the limit of 4 bytes let %q through", got)
	}
}

func TestUnreachableTA(t *testing.T) {
	if err := run(t.Context(), "127.0.0.1:0", "", "", limits{}); err == nil {
		t.Error("run without a TA did not fail")
	}
}

func TestRequestTA(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "ask")
	if err := requestTA(t.Context(), socket); err == nil {
		t.Error("nobody was asked, and that is no error")
	}
	broker, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	for _, answer := range []string{"requested\n", "no\n"} {
		go func() {
			if c, err := broker.Accept(); err == nil {
				_, _ = io.WriteString(c, answer)
				c.Close()
			}
		}()
		if err := requestTA(t.Context(), socket); (err == nil) != (answer == "requested\n") {
			t.Errorf("%q: %v", answer, err)
		}
	}
}
