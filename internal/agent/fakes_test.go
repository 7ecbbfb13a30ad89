// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"sync"

	"sealift/evidence/emuroot"
	"sealift/internal/agent/vault/crashfs"
	"sealift/internal/channel"
	"sealift/internal/platform/hw"
	"sealift/suit"
)

// agentImage stands for the digest of the Agent's binary.
var agentImage = sha256.Sum256([]byte("agent"))

// fakeTEE is the hardware of one instance.
type fakeTEE struct {
	device *emuroot.Device
	config []byte
	fs     *crashfs.FS // dies with it

	mu      sync.Mutex
	counter uint64
}

func (f *fakeTEE) Info() (hw.Info, error) {
	return hw.Info{
		Hardware: "emu:trustzone", Instance: "d1", UEID: f.device.InstanceID, Config: f.config,
		ConfigDigest: sha256.Sum256(f.config), AgentDigest: agentImage,
	}, nil
}

func (f *fakeTEE) Evidence(_ context.Context, b [64]byte) (hw.Evidence, error) {
	e, err := f.device.Evidence(rand.Reader, emuroot.Request{Binding: b, Launch: agentImage[:], Config: sha256.Sum256(f.config)})
	return hw.Evidence{Token: e.Data, MediaType: e.MediaType, Chain: e.Collateral}, err
}

func (f *fakeTEE) SealingKey(label string) ([32]byte, error) {
	return sha256.Sum256(append(f.config, label...)), nil
}

func (f *fakeTEE) Counter() (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counter, nil
}

func (f *fakeTEE) Increment(expect uint64) (uint64, error) {
	if f.fs.Dead() {
		return 0, crashfs.ErrCrash
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counter != expect {
		return 0, hw.ErrCounter
	}
	f.counter++
	return f.counter, nil
}

func (f *fakeTEE) Channels() <-chan net.Conn { return nil }
func (f *fakeTEE) Close() error              { return nil }

// fakeREE is a Broker with its REE.
type fakeREE struct {
	mu       sync.Mutex
	payloads map[string][]byte
	fetches  int
	store    map[string][]byte
	running  map[string][]byte
	writes   int
	refuse   error // of REEStart
	// power, if not nil, is what the REE loses power with: each change counts as an operation of it.
	power *crashfs.FS
}

// down counts a change and says whether the power is off.
func (r *fakeREE) down() bool { return r.power != nil && r.power.Dead() }

func newREE() *fakeREE {
	return &fakeREE{payloads: map[string][]byte{}, store: map[string][]byte{}, running: map[string][]byte{}}
}

func (r *fakeREE) Fetch(_ context.Context, uri string, _ int64) (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data, ok := r.payloads[uri]
	if !ok {
		return nil, fmt.Errorf("%w: %s", channel.ErrNotFound, uri)
	}
	r.fetches++
	return io.NopCloser(bytes.NewReader(data)), nil
}

type reeStage struct {
	bytes.Buffer
	r  *fakeREE
	id string
}

func (s *reeStage) Commit() error {
	if s.r.down() {
		return crashfs.ErrCrash
	}
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.r.store[s.id] = s.Bytes()
	s.r.writes++
	return nil
}
func (s *reeStage) Abort() error { return nil }

func (r *fakeREE) REEInstall(_ context.Context, id suit.ComponentID) (channel.REEWriter, error) {
	return &reeStage{r: r, id: id.String()}, nil
}

func (r *fakeREE) REERemove(_ context.Context, id suit.ComponentID) error {
	if r.down() {
		return crashfs.ErrCrash
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.store, id.String())
	delete(r.running, id.String())
	return nil
}

func (r *fakeREE) REEStart(_ context.Context, id suit.ComponentID, spec []byte) error {
	if r.down() {
		return crashfs.ErrCrash
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		return r.refuse
	}
	if r.store[id.String()] == nil {
		return channel.ErrNotFound
	}
	r.running[id.String()] = spec
	return nil
}

func (r *fakeREE) REEStop(_ context.Context, id suit.ComponentID) error { return nil }
