// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"fmt"
	"io"

	"sealift/internal/channel"
	"sealift/suit"
)

// reeServices is what the Agent of one instance may ask of its Broker. The TAM learns from the Agent that something has
// failed; that the reason was a full disk, or a UA that does not start, only the Broker knows, and announces.
type reeServices struct {
	b        *Broker
	instance string
}

var _ channel.BrokerService = reeServices{}

// What a service does, for people.
const (
	installing = "installing"
	starting   = "starting"
	stopping   = "stopping"
	removing   = "removing"
)

// noted keeps how a service for the Agent went, and has it announced.
func (s reeServices) noted(doing string, id suit.ComponentID, err error) error {
	r := s.b.runner(s.instance)
	if r == nil {
		return err
	}
	r.mu.Lock()
	switch {
	case err != nil:
		r.reeErr = fmt.Errorf("%s %s: %w", doing, id, err)
		r.log.Warn("a service for the TEEP Agent has failed", "error", r.reeErr)
	case doing == installing || doing == starting: // cleaning up after a failure does not make it good
		r.reeErr = nil
	}
	r.mu.Unlock()
	s.b.notify()
	return err
}

// Fetch implements channel.BrokerService.
func (s reeServices) Fetch(ctx context.Context, uri string, limit int64) (io.ReadCloser, error) {
	r := s.b.runner(s.instance)
	return s.b.fetcher.fetch(ctx, uri, limit, func(n, total int64, done bool) {
		if r != nil {
			r.moved(uri, n, total, done)
		}
	})
}

// REEInstall implements channel.BrokerService.
func (s reeServices) REEInstall(_ context.Context, id suit.ComponentID) (channel.REEWriter, error) {
	w, err := s.b.host.Install(s.instance, id)
	if err != nil {
		return nil, s.noted(installing, id, err)
	}
	return notedWriter{w, s, id}, nil
}

// notedWriter notes the errors of a component's writer.
type notedWriter struct {
	channel.REEWriter
	s  reeServices
	id suit.ComponentID
}

func (w notedWriter) Write(p []byte) (int, error) {
	n, err := w.REEWriter.Write(p)
	if err != nil {
		err = w.s.noted(installing, w.id, err)
	}
	return n, err
}

func (w notedWriter) Commit() error { return w.s.noted(installing, w.id, w.REEWriter.Commit()) }

// REERemove implements channel.BrokerService.
func (s reeServices) REERemove(_ context.Context, id suit.ComponentID) error {
	return s.noted(removing, id, s.b.host.Remove(s.instance, id))
}

// REEStart implements channel.BrokerService.
func (s reeServices) REEStart(ctx context.Context, id suit.ComponentID, spec []byte) error {
	return s.noted(starting, id, s.b.host.Start(ctx, s.instance, id, spec))
}

// REEStop implements channel.BrokerService.
func (s reeServices) REEStop(_ context.Context, id suit.ComponentID) error {
	return s.noted(stopping, id, s.b.host.Stop(s.instance, id))
}
