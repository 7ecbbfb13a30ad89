// SPDX-License-Identifier: Apache-2.0

package mocapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sealift/internal/fault"
)

// Client talks to an M/OC. BaseURL is its address without a path ("http://127.0.0.1:7788"); HTTP may be nil. Its errors
// are or wrap *fault.Error: what the M/OC answered, or fault.Unreachable when it did not.
type Client struct {
	BaseURL string
	Token   string
	HTTP    *http.Client
}

// maxAnswer bounds what a client reads: Evidence and configurations are the largest members.
const maxAnswer = 16 << 20

// Health asks whether the M/OC is up. It needs no token.
func (c *Client) Health(ctx context.Context) (Health, error) {
	return call[Health](ctx, c, http.MethodGet, "/healthz", nil, nil)
}

// WhoAmI returns the token's role and name.
func (c *Client) WhoAmI(ctx context.Context) (Identity, error) {
	return call[Identity](ctx, c, http.MethodGet, "/v1/whoami", nil, nil)
}

// TrustAnchors returns the operator's public keys.
func (c *Client) TrustAnchors(ctx context.Context) (TrustAnchors, error) {
	return call[TrustAnchors](ctx, c, http.MethodGet, "/v1/trust-anchors", nil, nil)
}

// Devices lists the devices.
func (c *Client) Devices(ctx context.Context) ([]Device, error) {
	return call[[]Device](ctx, c, http.MethodGet, "/v1/devices", nil, nil)
}

// Announce tells the M/OC what the device is and holds, and renews the Broker's lease. The fault device-in-use means that
// another Broker holds the device.
func (c *Client) Announce(ctx context.Context, device string, a Announcement) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/v1/devices/"+url.PathEscape(device)+"/announce", nil, a)
	return err
}

// Work returns the device's work as soon as its generation is newer than since, or after wait.
func (c *Client) Work(ctx context.Context, device, broker string, since uint64, wait time.Duration) (Work, error) {
	q := url.Values{"broker": {broker}}
	addWait(q, since, wait)
	return call[Work](ctx, c, http.MethodGet, "/v1/devices/"+url.PathEscape(device)+"/work", q, nil)
}

// PutUALogs answers Work.Logs.
func (c *Client) PutUALogs(ctx context.Context, device string, l UALogs) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/v1/devices/"+url.PathEscape(device)+"/ua-logs", nil, l)
	return err
}

// UALogs asks the device for what the UAs of a deployment have printed, and waits for the answer.
func (c *Client) UALogs(ctx context.Context, id string) (UALogs, error) {
	return call[UALogs](ctx, c, http.MethodGet, deploymentPath(id, "/ua-logs"), nil, nil)
}

// CreateDeployment asks for a confidential resource.
func (c *Client) CreateDeployment(ctx context.Context, r DeploymentRequest) (*Deployment, error) {
	return ptr(call[Deployment](ctx, c, http.MethodPost, "/v1/deployments", nil, r))
}

// Deployments lists the deployments that the token may see, the oldest first.
func (c *Client) Deployments(ctx context.Context) ([]Deployment, error) {
	return call[[]Deployment](ctx, c, http.MethodGet, "/v1/deployments", nil, nil)
}

// Deployment returns a deployment as soon as its version is newer than since, or after wait.
func (c *Client) Deployment(ctx context.Context, id string, since uint64, wait time.Duration) (*Deployment, error) {
	q := url.Values{}
	addWait(q, since, wait)
	return ptr(call[Deployment](ctx, c, http.MethodGet, deploymentPath(id, ""), q, nil))
}

// DeleteDeployment starts the removal; follow it with Deployment until the state is removed.
func (c *Client) DeleteDeployment(ctx context.Context, id string) (*Deployment, error) {
	return ptr(call[Deployment](ctx, c, http.MethodDelete, deploymentPath(id, ""), nil, nil))
}

// AbandonDeployment removes a deployment whose device is gone for good, without waiting for it: only while the device is silent, else the fault
// is conflict. Nothing proves that the device has destroyed anything; should it come back, it will.
func (c *Client) AbandonDeployment(ctx context.Context, id string) (*Deployment, error) {
	return ptr(call[Deployment](ctx, c, http.MethodDelete, deploymentPath(id, ""), url.Values{"lost": {"true"}}, nil))
}

// Trace returns the plan and what happened of it.
func (c *Client) Trace(ctx context.Context, id string) (*Trace, error) {
	return ptr(call[Trace](ctx, c, http.MethodGet, deploymentPath(id, "/trace"), nil, nil))
}

// Events returns the deployment's history, the oldest first.
func (c *Client) Events(ctx context.Context, id string) ([]Event, error) {
	return call[[]Event](ctx, c, http.MethodGet, deploymentPath(id, "/events"), nil, nil)
}

