// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Capture records every byte that a running process and its children read and write, on any socket, pipe or file, until
// Stop. It is strace that listens, so it sees what crosses Unix sockets as well as what crosses the network.
type Capture struct {
	cmd *exec.Cmd
	dir string
}

// Listen attaches to the processes and writes what it hears below dir.
func Listen(dir string, pids ...int) (*Capture, error) {
	args := []string{"-ff", "-q", "-xx", "-s", "1048576", "-o", filepath.Join(dir, "trace"),
		"-e", "trace=read,readv,pread64,preadv,recvfrom,recvmsg,recvmmsg,write,writev,pwrite64,pwritev,sendto,sendmsg,sendmmsg"}
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	cmd := exec.Command("strace", args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("canary: starting strace: %w", err)
	}
	c := &Capture{cmd: cmd, dir: dir}
	for range 100 {
		if traced(pids) {
			return c, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, errors.Join(errors.New("canary: strace does not attach"), c.Stop())
}

// traced tells whether each process has a tracer.
func traced(pids []int) bool {
	for _, pid := range pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || strings.Contains(string(status), "TracerPid:\t0\n") {
			return false
		}
	}
	return true
}

// Stop ends the recording.
func (c *Capture) Stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGINT); err != nil {
		return err
	}
	_ = c.cmd.Wait() // it reports the signal that we sent as a failure
	return nil
}

// Scan looks for the secret in what was recorded. It returns how many bytes had crossed.
func (c *Capture) Scan(s *Secret) (found []Hit, size int64, err error) {
	files, err := filepath.Glob(filepath.Join(c.dir, "trace*"))
	if err != nil {
		return nil, 0, err
	}
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return found, size, err
		}
		bytes := &counter{r: &unescaper{r: f}}
		h, err := s.ScanReader(path, bytes)
		f.Close()
		found, size = append(found, h...), size+bytes.n
		if err != nil {
			return found, size, err
		}
	}
	return found, size, nil
}

// unescaper turns strace's \x41\x42 into the bytes they stand for, and drops everything else. What two calls moved ends up
// adjoining, so that a secret cut in two by a short write is still met.
type unescaper struct {
	r    io.Reader
	buf  [64 << 10]byte
	rest []byte
	held []byte // an escape whose end has not been read yet
}

func (u *unescaper) Read(p []byte) (int, error) {
	for len(u.rest) == 0 {
		n, err := u.r.Read(u.buf[:])
		u.rest = append(u.held, u.buf[:n]...)
		u.held = nil
		if n == 0 && err != nil {
			return 0, err
		}
		if tail := escapeTail(u.rest); tail > 0 {
			u.held = append([]byte(nil), u.rest[len(u.rest)-tail:]...)
			u.rest = u.rest[:len(u.rest)-tail]
		}
	}
	n := 0
	for n < len(p) && len(u.rest) > 0 {
		if u.rest[0] == '\\' && len(u.rest) >= 4 && u.rest[1] == 'x' {
			if v, err := strconv.ParseUint(string(u.rest[2:4]), 16, 8); err == nil {
				p[n] = byte(v)
				n++
				u.rest = u.rest[4:]
				continue
			}
		}
		u.rest = u.rest[1:]
	}
	return n, nil
}

// escapeTail returns how many bytes at the end of b may begin an escape that goes on in the next read.
func escapeTail(b []byte) int {
	for n := 1; n <= 3 && n <= len(b); n++ {
		if b[len(b)-n] == '\\' {
			return n
		}
	}
	return 0
}
