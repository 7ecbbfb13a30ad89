// SPDX-License-Identifier: Apache-2.0

// Package moc is the operator's side of the use case: the Network M/OC with its TAM. It takes requests for confidential
// resources, chooses a device, gives the devices' Brokers their work, carries evidence requests and releases of the data
// owners, and keeps packages as OCI artifacts. It holds nothing that it could open: PD passes as ciphertext only.
//
// Everything is one HTTP server:
//
//   - /v1/... the REST interface of package mocapi, described by /v1/openapi.json; bearer tokens (RFC 6750) with the
//     roles operator, owner and device; errors are problem details (RFC 9457) with stable codes;
//   - /tam/<deployment> the TAM by TEEP over HTTP (draft-ietf-teep-otrp-over-http), authenticated by TEEP itself;
//   - /v2/ the OCI registry of package artifact;
//   - /.well-known/ni/sha-256/<digest> payloads by their RFC 6920 name, for devices;
//   - /healthz.
//
// Nothing is remembered only in memory. Long polls are woken by changes in the store; after a restart every client asks
// again and gets what the store says. A deployment moves along its plan by the rules of package course, whoever makes
// it move.
package moc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/artifact"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/internal/tam"
	"sealift/teep/teephttp"
)

// Config says how an M/OC is to run.
type Config struct {
	Dir string // state: database, artifacts, keys
	// URL is the address under which devices and owners reach the M/OC, without a path. It goes into measured
	// configurations, so it must stay the same for as long as deployments live.
	URL      string
	Policy   *appraisal.Policy // of the operator's Verifier; nil: none is accepted
	Anchors  evidence.Anchors  // hardware roots that the operator's Verifier knows
	Hardware tam.Hardware      // verifiers of more architectures than TrustZone
	Version  string            // for /healthz

	Protocol   tam.Protocol   // choices that TEEP leaves to a TAM
	AgentSuite cose.Algorithm // of the Agents of new deployments: ESP256, which 0 stands for, or Ed25519
	// TAMVerifiers, if there are any, make the Agents of new deployments require an Attestation Result about this TAM that one
	// of these keys has signed; Protocol.Attest gives it.
	TAMVerifiers []*cose.Key

	Adversary tam.Adversary // tam.Honest but for demonstrations
	Now       func() time.Time
	Rand      io.Reader
	Log       *slog.Logger
}

// Errors of Open.
var ErrRunning = errors.New("moc: another M/OC works in this state folder")

// Server is an open M/OC.
type Server struct {
	cfg       Config
	keys      *tam.Keys
	store     *store.Store
	artifacts *artifact.Store
	engine    *tam.Engine
	handler   http.Handler
	lock      *os.File

	uaLogs  logDesk
	closing chan struct{} // closed when long polls have to end
	once    sync.Once
}

// Open opens the state in cfg.Dir and makes keys at the first start. One process at a time can have it open.
func Open(cfg Config) (_ *Server, err error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Policy == nil { // accepts no hardware and no root
		cfg.Policy = &appraisal.Policy{Version: appraisal.PolicyVersion, Name: "none", Accept: appraisal.TierAffirming}
	}
	cfg.URL = strings.TrimSuffix(cfg.URL, "/")
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state folder: %w", err)
	}
	s := &Server{cfg: cfg, closing: make(chan struct{})}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, err
	}
	if s.keys, err = tam.LoadKeys(filepath.Join(cfg.Dir, "keys")); err != nil {
		return nil, err
	}
	if s.store, err = store.Open(cfg.Dir, store.Options{Now: cfg.Now}); err != nil {
		return nil, err
	}
	if s.artifacts, err = artifact.Open(filepath.Join(cfg.Dir, "artifacts"), artifact.Options{Now: cfg.Now}); err != nil {
		return nil, err
	}
	s.engine, err = tam.New(tam.Config{Store: s.store, Keys: s.keys, Policy: cfg.Policy, Anchors: cfg.Anchors, Hardware: cfg.Hardware,
		Now: cfg.Now, Rand: cfg.Rand, Log: cfg.Log, Adversary: cfg.Adversary, Protocol: cfg.Protocol, Stored: s.artifacts.Check})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	s.mountREST(mux)
	teep := teephttp.Handler(s.engine, teephttp.Options{Prefix: tamPath, Logger: cfg.Log})
	mux.Handle(tamPath, teep) // else the mux would redirect, which no Broker may follow (teep-over-http section 4)
	mux.Handle(tamPath+"/", teep)
	registry := s.artifacts.Handler(s.registryAccess, cfg.Log)
	mux.Handle("/v2", registry)
	mux.Handle("/v2/", registry)
	s.handler = mux
	return s, nil
}

const tamPath = "/tam"

func (s *Server) tamURI() string { return s.cfg.URL + tamPath }

// Handler returns the M/OC as an http.Handler.
func (s *Server) Handler() http.Handler { return s.handler }

// Token makes a bearer token.
func (s *Server) Token(ctx context.Context, id mocapi.Identity) (string, error) {
	return NewToken(ctx, s.store, s.cfg.Rand, id)
}

// Close ends long polls and closes the state.
func (s *Server) Close() error {
	s.endPolls()
	var errs []error
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

func (s *Server) endPolls() { s.once.Do(func() { close(s.closing) }) }

// lockDir takes the state folder for one process. The lock is the kernel's and ends with the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", ErrRunning, dir)
		}
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return f, nil
}
