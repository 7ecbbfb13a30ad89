// SPDX-License-Identifier: Apache-2.0

//go:build linux

package channel_test

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"sealift/internal/channel"
)

// BenchmarkFetch moves a payload over the sockets that a process or container has. cpu-ns/op is the processor time of both ends.
func BenchmarkFetch(b *testing.B) {
	const size = 256 << 20
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "channel")
		if ends[i], err = net.FileConn(f); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
	svc := &brokerSvc{payloads: map[string]io.Reader{}}
	broker, err := channel.ServeBroker(ends[0], svc)
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	agent, err := channel.ServeAgent(ends[1], &agentSvc{})
	if err != nil {
		b.Fatal(err)
	}
	defer agent.Close()
	buf := make([]byte, 256<<10)
	b.SetBytes(size)
	before := cpu()
	for b.Loop() {
		svc.payloads["x"] = io.LimitReader(nothing{}, size)
		r, err := agent.Fetch(b.Context(), "x", -1)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(onlyWriter{io.Discard}, onlyReader{r}, buf); n != size || err != nil {
			b.Fatal(n, err)
		}
		r.Close()
	}
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
}

type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// nothing is a source that costs nothing.
type nothing struct{}

func (nothing) Read(p []byte) (int, error) { return len(p), nil }

func cpu() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}
