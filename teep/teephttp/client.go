// SPDX-License-Identifier: Apache-2.0

package teephttp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"sealift/teep"
)

// Agent is the TEEP Agent behind the Broker, as the transport sees it (RFC 9397 section 6.2.1).
type Agent interface {
	// ProcessTeepMessage hands a message of the TAM to the Agent. No answer and no error means that the session is done.
	ProcessTeepMessage(ctx context.Context, msg []byte) ([]byte, error)
	// ProcessError tells the Agent that the transport has failed.
	ProcessError(ctx context.Context, err error)
}

const (
	// socketTimeout bounds one request. It is generous: the protocol's own time-outs are the Agent's.
	socketTimeout = 5 * time.Minute
	// maxRounds bounds the requests of one session, should a TAM never come to an end.
	maxRounds = 64
)

// Client runs sessions for a TEEP Broker. The zero value is fit for use. It is safe for concurrent use.
type Client struct {
	// HTTP makes the requests; nil means one with the system's roots and a generous time-out. Its redirect policy and cookies
	// are not used.
	HTTP *http.Client
	// MaxBody bounds what a TAM may send; 0 means DefaultMaxResponse.
	MaxBody int64
}

// Session talks with the TAM at tamURI until one side has nothing more to say. first is the Agent's opening message, usually
// empty. A failure of the transport is told to the Agent and returned, a *StatusError where the server refused; a failure of the
// Agent is returned as it is. Cancelling ctx ends the session without telling the Agent.
func (c *Client) Session(ctx context.Context, tamURI string, a Agent, first []byte) error {
	if err := checkURI(tamURI); err != nil {
		a.ProcessError(ctx, err)
		return err
	}
	client := c.client()
	msg := first
	for range maxRounds {
		answer, err := c.post(ctx, client, tamURI, msg)
		if err != nil {
			if ctx.Err() == nil {
				a.ProcessError(ctx, err)
			}
			return err
		}
		if len(answer) == 0 {
			return nil
		}
		if msg, err = a.ProcessTeepMessage(ctx, answer); err != nil {
			return fmt.Errorf("TEEP Agent: %w", err)
		}
		if len(msg) == 0 {
			return nil
		}
	}
	err := fmt.Errorf("%w: %d requests to %s", ErrTooLong, maxRounds, tamURI)
	a.ProcessError(ctx, err)
	return err
}

// checkURI takes absolute http and https URIs without credentials.
func checkURI(tamURI string) error {
	u, err := url.Parse(tamURI)
	if err != nil { // the error would repeat the URI, which may hold credentials
		return fmt.Errorf("%w: TAM URI cannot be parsed", ErrProtocol)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return fmt.Errorf("%w: TAM URI %q", ErrProtocol, u.Redacted())
	}
	return nil
}

// client derives one that follows no redirects and keeps no cookies (the draft's section 4).
func (c *Client) client() *http.Client {
	client := http.Client{Timeout: socketTimeout}
	if c.HTTP != nil {
		client = *c.HTTP
	}
	client.Jar = nil
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

// post sends one message, or opens the session with none, and gives the TAM's answer.
func (c *Client) post(ctx context.Context, client *http.Client, tamURI string, msg []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, tamURI, bytes.NewReader(msg))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	req.Header.Set("Accept", teep.MediaType)
	req.Header.Set("Accept-Encoding", "identity") // the limit on bodies is one on what travels
	if len(msg) > 0 {
		req.Header.Set("Content-Type", teep.MediaType)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("TEEP over HTTP: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, &StatusError{tamURI, resp.StatusCode}
	}
	return c.answer(resp)
}

// answer reads the body of a success.
func (c *Client) answer(resp *http.Response) ([]byte, error) {
	limit := c.MaxBody
	if limit <= 0 {
		limit = DefaultMaxResponse
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("TEEP over HTTP: %w", err)
	case int64(len(body)) > limit:
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	case len(body) == 0:
		return nil, nil
	case !isTEEP(resp.Header.Get("Content-Type")) || resp.Header.Get("Content-Encoding") != "":
		return nil, fmt.Errorf("%w: answer of type %q", ErrProtocol, resp.Header.Get("Content-Type"))
	}
	return body, nil
}
