// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"sealift/internal/fault"
	"sealift/internal/owner/archive"
)

// A large blob goes up in chunks (OCI Distribution Specification 1.1, "Pushing a blob in chunks"). When the connection is cut, or the M/OC
// is away for a while, the upload goes on where the registry says that it stands.

const (
	// largeBlob is the size from which a blob is uploaded in chunks.
	largeBlob = 8 << 20
	// uploadChunk is the size of a chunk: what is sent again at most, at a registry that keeps no part of one.
	uploadChunk = 64 << 20
)

// uploads remembers where the uploads of one push stand, from one attempt to the next.
type uploads map[string]string // digest to the location of the upload

// blob uploads b unless the registry has it.
func (u uploads) blob(ctx context.Context, client *http.Client, base *url.URL, repository string, b archive.Blob, sent *progress) error {
	blobs := base.JoinPath("v2", repository, "blobs")
	resp, err := ask(ctx, client, http.MethodHead, blobs.JoinPath(b.Digest).String(), nil, nil, http.StatusOK, http.StatusNotFound)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK {
		sent.add(int(b.Size))
		return nil
	}
	at, offset, err := u.where(ctx, client, blobs, b)
	if err != nil {
		return err
	}
	r, err := b.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	src := counted{r, sent}
	if _, err := io.CopyN(io.Discard, src, offset); err != nil {
		return err
	}
	for offset < b.Size {
		n := min(uploadChunk, b.Size-offset)
		header := http.Header{"Content-Range": {fmt.Sprintf("%d-%d", offset, offset+n-1)}, "Content-Type": {"application/octet-stream"}}
		resp, err := ask(ctx, client, http.MethodPatch, at.String(), header, &chunk{io.LimitReader(src, n), n}, http.StatusAccepted)
		if err != nil {
			return err
		}
		if at, err = location(at, resp); err != nil {
			return err
		}
		u[b.Digest] = at.String()
		offset += n
	}
	// The reader says that the content is not the one that was packed only at its end.
	if n, err := io.Copy(io.Discard, src); err != nil || n > 0 {
		return errorsOr(err, fmt.Errorf("%w: blob %s has more bytes than it says", archive.ErrFormat, b.Digest))
	}
	delete(u, b.Digest)
	q := at.Query()
	q.Set("digest", b.Digest)
	at.RawQuery = q.Encode()
	_, err = ask(ctx, client, http.MethodPut, at.String(), nil, nil, http.StatusCreated)
	return err
}

func errorsOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// where finds the upload that was begun before, and how far it is, or begins one.
func (u uploads) where(ctx context.Context, client *http.Client, blobs *url.URL, b archive.Blob) (at *url.URL, offset int64, err error) {
	if known := u[b.Digest]; known != "" {
		delete(u, b.Digest)
		resp, err := ask(ctx, client, http.MethodGet, known, nil, nil, http.StatusNoContent, http.StatusNotFound)
		if err != nil {
			u[b.Digest] = known
			return nil, 0, err
		}
		_, last, _ := strings.Cut(resp.Header.Get("Range"), "-")
		end, err := strconv.ParseInt(last, 10, 64)
		// "0-0" is said of an empty upload too.
		if resp.StatusCode == http.StatusNoContent && err == nil && end > 0 && end < b.Size {
			at, err := url.Parse(known)
			if err == nil {
				at, err = location(at, resp)
			}
			if err == nil {
				u[b.Digest] = at.String()
			}
			return at, end + 1, err
		}
	}
	start := blobs.JoinPath("uploads").String() + "/"
	resp, err := ask(ctx, client, http.MethodPost, start, nil, nil, http.StatusAccepted)
	if err != nil {
		return nil, 0, err
	}
	if at, err = url.Parse(start); err == nil {
		at, err = location(at, resp)
	}
	if err == nil {
		u[b.Digest] = at.String()
	}
	return at, 0, err
}

// location is where an upload goes on. It has to be at the same registry: the token goes with it.
func location(from *url.URL, resp *http.Response) (*url.URL, error) {
	text := resp.Header.Get("Location")
	if text == "" {
		return from, nil
	}
	at, err := from.Parse(text)
	if err != nil || at.Host != from.Host || at.Scheme != from.Scheme {
		return nil, fault.New(fault.BadRequest, "the registry sends the upload elsewhere: %.200q", text)
	}
	return at, nil
}

// chunk is a body of a known size.
type chunk struct {
	io.Reader
	n int64
}

// ask makes a request whose answer has no body that matters. Any other status than those in ok is a *transport.Error.
func ask(ctx context.Context, client *http.Client, method, target string, header http.Header, body *chunk, ok ...int) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		reader = body
	}
	req, err := http.NewRequestWithContext(ctx, method, target, reader)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.ContentLength = body.n
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, ok...); err != nil {
		return nil, err
	}
	return resp, nil
}
