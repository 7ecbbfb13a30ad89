// SPDX-License-Identifier: Apache-2.0

package conform_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/agent"
	"sealift/internal/agent/runner"
	"sealift/internal/agent/vault/crashfs"
	"sealift/internal/agentconfig"
	"sealift/internal/channel"
	"sealift/internal/conform"
	"sealift/internal/platform/hw"
	"sealift/suit"
	"sealift/teep"
	"sealift/teep/teephttp"
	"sealift/usecase"
)

// instance is a TEE instance in this process, with EMULATED hardware.
type instance struct {
	device *emuroot.Device
	config []byte

	mu      sync.Mutex
	counter uint64
}

var agentImage = sha256.Sum256([]byte("agent"))

func (i *instance) Info() (hw.Info, error) {
	return hw.Info{Hardware: "emu:trustzone", Instance: deployment, UEID: i.device.InstanceID, Config: i.config,
		ConfigDigest: sha256.Sum256(i.config), AgentDigest: agentImage}, nil
}

func (i *instance) Evidence(_ context.Context, b [64]byte) (hw.Evidence, error) {
	e, err := i.device.Evidence(rand.Reader, b, agentImage, sha256.Sum256(i.config))
	return hw.Evidence{Token: e.Data, MediaType: e.MediaType, Chain: e.Collateral}, err
}

func (i *instance) SealingKey(label string) ([32]byte, error) {
	return sha256.Sum256(append(i.config, label...)), nil
}

func (i *instance) Counter() (uint64, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.counter, nil
}

func (i *instance) Increment(expect uint64) (uint64, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.counter != expect {
		return 0, hw.ErrCounter
	}
	i.counter++
	return i.counter, nil
}

func (i *instance) Channels() <-chan net.Conn { return nil }
func (i *instance) Close() error              { return nil }

// ree is the world outside of the TEE: one payload, and room for one UA.
type ree struct{ payload []byte }

func (r *ree) Fetch(context.Context, string, int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(r.payload)), nil
}
func (r *ree) REEInstall(context.Context, suit.ComponentID) (channel.REEWriter, error) {
	return discard{io.Discard}, nil
}
func (r *ree) REERemove(context.Context, suit.ComponentID) error        { return nil }
func (r *ree) REEStart(context.Context, suit.ComponentID, []byte) error { return nil }
func (r *ree) REEStop(context.Context, suit.ComponentID) error          { return nil }

type discard struct{ io.Writer }

func (discard) Commit() error { return nil }
func (discard) Abort() error  { return nil }

// noTAs runs nothing: the kit's manifest has a UA only.
type noTAs struct{}

func (noTAs) Seal(string, io.Reader) (*os.File, [32]byte, error) {
	return nil, [32]byte{}, runner.ErrProgram
}
func (noTAs) Inside(pd, run string) (string, string) { return pd, run }
func (noTAs) Launch(context.Context, runner.Job) (runner.Process, error) {
	return nil, runner.ErrProgram
}

// ourAgent is Sealift's Agent with its Broker's end of the channel.
type ourAgent struct {
	client   *channel.AgentClient
	tam      cose.Signer
	manifest []byte
}

func newAgent(t *testing.T) *ourAgent {
	t.Helper()
	w := &ourAgent{tam: newSigner(t, cose.AlgESP256)}
	owner := newSigner(t, cose.AlgESP256)
	pki, err := emuroot.New(rand.Reader, evidence.TrustZone, time.Now())
	must(t, err)
	device, err := pki.NewDevice(rand.Reader, "device")
	must(t, err)
	config := agentconfig.Config{Version: agentconfig.Version, Deployment: deployment, Hardware: "trustzone", Instance: "process",
		TAMKeys: []*cose.Key{w.tam.Key()}, TAMURI: "http://tam.invalid/" + deployment, Owners: []agentconfig.Owner{{Key: owner.Key(), App: "app"}}}
	a, err := agent.New(t.Context(), agent.Options{TEE: &instance{device: device, config: config.Marshal()}, Store: crashfs.New(),
		Runner: runner.Options{Launcher: noTAs{}, Dir: t.TempDir()}})
	must(t, err)
	inside, outside := net.Pipe()
	must(t, a.Attach(inside))
	w.client, err = channel.ServeBroker(outside, &ree{payload: []byte("ua")})
	must(t, err)
	t.Cleanup(func() { w.client.Close(); a.Close() })
	w.manifest = suit.WithoutTag(program(t, owner, usecase.UA, "ua"))
	return w
}

// ProcessTeepMessage and ProcessError make it the Agent of a teephttp.Client. What is no message has no answer.
func (w *ourAgent) ProcessTeepMessage(ctx context.Context, msg []byte) ([]byte, error) {
	out, err := w.client.ProcessTeepMessage(ctx, "http://tam.invalid/"+deployment, msg)
	if errors.Is(err, channel.ErrMalformed) {
		return nil, nil
	}
	return out, err
}

func (w *ourAgent) ProcessError(context.Context, error) {}

