// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rand"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/agent"
	"sealift/internal/agent/runner"
	"sealift/internal/agent/vault"
	"sealift/internal/agent/vault/crashfs"
	"sealift/internal/agentconfig"
	"sealift/internal/channel"
	"sealift/suit"
	"sealift/suit/report"
	"sealift/teep"
)

// world is one deployment: an Agent with everything around it.
type world struct {
	t      testing.TB
	dir    string
	pki    *emuroot.PKI
	tee    *fakeTEE
	fs     *crashfs.FS
	store  vault.FS // in its place, if not nil
	memory uint64   // that the instance has
	app    string   // what manifests are made for; "app" if empty
	ree    *fakeREE
	start  *programs
	agent  *agent.Agent
	client *channel.AgentClient

	tam, owner, stranger cose.Signer
	ownerKey             crypto.Signer
	agentKey             *cose.Key
	tokens               byte
}

func (w *world) application() string { return cmp.Or(w.app, "app") }

func newSigner(t testing.TB, alg cose.Algorithm) (cose.Signer, crypto.Signer) {
	t.Helper()
	key, err := cose.GenerateKey(alg, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cose.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s, key
}

// newWorld makes a deployment of application "app"; change may alter its configuration.
func newWorld(t testing.TB, change func(*agentconfig.Config)) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), fs: crashfs.New(), ree: newREE(), start: newPrograms()}
	w.tam, _ = newSigner(t, cose.AlgEd25519)
	w.owner, w.ownerKey = newSigner(t, cose.AlgESP256)
	w.stranger, _ = newSigner(t, cose.AlgESP256)
	cfg := agentconfig.Config{
		Version: agentconfig.Version, Deployment: "d1", Hardware: "trustzone", Instance: "process",
		TAMKeys: []*cose.Key{w.tam.Key()}, TAMURI: "http://tam.invalid/d1",
		Owners: []agentconfig.Owner{{Key: w.owner.Key(), App: "app"}},
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if w.pki, err = emuroot.New(rand.Reader, evidence.TrustZone, time.Now()); err != nil {
		t.Fatal(err)
	}
	device, err := w.pki.NewDevice(rand.Reader, "device")
	if err != nil {
		t.Fatal(err)
	}
	w.tee = &fakeTEE{device: device, config: cfg.Marshal(), fs: w.fs}
	w.boot()
	t.Cleanup(w.kill)
	return w
}

