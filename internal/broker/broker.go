// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package broker is the TEEP Broker of a device: the part in the REE that lets TAMs and TEEP Agents talk (RFC 9397
// section 6), runs the UAs, and relays between UAs and TAs. It is trusted with nothing: it carries bytes that are signed,
// encrypted, or both.
//
// One Broker serves one device. It announces the device to the M/OC and asks it, by long poll, which TEE instances the device
// should hold. For each wanted instance a runner keeps the instance launched and attached, and runs TEEP sessions
// (draft-ietf-teep-otrp-over-http) whenever the M/OC wakes it, retrying with a growing delay. What is not wanted any more
// is destroyed with all that belongs to it. The Broker remembers nothing about deployments: after a crash, the M/OC's
// answer, the platform's list and the REE's files say again what there is and what there should be.
package broker

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sealift/internal/broker/ree"
	"sealift/internal/channel"
	"sealift/internal/delivery"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/platform"
	"sealift/teep/teephttp"
)

// Config is what a Broker needs. Device, MOC, Driver, Images, StateDir and Log are required.
type Config struct {
	Device    string            // name of the device: that of the token in MOC
	MOC       *mocapi.Client    // the operator's M/OC
	Driver    platform.Driver   // the TEE platform of the device
	Images    []string          // paths of Agent images (package image), one for each instance type that the device offers
	Labels    map[string]string // the operator's words about the device, for placement
	StateDir  string
	Relay     string         // address of the relay listener; empty means 127.0.0.1 and any port
	PublishOn string         // address on which UAs publish their ports; empty means 127.0.0.1
	Roots     *x509.CertPool // authorities of the servers that the Broker asks; nil: the system's
	// CacheBytes bounds the payloads that are kept so that they need not be moved again; 0 means 4 GiB, less than 0 none.
	CacheBytes int64
	Log        *slog.Logger
	Ready      func(Ready) // called once the device has been announced

	// Delays between attempts, doubled from MinDelay up to MaxDelay. Defaults: 100 ms, 20 s.
	MinDelay, MaxDelay time.Duration
}

// Ready is what Config.Ready gets.
type Ready struct {
	BrokerID string
	Relay    string // address of the relay listener
	Info     platform.Info
}

// Broker is a TEEP Broker. Make one with New, and let it work with Run.
type Broker struct {
	cfg     Config
	id      string
	lock    *os.File
	host    *ree.Host
	fetcher *fetcher
	teep    *teephttp.Client
	relay   net.Listener
	images  map[string]agentImage // by instance type
	changed chan struct{}
	known   chan struct{} // closed when the M/OC knows the device

	mu      sync.Mutex
	runners map[string]*runner
	asking  map[string]bool   // TAs that UAs have asked for and that are not passed on to their Agents yet
	leaving map[string]string // instances that could not be destroyed yet, and why
	applied uint64
	info    platform.Info
}

