// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/agentconfig"
	"sealift/internal/channel"
	"sealift/internal/delivery"
	"sealift/internal/launch"
	"sealift/internal/owner/manifest"
	"sealift/usecase"
)

// session is an owner's delivery. Its payloads are those that the test offers, and never reach the Broker.
type session struct {
	name   string           // of the TA; empty: the Agent
	pinned *cose.Key        // that the session has to end at
	as     *tls.Certificate // the owner's by default
	curves []tls.CurveID
	cut    int64 // the connection breaks after so many bytes from the owner; 0: never

	asked int // payloads that the Agent has asked for
}

var errPinned = errors.New("another key than the pinned one")

// deliver delivers an envelope.
func (w *world) deliver(s *session, envelope []byte) (delivery.Outcome, error) {
	w.t.Helper()
	payloads := w.ree.payloads
	w.ree.payloads = map[string][]byte{}
	defer func() { w.ree.payloads = payloads }()
	raw, err := w.client.Connect(w.t.Context(), w.application(), s.name+delivery.Suffix)
	if err != nil {
		return delivery.Outcome{}, err
	}
	defer raw.Close()
	if s.cut > 0 {
		raw = &cutConn{raw, s.cut}
	}
	as := s.as
	if as == nil {
		as = certificate(w.t, w.ownerKey, w.ownerKey.Public())
	}
	conn := tls.Client(raw, &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{delivery.ALPN}, InsecureSkipVerify: true,
		Certificates: []tls.Certificate{*as}, CurvePreferences: s.curves, VerifyConnection: func(cs tls.ConnectionState) error {
			if got, err := cose.NewKey(cs.PeerCertificates[0].PublicKey); err != nil || !got.Equal(s.pinned) {
				return errPinned
			}
			return nil
		}})
	if err := conn.Handshake(); err != nil {
		return delivery.Outcome{}, err
	}
	appraise := func(bundle, challenge []byte) error {
		_, err := evidence.Verify(bundle, evidence.Input{Challenge: challenge, AgentKey: w.agentKey,
			Anchors: evidence.Anchors{Roots: []evidence.Anchor{w.pki.Anchor()}}, Now: time.Now()})
		return err
	}
	return delivery.Deliver(conn, appraise, delivery.Package{Envelope: envelope, Open: func(uri string) (io.ReadCloser, int64, error) {
		s.asked++
		data, ok := payloads[uri]
		if !ok {
			return nil, 0, delivery.ErrNotOffered
		}
		return io.NopCloser(bytes.NewReader(data)), int64(len(data)), nil
	}})
}

// cutConn breaks when its bytes are used up.
type cutConn struct {
	net.Conn
	left int64
}

