// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sealift/internal/channel"
	"sealift/internal/launch"
	"sealift/internal/platform/sandbox/cgroup"
	"sealift/suit"
)

// startTimeout is how long a UA may take until it serves its ports.
const startTimeout = 10 * time.Second

// Dialer connects a UA's connection to the TLS endpoint of its TA and returns when the connection is over.
type Dialer func(ctx context.Context, instance, app, ta string, conn net.Conn) error

// Config says how a Host runs UAs.
type Config struct {
	Dir       string // state: components and their files
	MaxBytes  int64  // one component; 0 means 1 GiB
	PublishOn string // address on which UAs publish their ports; empty means 127.0.0.1
	TA        Dialer // how the UAs' sockets reach their TAs
	// Request passes on that a UA has asked for its TA, and returns at once. It may be called again and again; ctx ends with the UA. May be nil.
	Request  func(ctx context.Context, instance, app, ta string)
	Log      *slog.Logger
	MaxPerTA int // connections of one UA to its TA at a time; 0 means 128
}

// Host runs the UAs of one device.
type Host struct {
	cfg   Config
	store *Store
	ctx   context.Context
	close context.CancelFunc

	noGroups error         // why no control groups can be made here; nil if they can
	number   atomic.Uint64 // of the last UA's process
	groups   sync.Mutex    // while a group is made
	users    sync.Mutex    // while a user is chosen

	mu  sync.Mutex
	uas map[key]*ua
}

// Status is what is known of one UA.
type Status struct {
	Component suit.ComponentID
	Running   bool
	PID       int
	Restarts  int
	Error     string
	Ports     map[string]string // by name, as host:port
}

// NewHost opens the state in cfg.Dir. No UA runs until Resume or Start.
func NewHost(cfg Config) (*Host, error) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1 << 30
	}
	if cfg.PublishOn == "" {
		cfg.PublishOn = "127.0.0.1"
	}
	if cfg.MaxPerTA == 0 {
		cfg.MaxPerTA = 128
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	store, err := OpenStore(filepath.Join(cfg.Dir, "components"), cfg.MaxBytes)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &Host{cfg: cfg, store: store, ctx: ctx, close: cancel, uas: map[key]*ua{}}
	if h.noGroups = h.sweepGroups(); h.noGroups != nil && !errors.Is(h.noGroups, cgroup.ErrUnsupported) {
		return nil, h.noGroups
	}
	for _, text := range h.Missing() {
		cfg.Log.Warn("UAs are kept apart less well than they could be", "missing", text)
	}
	return h, nil
}

// Install stages the content of a component.
func (h *Host) Install(instance string, id suit.ComponentID) (channel.REEWriter, error) {
	k, err := keyOf(instance, id)
	if err != nil {
		return nil, err
	}
	return h.store.create(k)
}

// Start runs an installed component with the encoded launch.Spec, and returns when it serves. If it runs already, the same
// version with the same parameters, nothing happens.
func (h *Host) Start(ctx context.Context, instance string, id suit.ComponentID, spec []byte) error {
	k, err := keyOf(instance, id)
	if err != nil {
		return err
	}
	if _, err := launch.Parse(spec); err != nil {
		return fmt.Errorf("%w: %w", channel.ErrRefused, err)
	}
	u := h.entry(k)
	u.mu.Lock()
	defer u.mu.Unlock()
	info, err := os.Stat(h.store.path(k, programFile))
	if err != nil {
		return classify(err)
	}
	if u.proc == nil || !u.proc.Status().Running || !bytes.Equal(u.encoded, spec) || !os.SameFile(u.info, info) {
		u.halt()
		if err := h.store.put(k, launchFile, spec); err != nil {
			return err
		}
		if err := u.begin(spec); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := u.proc.WaitReady(ctx); err != nil {
		u.halt()
		return fmt.Errorf("%w: %w", channel.ErrExec, err)
	}
	return nil
}

// Stop ends a component's program; it stays installed.
func (h *Host) Stop(instance string, id suit.ComponentID) error {
	k, err := keyOf(instance, id)
	if err != nil {
		return err
	}
	u := h.entry(k)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.halt()
	if err := os.Remove(h.store.path(k, launchFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// StopInstance does what Stop does for all components of a TEE instance.
func (h *Host) StopInstance(instance string) error {
	keys, err := h.store.keys()
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.instance == instance {
			if err := h.Stop(instance, k.id()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Remove ends a component's program and deletes it with its files and logs.
func (h *Host) Remove(instance string, id suit.ComponentID) error {
	k, err := keyOf(instance, id)
	if err != nil {
		return err
	}
	u := h.entry(k)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.halt()
	h.mu.Lock()
	delete(h.uas, k)
	h.mu.Unlock()
	return h.store.remove(k)
}

// RemoveInstance does what Remove does for all components of a TEE instance.
func (h *Host) RemoveInstance(instance string) error {
	for _, u := range h.all() {
		if u.key.instance == instance {
			if err := h.Remove(instance, u.key.id()); err != nil {
				return err
			}
		}
	}
	return h.store.removeInstance(instance)
}

// Resume starts the programs that ran when the Broker ended, without waiting for them.
func (h *Host) Resume() error {
	keys, err := h.store.keys()
	if err != nil {
		return err
	}
	for _, k := range keys {
		spec, err := os.ReadFile(h.store.path(k, launchFile))
		if err != nil {
			continue // installed and not started
		}
		u := h.entry(k)
		u.mu.Lock()
		if u.proc == nil {
			if err := u.begin(spec); err != nil {
				h.cfg.Log.Error("a UA cannot be started again", "component", k.id().String(), "error", err)
			}
		}
		u.mu.Unlock()
	}
	return nil
}

// Instances lists the TEE instances of which components are stored.
func (h *Host) Instances() ([]string, error) { return h.store.instances() }

// Status lists the UAs of a TEE instance.
func (h *Host) Status(instance string) []Status {
	var out []Status
	for _, u := range h.all() {
		if u.key.instance == instance {
			if st, ok := u.status(); ok {
				out = append(out, st)
			}
		}
	}
	return out
}

// Close ends all programs and relays; what is stored stays.
func (h *Host) Close() {
	h.close()
	var wg sync.WaitGroup
	for _, u := range h.all() {
		wg.Go(func() {
			u.mu.Lock()
			defer u.mu.Unlock()
			u.halt()
		})
	}
	wg.Wait()
	if h.noGroups == nil {
		if err := h.sweepGroups(); err != nil {
			h.cfg.Log.Warn("removing the control group of the UAs", "error", err)
		}
	}
}

// entry returns the record of a component, a new one if need be.
func (h *Host) entry(k key) *ua {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := h.uas[k]
	if u == nil {
		u = &ua{host: h, key: k}
		h.uas[k] = u
	}
	return u
}

// all returns the records in a stable order.
func (h *Host) all() []*ua {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := slices.Collect(maps.Values(h.uas))
	slices.SortFunc(list, func(a, b *ua) int { return strings.Compare(a.order(), b.order()) })
	return list
}
