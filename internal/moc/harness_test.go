// SPDX-License-Identifier: Apache-2.0

package moc_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/fault"
	"sealift/internal/moc"
	"sealift/internal/moc/load"
	"sealift/internal/moc/mocapi"
	"sealift/suit"
	"sealift/teep"
	"sealift/teep/teephttp"
)

// world is a served M/OC with a played device.
type world struct {
	t      *testing.T
	ctx    context.Context
	pki    *emuroot.PKI
	dir    string
	addr   string
	server *moc.Server
	stop   func()
	change func(*moc.Config) // before each start

	owner, other, device, operator *mocapi.Client
	signer                         cose.Signer
	policy                         *appraisal.Policy // the owner's
}

func newWorld(t *testing.T) *world {
	t.Helper()
	pki, err := emuroot.New(rand.Reader, evidence.TrustZone, time.Now())
	must(t, err)
	key, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	must(t, err)
	signer, err := cose.NewSigner(key)
	must(t, err)
	w := &world{t: t, ctx: t.Context(), pki: pki, dir: t.TempDir(), signer: signer}
	w.policy, err = load.Operator(pki)
	must(t, err)
	w.start()
	t.Cleanup(func() { w.stop() })
	client := func(role mocapi.Role, name string) *mocapi.Client {
		token, err := w.server.Token(w.ctx, mocapi.Identity{Role: role, Name: name})
		must(t, err)
		return &mocapi.Client{BaseURL: "http://" + w.addr, Token: token}
	}
	w.owner, w.other = client(mocapi.RoleOwner, "alpha"), client(mocapi.RoleOwner, "beta")
	w.device, w.operator = client(mocapi.RoleDevice, "d1"), client(mocapi.RoleOperator, "op")
	return w
}