// New takes the state folder and opens the relay's listener. It fails with ErrLocked when another Broker works on the same
// folder.
func New(cfg Config) (*Broker, error) {
	if cfg.MinDelay == 0 {
		cfg.MinDelay = 100 * time.Millisecond
	}
	if cfg.MaxDelay == 0 {
		cfg.MaxDelay = 20 * time.Second
	}
	if cfg.Relay == "" {
		cfg.Relay = "127.0.0.1:0"
	}
	var err error
	if cfg.StateDir, err = filepath.Abs(cfg.StateDir); err != nil { // UAs are started from it, in folders of their own
		return nil, err
	}
	lock, err := lockState(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	b := &Broker{
		cfg: cfg, lock: lock, changed: make(chan struct{}, 1), known: make(chan struct{}),
		teep:    &teephttp.Client{HTTP: &http.Client{Transport: newTransport(cfg.Roots)}},
		runners: map[string]*runner{}, asking: map[string]bool{}, leaving: map[string]string{},
	}
	if err := b.open(); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *Broker) open() (err error) {
	if b.id, err = identity(b.cfg.StateDir); err != nil {
		return err
	}
	var kept *cache
	if b.cfg.CacheBytes >= 0 {
		if kept, err = newCache(filepath.Join(b.cfg.StateDir, "payloads"), b.cfg.CacheBytes, b.cfg.Log); err != nil {
			return err
		}
	}
	b.fetcher = newFetcher(b.cfg.MOC, b.cfg.Roots, kept)
	if b.images, err = readImages(b.cfg.Images); err != nil {
		return err
	}
	b.host, err = ree.NewHost(ree.Config{
		Dir: filepath.Join(b.cfg.StateDir, "ree"), PublishOn: b.cfg.PublishOn, Log: b.cfg.Log, TA: b.connectUA, Request: b.noteRequest,
	})
	if err != nil {
		return err
	}
	if b.relay, err = net.Listen("tcp", b.cfg.Relay); err != nil {
		return fmt.Errorf("opening the relay: %w", err)
	}
	return nil
}

func (b *Broker) close() {
	if b.relay != nil {
		b.relay.Close()
	}
	if b.host != nil {
		b.host.Close()
	}
	b.lock.Close()
}

// Run works until ctx ends, and then stops the UAs and leaves the M/OC; TEE instances keep running. It fails when another
// Broker serves the same device (fault device-in-use).
func (b *Broker) Run(ctx context.Context) error {
	defer b.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	info, err := b.platformInfo(ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.info = info
	b.mu.Unlock()
	if err := b.host.Resume(); err != nil {
		b.cfg.Log.Error("UAs cannot be started again", "error", err)
	}
	relay := relayServer(b.connect)
	var wg sync.WaitGroup
	wg.Go(func() { _ = relay.Serve(b.relay) })
	wg.Go(func() { b.announceLoop(ctx, cancel) })
	wg.Go(func() { b.workLoop(ctx, cancel) })
	<-ctx.Done()
	relay.Close()
	b.stopRunners()
	wg.Wait()
	cause := context.Cause(ctx)
	if f, ok := errors.AsType[*fault.Error](cause); ok {
		return fmt.Errorf("the M/OC refuses this Broker: %w", f)
	}
	b.leave()
	return nil
}

// platformInfo waits for the platform, which may be started at the same time as the Broker.
func (b *Broker) platformInfo(ctx context.Context) (platform.Info, error) {
	retry := b.newBackoff()
	for {
		info, err := b.cfg.Driver.Info(ctx)
		if err == nil {
			return info, nil
		}
		if !errors.Is(err, platform.ErrUnreachable) {
			return info, fmt.Errorf("asking the TEE platform: %w", err)
		}
		b.cfg.Log.Warn("the TEE platform does not answer", "error", err)
		if !retry.wait(ctx) {
			return info, context.Cause(ctx)
		}
	}
}

// workLoop follows the M/OC's wishes.
func (b *Broker) workLoop(ctx context.Context, fail context.CancelCauseFunc) {
	select {
	case <-b.known:
	case <-ctx.Done():
	}
	retry := b.newBackoff()
	var generation uint64
	for ctx.Err() == nil {
		work, err := b.cfg.MOC.Work(ctx, b.cfg.Device, b.id, generation, 25*time.Second)
		if err != nil {
			b.mocError(ctx, fail, "asking for work", err)
			retry.wait(ctx)
			continue
		}
		retry.reset()
		b.tellLogs(ctx, work.Logs)
		// Applied again even when nothing is new: an instance that could not be destroyed is tried once more.
		if b.apply(ctx, work) {
			generation = work.Generation
		} else {
			retry.wait(ctx)
		}
	}
}

// apply makes the runners those of work and destroys the rest. It reports whether everything unwanted is gone.
func (b *Broker) apply(ctx context.Context, work mocapi.Work) bool {
	wanted := map[string]bool{}
	for _, w := range work.Instances {
		wanted[w.ID] = true
		b.mu.Lock()
		r := b.runners[w.ID]
		if r == nil {
			r = b.newRunner(ctx, w)
			b.runners[w.ID] = r
			go r.run()
		}
		b.mu.Unlock()
		r.want(w)
	}
	present, clean := b.present(ctx)
	for _, id := range present {
		if wanted[id] {
			continue
		}
		err := b.destroy(ctx, id)
		b.mu.Lock()
		if err != nil {
			clean = false
			b.leaving[id] = err.Error()
			b.cfg.Log.Error("a TEE instance cannot be destroyed", "instance", id, "error", err)
		} else {
			delete(b.leaving, id)
			b.cfg.Log.Info("a TEE instance was destroyed", "instance", id)
		}
		b.mu.Unlock()
	}
	if clean {
		b.mu.Lock()
		b.applied = work.Generation
		b.mu.Unlock()
	}
	b.notify()
	return clean
}

// present lists every instance of which anything exists: a runner, something on the platform, something in the REE. It is
// incomplete, and complete is false, while the platform does not answer.
func (b *Broker) present(ctx context.Context) (ids []string, complete bool) {
	complete = true
	seen := map[string]bool{}
	b.mu.Lock()
	for id := range b.runners {
		seen[id] = true
	}
	for id := range b.leaving {
		seen[id] = true
	}
	b.mu.Unlock()
	if states, err := b.cfg.Driver.List(ctx); err != nil {
		complete = false
		b.cfg.Log.Warn("listing the TEE instances", "error", err)
	} else {
		for _, s := range states {
			seen[s.ID] = true
		}
	}
	if ids, err := b.host.Instances(); err != nil {
		complete = false
		b.cfg.Log.Warn("listing the REE's components", "error", err)
	} else {
		for _, id := range ids {
			seen[id] = true
		}
	}
	return slices.Sorted(maps.Keys(seen)), complete
}

// destroy removes an instance and everything that belongs to it, the TEE's secrets first.
func (b *Broker) destroy(ctx context.Context, id string) error {
	b.mu.Lock()
	r := b.runners[id]
	b.leaving[id] = ""
	delete(b.runners, id)
	b.mu.Unlock()
	if r != nil {
		r.stop()
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if b.fetcher.cache != nil {
		b.fetcher.cache.sweep(0)
	}
	return errors.Join(b.cfg.Driver.Destroy(ctx, id), b.host.RemoveInstance(id))
}

func (b *Broker) stopRunners() {
	b.mu.Lock()
	var all []*runner
	for _, r := range b.runners {
		all = append(all, r)
	}
	b.mu.Unlock()
	for _, r := range all {
		r.stop()
	}
}

func (b *Broker) runner(id string) *runner {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.runners[id]
}

// connect opens a relay to a TA.
func (b *Broker) connect(ctx context.Context, instance, app, ta string) (net.Conn, error) {
	r := b.runner(instance)
	if r == nil {
		return nil, fmt.Errorf("%w: there is no deployment %q on this device", channel.ErrNotFound, instance)
	}
	agent := r.attached()
	if agent == nil {
		return nil, fmt.Errorf("%w: the TEEP Agent of %q is not running", channel.ErrNotReady, instance)
	}
	if strings.HasSuffix(ta, delivery.Suffix) {
		return b.connectDelivery(ctx, r, agent, app, ta)
	}
	return agent.Connect(ctx, app, ta)
}

// connectUA is the ree.Dialer: it relays one connection of a UA.
func (b *Broker) connectUA(ctx context.Context, instance, app, ta string, conn net.Conn) error {
	inner, err := b.reach(ctx, instance, app, ta)
	if err != nil {
		return err
	}
	defer inner.Close()
	// The UA may be removed while its end is half-closed already: then only this wakes what waits for the TA's last word.
	defer context.AfterFunc(ctx, func() { inner.Close() })()
	splice(conn, inner, relayIdle)
	return nil
}
