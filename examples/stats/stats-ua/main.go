// SPDX-License-Identifier: Apache-2.0

// Command stats-ua is an example of a UA: a transfer server in the REE. It takes connections on the device's network and
// carries their bytes to its TA and back, through the Unix socket SEALIFT_TA. The bytes are TLS between the caller and the
// TEE, so this program, like everything else outside the TEE, sees lengths and times and nothing more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// limits bound what callers can make this program hold.
type limits struct {
	connections int
	idle        time.Duration // no byte in either direction
	bytes       int64         // per direction and connection
}

func main() {
	var l limits
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	flag.IntVar(&l.connections, "connections", 64, "connections at a time")
	flag.DurationVar(&l.idle, "idle", time.Minute, "close a connection that carries nothing for this long")
	flag.Int64Var(&l.bytes, "bytes", 1<<30, "bytes per connection and direction")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, os.Getenv("SEALIFT_TA"), os.Getenv("SEALIFT_REQUEST_TA"), l); err != nil {
		fmt.Fprintln(os.Stderr, "stats-ua:", err)
		os.Exit(1)
	}
}

// run listens, asks for the TA if there is whom to ask, and serves.
func run(ctx context.Context, listen, ta, ask string, l limits) error {
	if ta == "" {
		return errors.New("SEALIFT_TA must be set: this program is started by a TEEP Broker")
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { ln.Close() })
	if ask != "" {
		go func() {
			if err := requestTA(ctx, ask); err != nil {
				fmt.Fprintln(os.Stderr, "stats-ua:", err)
			}
		}()
	}
	return serve(ctx, ln, ta, l)
}

// requestTA asks the Broker for the TA: on SGX it is not loaded before its UA wants it. The connection is the request; one line says
// that it was taken.
func requestTA(ctx context.Context, socket string) error {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("the TA cannot be asked for: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if answer, err := io.ReadAll(io.LimitReader(conn, 64)); err != nil || string(answer) != "requested\n" {
		return fmt.Errorf("the request for the TA was answered with %q: %v", answer, err)
	}
	return nil
}

// serve takes connections until ctx ends. One connection too many waits until another one is done.
func serve(ctx context.Context, ln net.Listener, ta string, l limits) error {
	slots := make(chan struct{}, l.connections)
	for {
		slots <- struct{}{}
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		go func() {
			defer func() { <-slots }()
			if err := transfer(ctx, conn, ta, l); err != nil {
				fmt.Fprintln(os.Stderr, "stats-ua:", err)
			}
		}()
	}
}

// halfCloser is a connection of which one direction can be closed, as TCP and Unix connections are.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// transfer carries the bytes of one caller both ways until both sides have closed, a limit is met, or nothing moves.
func transfer(ctx context.Context, caller net.Conn, ta string, l limits) error {
	defer caller.Close()
	dialer := net.Dialer{Timeout: 10 * time.Second}
	inner, err := dialer.DialContext(ctx, "unix", ta)
	if err != nil {
		return fmt.Errorf("the TA cannot be reached: %w", err)
	}
	defer inner.Close()
	stop := context.AfterFunc(ctx, func() { caller.Close(); inner.Close() })
	defer stop()
	idle := time.AfterFunc(l.idle, func() { caller.Close(); inner.Close() })
	defer idle.Stop()

	var wg sync.WaitGroup
	for _, way := range [][2]halfCloser{{caller.(halfCloser), inner.(halfCloser)}, {inner.(halfCloser), caller.(halfCloser)}} {
		wg.Go(func() {
			src, dst := way[0], way[1]
			_, err := io.Copy(&active{Writer: dst, timer: idle, idle: l.idle}, io.LimitReader(src, l.bytes))
			if err != nil {
				src.Close()
			}
			_ = dst.CloseWrite()
		})
	}
	wg.Wait()
	return nil
}

// active is a writer that puts off the idle time-out whenever bytes move.
type active struct {
	io.Writer
	timer *time.Timer
	idle  time.Duration
}

func (a *active) Write(p []byte) (int, error) {
	a.timer.Reset(a.idle)
	return a.Writer.Write(p)
}