// RequestEvidence asks for Evidence over the nonce and returns the request's id.
func (c *Client) RequestEvidence(ctx context.Context, id string, nonce []byte) (string, error) {
	r, err := call[EvidenceRequested](ctx, c, http.MethodPost, deploymentPath(id, "/evidence-requests"), nil,
		EvidenceRequest{Nonce: nonce})
	return r.ID, err
}

// Evidence returns the answer to an evidence request as soon as it is there, or with Ready false after wait.
func (c *Client) Evidence(ctx context.Context, id, request string, wait time.Duration) (*Evidence, error) {
	q := url.Values{}
	addWait(q, 0, wait)
	return ptr(call[Evidence](ctx, c, http.MethodGet, deploymentPath(id, "/evidence/"+url.PathEscape(request)), q, nil))
}

// PostAppraisal hands the owner's Attestation Result to the M/OC.
func (c *Client) PostAppraisal(ctx context.Context, id string, r AppraisalRequest) (*Appraisal, error) {
	return ptr(call[Appraisal](ctx, c, http.MethodPost, deploymentPath(id, "/appraisals"), nil, r))
}

// Release releases packages with PD. The fault release-before-appraisal means that no positive appraisal covers the
// present Agent and TAs.
func (c *Client) Release(ctx context.Context, id string, r ReleaseRequest) (*Release, error) {
	return ptr(call[Release](ctx, c, http.MethodPost, deploymentPath(id, "/releases"), nil, r))
}

// OpenPayload asks for the blob that an ni URI (RFC 6920, "ni:///sha-256;...") names, from offset on. The M/OC gives a device only
// what belongs to its deployments. The status of the answer is 200, or 206 with a Content-Range where offset is not 0 and the
// M/OC has ranges. The caller closes the body and checks the digest.
func (c *Client) OpenPayload(ctx context.Context, ni string, offset int64) (*http.Response, error) {
	value, ok := strings.CutPrefix(ni, "ni:///sha-256;")
	if !ok {
		return nil, fault.New(fault.BadRequest, "%q is not an ni URI with sha-256", ni)
	}
	value, _, _ = strings.Cut(value, "?")
	header := http.Header{}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	return c.do(ctx, http.MethodGet, "/.well-known/ni/sha-256/"+url.PathEscape(value), nil, nil, header)
}

func deploymentPath(id, rest string) string { return "/v1/deployments/" + url.PathEscape(id) + rest }

func addWait(q url.Values, since uint64, wait time.Duration) {
	if since > 0 {
		q.Set("since", strconv.FormatUint(since, 10))
	}
	if wait > 0 {
		q.Set("wait", wait.String())
	}
}

func ptr[T any](v T, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	return &v, nil
}

// call sends one request and decodes the answer. Members that this version does not know are ignored, so that a newer
// M/OC can add some.
func call[T any](ctx context.Context, c *Client, method, path string, q url.Values, body any) (T, error) {
	var out T
	resp, err := c.do(ctx, method, path, q, body, nil)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return out, nil
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return out, unreachable(ctx, fmt.Errorf("reading the answer of %s %s: %w", method, path, err))
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return out, fault.New(fault.Internal, "the answer of %s %s is not what this version understands: %w", method, path, err)
	}
	return out, nil
}

// do sends one request and returns the answer if its status is 2xx.
func (c *Client) do(ctx context.Context, method, path string, q url.Values, body any, header http.Header) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encoding the request: %w", err)
		}
		reader = bytes.NewReader(data)
	}
	target := strings.TrimSuffix(c.BaseURL, "/") + path
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, reader)
	if err != nil {
		return nil, fault.New(fault.BadRequest, "the M/OC's address %q: %w", c.BaseURL, err)
	}
	maps.Copy(req.Header, header)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, readProblem(resp)
	}
	return resp, nil
}

// Untrusted reports whether err says that the M/OC answered with a certificate that was not accepted: asking again is of no use.
func Untrusted(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

// unreachable keeps a cancelled context a cancelled context; everything else of the transport is fault.Unreachable.
func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return err
	}
	if Untrusted(err) {
		return fault.Wrap(fault.Unreachable, fmt.Errorf("the M/OC's certificate is not accepted: %w", err)).
			WithHint("name the authority that issued it: --ca FILE")
	}
	return fault.Wrap(fault.Unreachable, fmt.Errorf("the M/OC does not answer: %w", err)).
		WithHint("is it running, and is the address right?")
}

func readProblem(resp *http.Response) error {
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	problem := new(fault.Error)
	if mediaType == "application/problem+json" && json.Unmarshal(data, problem) == nil {
		return problem
	}
	e := fault.New(fault.Internal, "the M/OC answered %s", resp.Status)
	if resp.Request != nil && resp.Request.URL.Scheme == "http" && resp.StatusCode == http.StatusBadRequest {
		return e.WithHint("does it speak TLS? then its address begins with https://")
	}
	return e.WithHint("is this the address of an M/OC?")
}
