// SPDX-License-Identifier: Apache-2.0

// Package agenttest is Sealift's Agent in one process, with EMULATED hardware and a Broker that has one payload: what a test needs to let
// the Agent talk with a TAM, ours or another's. It runs no TAs.
package agenttest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
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
	"sealift/internal/owner/manifest"
	"sealift/internal/platform/hw"
	"sealift/suit"
	"sealift/usecase"
)

const deployment = "d1"

// payload is the UA of application "app" that the Broker has.
const payload = "ua"

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
	e, err := i.device.Evidence(rand.Reader, emuroot.Request{Binding: b, Launch: agentImage[:], Config: sha256.Sum256(i.config)})
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

// Agent is Sealift's Agent for the deployment of one owner and TAM. It implements teephttp.Agent.
type Agent struct {
	// Client is the Broker's end of the channel.
	Client *channel.AgentClient
	// Manifest is an envelope that the Agent can install: a UA under App.
	Manifest []byte

	uri string
}

// UA is the component that Manifest installs.
func UA() suit.ComponentID { return manifest.Component("app", usecase.UA, "") }

// New starts an Agent that trusts the TAM's keys and the owner. It ends with the test.
func New(t testing.TB, tamURI string, tam []*cose.Key, owner cose.Signer) *Agent {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	pki, err := emuroot.New(rand.Reader, evidence.TrustZone, time.Now())
	must(err)
	device, err := pki.NewDevice(rand.Reader, "device")
	must(err)
	config := agentconfig.Config{Version: agentconfig.Version, Deployment: deployment, Hardware: "trustzone", Instance: "process",
		TAMKeys: tam, TAMURI: tamURI, Owners: []agentconfig.Owner{{Key: owner.Key(), App: "app"}}}
	a, err := agent.New(t.Context(), agent.Options{TEE: &instance{device: device, config: config.Marshal()}, Store: crashfs.New(),
		Runner: runner.Options{Launcher: noTAs{}, Dir: t.TempDir()}})
	must(err)
	inside, outside := net.Pipe()
	must(a.Attach(inside))
	w := &Agent{uri: tamURI}
	w.Client, err = channel.ServeBroker(outside, &ree{payload: []byte(payload)})
	must(err)
	t.Cleanup(func() { w.Client.Close(); a.Close() })
	w.Manifest, err = manifest.Program{App: "app", Kind: usecase.UA, Sequence: 1, Digest: suit.SHA256([]byte(payload)), Size: int64(len(payload)),
		Cells: []usecase.Cell{{Instance: usecase.Process, Hardware: usecase.TrustZone}}}.Build().Build(rand.Reader, owner)
	must(err)
	return w
}

// ProcessTeepMessage hands a message to the Agent. What is no message has no answer.
func (w *Agent) ProcessTeepMessage(ctx context.Context, msg []byte) ([]byte, error) {
	out, err := w.Client.ProcessTeepMessage(ctx, w.uri, msg)
	if errors.Is(err, channel.ErrMalformed) {
		return nil, nil
	}
	return out, err
}

// ProcessError takes what failed below TEEP.
func (w *Agent) ProcessError(context.Context, error) {}