// start serves the M/OC at the address it had before, if it had one.
func (w *world) start() {
	w.t.Helper()
	at := w.addr
	if at == "" {
		at = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", at)
	must(w.t, err)
	w.addr = ln.Addr().String()
	policy, err := load.Operator(w.pki)
	must(w.t, err)
	config := moc.Config{Dir: w.dir, URL: "http://" + w.addr, Policy: policy,
		Anchors: evidence.Anchors{Roots: []evidence.Anchor{w.pki.Anchor()}}, Version: "test"}
	if w.change != nil {
		w.change(&config)
	}
	w.server, err = moc.Open(config)
	must(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.server.Serve(ctx, ln, nil) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("serving: %v", err)
		}
		if err := w.server.Close(); err != nil {
			w.t.Errorf("closing: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	}
}

func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

func (w *world) announce(instances ...mocapi.InstanceStatus) {
	w.t.Helper()
	a := load.Announcement(w.pki, "b1", 4)
	a.Instances = append(a.Instances, instances...)
	must(w.t, w.device.Announce(w.ctx, "d1", a))
}

// push makes and pushes a package with one component.
func (w *world) push(role string, sequence uint64, id suit.ComponentID, payload string) mocapi.PackageRef {
	w.t.Helper()
	app := string(id[1])
	envelope, err := load.Manifest(w.signer, app, role, id, sequence, []byte(payload))
	must(w.t, err)
	ref, err := load.Push(w.ctx, w.owner, role, "alpha/"+app+"/"+role, envelope, []byte(payload))
	must(w.t, err)
	return ref
}

func (w *world) ta(sequence uint64) mocapi.PackageRef {
	w.t.Helper()
	return w.push("ta", sequence, suit.NewComponentID("tee", "app", "ta"), "a TA")
}

func (w *world) request() mocapi.DeploymentRequest {
	w.t.Helper()
	return mocapi.DeploymentRequest{App: "app", Mode: "ta,pd", OwnerKey: w.signer.Key(), Packages: []mocapi.PackageRef{w.ta(1)}}
}

// deploy announces the device, makes a deployment and plays its Agent.
func (w *world) deploy() (*mocapi.Deployment, *load.Agent) {
	w.t.Helper()
	w.announce()
	d, err := w.owner.CreateDeployment(w.ctx, w.request())
	must(w.t, err)
	a, err := load.NewAgent(w.pki, d.Config)
	must(w.t, err)
	return d, a
}

// session runs a TEEP session as the Broker does.
func (w *world) session(a *load.Agent) {
	w.t.Helper()
	must(w.t, new(teephttp.Client).Session(w.ctx, a.TAMURI, a, nil))
}

func (w *world) get(id string) *mocapi.Deployment {
	w.t.Helper()
	d, err := w.owner.Deployment(w.ctx, id, 0, 0)
	must(w.t, err)
	return d
}

// evidence asks for Evidence and has the Agent give it.
func (w *world) evidence(id string, a *load.Agent) (*mocapi.Evidence, [32]byte) {
	w.t.Helper()
	var nonce [32]byte
	rand.Read(nonce[:])
	request, err := w.owner.RequestEvidence(w.ctx, id, nonce[:])
	must(w.t, err)
	w.session(a)
	e, err := w.owner.Evidence(w.ctx, id, request, time.Second)
	must(w.t, err)
	if !e.Ready {
		w.t.Fatal("no Evidence")
	}
	return e, nonce
}

// appraise judges Evidence as the owner does and returns the signed result.
func (w *world) appraise(e *mocapi.Evidence, nonce [32]byte, signer cose.Signer) []byte {
	w.t.Helper()
	var tamNonce [32]byte
	copy(tamNonce[:], e.TAMNonce)
	bundle, err := evidence.ParseBundle(e.Bundle)
	must(w.t, err)
	config := sha256.Sum256(bundle.Config)
	result, v := appraisal.AppraiseBundle(e.Bundle, evidence.Input{Challenge: evidence.MixChallenge(tamNonce, nonce), AgentKey: e.AgentKey,
		Anchors: evidence.Anchors{Roots: []evidence.Anchor{w.pki.Anchor()}}, Now: time.Now()}, w.policy, appraisal.Expect{ConfigDigest: &config, ConfigSource: "the test"})
	if v == nil {
		w.t.Fatalf("the Evidence does not verify: %v", result.Failed())
	}
	data, err := appraisal.Issue(rand.Reader, signer, result, v, time.Now(), time.Hour)
	must(w.t, err)
	return data
}

// steps are the names in a trace.
func steps(d *mocapi.Deployment) (out []string) {
	for _, s := range d.Trace {
		out = append(out, string(s.Step.Step))
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if !fault.Is(err, code) {
		t.Errorf("got %v, want the fault %s", err, code)
	}
}

// post sends raw bytes and returns the status and the problem's code.
func (w *world) post(c *mocapi.Client, path, contentType string, body []byte) *http.Response {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.ctx, http.MethodPost, c.BaseURL+path, bytes.NewReader(body))
	must(w.t, err)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	resp, err := http.DefaultClient.Do(req)
	must(w.t, err)
	w.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func announcementOf(w *world) mocapi.Announcement { return load.Announcement(w.pki, "b1", 4) }

// tap is an Agent whose messages are kept.
type tap struct {
	*load.Agent
	sent [][]byte
}

func (p *tap) ProcessTeepMessage(ctx context.Context, msg []byte) ([]byte, error) {
	out, err := p.Agent.ProcessTeepMessage(ctx, msg)
	p.sent = append(p.sent, out)
	return out, err
}

func (w *world) play(p *tap) {
	w.t.Helper()
	must(w.t, new(teephttp.Client).Session(w.ctx, p.TAMURI, p, nil))
}

// message sends one TEEP message and returns the answer.
func (w *world) message(uri string, msg []byte) []byte {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.ctx, http.MethodPost, uri, bytes.NewReader(msg))
	must(w.t, err)
	req.Header.Set("Accept", teep.MediaType)
	if len(msg) > 0 {
		req.Header.Set("Content-Type", teep.MediaType)
	}
	resp, err := http.DefaultClient.Do(req)
	must(w.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(w.t, err)
	return data
}

func reversed(list [][]byte) [][]byte {
	out := slices.Clone(list)
	slices.Reverse(out)
	return out
}

// dump is the database with its journal, hashed.
func (w *world) dump() string {
	w.t.Helper()
	h := sha256.New()
	for _, name := range []string{"moc.db", "moc.db-wal"} {
		data, err := os.ReadFile(filepath.Join(w.dir, name))
		must(w.t, err)
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func b64(payload string) string {
	sum := sha256.Sum256([]byte(payload))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
