// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package canary

import (
	"bytes"
	"net"
	"os/exec"
	"testing"
)

// What two other processes say to each other over a socket is heard, byte by byte.
func TestCaptureHearsASocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write(append(bytes.Repeat([]byte("x"), 3000), value...))
			conn.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	// bash waits for a line before it opens the connection, so that strace is there first.
	cmd := exec.Command("bash", "-c", "read line; cat < /dev/tcp/127.0.0.1/"+port+" > /dev/null; read line")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := Listen(t.TempDir(), cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = stdin.Write([]byte("go\nend\n"))
	stdin.Close()
	_ = cmd.Wait()
	if err := c.Stop(); err != nil {
		t.Logf("stopping: %v", err)
	}
	secret, _ := New(value)
	found, size, err := c.Scan(secret)
	if err != nil || size < 3000 || len(found) == 0 {
		t.Fatalf("the captured bytes do not hold what was sent: %v, %d bytes, %v", found, size, err)
	}
}
