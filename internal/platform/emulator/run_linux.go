// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"sealift/internal/image"
	"sealift/internal/platform"
	"sealift/internal/platform/hw"
	"sealift/internal/platform/packet"
	"sealift/internal/platform/sandbox"
)

// Defaults of platform.Limits.
const (
	defaultMemory    = 4 << 30
	defaultProcesses = 1024
	defaultFiles     = 1024
	defaultScratch   = 1 << 30
)

// sendTime bounds how long an Agent may take to make room for what it is sent.
const sendTime = 5 * time.Second

// run is one life of an instance: an Agent process, and the hardware interface whose other end only that process holds.
type run struct {
	in       *instance
	device   *device
	log      *slog.Logger
	m        measurement
	config   []byte
	limits   platform.Limits
	bootSeed []byte
	register []byte // the run-time register, nil until it is extended; for the goroutine that serves the Agent
	life     life
	cancel   context.CancelFunc // of the context that life was started with
	done     chan struct{}      // closed when the process is gone

	mu  sync.Mutex
	why string // why it was killed
}

// measure measures what is launched: with SHA-256 for sealing keys and for the Broker, and with the hash function of the
// architecture for its Evidence.
func (m *machine) measure(p *parts, config []byte) (measurement, error) {
	agent, err := p.image.Measure(p.file, sha256.New)
	if err != nil {
		return measurement{}, err
	}
	newHash := image.Hash(m.opts.Hardware)
	launch, err := p.image.Measure(p.file, newHash)
	if err != nil {
		return measurement{}, err
	}
	if p.layer != nil {
		agent = image.WithLayer(sha256.New, agent, p.layerDigest)
		launch = image.WithLayer(newHash, launch, p.layerDigest)
	}
	return measurement{agent: [32]byte(agent), launch: string(launch), config: sha256.Sum256(config)}, nil
}

// start starts the instance if it does not run. Its lock is held.
func (m *machine) start(in *instance, v vessel, j job, what measurement, config []byte) error {
	if r := in.running(); r != nil {
		if r.m != what {
			return fmt.Errorf("%w: %s", platform.ErrConflict, in.id)
		}
		return nil
	}
	if err := m.ctx.Err(); err != nil {
		return fmt.Errorf("emulator: it is ending: %w", err)
	}
	store := filepath.Join(in.dir, storeName)
	uid := runAs(in.uid)
	if uid != 0 {
		if err := ownStore(store, uid); err != nil {
			return fmt.Errorf("emulator: giving the store to user %d: %w", uid, err)
		}
	}
	r := &run{
		in: in, device: m.device, log: m.log.With("instance", in.id), m: what, config: config, limits: j.limits,
		bootSeed: make([]byte, 32), done: make(chan struct{}),
	}
	if _, err := io.ReadFull(m.opts.Rand, r.bootSeed); err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	j.store, j.uid, j.log, j.kvm = store, uid, &agentLog{log: r.log}, m.accel.use(j.parts, uid)
	j.kvmFailed = func(err error) { m.accel.failed(j.parts, err, r.log.Warn) }
	ctx, cancel := context.WithCancel(m.ctx)
	in.setAbort(cancel)
	life, err := v.start(ctx, j)
	in.setAbort(nil)
	if err != nil {
		cancel()
		return explain(err)
	}
	r.life, r.cancel = life, cancel
	in.state.Lock()
	in.run, in.last, in.exit = r, what, ""
	in.state.Unlock()
	go r.serve()
	go r.wait()
	r.log.Info("instance launched", "agent", fmt.Sprintf("%x", what.agent), "config", fmt.Sprintf("%x", what.config))
	return nil
}

// runAs is the user of the host that an instance runs as: its own where this process can start programs as others, else 0.
func runAs(uid int) int {
	if uid != 0 && !sandbox.CanMapUID(uid) {
		return 0
	}
	return uid
}

func withDefaults(l platform.Limits) platform.Limits {
	for _, d := range []struct {
		v *uint64
		d uint64
	}{
		{&l.MemoryBytes, defaultMemory}, {&l.Processes, defaultProcesses},
		{&l.OpenFiles, defaultFiles}, {&l.ScratchBytes, defaultScratch},
	} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	return l
}

// wait notices the end of the Agent.
func (r *run) wait() {
	err := r.life.wait()
	r.cancel()
	exit := describeExit(err)
	r.mu.Lock()
	if r.why != "" {
		exit = r.why
	}
	r.mu.Unlock()
	r.in.state.Lock()
	r.in.run, r.in.exit = nil, exit
	r.in.state.Unlock()
	r.log.Info("instance ended", "exit", exit)
	close(r.done)
}

