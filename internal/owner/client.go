// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/home"
)

// Retry says how long calls to an M/OC are repeated while it is away: it may be restarting.
type Retry struct {
	Total time.Duration // from the first failure on
	First time.Duration // the first pause; it doubles up to Max
	Max   time.Duration
}

// DefaultRetry bridges a restart of the M/OC.
var DefaultRetry = Retry{Total: 30 * time.Second, First: 100 * time.Millisecond, Max: 3 * time.Second}

// longPoll is how long one request to the M/OC waits for news.
const longPoll = 20 * time.Second

// session is an M/OC with the context that leads to it.
type session struct {
	api     *mocapi.Client
	context *home.Context
	name    string // of the context
	http    *http.Client
}

// connect opens the M/OC of a context; the empty name is the one in use.
func (o *Owner) connect(name string) (*session, error) {
	c, name, err := o.Home.Context(name)
	if errors.Is(err, home.ErrNotFound) {
		return nil, fault.Wrap(fault.BadRequest, err).WithHint("sealift context set URL --token TOKEN, or sealift dev up")
	}
	if err != nil {
		return nil, err
	}
	if err := c.Check(); err != nil {
		return nil, fault.Wrap(fault.BadRequest, err)
	}
	client := o.HTTP
	if client == nil {
		if client, err = httpClient(c); err != nil {
			return nil, err
		}
	}
	return &session{api: &mocapi.Client{BaseURL: c.URL, Token: c.Token, HTTP: client}, context: c, name: name, http: client}, nil
}

// httpClient makes a client that trusts the context's certificate authority and follows no redirect: the token is for
// this M/OC and no other.
func httpClient(c *home.Context) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS13}
	if c.CA != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(c.CA)) {
			return nil, fault.New(fault.BadRequest, "the context's certificate authority is not a PEM certificate")
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}, nil
}

// away reports whether err says that the M/OC does not answer, or not now. One whose certificate is not accepted does answer.
func away(err error) bool {
	return (fault.Is(err, fault.Unreachable) && !mocapi.Untrusted(err)) || fault.Is(err, fault.Unavailable) || fault.Is(err, fault.DeliveryInterrupted)
}

// neverArrived reports whether the request behind err cannot have reached the M/OC, so that even a request that must not be
// made twice may be repeated.
func neverArrived(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// persist calls f until it succeeds, fails for another reason than an absent M/OC, or the M/OC stays away.
func persist[T any](ctx context.Context, o *Owner, f func() (T, error)) (T, error) {
	pause, start := o.Retry.First, time.Now()
	told := false
	for {
		v, err := f()
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return v, fault.New(fault.Unavailable, "it took longer than the time that was given: %w", context.DeadlineExceeded)
		}
		if err == nil || !away(err) || ctx.Err() != nil {
			return v, err
		}
		if time.Since(start)+pause > o.Retry.Total {
			return v, fmt.Errorf("%w (tried for %s)", err, time.Since(start).Round(time.Second))
		}
		if !told {
			o.tell("wait", "owner", "the M/OC does not answer; trying again")
			told = true
		}
		select {
		case <-ctx.Done(): // the next turn of the loop says which end it was
		case <-time.After(pause):
		}
		pause = min(2*pause, o.Retry.Max)
	}
}

// Check asks whether the M/OC of the context answers, and whom it takes this owner for.
func (o *Owner) Check(ctx context.Context) (mocapi.Identity, error) {
	s, err := o.connect(o.Context)
	if err != nil {
		return mocapi.Identity{}, err
	}
	return persist(ctx, o, func() (mocapi.Identity, error) { return s.api.WhoAmI(ctx) })
}
