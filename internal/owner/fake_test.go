// SPDX-License-Identifier: Apache-2.0

package owner_test

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/agentconfig"
	"sealift/internal/artifact"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/suit"
	"sealift/usecase"
)

// fakeMOC is an operator with one device, all in this process: the REST interface as package mocapi has it, the M/OC's own artifact store, and
// an Agent under an emulated root that gives real Evidence. Its knobs make it dishonest.
type fakeMOC struct {
	*httptest.Server
	t   *testing.T
	pki *emuroot.PKI

	device    *emuroot.Device
	agent     [32]byte // measured Agent
	agentKey  *cose.Key
	agentEnc  *ecdsa.PrivateKey
	taEnc     *ecdsa.PrivateKey
	taTLS     crypto.Signer
	tamKeys   []*cose.Key
	relayAddr string
	artifacts *artifact.Store

	mu         sync.Mutex
	dep        *mocapi.Deployment
	config     agentconfig.Config
	requests   map[string][]byte // evidence requests: id to owner's nonce
	appraisals []mocapi.AppraisalRequest
	releases   []mocapi.ReleaseRequest
	wire       bytes.Buffer // every byte that the owner sent
	away       int          // answer 503 to that many requests
	loseCreate bool         // create the deployment, then drop the connection
	created    int

	// Dishonesty.
	staleNonce bool                    // Evidence over another nonce
	flipBit    bool                    // Evidence with a changed signature
	changeTA   func(*evidence.TAClaim) // another TA than the packed one
	changeConf func(*agentconfig.Config)
	tee        string    // the instance that it names; empty: the deployment's own
	beside     *cose.Key // who has signed another TA in the instance; nil: there is none
	swapPlan   bool
	otherAgent bool // names another Agent key after the appraisal
}

func newFakeMOC(t *testing.T) *fakeMOC {
	t.Helper()
	pki, err := emuroot.New(rand.Reader, evidence.TrustZone, time.Now())
	must(t, err)
	device, err := pki.NewDevice(rand.Reader, "one")
	must(t, err)
	m := &fakeMOC{t: t, pki: pki, device: device, agent: sha256.Sum256(agentBinary), requests: map[string][]byte{}}
	_, m.agentKey = newKey(t, cose.AlgESP256)
	m.agentEnc = newP256(t)
	m.taEnc = newP256(t)
	m.taTLS, _ = newKey(t, cose.AlgESP256)
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		_, k := newKey(t, alg)
		m.tamKeys = append(m.tamKeys, k)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/whoami", m.reply(func(*http.Request) (any, error) {
		return mocapi.Identity{Role: mocapi.RoleOwner, Name: "alice"}, nil
	}))
	mux.HandleFunc("GET /v1/trust-anchors", m.reply(func(*http.Request) (any, error) {
		return mocapi.TrustAnchors{TAMKeys: m.tamKeys, VerifierKey: m.tamKeys[0], TAMURI: "http://tam.invalid"}, nil
	}))
	mux.HandleFunc("GET /v1/deployments", m.reply(func(*http.Request) (any, error) { return m.list(), nil }))
	mux.HandleFunc("POST /v1/deployments", m.create)
	mux.HandleFunc("GET /v1/deployments/{id}", m.reply(func(*http.Request) (any, error) { return m.get() }))
	mux.HandleFunc("DELETE /v1/deployments/{id}", m.reply(func(*http.Request) (any, error) { return m.remove() }))
	mux.HandleFunc("POST /v1/deployments/{id}/evidence-requests", m.reply(m.requestEvidence))
	mux.HandleFunc("GET /v1/deployments/{id}/evidence/{req}", m.reply(m.evidence))
	mux.HandleFunc("POST /v1/deployments/{id}/appraisals", m.reply(m.appraisal))
	mux.HandleFunc("POST /v1/deployments/{id}/releases", m.reply(m.release))
	m.artifacts, err = artifact.Open(filepath.Join(t.TempDir(), "artifacts"), artifact.Options{})
	must(t, err)
	mux.Handle("/v2/", m.artifacts.Handler(func(*http.Request, string, bool) error { return nil }, nil))
	m.Server = httptest.NewServer(m.record(mux))
	t.Cleanup(m.Close)
	return m
}

