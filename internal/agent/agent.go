// SPDX-License-Identifier: Apache-2.0

// Package agent is the TEEP Agent: the one program of ours that is measured into a TEE, and the only one there that installs,
// removes and opens Trusted Components (RFC 9397 section 4.1, draft-ietf-teep-protocol, digest sections 6 and 14 to 18).
//
// Whom it obeys stands in its measured configuration: TEEP messages must be signed by a TAM key of it, manifests by the owner whose
// application they are for. Everything that changes it runs through one transaction per manifest: payloads are staged as sealed
// blobs, the SUIT processor runs over them, the new TA is started beside the old one, and then one commit of the sealed state
// (package vault) makes all of it true, or none of it. A crash before the commit leaves nothing but unreferenced blobs, which
// the next start sweeps; a crash after it leaves an installed manifest, and installing that again is a no-op that reports
// success. So whatever the TAM repeats, each manifest is installed once.
//
// Plaintext of PD exists in the memory of this process, in TAs' folders in TEE memory, and nowhere else. Payloads leave through one
// way out (channel.BrokerService.REEInstall), which takes components addressed to the REE and nothing else.
package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"sealift/cose"
	"sealift/internal/agent/runner"
	"sealift/internal/agent/vault"
	"sealift/internal/agentconfig"
	"sealift/internal/channel"
	"sealift/internal/platform/hw"
)

// Errors of the Agent.
var (
	errLimit    = errors.New("agent: a limit of the configuration is reached")
	errNoBroker = errors.New("agent: no Broker is attached")
	// ErrBroken says that the sealed state could not be committed half way. The Agent must be started again.
	ErrBroken = vault.ErrBroken
)

// Options are the Agent's surroundings.
type Options struct {
	TEE    hw.TEE
	TPM    hw.Quoter      // of the TEE; nil where it has none
	Store  vault.FS       // the folder in the REE
	Memory uint64         // bytes of memory that the instance has for everything; 0: not known
	Runner runner.Options // Launcher and Dir must be set; bounds are taken from the configuration
	Rand   io.Reader      // crypto/rand if nil
	Now    func() time.Time
	Log    *slog.Logger
}

// Agent is a TEEP Agent.
type Agent struct {
	opts     Options
	hw       hw.Info
	config   *agentconfig.Config
	limits   agentconfig.Limits
	vault    *vault.Vault
	identity *identity
	owners   []*cose.Key
	log      *slog.Logger

	refused string // the TAM's verdict in the Update that is being processed; belongs to whoever holds work

	work   chan struct{}         // held by whoever changes the state: one at a time
	state  atomic.Pointer[state] // the committed one
	broken chan struct{}         // closed when only a restart helps
	once   sync.Once
	conns  chan struct{} // slots for callers of TAs
	loads  loads         // what was loaded since the start

	mu      sync.Mutex
	broker  *attached
	tas     map[string]*loadedTA
	lost    map[string]bool // components that the REE no longer has
	lastErr string
	policy  int // how many TAMs were named in the current round of RequestPolicyCheck
	attest  attestation
}

// New opens the sealed state of this instance, or makes a new one, and starts the installed TAs.
func New(ctx context.Context, o Options) (*Agent, error) {
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	info, err := o.TEE.Info()
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	cfg, err := agentconfig.Parse(info.Config)
	if err != nil {
		return nil, err
	}
	a := &Agent{
		opts: o, hw: info, config: cfg, limits: cfg.Limits.WithDefaults(), log: o.Log,
		work: make(chan struct{}, 1), broken: make(chan struct{}), tas: map[string]*loadedTA{}, lost: map[string]bool{},
	}
	a.conns = make(chan struct{}, a.limits.Connections)
	for _, owner := range cfg.Owners {
		a.owners = append(a.owners, owner.Key)
	}
	if err := a.openState(); err != nil {
		return nil, err
	}
	a.setRunnerBounds()
	a.startInstalled(ctx)
	return a, nil
}

// openState reads the sealed state, or makes one, and deletes the blobs that it does not name.
func (a *Agent) openState() error {
	key, err := a.opts.TEE.SealingKey("state")
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if a.vault, err = vault.Open(a.opts.Store, key, a.opts.TEE, a.opts.Rand); err != nil {
		return err
	}
	var s *state
	if data := a.vault.State(); data != nil {
		if s, err = parseState(data); err == nil && s.forgetLive() {
			a.log.Info("what was kept in memory only is gone, and has to be delivered again by its owner")
			err = a.vault.Commit(s.marshal())
		}
	} else if s, err = newState(a.opts.Rand, a.config.SigningAlg); err == nil {
		err = a.vault.Commit(s.marshal())
	}
	if err != nil {
		return err
	}
	if a.identity, err = s.identity(); err != nil {
		return err
	}
	a.state.Store(s)
	if err := a.vault.Sweep(s.blobs()); err != nil {
		a.log.Warn("left-over blobs could not be deleted", "error", err)
	}
	return nil
}

func (a *Agent) setRunnerBounds() {
	r := &a.opts.Runner
	r.MaxMemoryBytes, r.MaxProcs, r.LogBytes = a.limits.TAMemoryBytes, a.limits.TAProcs, int(a.limits.TALogBytes)
	r.RequestTimeout = a.limits.RequestTimeout()
	r.Log = a.log
}

// Run serves Brokers until ctx ends, the platform is gone, or the state is broken.
func (a *Agent) Run(ctx context.Context) error {
	channels := a.opts.TEE.Channels()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.broken:
			return ErrBroken
		case conn, ok := <-channels:
			if !ok {
				return hw.ErrGone
			}
			if err := a.Attach(conn); err != nil {
				a.log.Warn("a Broker could not be attached", "error", err)
			}
		}
	}
}

// Attach serves the Broker at the other end of conn from now on; it supersedes the one before.
func (a *Agent) Attach(conn net.Conn) error {
	b := &attached{ready: make(chan struct{})}
	client, err := channel.ServeAgent(conn, a.Service())
	if err != nil {
		conn.Close()
		return err
	}
	b.BrokerClient = client
	a.mu.Lock()
	old := a.broker
	a.broker = b
	a.lost = map[string]bool{}
	a.mu.Unlock()
	if old != nil {
		go old.Close()
	}
	go a.startREE(b)
	return nil
}

// Close ends the Agent's TAs and its channel. The sealed state needs no closing.
func (a *Agent) Close() {
	a.mu.Lock()
	b, tas := a.broker, a.tas
	a.broker, a.tas = nil, map[string]*loadedTA{}
	a.mu.Unlock()
	if b != nil {
		b.Close()
	}
	for _, t := range tas {
		t.stop()
	}
}

// lock waits for the right to change the state.
func (a *Agent) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case a.work <- struct{}{}:
		return func() { <-a.work }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// commit makes s the durable state. The blobs that only the former state named are deleted: their keys are gone already.
func (a *Agent) commit(s *state) error {
	if err := a.vault.Commit(s.marshal()); err != nil {
		if a.vault.Broken() {
			a.once.Do(func() { close(a.broken) })
		}
		return err
	}
	old := a.state.Swap(s)
	for _, ref := range old.refsNotIn(s) {
		if err := a.vault.Remove(ref); err != nil {
			a.log.Warn("a blob without a key could not be deleted", "error", err)
		}
	}
	return nil
}

func (a *Agent) setLastError(text string) {
	a.mu.Lock()
	a.lastErr = text
	a.mu.Unlock()
}