// boot starts the Agent and attaches the Broker.
func (w *world) boot() {
	w.t.Helper()
	if err := w.tryBoot(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) tryBoot() (err error) {
	store := vault.FS(w.fs)
	if w.store != nil {
		store = w.store
	}
	w.agent, err = agent.New(w.t.Context(), agent.Options{
		TEE: w.tee, Store: store, Memory: w.memory,
		Runner: runner.Options{
			Launcher: w.start, Dir: w.dir, MinBackOff: time.Millisecond, MaxBackOff: time.Millisecond, MaxEnds: 3,
			ReadyTimeout: 5 * time.Second,
		},
	})
	if err != nil {
		return err
	}
	w.attach()
	return nil
}

func (w *world) attach() {
	w.t.Helper()
	a, b := net.Pipe()
	if err := w.agent.Attach(a); err != nil {
		w.t.Fatal(err)
	}
	var err error
	if w.client, err = channel.ServeBroker(b, w.ree); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) kill() {
	if w.agent != nil {
		w.agent.Close()
		w.client.Close()
		w.agent = nil
	}
}

// reboot is a loss of power.
func (w *world) reboot(keep bool) {
	w.t.Helper()
	w.kill()
	w.fs = w.fs.Reboot(keep)
	w.tee.fs = w.fs
	w.boot()
}

// exchange sends a message as the TAM and returns the Agent's answer.
func (w *world) exchange(m teep.Message) (teep.Message, error) {
	data, err := teep.Sign(rand.Reader, w.tam, m)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.send(data)
}

func (w *world) send(data []byte) (teep.Message, error) {
	w.t.Helper()
	reply, err := w.client.ProcessTeepMessage(w.t.Context(), "http://tam.invalid/d1", data)
	if err != nil {
		return nil, err
	}
	signed, err := teep.Parse(reply)
	if err != nil {
		w.t.Fatalf("the answer: %v", err)
	}
	if w.agentKey == nil {
		w.agentKey = w.claimedKey(signed)
	}
	v, err := signed.Verify([]*cose.Key{w.agentKey}, teep.Options{})
	if err != nil {
		w.t.Fatalf("the answer: %v", err)
	}
	return v.Message, nil
}

// claimedKey takes the key of a new Agent from its first QueryResponse, as a TAM does.
func (w *world) claimedKey(signed *teep.Signed) *cose.Key {
	w.t.Helper()
	m, err := signed.MessageInsecure()
	if err != nil {
		w.t.Fatal(err)
	}
	r, ok := m.(*teep.QueryResponse)
	if !ok {
		w.t.Fatalf("the first message of the Agent is a %v: %+v", m.Type(), m)
	}
	i := slices.IndexFunc(r.Extensions, func(o teep.Option) bool { return o.Label == agentconfig.AgentKeyOption })
	if i < 0 {
		w.t.Fatal("the Agent does not tell its key")
	}
	key, err := cose.ParseKey(r.Extensions[i].Value)
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

func (w *world) token() []byte {
	w.tokens++
	return bytes.Repeat([]byte{w.tokens}, 16)
}

// attest asks for Evidence and the tc-list, verifies the former and returns both.
func (w *world) attest() (*evidence.Verified, *teep.QueryResponse) {
	w.t.Helper()
	var nonce [32]byte
	rand.Read(nonce[:])
	challenge := evidence.MixChallenge(nonce, [32]byte{})
	m, err := w.exchange(&teep.QueryRequest{
		Challenge: challenge, CipherSuites: teep.DefaultCipherSuites, SUITProfiles: teep.DefaultSUITProfiles,
		DataItems: teep.ItemAttestation | teep.ItemTrustedComponents,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	r, ok := m.(*teep.QueryResponse)
	if !ok {
		w.t.Fatalf("answer: %+v", m)
	}
	v, err := evidence.Verify(r.AttestationPayload, evidence.Input{
		Challenge: challenge, AgentKey: w.agentKey, Anchors: evidence.Anchors{Roots: []evidence.Anchor{w.pki.Anchor()}}, Now: time.Now(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return v, r
}

// installed returns the tc-list in printed form.
func (w *world) installed() string {
	w.t.Helper()
	_, r := w.attest()
	var ids []string
	for _, p := range r.TCList {
		ids = append(ids, p.Component.String())
	}
	return strings.Join(ids, " ")
}

// update sends manifests and returns the answer.
func (w *world) update(envelopes ...[]byte) teep.Message {
	w.t.Helper()
	m, err := w.exchange(&teep.Update{Token: w.token(), ManifestList: envelopes})
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func (w *world) remove(ids ...suit.ComponentID) teep.Message {
	w.t.Helper()
	m, err := w.exchange(&teep.Update{Token: w.token(), UnneededManifestList: ids})
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// succeeds fails the test unless m is a Success with one good report for each manifest, tied to the Update's token.
func (w *world) succeeds(m teep.Message, reports int) {
	w.t.Helper()
	s, ok := m.(*teep.Success)
	if !ok {
		w.t.Fatalf("answer: %+v", m)
	}
	if len(s.SUITReports) != reports || !bytes.Equal(s.Token, bytes.Repeat([]byte{w.tokens}, 16)) {
		w.t.Fatalf("%d reports, token %x", len(s.SUITReports), s.Token)
	}
	for _, data := range s.SUITReports {
		rep, err := report.Open(data, report.Keys{Signers: []*cose.Key{w.agentKey}, Plain: true})
		if err != nil || !rep.OK() || !bytes.Equal(rep.Nonce, s.Token) {
			w.t.Fatalf("report %+v: %v", rep, err)
		}
	}
}

// fails fails the test unless m is ERR_MANIFEST_PROCESSING_FAILED with a report of that reason and a message that holds text.
func (w *world) fails(m teep.Message, reason report.Reason, text string) {
	w.t.Helper()
	e, ok := m.(*teep.Error)
	if !ok || e.Code != teep.ErrCodeManifestProcessingFailed {
		w.t.Fatalf("answer: %+v", m)
	}
	if len(e.Msg) > 128 || !strings.Contains(e.Msg, text) {
		w.t.Fatalf("message %q", e.Msg)
	}
	if len(e.SUITReports) == 0 {
		w.t.Fatalf("no report: %+v", e)
	}
	rep, err := report.Open(e.SUITReports[len(e.SUITReports)-1], report.Keys{Signers: []*cose.Key{w.agentKey}, Plain: true})
	if err != nil || rep.OK() || rep.Failure.Reason != reason || !bytes.Equal(rep.Nonce, e.Token) {
		w.t.Fatalf("report %+v (%v), %v: %s", rep, rep.Failure, err, e.Msg)
	}
}

// eventually waits for something that happens in another goroutine.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never")
		}
	}
}