// record keeps what the owner sends, and plays an M/OC that is away.
func (m *fakeMOC) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		m.mu.Lock()
		m.wire.WriteString(r.URL.String())
		m.wire.Write(body)
		gone := m.away > 0
		if gone {
			m.away--
		}
		m.mu.Unlock()
		if gone {
			m.problem(w, fault.New(fault.Unavailable, "restarting"))
			return
		}
		if r.Header.Get("Authorization") != "Bearer secret" {
			m.problem(w, fault.New(fault.Unauthorized, "no token"))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

func (m *fakeMOC) problem(w http.ResponseWriter, err error) {
	f := fault.From(err)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(f.Status())
	_ = json.NewEncoder(w).Encode(f)
}

func (m *fakeMOC) reply(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		v, err := f(r)
		if err != nil {
			m.problem(w, err)
			return
		}
		_ = json.NewEncoder(w).Encode(v)
	}
}

func (m *fakeMOC) list() []mocapi.Deployment {
	if m.dep == nil {
		return []mocapi.Deployment{}
	}
	return []mocapi.Deployment{*m.dep}
}

func (m *fakeMOC) get() (any, error) {
	if m.dep == nil {
		return nil, fault.New(fault.NotFound, "no such deployment")
	}
	return m.dep, nil
}

func (m *fakeMOC) remove() (any, error) {
	if m.dep == nil {
		return nil, fault.New(fault.NotFound, "no such deployment")
	}
	m.dep.State = mocapi.StateRemoved
	m.dep.Version++
	return m.dep, nil
}

func (m *fakeMOC) create(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var q mocapi.DeploymentRequest
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		m.problem(w, fault.New(fault.BadRequest, "%w", err))
		return
	}
	m.created++
	m.config = agentconfig.Config{Version: agentconfig.Version, Deployment: "d-1", Hardware: q.Hardware[0], Instance: q.Instances[0],
		TAMKeys: m.tamKeys, TAMURI: "http://tam.invalid/d-1", Owners: []agentconfig.Owner{{Key: q.OwnerKey, App: q.App}}}
	if q.Sharing != "" {
		m.config.Owners[0].App = agentconfig.AnyApp
	}
	if m.changeConf != nil {
		m.changeConf(&m.config)
	}
	plan, err := usecase.Plan(usecase.Mode(q.Mode), usecase.Instance(q.Instances[0]), usecase.Hardware(q.Hardware[0]))
	must(m.t, err)
	plan, err = plan.Through(q.Delivery)
	must(m.t, err)
	if m.swapPlan {
		slices.Reverse(plan.Steps)
	}
	m.dep = &mocapi.Deployment{ID: "d-1", Version: 1, Owner: "alice", App: q.App, Mode: q.Mode, Hardware: q.Hardware[0], Instance: q.Instances[0],
		Delivery: plan.Delivery, Device: "device-1", Emulated: true, OwnerKey: q.OwnerKey, State: mocapi.StateAwaitingAppraisal, Plan: plan.Steps,
		TEE: cmp.Or(m.tee, "d-1"), Sharing: q.Sharing, Config: m.config.Marshal(), AgentKey: m.agentKey, Packages: q.Packages, RelayAddr: m.relayAddr, Created: time.Now()}
	for _, s := range plan.Steps {
		if s.Step == usecase.Attest {
			break
		}
		m.dep.Trace = append(m.dep.Trace, mocapi.TraceStep{Step: s, Time: time.Now()})
	}
	if m.loseCreate {
		m.loseCreate = false
		panic(http.ErrAbortHandler)
	}
	_ = json.NewEncoder(w).Encode(m.dep)
}

