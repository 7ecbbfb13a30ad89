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
	stall time.Duration
	slots chan struct{}
}

func newFetcher(moc *mocapi.Client, roots *x509.CertPool) *fetcher {
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
		moc: moc, http: &http.Client{Transport: transport, CheckRedirect: noRedirects}, stall: time.Minute, slots: make(chan struct{}, 32),
	}
}

// fetch opens the payload at uri. A payload of more than limit bytes is an error; a negative limit is none.
func (f *fetcher) fetch(ctx context.Context, uri string, limit int64) (io.ReadCloser, error) {
	select {
	case f.slots <- struct{}{}:
	default:
		return nil, fmt.Errorf("%w: too many payloads are being fetched", channel.ErrBusy)
	}
	ctx, cancel := context.WithCancel(ctx)
	release := func() { cancel(); <-f.slots }
	body, size, err := f.open(ctx, uri)
	if err != nil {
		release()
		return nil, fmt.Errorf("fetching %s: %w", uri, err)
	}
	if limit >= 0 && size > limit {
		body.Close()
		release()
		return nil, fmt.Errorf("fetching %s: %w: %d bytes, at most %d are wanted", uri, channel.ErrTooLarge, size, limit)
	}
	return &payload{body: body, left: limit, timer: time.AfterFunc(f.stall, cancel), stall: f.stall, release: release}, nil
}

func (f *fetcher) open(ctx context.Context, uri string) (io.ReadCloser, int64, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: not a URI", channel.ErrRefused)
	}
	switch u.Scheme {
	case "ni":
		body, size, err := f.moc.OpenPayload(ctx, uri)
		if fault.Is(err, fault.NotFound) {
			err = fmt.Errorf("%w: %w", channel.ErrNotFound, err)
		}
		return body, size, err
	case "http", "https":
		return f.get(ctx, uri)
	default:
		return nil, 0, fmt.Errorf("%w: the scheme %q is not supported, only ni, http and https", channel.ErrRefused, u.Scheme)
	}
}

func (f *fetcher) get(ctx context.Context, uri string) (io.ReadCloser, int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := f.http.Do(req)
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, resp.ContentLength, nil
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone {
		return nil, 0, fmt.Errorf("%w: the server answered %s", channel.ErrNotFound, resp.Status)
	}
	return nil, 0, fmt.Errorf("the server answered %s", resp.Status)
}

// payload is a body that ends with an error when it is longer than allowed or does not move.
type payload struct {
	body    io.ReadCloser
	left    int64 // negative for no limit
	timer   *time.Timer
	stall   time.Duration
	release func()
	closed  bool
}

func (p *payload) Read(b []byte) (int, error) {
	p.timer.Reset(p.stall)
	n, err := p.body.Read(b)
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("nothing arrived for %s: %w", p.stall, err)
	}
	if p.left >= 0 {
		if int64(n) > p.left {
			return 0, fmt.Errorf("%w: the payload is longer than announced", channel.ErrTooLarge)
		}
		p.left -= int64(n)
	}
	return n, err
}

func (p *payload) Close() error {
	if p.closed {
		return nil
	}
	p.closed = true
	p.timer.Stop()
	err := p.body.Close()
	p.release()
	return err
}
