// SPDX-License-Identifier: Apache-2.0

// Package verifier is a Verifier as a service: the challenge-response API of Veraison, so that other Relying Parties can use
// our verifiers, and a client of that API, so that our Relying Parties can use theirs.
//
// A client opens a session with a nonce of its own, or asks for one:
//
//	POST /challenge-response/v1/newSession?nonce=BASE64URL | ?nonceSize=8..64   -> 201, Location: session/ID
//	POST /challenge-response/v1/session/ID   Evidence, its Content-Type         -> 200, "result": EAR
//	GET, DELETE /challenge-response/v1/session/ID
//	GET /.well-known/veraison/verification   media types, and the key that EARs verify with
//
// The nonce is what the hardware has to have signed as its report data. A TEEP party sends the binding (evidence.Binding)
// for it: then the result speaks of the Agent's key and challenge too, although an EAR has no claim for a key. A nonce
// shorter than the hardware's field counts as filled up with zeros.
//
// Evidence that is refused is an answer and no error: HTTP 200, status "complete", and an EAR with the status
// "contraindicated" (or "none"). Whoever uses such a service has to look into the EAR, and verify it with a key that did not
// come over the same connection; [Client] does.
package verifier

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sealift/appraisal"
	"sealift/appraisal/ear"
	"sealift/cose"
	"sealift/evidence"
)

const (
	mediaTypeSession = "application/vnd.veraison.challenge-response-session+json"
	apiPath          = "/challenge-response/v1/"
	discoveryPath    = "/.well-known/veraison/verification"

	minNonce      = 8
	maxNonce      = 64
	sessionLife   = 150 * time.Second
	resultLife    = 10 * time.Minute
	maxSessions   = 4096
	maxConcurrent = 8 // verifications at one time
)

// Service answers requests. All fields but Endorsements, CRLs and Form are required.
type Service struct {
	Verifiers    []evidence.HardwareVerifier
	Anchors      evidence.Anchors
	Endorsements evidence.Endorsements // may be nil
	Policy       *appraisal.Policy
	CRLs         []*x509.RevocationList
	Key          cose.Signer    // ESP256: signs EARs
	ID           ear.VerifierID // this software
	Form         ear.Form       // names of claims in EARs; peers of today read ear.FormVeraison
	Now          func() time.Time
	Log          *slog.Logger

	once    sync.Once
	slots   chan struct{}
	mu      sync.Mutex
	session map[string]*session
}

// session is one challenge with its answer.
type session struct {
	nonce   []byte
	expiry  time.Time
	status  string
	result  string
	pending bool
}

// Status of a session.
const (
	statusWaiting  = "waiting"
	statusComplete = "complete"
)

type wireSession struct {
	Nonce  []byte   `json:"nonce"`
	Expiry string   `json:"expiry"`
	Accept []string `json:"accept"`
	Status string   `json:"status"`
	Result string   `json:"result,omitempty"`
}

// Handler returns the service's HTTP handler. Paths are those of the package comment.
func (s *Service) Handler() http.Handler {
	s.once.Do(func() { s.session, s.slots = map[string]*session{}, make(chan struct{}, maxConcurrent) })
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+discoveryPath, s.discover)
	mux.HandleFunc("POST "+apiPath+"newSession", s.open)
	mux.HandleFunc("POST "+apiPath+"session/{id}", s.submit)
	mux.HandleFunc("GET "+apiPath+"session/{id}", s.show)
	mux.HandleFunc("DELETE "+apiPath+"session/{id}", s.remove)
	return mux
}

func (s *Service) discover(w http.ResponseWriter, _ *http.Request) {
	key, err := jwk(s.Key.Key())
	if err != nil {
		s.Log.Error("describing the EAR key", "error", err)
		problem(w, http.StatusInternalServerError, "the key cannot be described")
		return
	}
	answer(w, http.StatusOK, "application/vnd.veraison.discovery+json", map[string]any{
		"ear-verification-key": key, "media-types": s.mediaTypes(), "version": s.ID.Build, "service-state": "READY",
		"api-endpoints": map[string]string{"newChallengeResponseSession": apiPath + "newSession"},
	})
}