func (m *fakeMOC) requestEvidence(r *http.Request) (any, error) {
	var q mocapi.EvidenceRequest
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil || len(q.Nonce) != mocapi.NonceSize {
		return nil, fault.New(fault.BadRequest, "a nonce of %d bytes is needed", mocapi.NonceSize)
	}
	id := fmt.Sprintf("e-%d", len(m.requests)+1)
	m.requests[id] = q.Nonce
	return mocapi.EvidenceRequested{ID: id}, nil
}

func (m *fakeMOC) evidence(r *http.Request) (any, error) {
	nonce := m.requests[r.PathValue("req")]
	if m.staleNonce {
		nonce = bytes.Repeat([]byte{7}, 32)
	}
	tam := [32]byte{1, 2, 3}
	bundle, err := m.bundle(evidence.MixChallenge(tam, [32]byte(nonce)))
	if err != nil {
		return nil, err
	}
	return mocapi.Evidence{ID: r.PathValue("req"), Ready: true, Bundle: bundle, TAMNonce: tam[:], AgentKey: m.agentKey, Time: time.Now()}, nil
}

// bundle is Evidence over a challenge.
func (m *fakeMOC) bundle(challenge []byte) ([]byte, error) {
	c := evidence.Claims{Nonce: challenge, UEID: m.device.InstanceID[:], OEMID: []byte{1, 2, 3},
		HWModel: []byte("model"), HWVersion: "1", AgentEncKey: public(m.t, m.agentEnc.Public())}
	if ta, ok := m.taClaim(); ok {
		c.TAs = append(c.TAs, ta)
	}
	if m.beside != nil {
		c.TAs = append(c.TAs, evidence.TAClaim{Component: suit.NewComponentID("tee", "other", "ta"), Digest: suit.SHA256([]byte("other")), Sequence: 1,
			Signer: m.beside.KID(), EncKey: public(m.t, newP256(m.t).Public()), TLSKey: public(m.t, newP256(m.t).Public())})
	}
	bundle, err := evidence.Collect(c, "emu:trustzone", m.agentKey, m.config.Marshal(), func(b [64]byte) (evidence.HardwareEvidence, error) {
		return m.device.Evidence(rand.Reader, emuroot.Request{Binding: b, Launch: m.agent[:], Config: m.config.Digest()})
	})
	if err != nil {
		return nil, err
	}
	if m.flipBit {
		parsed, err := evidence.ParseBundle(bundle)
		must(m.t, err)
		parsed.Hardware[len(parsed.Hardware)-1] ^= 1
		bundle = parsed.Marshal()
	}
	return bundle, nil
}

// taClaim describes the TA as the Agent would: from the package that was deployed or, in a bundle, released.
func (m *fakeMOC) taClaim() (evidence.TAClaim, bool) {
	ta := evidence.TAClaim{Component: suit.NewComponentID("tee", m.dep.App, "ta"), Signer: m.dep.OwnerKey.KID(),
		EncKey: public(m.t, m.taEnc.Public()), TLSKey: public(m.t, m.taTLS.Public())}
	mode := usecase.Mode(m.dep.Mode)
	for _, p := range m.dep.Packages {
		if p.Role == mocapi.PackageUA || mode == usecase.ModeBundleUAPD && len(m.appraisals) == 0 { // the TA comes after the first one
			continue
		}
		manifest := m.manifest(p)
		for _, c := range manifest.Shared { // the TA is the last program
			if d, ok := c.Params.Digest(); ok {
				ta.Digest = d
			}
		}
		ta.Sequence = manifest.Sequence
	}
	if len(m.releases) > 0 && ta.Sequence == 0 {
		ta.Digest, ta.Sequence = suit.SHA256(taBinary(m.t)), m.manifest(m.releases[0].Packages[0]).Sequence
	}
	if m.changeTA != nil {
		m.changeTA(&ta)
	}
	return ta, ta.Sequence != 0
}