func describeExit(err error) string {
	var status interface{ Sys() any }
	if err == nil {
		return "the agent ended by itself"
	}
	if errors.As(err, &status) {
		if ws, ok := status.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return "the agent was killed by signal " + ws.Signal().String()
		}
	}
	return "the agent ended: " + err.Error()
}

// kill ends the Agent and everything it started. The kernel does the rest: its pid namespace dies with it.
func (r *run) kill(why string) {
	r.mu.Lock()
	if r.why == "" {
		r.why = why
	}
	r.mu.Unlock()
	if err := r.life.kill(); err != nil {
		r.log.Error("killing the instance", "error", err)
	}
}

// attach hands a new channel to the Agent.
func (r *run) attach(channel *os.File) error {
	return r.life.attach(channel, sendTime)
}

// serve answers the Agent's requests until its end of the socket is gone. The Agent is whatever the Broker launched: it gets what
// belongs to its own measurement and nothing else, and cannot do worse than to be closed.
func (r *run) serve() {
	for {
		var request hw.Request
		err := r.life.receive(&request)
		if errors.Is(err, packet.ErrMalformed) {
			r.kill("the agent sent a malformed hardware request")
			return
		}
		if err != nil {
			r.abandoned()
			return
		}
		answer := r.answer(request)
		answer.ID = request.ID
		if err := r.life.send(answer, sendTime); err != nil {
			r.kill("the agent does not read its hardware's answers")
			return
		}
	}
}

// abandoned ends an Agent that has closed its hardware interface and lives on: it could never be attached to again.
func (r *run) abandoned() {
	select {
	case <-r.done:
	case <-time.After(sendTime):
		r.kill("the agent gave its hardware up")
	}
}

func (r *run) answer(q hw.Request) hw.Answer {
	var a hw.Answer
	var err error
	switch q.Op {
	case hw.OpInfo:
		a.Info = r.info()
	case hw.OpEvidence:
		a.Token, err = r.evidence(q.Binding)
	case hw.OpSealingKey:
		a.Key, err = r.sealingKey(q.Label)
	case hw.OpCounter:
		a.Counter = r.in.counter(r.m.id())
	case hw.OpExtend:
		err = r.extend(q.Event)
	case hw.OpIncrement:
		a.Counter, err = r.in.increment(r.m.id(), q.Expect)
	default:
		err = fmt.Errorf("operation %d is unknown", q.Op)
	}
	if err != nil {
		a = hw.Answer{Code: hw.CodeRefused, Text: err.Error()}
		if errors.Is(err, hw.ErrCounter) {
			a.Code = hw.CodeCounter
		}
	}
	return a
}

func (r *run) info() *hw.WireInfo {
	return &hw.WireInfo{
		Hardware: r.device.dev.Hardware.BindingName(true), Instance: r.in.id, UEID: r.device.dev.InstanceID, Config: r.config,
		ConfigDigest: r.m.config, AgentDigest: r.m.agent, ScratchBytes: r.limits.ScratchBytes, Processes: r.limits.Processes,
		Register: registers[r.device.dev.Hardware],
	}
}

func (r *run) evidence(binding []byte) (*hw.WireToken, error) {
	if len(binding) != 64 {
		return nil, fmt.Errorf("a binding of %d bytes, not 64", len(binding))
	}
	return r.device.token([64]byte(binding), r.m, r.register, r.bootSeed)
}

func (r *run) sealingKey(label string) ([]byte, error) {
	if label == "" || len(label) > hw.MaxLabel {
		return nil, fmt.Errorf("a label of %d bytes, not 1 to %d", len(label), hw.MaxLabel)
	}
	return r.device.sealingKey(r.in.salt, r.m, label)
}

// counter reads the counter of measurement m.
func (in *instance) counter(m [32]byte) uint64 {
	in.state.Lock()
	defer in.state.Unlock()
	return in.rec.value(m)
}

// increment raises it. Only the one goroutine that serves the instance calls this, so the state lock need not be held while
// the record is written. After a failed write nobody can tell which content is on disk; what can be read back is what counts.
func (in *instance) increment(m [32]byte, expect uint64) (uint64, error) {
	in.state.Lock()
	now := in.rec
	in.state.Unlock()
	if v := now.value(m); v != expect || v+1 == 0 {
		return 0, fmt.Errorf("%w: it is at %d", hw.ErrCounter, v)
	}
	next, err := now.with(m, expect+1)
	if err != nil {
		return 0, err
	}
	if err = writeRecord(filepath.Join(in.dir, recordFile), next); err != nil {
		if again, loadErr := loadRecord(in.dir, in.id); loadErr == nil {
			next = again
		} else {
			next = now
		}
	}
	in.state.Lock()
	in.rec = next
	in.state.Unlock()
	if err != nil {
		return 0, err
	}
	return expect + 1, nil
}
