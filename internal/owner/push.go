// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/archive"
)

// push uploads an artifact to the M/OC's registry by the OCI distribution protocol and returns how to name it there. What is there
// already is not sent again.
func (o *Owner) push(ctx context.Context, s *session, repository string, a archive.Artifact) (mocapi.PackageRef, error) {
	ref := mocapi.PackageRef{Role: a.Role, Repository: repository, Digest: a.Digest()}
	u, err := url.Parse(s.context.URL)
	if err != nil {
		return ref, fault.Wrap(fault.BadRequest, err)
	}
	options := []name.Option{name.StrictValidation}
	if u.Scheme == "http" {
		options = append(options, name.Insecure)
	}
	target, err := name.NewDigest(u.Host+"/"+repository+"@"+a.Digest(), options...)
	if err != nil {
		return ref, fault.Wrap(fault.BadRequest, fmt.Errorf("the package's name in the registry: %w", err))
	}
	blobs := append([]archive.Blob{a.Config()}, a.Layers...)
	var size int64
	for _, b := range blobs {
		size += b.Size
	}
	begun := uploads{}
	client := &http.Client{Transport: s.transport(u.Host)}
	_, err = persist(ctx, o, func() (struct{}, error) {
		remoteOptions := []remote.Option{remote.WithContext(ctx), remote.WithTransport(s.transport(u.Host)),
			remote.WithRetryBackoff(remote.Backoff{Steps: 1})}
		sent := &progress{report: o.Progress, what: "sending package " + a.Role, total: size}
		for _, b := range blobs {
			var err error
			if b.Size >= largeBlob {
				err = begun.blob(ctx, client, u, repository, b, sent)
			} else {
				err = remote.WriteLayer(target.Context(), layer{b, sent}, remoteOptions...)
			}
			if err != nil {
				return struct{}{}, pushError(ctx, err)
			}
		}
		return struct{}{}, pushError(ctx, remote.Put(target, putManifest(a.Manifest), remoteOptions...))
	})
	if err != nil {
		return ref, fmt.Errorf("pushing the package %s: %w", a.Role, err)
	}
	o.tell("push", "owner", fmt.Sprintf("pushed package %s (%d bytes in %d blobs) to the M/OC", a.Role, size, len(blobs)))
	return ref, nil
}

// transport reaches the registry with the session's own trust anchors and token. The token goes to this M/OC and nowhere else.
func (s *session) transport(host string) http.RoundTripper {
	inner := s.http.Transport
	if inner == nil {
		inner = http.DefaultTransport
	}
	return withToken{inner: inner, host: host, token: s.context.Token}
}

// withToken adds the bearer token to each request, the first one included, so that the registry has nothing to challenge.
type withToken struct {
	inner       http.RoundTripper
	host, token string
}

func (t withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == t.host && t.token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+t.token)
	}
	return t.inner.RoundTrip(r)
}

// pushError gives the registry's errors the codes of the M/OC.
func pushError(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	if errors.Is(err, archive.ErrFormat) { // found while it was read to be sent
		return fault.Wrap(fault.BadRequest, err).WithHint("sealift pack makes a new one")
	}
	var status *transport.Error
	if !errors.As(err, &status) {
		return fault.Wrap(fault.Unreachable, fmt.Errorf("the M/OC's registry does not answer: %w", err))
	}
	switch code := status.StatusCode; {
	case code == http.StatusUnauthorized:
		return fault.Wrap(fault.Unauthorized, err)
	case code == http.StatusForbidden:
		return fault.Wrap(fault.Forbidden, err)
	case code == http.StatusRequestEntityTooLarge:
		return fault.Wrap(fault.TooLarge, err)
	case code == http.StatusServiceUnavailable, code == http.StatusBadGateway, code == http.StatusTooManyRequests:
		return fault.Wrap(fault.Unavailable, err)
	case code == http.StatusInsufficientStorage:
		return fault.Wrap(fault.StorageFull, fmt.Errorf("the M/OC's disk is full: %w", err))
	}
	return fault.Wrap(fault.BadPackage, err)
}

// layer shows a blob to the OCI client as what it uploads. Blobs are stored as they are: nothing is compressed.
type layer struct {
	archive.Blob
	sent *progress
}

func (l layer) Digest() (v1.Hash, error) { return v1.NewHash(l.Blob.Digest) }
func (l layer) DiffID() (v1.Hash, error) { return v1.NewHash(l.Blob.Digest) }
func (l layer) Compressed() (io.ReadCloser, error) {
	r, err := l.Open()
	if err != nil {
		return nil, err
	}
	return counted{r, l.sent}, nil
}
func (l layer) Uncompressed() (io.ReadCloser, error) { return l.Open() }
func (l layer) Size() (int64, error)                 { return l.Blob.Size, nil }
func (l layer) MediaType() (types.MediaType, error)  { return types.MediaType(l.Blob.MediaType), nil }

// putManifest shows an OCI manifest to the OCI client.
type putManifest []byte

func (m putManifest) RawManifest() ([]byte, error)        { return m, nil }
func (m putManifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// shortly is the time that a request may take which is no long poll and carries no payload.
const shortly = 30 * time.Second

// progress adds up what was sent of a package, and reports it not more often than people read.
type progress struct {
	report func(what string, done, total int64)
	what   string
	total  int64
	done   atomic.Int64
	last   atomic.Int64 // time of the last report, in nanoseconds
}

const progressPause = 100 * time.Millisecond

func (p *progress) add(n int) {
	done := p.done.Add(int64(n))
	if p.report == nil {
		return
	}
	now, last := time.Now().UnixNano(), p.last.Load()
	if now-last >= int64(progressPause) && p.last.CompareAndSwap(last, now) {
		p.report(p.what, done, p.total)
	}
}

// counted tells progress what is read.
type counted struct {
	io.ReadCloser
	sent *progress
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.sent.add(n)
	return n, err
}