func (s *Service) mediaTypes() []string {
	types := []string{evidence.MediaType, evidence.MediaTypePSA, evidence.MediaTypePSAOld}
	for _, v := range s.Verifiers {
		for _, t := range v.MediaTypes() {
			if !slices.Contains(types, t) {
				types = append(types, t)
			}
		}
	}
	return types
}

// open makes a session.
func (s *Service) open(w http.ResponseWriter, r *http.Request) {
	nonce, err := nonceOf(r)
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	id := make([]byte, 16)
	if _, err := io.ReadFull(rand.Reader, id); err != nil {
		problem(w, http.StatusInternalServerError, "no randomness")
		return
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // a UUID of version 4
	x := hex.EncodeToString(id)
	name := strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")
	now := s.Now()
	c := &session{nonce: nonce, expiry: now.Add(sessionLife), status: statusWaiting}
	if !s.keep(name, c, now) {
		w.Header().Set("Retry-After", "10")
		problem(w, http.StatusServiceUnavailable, "too many open sessions")
		return
	}
	w.Header().Set("Location", "session/"+name)
	answer(w, http.StatusCreated, mediaTypeSession, s.wire(*c))
}

// keep stores a session and forgets those that have ended.
func (s *Service) keep(id string, c *session, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.session) >= maxSessions {
		for k, old := range s.session {
			if now.After(old.expiry) {
				delete(s.session, k)
			}
		}
	}
	if len(s.session) >= maxSessions {
		return false
	}
	s.session[id] = c
	return true
}

var errNonce = errors.New("either nonce (base64url, 8 to 64 bytes) or nonceSize (8 to 64) is needed")

var alphabet = strings.NewReplacer("+", "-", "/", "_")

func nonceOf(r *http.Request) ([]byte, error) {
	q := r.URL.Query()
	text, size := q.Get("nonce"), q.Get("nonceSize")
	switch {
	case (text == "") == (size == ""):
		return nil, errNonce
	case text != "":
		// Clients of different age use either alphabet of RFC 4648, with or without padding.
		nonce, err := base64.RawURLEncoding.DecodeString(alphabet.Replace(strings.TrimRight(text, "=")))
		if err != nil || len(nonce) < minNonce || len(nonce) > maxNonce {
			return nil, errNonce
		}
		return nonce, nil
	}
	n, err := strconv.Atoi(size)
	if err != nil || n < minNonce || n > maxNonce {
		return nil, errNonce
	}
	nonce := make([]byte, n)
	_, err = io.ReadFull(rand.Reader, nonce)
	return nonce, err
}

func (s *Service) wire(c session) wireSession {
	return wireSession{Nonce: c.nonce, Expiry: c.expiry.UTC().Format(time.RFC3339), Accept: s.mediaTypes(), Status: c.status,
		Result: c.result}
}

// find returns a session that has not ended.
func (s *Service) find(id string) *session {
	c := s.session[id]
	if c != nil && s.Now().After(c.expiry) {
		delete(s.session, id)
		c = nil
	}
	return c
}

func (s *Service) show(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	c := s.find(r.PathValue("id"))
	var now session
	if c != nil {
		now = *c
	}
	s.mu.Unlock()
	if c == nil {
		problem(w, http.StatusNotFound, "no such session, or it has ended")
		return
	}
	answer(w, http.StatusOK, mediaTypeSession, s.wire(now))
}