func (c *cutConn) Write(p []byte) (int, error) {
	if c.left -= int64(len(p)); c.left < 0 {
		c.Close()
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

// delivers fails the test unless the envelope is installed.
func (w *world) delivers(s *session, envelope []byte) {
	w.t.Helper()
	if out, err := w.deliver(s, envelope); err != nil || out.Code != delivery.Installed {
		w.t.Fatalf("%+v, %v", out, err)
	}
}

// blobNames lists the files of the sealed store.
func (w *world) blobNames() string {
	var names []string
	for name := range w.fs.Files() {
		if strings.HasPrefix(name, "blobs/") {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// TestDeliverPD is ta,pd with the delivery channel: PD comes to the TA's own key, works, lies in no file, and is gone after a restart, until
// its owner delivers it again. An older one is not taken then.
func TestDeliverPD(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	ta := w.program(usecase.TA, 1, "echo v1", anyone)
	w.succeeds(w.update(ta), 1)
	claim, files := w.claim(), w.blobs()
	first := w.data(1, "first rows", claim.EncKey, ta)
	second := w.release(2, w.large(bytes.Repeat([]byte("secret row "), 400_000), claim.EncKey), ta)
	s := &session{name: "ta", pinned: claim.TLSKey}
	w.delivers(s, first)
	w.asks("?", "rows=first rows|echo v1|?")
	w.delivers(s, second)
	if s.asked != 2 {
		t.Errorf("%d payloads were asked for", s.asked)
	}
	w.delivers(s, second) // its answer may have been lost
	if s.asked != 2 {
		t.Error("what is installed was asked for again")
	}
	if got, err := w.call(claim.TLSKey, nil, "?"); err != nil || !strings.HasPrefix(got, "rows=secret row secret row ") {
		t.Fatalf("%.60q, %v", got, err)
	}
	const all = "manifest/app/ta tee/app/ta manifest/app/pd pd/app/rows"
	if got := w.installed(); got != all {
		t.Fatal(got)
	}
	if w.blobs() != files || w.ree.fetches != 1 {
		t.Fatalf("%d files, %d before; the Broker was asked for %d payloads", w.blobs(), files, w.ree.fetches)
	}
	w.nothingIn("secret row")

	w.reboot(false)
	if got := w.installed(); got != "manifest/app/ta tee/app/ta" {
		t.Fatal(got)
	}
	w.asks("?", "|echo v1|?")
	if out, err := w.deliver(s, first); err != nil || out.Code != delivery.RolledBack {
		t.Fatalf("an older package: %+v, %v", out, err)
	}
	w.delivers(s, second)
	if got := w.installed(); got != all {
		t.Fatal(got)
	}
	w.succeeds(w.remove(manifest.ID("app", "ta")), 1)
	if got := w.installed(); got != "" {
		t.Fatal(got)
	}
}

// TestDeliverBundle is ua+ta+pd with the delivery channel: it comes to the Agent's key. The UA goes out, and after a restart it is
// removed from the REE with all the rest.
func TestDeliverBundle(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		w := newWorld(t, func(c *agentconfig.Config) { c.SigningAlg = alg })
		to := w.agentEncKey()
		ta, ua := anyone, launch.Spec{}
		bundle := func(sequence uint64) []byte {
			return w.sign(w.sealedBuilder(manifest.Sealed{Role: manifest.RoleBundle, Sequence: sequence, Items: []manifest.Item{
				w.item(usecase.TA, "ta", "echo b", to, &ta), w.item(usecase.PD, "rows", "secret rows", to, nil),
				w.item(usecase.UA, "ua", "the server", to, &ua)}}), w.owner)
		}
		for sequence := range uint64(2) {
			w.delivers(&session{pinned: w.agentKey}, bundle(sequence+1))
			w.asks("?", "rows=secret rows|echo b|?")
			if got := w.installed(); got != "manifest/app/bundle tee/app/ta pd/app/rows ree/app/ua" || w.ree.running["ree/app/ua"] == nil {
				t.Fatal(got)
			}
			if w.blobs() != 0 {
				t.Fatal("files: " + w.blobNames())
			}
			if sequence == 0 { // its owner stops it, and consents by delivering it again
				if state := w.heldAs(certificate(t, w.ownerKey, w.ownerKey.Public()), agentconfig.DeskHold); state != channel.TAHeld {
					t.Fatalf("the hold is answered with %q", state)
				}
			}
			w.reboot(true)
			if got := w.installed(); got != "" || len(w.ree.store) != 0 {
				t.Fatalf("after a restart: %s, in the REE %v", got, w.ree.store)
			}
		}
	}
}

// TestDeliverToCandidate: a newer TA that waits for its PD gets it at its own key.
func TestDeliverToCandidate(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	v1 := w.program(usecase.TA, 1, "echo v1", anyone)
	w.succeeds(w.update(v1), 1)
	w.delivers(&session{name: "ta", pinned: w.claim().TLSKey}, w.data(1, "rows of v1", w.claim().EncKey, v1))
	v2 := w.program(usecase.TA, 2, "echo v2", anyone)
	w.succeeds(w.update(v2), 1)
	next := w.candidate()
	s := &session{name: "ta+" + agentconfig.CandidateSegment, pinned: next.TLSKey}
	w.delivers(s, w.data(2, "rows of v2", next.EncKey, v2))
	w.asks("?", "rows=rows of v2|echo v2|?")
	w.reboot(true)
	w.asks("?", "|echo v2|?")
}

// TestDeliverRefused: what does not belong into a session changes nothing, and draws no payload from the owner.
func TestDeliverRefused(t *testing.T) {
	w := newWorld(t, func(c *agentconfig.Config) { c.Limits.LiveBytes = 64 })
	w.attest()
	ta, other := w.program(usecase.TA, 1, "echo v1", anyone), w.program(usecase.TA, 1, "echo other", anyone)
	w.succeeds(w.update(ta), 1)
	claim, agent := w.claim(), w.agentEncKey()
	data := w.data(1, "secret rows", claim.EncKey, ta)
	forOther := w.data(1, "secret rows", claim.EncKey, other)
	bundle := w.uaPD(1, agent, agent, ta)
	long := w.data(1, strings.Repeat("secret rows ", 10), claim.EncKey, ta)
	_, strange := newSigner(t, cose.AlgESP256)
	stranger := certificate(t, strange, strange.Public())
	by := w.owner
	w.owner = w.stranger
	forged := w.data(1, "secret rows", claim.EncKey, ta)
	w.owner = by
	toTA, toAgent := session{name: "ta", pinned: claim.TLSKey}, session{pinned: w.agentKey}
	for name, c := range map[string]struct {
		s     session
		env   []byte
		code  string // of the outcome; empty: there is none
		asked int
	}{
		"a stranger":                  {session{name: "ta", pinned: claim.TLSKey, as: stranger}, data, "", 0},
		"the Agent's key at the TA":   {session{name: "ta", pinned: w.agentKey}, data, "", 0},
		"the TA's key at the Agent":   {session{pinned: claim.TLSKey}, data, "", 0},
		"no hybrid key agreement":     {session{name: "ta", pinned: claim.TLSKey, curves: []tls.CurveID{tls.X25519}}, data, "", 0},
		"no such TA":                  {session{name: "tb", pinned: claim.TLSKey}, data, "", 0},
		"no candidate":                {session{name: "ta+next", pinned: claim.TLSKey}, data, "", 0},
		"a stranger's package":        {toTA, forged, delivery.Refused, 0},
		"garbage":                     {toTA, []byte("garbage"), delivery.Refused, 0},
		"for another TA":              {toTA, forOther, delivery.Refused, 0},
		"a bundle at the TA":          {toTA, bundle, delivery.Refused, 0},
		"the TA's PD at the Agent":    {toAgent, data, delivery.Refused, 0},
		"more than memory is for":     {toTA, long, delivery.Refused, 1},
		"cut before the offer":        {session{name: "ta", pinned: claim.TLSKey, cut: 2500}, data, "", 0},
		"an envelope that is too big": {toTA, make([]byte, 2<<20), delivery.Refused, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.unchanged(func() {
				out, err := w.deliver(&c.s, c.env)
				if (err == nil) != (c.code != "") || out.Code != c.code || c.s.asked != c.asked {
					t.Fatalf("outcome %+v, %v; %d payloads were asked for", out, err, c.s.asked)
				}
			})
		})
	}
	w.t = t
	w.delivers(&toTA, data)
	w.asks("?", "rows=secret rows|echo v1|?")
}

// TestDeliverCut: the connection breaks anywhere, and the Agent is where it was or has all of it; trying again is right in either case.
func TestDeliverCut(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	ta := w.program(usecase.TA, 1, "echo v1", anyone)
	w.succeeds(w.update(ta), 1)
	claim, files := w.claim(), len(w.fs.Files())
	env := w.release(1, w.large(bytes.Repeat([]byte("secret row "), 50_000), claim.EncKey), ta)
	before := w.installed()
	for cut := int64(1500); ; cut += 40_000 {
		out, err := w.deliver(&session{name: "ta", pinned: claim.TLSKey, cut: cut}, env)
		if err == nil && out.Code == delivery.Installed {
			if cut < 500_000 {
				t.Fatalf("delivered in %d bytes", cut)
			}
			break
		}
		// The Agent may still be finding out.
		eventually(t, func() bool { return w.installed() == before && len(w.fs.Files()) == files })
	}
	if got, err := w.call(claim.TLSKey, nil, "?"); err != nil || !strings.HasPrefix(got, "rows=secret row ") {
		t.Fatalf("%.60q, %v", got, err)
	}
}

// TestDeliverOnRequest: where the UA has its TA loaded (SGX), a TA that its owner delivers waits for that.
func TestDeliverOnRequest(t *testing.T) {
	w := newWorld(t, func(c *agentconfig.Config) { c.TAOnRequest = true })
	to := w.agentEncKey()
	spec := anyone
	env := w.sign(w.sealedBuilder(manifest.Sealed{Role: manifest.RoleBundle, Sequence: 1, Items: []manifest.Item{
		w.item(usecase.TA, "ta", "echo b", to, &spec), w.item(usecase.PD, "rows", "secret rows", to, nil)}}), w.owner)
	s := &session{pinned: w.agentKey}
	if out, err := w.deliver(s, env); err != nil || out.Code != delivery.Failed || s.asked != 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	if _, err := w.client.RequestTA(t.Context(), taID, ""); err != nil {
		t.Fatal(err)
	}
	w.delivers(s, env)
	w.asks("?", "rows=secret rows|echo b|?")
	w.reboot(true)
	w.delivers(s, env) // its UA has asked once
	w.asks("?", "rows=secret rows|echo b|?")
}

// TestDeliverSeveralOwners: who may open a session of an application may not bring what another owner of it has signed.
func TestDeliverSeveralOwners(t *testing.T) {
	second, key := newSigner(t, cose.AlgEd25519)
	w := newWorld(t, func(c *agentconfig.Config) {
		c.Owners = append(c.Owners, agentconfig.Owner{Key: second.Key(), App: "app"}, agentconfig.Owner{Key: second.Key(), App: "more"})
	})
	w.attest()
	ta := w.program(usecase.TA, 1, "echo v1", anyone)
	w.succeeds(w.update(ta), 1)
	claim := w.claim()
	data := w.data(1, "secret rows", claim.EncKey, ta)
	s := &session{name: "ta", pinned: claim.TLSKey, as: certificate(t, key, key.Public())}
	if out, err := w.deliver(s, data); err != nil || out.Code != delivery.Refused || s.asked != 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	w.app = "none"
	if _, err := w.deliver(&session{pinned: w.agentKey}, data); !errors.Is(err, channel.ErrNotFound) {
		t.Fatalf("an application that is nobody's: %v", err)
	}
}

// TestPowerCutOfDelivery lets the power fail at each operation on the disk, the counter and in the REE while an owner delivers a set. Whenever
// it was, the next start has nothing of it, in the TEE or in the REE, and the same package can be delivered again.
func TestPowerCutOfDelivery(t *testing.T) {
	w := newWorld(t, nil)
	to := w.agentEncKey()
	ta, ua := anyone, launch.Spec{}
	bundle := w.sign(w.sealedBuilder(manifest.Sealed{Role: manifest.RoleBundle, Sequence: 1, Items: []manifest.Item{
		w.item(usecase.TA, "ta", "echo b", to, &ta), w.item(usecase.PD, "rows", "secret rows", to, nil),
		w.item(usecase.UA, "ua", "the server", to, &ua)}}), w.owner)
	s := &session{pinned: w.agentKey}
	w.kill()
	start := w.snapshot()
	for dieAt, survived := 1, false; !survived; dieAt++ {
		for _, keep := range []bool{false, true} {
			w.restore(start)
			w.ree.power, w.fs.DieAt = w.fs, w.fs.Ops()+dieAt
			_, _ = w.deliver(s, bundle) // nobody may hear the outcome
			survived = w.fs.Ops() < w.fs.DieAt
			w.ree.power, w.fs.DieAt = nil, 0
			w.reboot(keep)
			if got := w.installed(); got != "" || len(w.ree.store) != 0 || w.blobs() != 0 {
				t.Fatalf("operation %d, keep %v: installed %q, in the REE %v, %d blobs", dieAt, keep, got, w.ree.store, w.blobs())
			}
			w.delivers(s, bundle)
			w.asks("?", "rows=secret rows|echo b|?")
			w.kill()
		}
		if survived && dieAt < 5 {
			t.Fatalf("a delivery of %d operations", dieAt-1)
		}
	}
}
