// SPDX-License-Identifier: Apache-2.0

package verifier

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sealift/appraisal/ear"
	"sealift/cose"
	"sealift/evidence"
)

// ErrService means that a Verifier could not be asked, or did not answer as the API has it. What it says of Evidence is never
// an error.
var ErrService = errors.New("verifier: the Verifier does not answer")

const (
	maxAnswer = 1 << 20
	earAge    = 5 * time.Minute
)

// Client asks a Verifier that speaks Veraison's challenge-response API.
type Client struct {
	Name string       // for people; the URL if empty
	URL  string       // of the service, as in https://verifier.example:8443
	HTTP *http.Client // has a time limit
	Keys []*cose.Key  // pinned: EARs by others are refused
	// Submods are the attesters that have to be appraised. Empty means one with the hardware's name in the binding, as our
	// own service has it. Veraison names them after its schemes.
	Submods []string
	// Raw sends what the hardware signed alone, as Veraison reads it. Otherwise a whole bundle goes, with the certificates
	// that came along; our own service reads both.
	Raw bool
	Now func() time.Time
}

// String names the Verifier.
func (c *Client) String() string {
	if c.Name != "" {
		return c.Name
	}
	return c.URL
}

// Ask has Evidence appraised. The configuration is the caller's to compare: no assertion about it passes.
// reportData is what the hardware has to have signed, for an Agent its binding, and is the
// session's nonce.
func (c *Client) Ask(ctx context.Context, e evidence.HardwareEvidence, reportData []byte, hardware string) (*ear.Outcome, error) {
	base := strings.TrimSuffix(c.URL, "/") + apiPath
	opened, location, err := c.call(ctx, http.MethodPost, base+"newSession?nonce="+base64.URLEncoding.EncodeToString(reportData), "", nil)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(opened.Nonce, reportData) {
		return nil, fmt.Errorf("%w: %s: a session with another nonce", ErrService, c)
	}
	at, err := resolve(base+"newSession", location)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrService, c, err)
	}
	answer, _, err := c.call(ctx, http.MethodPost, at, e.MediaType, e.Data)
	if err != nil {
		return nil, err
	}
	for answer.Status == "processing" {
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %s: %w", ErrService, c, ctx.Err())
		}
		if answer, _, err = c.call(ctx, http.MethodGet, at, "", nil); err != nil {
			return nil, err
		}
	}
	if answer.Status != statusComplete || answer.Result == "" {
		return nil, fmt.Errorf("%w: %s: a session with status %q and no result", ErrService, c, answer.Status)
	}
	submods := c.Submods
	if len(submods) == 0 {
		submods = []string{hardware}
	}
	return ear.Check([]byte(answer.Result), ear.Expected{Keys: c.Keys, Nonce: reportData, Submods: submods, OwnConfiguration: true,
		MaxAge: earAge, Now: c.Now()}), nil
}

// resolve returns the session's address, which has to be on the same server.
func resolve(base, location string) (string, error) {
	b, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	at, err := b.Parse(location)
	if err != nil || location == "" || at.Scheme != b.Scheme || at.Host != b.Host {
		return "", fmt.Errorf("a session at %q", location)
	}
	return at.String(), nil
}

// call makes one request.
func (c *Client) call(ctx context.Context, method, address, kind string, body []byte) (*wireSession, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, "", fmt.Errorf("%w: %s: %w", ErrService, c, err)
	}
	req.Header.Set("Accept", mediaTypeSession)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %s: %w", ErrService, c, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil || resp.StatusCode < 200 || resp.StatusCode > 202 {
		return nil, "", fmt.Errorf("%w: %s answers %s: %.200q", ErrService, c, resp.Status, data)
	}
	var s wireSession
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, "", fmt.Errorf("%w: %s: %w", ErrService, c, err)
	}
	return &s, resp.Header.Get("Location"), nil
}
