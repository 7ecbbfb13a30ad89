// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestServe asks over a real socket: before the data is there, after, and with input a caller should not send.
func TestServe(t *testing.T) {
	dir := t.TempDir()
	socket, pd := filepath.Join(dir, "s"), filepath.Join(dir, "pd")
	if err := os.Mkdir(pd, 0o700); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	data := &source{dir: pd}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { answer(c, data); c.Close() }()
		}
	}()
	ask := func(in string) string {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, in); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.UnixConn).CloseWrite()
		out, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if got := ask("count\n"); !strings.Contains(got, "not released") {
		t.Errorf("without data: %q", got)
	}
	if err := os.WriteFile(filepath.Join(pd, "t.csv"), []byte("a\n"+strings.Repeat("x\n", 7)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := ask("count\ncount where a=x"); got != "7\n\n7\n\n" {
		t.Errorf("two questions: %q", got)
	}
	if got := ask("what?\ncount\n"); !strings.HasPrefix(got, "error: ") || !strings.HasSuffix(got, "\n7\n\n") {
		t.Errorf("a bad question and a good one: %q", got)
	}
	if got := ask(strings.Repeat("x", 2*maxQuestion)); !strings.Contains(got, "at most") {
		t.Errorf("a long question: %q", got)
	}
	if err := serve("", pd); err == nil {
		t.Error("serve without a socket did not fail")
	}
}
