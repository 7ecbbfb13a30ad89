// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"sealift/internal/channel"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
)

// fetcher gets payloads for Agents, which have no network. The Agents check every digest themselves; what is bounded here
// protects the device: sizes, time without progress, and where a request may lead. The device's token goes to the M/OC and
// nowhere else.
type fetcher struct {
	moc   *mocapi.Client
	http  *http.Client
	cache *cache // nil: nothing is kept
	stall time.Duration
	slots chan struct{}
}

func newFetcher(moc *mocapi.Client, roots *x509.CertPool, kept *cache) *fetcher {
	transport := &http.Transport{
		TLSClientConfig:       tlsConfig(roots),
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		DisableCompression:    true, // the digest is that of the bytes as they are stored
		MaxIdleConns:          8,
	}
	noRedirects := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &fetcher{
		moc: moc, http: &http.Client{Transport: transport, CheckRedirect: noRedirects}, cache: kept, stall: time.Minute,
		slots: make(chan struct{}, 32),
	}
}

// fetch opens the payload at uri. A payload of more than limit bytes is an error; a negative limit is none. moved, which may be nil, is
// told how many bytes were read, of how many (-1: not known); with done when the body is closed.
func (f *fetcher) fetch(ctx context.Context, uri string, limit int64, moved func(n, total int64, done bool)) (io.ReadCloser, error) {
	select {
	case f.slots <- struct{}{}:
	default:
		return nil, fmt.Errorf("%w: too many payloads are being fetched", channel.ErrBusy)
	}
	ctx, cancel := context.WithCancel(ctx)
	release := func() { cancel(); <-f.slots }
	from, err := f.opener(uri)
	var body sized
	if err == nil {
		body, err = f.open(ctx, uri, from)
	}
	if err != nil {
		release()
		return nil, fmt.Errorf("fetching %s: %w", uri, err)
	}
	if size := body.size(); limit >= 0 && size > limit {
		body.Close()
		release()
		return nil, fmt.Errorf("fetching %s: %w: %d bytes, at most %d are wanted", uri, channel.ErrTooLarge, size, limit)
	}
	if moved == nil {
		moved = func(int64, int64, bool) {}
	}
	moved(0, body.size(), false)
	return &payload{ctx: ctx, from: from, stall: f.stall, body: body, left: limit, total: body.size(), moved: moved, release: release}, nil
}

// open takes a payload that is named by its digest through the cache, where there is one.
func (f *fetcher) open(ctx context.Context, uri string, from opener) (sized, error) {
	if name, ok := cacheName(uri); ok && f.cache != nil {
		body, err := f.cache.open(ctx, name, from, f.stall)
		if !errors.Is(err, errUncached) {
			return body, err
		}
	}
	return newResuming(ctx, from, 0, f.stall)
}

// opener says how to ask for the payload at uri.
func (f *fetcher) opener(uri string) (opener, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("%w: not a URI", channel.ErrRefused)
	}
	switch u.Scheme {
	case "ni":
		return func(ctx context.Context, offset int64) (*answer, error) { return f.niPayload(ctx, uri, offset) }, nil
	case "http", "https":
		return func(ctx context.Context, offset int64) (*answer, error) { return f.get(ctx, uri, offset) }, nil
	default:
		return nil, fmt.Errorf("%w: the scheme %q is not supported, only ni, http and https", channel.ErrRefused, u.Scheme)
	}
}

func (f *fetcher) niPayload(ctx context.Context, uri string, offset int64) (*answer, error) {
	resp, err := f.moc.OpenPayload(ctx, uri, offset)
	if fault.Is(err, fault.NotFound) {
		err = fmt.Errorf("%w: %w", channel.ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	return readAnswer(resp, offset)
}

func (f *fetcher) get(ctx context.Context, uri string, offset int64) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, err
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := f.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK || offset > 0 && resp.StatusCode == http.StatusPartialContent {
		return readAnswer(resp, offset)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone {
		return nil, fmt.Errorf("%w: the server answered %s", channel.ErrNotFound, resp.Status)
	}
	return nil, fmt.Errorf("the server answered %s", resp.Status)
}

// payload is a body that ends with an error when it is longer than allowed.
type payload struct {
	ctx     context.Context
	from    opener
	stall   time.Duration
	body    sized
	off     int64
	left    int64 // negative for no limit
	total   int64
	moved   func(n, total int64, done bool)
	release func()
	closed  bool
}

// Read implements io.Reader.
func (p *payload) Read(b []byte) (int, error) {
	n, err := p.body.Read(b)
	if errors.Is(err, errUncached) { // the disk is full: go on without the cache
		_ = p.body.Close()
		var rest *resuming
		if rest, err = newResuming(p.ctx, p.from, p.off, p.stall); err != nil {
			p.body = noBody{}
			return 0, err
		}
		p.body = rest
		n, err = rest.Read(b)
	}
	p.off += int64(n)
	p.moved(p.off, p.total, false)
	if p.left >= 0 {
		if int64(n) > p.left {
			return 0, fmt.Errorf("%w: the payload is longer than announced", channel.ErrTooLarge)
		}
		p.left -= int64(n)
	}
	return n, err
}

// noBody is what is left when a payload cannot be continued.
type noBody struct{}

func (noBody) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
func (noBody) Close() error             { return nil }
func (noBody) size() int64              { return -1 }

// Close implements io.Closer.
func (p *payload) Close() error {
	if p.closed {
		return nil
	}
	p.closed = true
	p.moved(p.off, p.total, true)
	err := p.body.Close()
	p.release()
	return err
}
