// SPDX-License-Identifier: Apache-2.0

package conform_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/internal/conform"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/suit"
	"sealift/teep/teephttp"
)

// broker is the Broker's side of the M/OC's interface.
func broker(o *conform.Operator, token string) *mocapi.Client {
	return &mocapi.Client{BaseURL: o.URL(), Token: token}
}

// TestOperatorLetsOneBrokerIn: only the device that the token is for, and only with an announcement that can be served.
func TestOperatorLetsOneBrokerIn(t *testing.T) {
	o, err := conform.ListenAsOperator("127.0.0.1:0", "", "dev", time.Second, newSigner(t, cose.AlgESP256))
	must(t, err)
	defer o.Close()
	good := mocapi.Announcement{BrokerID: "b", Hardware: "trustzone", InstanceTypes: []string{"process"}, Instances: []mocapi.InstanceStatus{}}
	none := good
	none.InstanceTypes = nil
	for name, c := range map[string]struct {
		device, token, code string
		a                   mocapi.Announcement
	}{
		"no token":       {"dev", "", fault.Unauthorized, good},
		"another token":  {"dev", o.Token + "x", fault.Unauthorized, good},
		"another device": {"other", o.Token, fault.Forbidden, good},
		"no instances":   {"dev", o.Token, fault.BadRequest, none},
		"no hardware":    {"dev", o.Token, fault.BadRequest, mocapi.Announcement{InstanceTypes: []string{"process"}}},
	} {
		if err := broker(o, c.token).Announce(t.Context(), c.device, c.a); !fault.Is(err, c.code) {
			t.Errorf("%s: %v", name, err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.URL()+"/v1/devices/dev/announce", strings.NewReader(`{"instances":`))
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+o.Token)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("garbage: HTTP status %d", resp.StatusCode)
	}
	if _, err := o.Await(t.Context()); !errors.Is(err, conform.ErrPeer) {
		t.Errorf("nobody has come, and Await says %v", err)
	}
}

// TestOperatorsWork: the Broker is given one instance under a configuration of the kit's, is woken after each session that ends, and is told
// to destroy the instance at the end.
func TestOperatorsWork(t *testing.T) {
	tam := newSigner(t, cose.AlgEd25519)
	o, err := conform.ListenAsOperator("127.0.0.1:0", "", "dev", 20*time.Second, tam)
	must(t, err)
	c := broker(o, o.Token)
	a := mocapi.Announcement{BrokerID: "b", Hardware: "trustzone", InstanceTypes: []string{"process"}, Instances: []mocapi.InstanceStatus{}}
	must(t, c.Announce(t.Context(), "dev", a))
	envelope, err := o.Await(t.Context())
	must(t, err)
	work, err := c.Work(t.Context(), "dev", "b", 0, time.Minute)
	must(t, err)
	if len(work.Instances) != 1 {
		t.Fatalf("%+v", work)
	}
	given := work.Instances[0]
	config, err := agentconfig.Parse(given.Config)
	must(t, err)
	e, err := suit.ParseEnvelope(envelope)
	must(t, err)
	if _, err := e.Verify([]*cose.Key{config.Owners[0].Key}, suit.VerifyOptions{StrictAlgorithms: true}); err != nil ||
		!config.TAMKeys[0].Equal(tam.Key()) || config.TAMURI != o.URI() || given.TAMURI != o.URI() {
		t.Errorf("%v, %+v", err, config)
	}

	// An Agent that has no answer: its session breaks, the next one is ended well, and then the Broker is woken.
	ended := make(chan error, 1)
	go func() {
		answer, err := o.Exchange(t.Context(), []byte{0xd2, 0x80})
		if len(answer) > 0 {
			err = errors.New("an answer")
		}
		ended <- err
	}()
	must(t, new(teephttp.Client).Session(t.Context(), given.TAMURI, mute{}, nil))
	must(t, new(teephttp.Client).Session(t.Context(), given.TAMURI, mute{}, nil))
	must(t, <-ended)
	next, err := c.Work(t.Context(), "dev", "b", work.Generation, time.Minute)
	must(t, err)
	if next.Generation <= work.Generation || len(next.Instances) != 1 || next.Instances[0].Wake <= given.Wake {
		t.Errorf("%+v, then %+v", work, next)
	}

	closed := make(chan error, 1)
	go func() { closed <- o.Close() }()
	for next.Generation == 0 || len(next.Instances) > 0 {
		next, err = c.Work(t.Context(), "dev", "b", next.Generation, time.Minute)
		must(t, err)
	}
	a.Generation = next.Generation
	must(t, c.Announce(t.Context(), "dev", a))
	must(t, <-closed)
}

// mute is an Agent without answers.
type mute struct{}

func (mute) ProcessTeepMessage(context.Context, []byte) ([]byte, error) { return nil, nil }
func (mute) ProcessError(context.Context, error)                        {}
