// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"sealift/internal/channel"
)

// Bounds on what callers of the relay can make the Broker hold.
const (
	relayConnections = 256
	relayIdle        = 10 * time.Minute
)

// connector opens the byte stream to the TLS endpoint of a TA.
type connector func(ctx context.Context, instance, app, ta string) (net.Conn, error)

// relayServer lets callers without a UA reach a TA: an HTTP proxy that knows the method CONNECT (RFC 9110 section 9.3.6) and
// no other, and no target but "TA.APP.DEPLOYMENT:443". What follows is TLS 1.3 that ends in the TEE; the relay sees no more
// of it than the network does, and needs no authentication of its own.
func relayServer(connect connector) *http.Server {
	slots := make(chan struct{}, relayConnections)
	return &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    4 << 10,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			default:
				refuse(w, http.StatusServiceUnavailable, "too many connections are relayed")
				return
			}
			serveConnect(w, r, connect)
		}),
	}
}

func serveConnect(w http.ResponseWriter, r *http.Request, connect connector) {
	if r.Method != http.MethodConnect {
		w.Header().Set("Allow", http.MethodConnect)
		refuse(w, http.StatusMethodNotAllowed, "only CONNECT ta.app.deployment:443 is served here")
		return
	}
	instance, app, ta, err := parseTarget(r.Host)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	inner, err := connect(ctx, instance, app, ta)
	cancel()
	if err != nil {
		refuse(w, relayStatus(err), err.Error())
		return
	}
	defer inner.Close()
	outer, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(w, http.StatusHTTPVersionNotSupported, "CONNECT needs HTTP/1.1")
		return
	}
	defer outer.Close()
	_ = outer.SetDeadline(time.Time{})
	if _, err := io.WriteString(outer, "HTTP/1.1 200 Connection Established\r\n\r\n"); err != nil {
		return
	}
	splice(bufferedConn{outer, buffered.Reader}, inner, relayIdle)
}

// parseTarget reads "ta.app.deployment:443". An application's name may hold dots; the other two do not.
func parseTarget(target string) (instance, app, ta string, err error) {
	host, port, err := net.SplitHostPort(target)
	first, last := strings.IndexByte(host, '.'), strings.LastIndexByte(host, '.')
	if err != nil || port != "443" || first <= 0 || last <= first+1 || last == len(host)-1 {
		return "", "", "", fmt.Errorf("the target %q is not of the form ta.app.deployment:443", target)
	}
	return host[last+1:], host[first+1 : last], host[:first], nil
}

func relayStatus(err error) int {
	switch {
	case errors.Is(err, channel.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, channel.ErrNotReady), errors.Is(err, channel.ErrBusy):
		return http.StatusServiceUnavailable
	case errors.Is(err, channel.ErrRefused):
		return http.StatusForbidden
	default:
		return http.StatusBadGateway
	}
}

func refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Connection", "close")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}

// bufferedConn is a hijacked connection with the bytes that the HTTP server had read ahead.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c bufferedConn) CloseWrite() error { return closeWrite(c.Conn) }

// splice carries bytes both ways between a and b until both directions have ended, one fails, or nothing moves for idle.
// The end of one direction is passed on as a half-close, so that a caller can end its question and still read the answer.
func splice(a, b net.Conn, idle time.Duration) {
	timer := time.AfterFunc(idle, func() { a.Close(); b.Close() })
	defer timer.Stop()
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		wg.Go(func() {
			src, dst := way[0], way[1]
			if _, err := io.Copy(moving{dst, timer, idle}, src); err != nil {
				a.Close()
				b.Close()
				return
			}
			if closeWrite(dst) != nil {
				dst.Close()
			}
		})
	}
	wg.Wait()
}

// moving is a writer that puts off the idle time-out whenever bytes move.
type moving struct {
	io.Writer
	timer *time.Timer
	idle  time.Duration
}

func (m moving) Write(p []byte) (int, error) {
	m.timer.Reset(m.idle)
	return m.Writer.Write(p)
}

// closeWrite ends one direction of a connection that can do that, else the connection.
func closeWrite(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return c.Close()
}