// probe runs the kit as a server against a Broker that comes again and again.
func (w *ourAgent) probe(t *testing.T, a teephttp.Agent, transport http.RoundTripper) *conform.Report {
	t.Helper()
	server, err := conform.Listen("127.0.0.1:0", 20*time.Second)
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var broker sync.WaitGroup
	broker.Go(func() {
		client := &teephttp.Client{HTTP: &http.Client{Transport: transport}}
		for ctx.Err() == nil {
			_ = client.Session(ctx, server.URI(), a, nil) // it ends at every message without answer
		}
	})
	rep, err := conform.Agent(t.Context(), server, conform.AgentOptions{TAM: w.tam, Manifest: w.manifest})
	stop()
	_ = server.Close()
	broker.Wait()
	must(t, err)
	return rep
}

// TestOurAgent: our Agent and the Broker's client keep everything.
func TestOurAgent(t *testing.T) {
	w := newAgent(t)
	rep := w.probe(t, w, nil)
	if rep.Failed > 0 || rep.NotApplicable > 0 || rep.Passed < 40 {
		var out strings.Builder
		must(t, rep.Write(&out, false))
		t.Errorf("%s", out.String())
	}
}

// twisted changes what an Agent answers, before the Agent's key signs: it has the key of an Agent of its own.
type twisted struct {
	*ourAgent
	signer cose.Signer
	twist  func(teep.Message) teep.Message
}

func (w *twisted) ProcessTeepMessage(ctx context.Context, msg []byte) ([]byte, error) {
	out, err := w.ourAgent.ProcessTeepMessage(ctx, msg)
	if err != nil || out == nil {
		return out, err
	}
	signed, err := teep.Parse(out)
	if err != nil {
		return nil, err
	}
	m, err := signed.MessageInsecure()
	if err != nil {
		return nil, err
	}
	if q, ok := m.(*teep.QueryResponse); ok {
		for i := range q.Extensions {
			if q.Extensions[i].Label == agentconfig.AgentKeyOption {
				q.Extensions[i].Value = w.signer.Key().Marshal()
			}
		}
	}
	if m = w.twist(m); m == nil {
		return nil, nil
	}
	return teep.Sign(rand.Reader, w.signer, m)
}

// TestPlantedAgentFaults: an Agent or Broker that breaks a rule is found out, by the probe of that rule.
func TestPlantedAgentFaults(t *testing.T) {
	var last []byte
	for name, c := range map[string]struct {
		twist     func(teep.Message) teep.Message
		transport http.RoundTripper
		want      string
	}{
		"another token": {twist: func(m teep.Message) teep.Message {
			if q, ok := m.(*teep.QueryResponse); ok && q.Token != nil {
				q.Token = make([]byte, 32)
			}
			return m
		}, want: "a QueryResponse repeats the request's token"},
		"no Evidence": {twist: func(m teep.Message) teep.Message {
			if q, ok := m.(*teep.QueryResponse); ok && q.AttestationPayload != nil {
				if last != nil {
					q.AttestationPayload, q.AttestationPayloadFormat = nil, ""
				}
				last = []byte{1} // the first one names the key
			}
			return m
		}, want: "without a token there is none in the answer, and Evidence is there when asked for"},
		"no lists": {twist: func(m teep.Message) teep.Message {
			if e, ok := m.(*teep.Error); ok && e.Code == teep.ErrCodeUnsupportedVersion {
				return &teep.Error{Token: e.Token, Code: teep.ErrCodePermanent}
			}
			return m
		}, want: "no common version: Error 4 with the versions"},
		"success whatever comes": {twist: func(m teep.Message) teep.Message {
			if e, ok := m.(*teep.Error); ok && e.Code == teep.ErrCodeManifestProcessingFailed {
				return &teep.Success{Token: e.Token}
			}
			return m
		}, want: "a manifest that is none: Error 17 with the token, reports with it as nonce"},
		"no report nonce": {twist: func(m teep.Message) teep.Message {
			if s, ok := m.(*teep.Success); ok && s.Token != nil {
				s.Token = append([]byte{s.Token[0] ^ 1}, s.Token[1:]...)
			}
			return m
		}, want: "a manifest is installed: Success with the token, reports with it as nonce"},
		"follows redirects": {transport: follower{}, want: "a redirect is not followed"},
		"no Accept": {transport: changed(func(r *http.Request) { r.Header.Del("Accept") }),
			want: "only POST, with Accept, with Content-Type on a body, without cookies"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newAgent(t)
			var a teephttp.Agent = w
			if c.twist != nil {
				a = &twisted{w, newSigner(t, cose.AlgESP256), c.twist}
			}
			if got := failures(w.probe(t, a, c.transport)); !slices.Contains(got, c.want) {
				t.Errorf("failures: %q", got)
			}
		})
	}
}

type changed func(*http.Request)

func (c changed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	c(r)
	return http.DefaultTransport.RoundTrip(r)
}

// follower goes where it is sent, below the client that does not.
type follower struct{}

func (follower) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || resp.StatusCode < 300 || resp.StatusCode > 399 {
		return resp, err
	}
	resp.Body.Close()
	to, err := resp.Location()
	if err != nil {
		return nil, err
	}
	next, err := http.NewRequestWithContext(r.Context(), http.MethodPost, to.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	return http.DefaultTransport.RoundTrip(next)
}