// layers reads a package the way an M/OC does: its envelope, then its payloads.
func (m *fakeMOC) layers(p mocapi.PackageRef) [][]byte {
	pkg, err := m.artifacts.Package(p.Repository, p.Digest)
	must(m.t, err)
	out := [][]byte{pkg.Envelope}
	for _, l := range pkg.Payloads {
		f, err := m.artifacts.OpenBlob(l.Digest)
		must(m.t, err)
		data, err := io.ReadAll(f)
		must(m.t, err)
		f.Close()
		out = append(out, data)
	}
	return out
}

func (m *fakeMOC) manifest(p mocapi.PackageRef) *suit.Manifest {
	e, err := suit.ParseEnvelope(m.layers(p)[0])
	must(m.t, err)
	v, err := e.Verify([]*cose.Key{m.dep.OwnerKey}, suit.VerifyOptions{})
	must(m.t, err)
	return v.Manifest
}

func (m *fakeMOC) appraisal(r *http.Request) (any, error) {
	var q mocapi.AppraisalRequest
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		return nil, err
	}
	m.appraisals = append(m.appraisals, q)
	if usecase.Mode(m.dep.Mode) == usecase.ModeBundleUAPD && len(m.appraisals) == 1 {
		for _, s := range m.dep.Plan[1:3] { // attest; the TA comes
			m.dep.Trace = append(m.dep.Trace, mocapi.TraceStep{Step: s, Time: time.Now()})
		}
		m.dep.Version++
	}
	if m.otherAgent {
		_, m.dep.AgentKey = newKey(m.t, cose.AlgESP256)
	}
	return mocapi.Appraisal{ID: fmt.Sprintf("a-%d", len(m.appraisals)), Evidence: q.Evidence, Positive: true, Time: time.Now()}, nil
}

func (m *fakeMOC) release(r *http.Request) (any, error) {
	var q mocapi.ReleaseRequest
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		return nil, err
	}
	m.releases = append(m.releases, q)
	if len(q.Live) > 0 { // the Agent will say when it is done
		m.dep.State = mocapi.StateAwaitingDelivery
		m.dep.Version++
		return mocapi.Release{ID: "r-1", Appraisal: q.Appraisal, Packages: q.Packages, Time: time.Now()}, nil
	}
	return m.done(q)
}

// done lets the deployment run.
func (m *fakeMOC) done(q mocapi.ReleaseRequest) (any, error) {
	m.dep.State = mocapi.StateRunning
	m.dep.Version++
	m.dep.Trace = nil
	for _, s := range m.dep.Plan {
		m.dep.Trace = append(m.dep.Trace, mocapi.TraceStep{Step: s, Time: time.Now()})
	}
	return mocapi.Release{ID: "r-1", Appraisal: q.Appraisal, Packages: q.Packages, Time: time.Now()}, nil
}

func newKey(t *testing.T, alg cose.Algorithm) (crypto.Signer, *cose.Key) {
	t.Helper()
	priv, err := cose.GenerateKey(alg, rand.Reader)
	must(t, err)
	return priv, public(t, priv.Public())
}

func newP256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	priv, _ := newKey(t, cose.AlgESP256)
	return priv.(*ecdsa.PrivateKey)
}

func public(t *testing.T, pub crypto.PublicKey) *cose.Key {
	t.Helper()
	k, err := cose.NewKey(pub)
	must(t, err)
	return k
}

// teeKeys opens what is encrypted to one key inside the TEE.
type teeKeys struct{ key *ecdsa.PrivateKey }

func (k teeKeys) ECDH([]byte) []*ecdh.PrivateKey {
	priv, err := k.key.ECDH()
	if err != nil {
		return nil
	}
	return []*ecdh.PrivateKey{priv}
}
func (teeKeys) KEK([]byte) [][]byte { return nil }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func hasText(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the error is %v, want one with %q", err, want)
	}
}
