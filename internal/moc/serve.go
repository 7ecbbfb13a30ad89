// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"sealift/internal/moc/course"
	"sealift/internal/store"
)

// Times of the server.
const (
	headerTimeout   = 10 * time.Second
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 5 * time.Second
	retryInterval   = 250 * time.Millisecond
	tidyInterval    = time.Hour
	historyAge      = 30 * 24 * time.Hour
)

// Serve answers requests on ln until ctx ends, then lets those that run come to their end. cert may be nil: then it is
// plain HTTP.
func (s *Server) Serve(ctx context.Context, ln net.Listener, cert *tls.Certificate) error {
	srv := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	if cert != nil {
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS13,
			NextProtos: []string{"h2", "http/1.1"}})
	}
	work, stop := context.WithCancel(ctx)
	idle := make(chan struct{})
	go func() {
		defer close(idle)
		s.maintain(work)
	}()
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	var err error
	select {
	case <-ctx.Done():
		s.endPolls()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if err = srv.Shutdown(end); errors.Is(err, context.DeadlineExceeded) {
			err = srv.Close() // an upload that does not end
		}
	case err = <-failed:
		err = fmt.Errorf("serving: %w", err)
	}
	stop()
	<-idle
	return err
}

// maintain does what nobody asks for: due retries, and tidying up.
func (s *Server) maintain(ctx context.Context) {
	retry, tidy := time.NewTicker(retryInterval), time.NewTicker(tidyInterval)
	defer retry.Stop()
	defer tidy.Stop()
	s.tidy(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-retry.C:
			s.retry(ctx)
		case <-tidy.C:
			s.tidy(ctx)
		}
	}
}

// retry wakes the deployments whose time has come. A removal that the Agent has not answered in time goes on without
// it: the device destroys the instance and its secrets anyway, unless others need it.
func (s *Server) retry(ctx context.Context) {
	ids, err := s.store.DueRetries(ctx)
	if err != nil {
		s.cfg.Log.Error("looking for due retries", "error", err)
		return
	}
	for _, id := range ids {
		_, err := s.store.Update(ctx, id, func(tx *store.Tx, d *store.Deployment) error {
			d.Private.RetryAt = time.Time{}
			if !d.Private.Deleted.IsZero() {
				d.Private.Wake++
				if err := course.GiveUp(tx, d, s.cfg.Now().Add(removalPatience)); err != nil {
					return err
				}
			} else {
				d.Private.Failed = false
				d.Private.Wake++
			}
			return course.Refresh(tx, d)
		})
		if err != nil {
			s.cfg.Log.Error("retrying a deployment", "deployment", id, "error", err)
		}
	}
}

func (s *Server) tidy(ctx context.Context) {
	if err := s.store.Prune(ctx, historyAge); err != nil && ctx.Err() == nil {
		s.cfg.Log.Error("pruning the history", "error", err)
	}
	used, err := s.store.UsedDigests(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.cfg.Log.Error("collecting artifacts", "error", err)
		}
		return
	}
	n, err := s.artifacts.Collect(used)
	if err != nil {
		s.cfg.Log.Error("collecting artifacts", "error", err)
	} else if n > 0 {
		s.cfg.Log.Info("collected artifacts", "files", n)
	}
}