func (s *Service) remove(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	c := s.find(r.PathValue("id"))
	delete(s.session, r.PathValue("id"))
	s.mu.Unlock()
	if c == nil {
		problem(w, http.StatusNotFound, "no such session, or it has ended")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// submit takes the Evidence of a session: once.
func (s *Service) submit(w http.ResponseWriter, r *http.Request) {
	kind := r.Header.Get("Content-Type")
	if _, _, err := mime.ParseMediaType(kind); err != nil {
		problem(w, http.StatusBadRequest, "the Evidence's media type is needed as Content-Type")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, evidence.MaxBundle))
	if err != nil {
		problem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("Evidence of more than %d bytes", evidence.MaxBundle))
		return
	}
	s.mu.Lock()
	c := s.find(r.PathValue("id"))
	taken := c != nil && (c.pending || c.status == statusComplete)
	if c != nil && !taken {
		c.pending = true
	}
	s.mu.Unlock()
	switch {
	case c == nil:
		problem(w, http.StatusNotFound, "no such session, or it has ended")
		return
	case taken:
		problem(w, http.StatusConflict, "this session has its Evidence already")
		return
	}
	s.slots <- struct{}{}
	result, err := s.appraise(kind, body, c.nonce)
	<-s.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	c.pending = false
	if err != nil { // the client may try again with another type
		problem(w, http.StatusUnsupportedMediaType, err.Error())
		return
	}
	c.status, c.result = statusComplete, result
	answer(w, http.StatusOK, mediaTypeSession, s.wire(*c))
}

var errType = errors.New("no verifier here reads this media type")

// appraise returns the EAR. The error is about what was sent, not about what it says.
func (s *Service) appraise(kind string, body, nonce []byte) (string, error) {
	e := evidence.HardwareEvidence{Data: body, MediaType: kind}
	base, _, err := mime.ParseMediaType(kind)
	if err != nil || !s.reads(base) {
		return "", errType
	}
	if base == evidence.MediaType {
		b, err := evidence.ParseBundle(body)
		if err != nil {
			return "", err
		}
		e = evidence.HardwareEvidence{Data: b.Hardware, MediaType: b.HardwareType, Collateral: b.Collateral}
	}
	result, v := appraisal.AppraiseRecorded(&appraisal.Recorded{Hardware: e, Nonce: nonce},
		evidence.Input{Anchors: s.Anchors, Now: s.Now(), Verifiers: s.Verifiers, Endorsements: s.Endorsements, CRLs: s.CRLs}, s.Policy)
	s.Log.Info("appraised", "type", kind, "authentic", v != nil, "status", result.Status.String(), "emulated", result.Emulated)
	token, err := ear.New(result, submodule(result, v), nonce, s.ID, s.Now(), resultLife).SignJWT(rand.Reader, s.Key, s.Form)
	if err != nil {
		return "", fmt.Errorf("verifier: signing: %w", err)
	}
	return string(token), nil
}

// submodule names the attester. What did not verify has no architecture that could be believed.
func submodule(r *appraisal.Result, v *evidence.VerifiedHardware) string {
	if v == nil {
		return "unverified"
	}
	return r.Hardware.BindingName(r.Emulated)
}

// jwk returns a P-256 key as RFC 7518 section 6.2 has it.
func jwk(k *cose.Key) (map[string]string, error) {
	pub, ok := k.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("verifier: the key is not one of P-256")
	}
	point, err := pub.Bytes()
	if err != nil {
		return nil, fmt.Errorf("verifier: %w", err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return map[string]string{"kty": "EC", "crv": "P-256", "alg": "ES256", "x": b64(point[1:33]), "y": b64(point[33:])}, nil
}

func (s *Service) reads(base string) bool {
	for _, t := range s.mediaTypes() {
		if b, _, err := mime.ParseMediaType(t); err == nil && b == base {
			return true
		}
	}
	return false
}

func answer(w http.ResponseWriter, status int, kind string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		problem(w, http.StatusInternalServerError, "the answer cannot be encoded")
		return
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = w.Write(data) // a client that has gone away
}

// problem answers as RFC 9457 has it.
func problem(w http.ResponseWriter, status int, detail string) {
	data, _ := json.Marshal(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail})
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}
