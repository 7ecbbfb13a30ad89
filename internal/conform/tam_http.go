// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"bytes"
	"context"
	"fmt"
	"mime"
	"net/http"

	"sealift/teep"
)

// httpProbes hold a TAM against the HTTP binding (teep-over-http sections 4 to 6).
func httpProbes() []probe[*tamRun] {
	return []probe[*tamRun]{
		{"H1", "H 4", "an empty POST without Content-Type opens a session", emptyPost},
		{"H2", "H 5", "a response has the media type of TEEP and the three headers", responseHeaders},
		{"H3", "H 4", "no Cache-Control, cookies or redirects", quietHeaders},
		{"H4", "H 4", "only POST is allowed", wrongMethod},
		{"H5", "H 4", "Accept with ranges includes TEEP messages (RFC 9110 12.5.1)", acceptRanges},
		{"H6", "H 4", "Accept without TEEP messages is refused", wrongAccept},
		{"H7", "H 4", "a body without or with another Content-Type is refused", wrongType},
		{"H8", "H 4", "a body that is too large is refused", tooLarge},
	}
}

func emptyPost(ctx context.Context, r *tamRun) error {
	a := r.post(ctx, nil)
	if a.status == http.StatusUnsupportedMediaType {
		r.typed = true
		return fmt.Errorf("HTTP status 415; the draft's own first request has no Content-Type. The kit sends one from here on")
	}
	if !a.ok() || len(a.body) == 0 {
		return fmt.Errorf("%s", a.what())
	}
	return nil
}

func responseHeaders(ctx context.Context, r *tamRun) error {
	a := r.post(ctx, nil)
	if !a.ok() || len(a.body) == 0 {
		return fmt.Errorf("%s", a.what())
	}
	if t, _, err := mime.ParseMediaType(a.header.Get("Content-Type")); err != nil || t != teep.MediaType {
		return fmt.Errorf("Content-Type is %q", a.header.Get("Content-Type"))
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'",
		"Referrer-Policy": "no-referrer"} {
		if got := a.header.Get(name); got != want {
			return fmt.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	return nil
}

func quietHeaders(ctx context.Context, r *tamRun) error {
	a := r.post(ctx, nil)
	for _, name := range []string{"Cache-Control", "Set-Cookie", "Location"} {
		if v := a.header.Get(name); v != "" {
			return fmt.Errorf("%s: %q", name, v)
		}
	}
	if a.status >= 300 && a.status < 400 {
		return fmt.Errorf("HTTP status %d", a.status)
	}
	return nil
}

func wrongMethod(ctx context.Context, r *tamRun) error {
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		a := r.do(ctx, method, nil, nil)
		if a.status != http.StatusMethodNotAllowed {
			if a.status >= 400 && a.status < 500 {
				return remark(fmt.Sprintf("%s is refused with HTTP status %d; 405 would say why", method, a.status))
			}
			return fmt.Errorf("%s is answered with HTTP status %d", method, a.status)
		}
		if a.header.Get("Allow") == "" {
			return remark("405 without the header Allow that RFC 9110 section 15.5.6 demands")
		}
	}
	return nil
}

func acceptRanges(ctx context.Context, r *tamRun) error {
	for _, value := range []string{"*/*", "application/*", "text/html, " + teep.MediaType + ";q=0.5"} {
		if a := r.do(ctx, http.MethodPost, nil, func(h http.Header) { h.Set("Accept", value) }); !a.ok() {
			return fmt.Errorf("with Accept: %s it is answered with %s", value, a.what())
		}
	}
	return nil
}

func wrongAccept(ctx context.Context, r *tamRun) error {
	for _, change := range []func(http.Header){
		func(h http.Header) { h.Set("Accept", "text/html") },
		func(h http.Header) { h.Del("Accept") },
	} {
		a := r.do(ctx, http.MethodPost, nil, change)
		switch {
		case a.ok():
			return fmt.Errorf("answered with %s", a.what())
		case a.status != http.StatusNotAcceptable:
			return remark(fmt.Sprintf("refused with HTTP status %d; 406 is recommended", a.status))
		}
	}
	return nil
}

func wrongType(ctx context.Context, r *tamRun) error {
	for _, change := range []func(http.Header){
		func(h http.Header) { h.Del("Content-Type") },
		func(h http.Header) { h.Set("Content-Type", "application/octet-stream") },
	} {
		a := r.do(ctx, http.MethodPost, []byte{0x80}, change)
		switch {
		case a.ok():
			return fmt.Errorf("answered with %s", a.what())
		case a.status != http.StatusUnsupportedMediaType:
			return remark(fmt.Sprintf("refused with HTTP status %d; 415 is recommended", a.status))
		}
	}
	return nil
}

func tooLarge(ctx context.Context, r *tamRun) error {
	a := r.do(ctx, http.MethodPost, bytes.Repeat([]byte{0x80}, r.Oversize), nil)
	switch {
	case a.err != nil:
		return remark("the TAM closes the connection")
	case a.ok():
		return fmt.Errorf("%d bytes are answered with %s", r.Oversize, a.what())
	case a.status != http.StatusRequestEntityTooLarge:
		return remark(fmt.Sprintf("refused with HTTP status %d; 413 would say why", a.status))
	}
	return nil
}
