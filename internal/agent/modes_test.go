// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/internal/launch"
	"sealift/internal/owner/manifest"
	"sealift/usecase"
)

// TestModeUATAPD runs the load sequence of the modes ua,ta,pd (and, without its first step, ta,pd): UA to the REE, TA to the
// instance, attest, PD to the TA; then everything is removed.
func TestModeUATAPD(t *testing.T) {
	const secret = "name,salary 7c1f"
	w := newWorld(t, nil)
	w.attest() // admit

	w.succeeds(w.update(w.program(usecase.UA, 1, "the transfer server", launch.Spec{Args: []string{"-v"}})), 1)
	if string(w.ree.store["ree/app/ua"]) != "the transfer server" || w.ree.running["ree/app/ua"] == nil {
		t.Fatal("the UA is not in the REE, or does not run there")
	}
	ta := w.program(usecase.TA, 1, "echo v1", anyone)
	w.succeeds(w.update(ta), 1)
	w.asks("how many?", "|echo v1|how many?")

	claim := w.claim()
	if !claim.Digest.Equal(w.offer([]byte("echo v1"))) || claim.Sequence != 1 || string(claim.Signer) != string(w.owner.Key().KID()) {
		t.Fatalf("%+v", claim)
	}
	w.succeeds(w.update(w.data(1, secret, claim.EncKey, ta)), 1)
	w.asks("how many?", "rows="+secret+"|echo v1|how many?")
	if got := w.installed(); got != "manifest/app/ua ree/app/ua manifest/app/ta tee/app/ta manifest/app/pd pd/app/rows" {
		t.Fatal(got)
	}
	w.nothingIn(secret)

	_, r := w.attest()
	for _, p := range r.TCList {
		if id := p.Component.String(); (p.Digest == nil) != strings.HasPrefix(id, "pd/") {
			t.Fatalf("%s: digest %v", id, p.Digest)
		}
	}

	w.reboot(false)
	w.asks("after the reboot?", "rows="+secret+"|echo v1|after the reboot?")
	if w.ree.writes != 1 || w.ree.running["ree/app/ua"] == nil {
		t.Fatal("the UA was installed twice, or was not started")
	}

	w.succeeds(w.remove(manifest.ID("app", "ta"), manifest.ID("app", "ua")), 2)
	if got := w.installed(); got != "" {
		t.Fatalf("left: %s", got)
	}
	if _, err := w.call(claim.TLSKey, nil, "x"); err == nil {
		t.Fatal("the TA still answers")
	}
	if len(w.ree.store) != 0 {
		t.Fatal("the UA is still in the REE")
	}
	for name := range w.fs.Files() {
		if strings.HasPrefix(name, "blobs/") {
			t.Fatal("a blob is left: " + name)
		}
	}
}

// TestModeTAPDStdio is ta,pd with a TA that is one process for each request.
func TestModeTAPDStdio(t *testing.T) {
	w := newWorld(t, nil)
	ta := w.program(usecase.TA, 1, "echo v1", anyStdio)
	w.attest()
	w.succeeds(w.update(ta), 1)
	w.asks("before", "|echo v1|before")
	w.succeeds(w.update(w.data(1, "the table", w.claim().EncKey, ta)), 1)
	w.asks("after", "rows=the table|echo v1|after")
	if n := w.start.launched("echo v1"); n != 2 {
		t.Fatalf("%d processes for two requests", n)
	}
}

// agentEncKey is the key for bundles, from Evidence.
func (w *world) agentEncKey() *cose.Key {
	v, _ := w.attest()
	return v.Claims.AgentEncKey
}

// TestModeTAPDBundle is ta+pd: one package, encrypted to the attested Agent.
func TestModeTAPDBundle(t *testing.T) {
	w := newWorld(t, nil)
	to := w.agentEncKey()
	spec := anyone
	w.succeeds(w.update(w.sign(w.sealedBuilder(manifest.Sealed{Role: manifest.RoleBundle, Sequence: 1, Items: []manifest.Item{
		w.item(usecase.TA, "ta", "picky secret program", to, &spec),
		w.item(usecase.PD, "rows", "secret rows", to, nil),
		w.item(usecase.PD, "more", "secret more", to, nil),
	}}), w.owner)), 1)
	w.asks("?", "more=secret more,rows=secret rows|picky secret program|?")
	if got := w.installed(); got != "manifest/app/bundle tee/app/ta pd/app/rows pd/app/more" {
		t.Fatal(got)
	}
	w.nothingIn("secret")
	w.reboot(true)
	w.asks("?", "more=secret more,rows=secret rows|picky secret program|?")
}

// TestModeUATAPDBundle is ua+ta+pd: the UA comes out of the TEE.
func TestModeUATAPDBundle(t *testing.T) {
	w := newWorld(t, nil)
	to := w.agentEncKey()
	ta, ua := anyone, launch.Spec{}
	w.succeeds(w.update(w.sign(w.sealedBuilder(manifest.Sealed{Role: manifest.RoleBundle, Sequence: 1, Items: []manifest.Item{
		w.item(usecase.TA, "ta", "echo b", to, &ta),
		w.item(usecase.PD, "rows", "secret rows", to, nil),
		w.item(usecase.UA, "ua", "the server", to, &ua),
	}}), w.owner)), 1)
	w.asks("?", "rows=secret rows|echo b|?")
	if string(w.ree.store["ree/app/ua"]) != "the server" || w.ree.running["ree/app/ua"] == nil {
		t.Fatal("the UA did not come out")
	}
	w.nothingIn("secret")
	if got := w.installed(); got != "manifest/app/bundle tee/app/ta pd/app/rows ree/app/ua" {
		t.Fatal(got)
	}
}

// TestCallers: the endpoint lets in who holds the owner's key.
func TestCallers(t *testing.T) {
	w := newWorld(t, nil)
	_, key := newSigner(t, cose.AlgEd25519)
	_, strange := newSigner(t, cose.AlgEd25519)
	w.attest()
	w.succeeds(w.update(w.program(usecase.TA, 1, "echo v1", launch.Spec{})), 1)
	pin := w.claim().TLSKey
	for name, as := range map[string]*tls.Certificate{"nobody": nil, "stranger": certificate(t, strange, strange.Public()), "other": certificate(t, key, key.Public())} {
		if got, err := w.call(pin, as, "x"); err == nil {
			t.Fatalf("%s got %q", name, got)
		}
	}
	got, err := w.call(pin, certificate(t, w.ownerKey, w.ownerKey.Public()), "x")
	if err != nil || got != "|echo v1|x" {
		t.Fatalf("the owner got %q, %v", got, err)
	}
	if _, err := w.call(w.agentKey, nil, "x"); err == nil {
		t.Fatal("the caller's pin was not checked")
	}
}

// TestReapplyIsANoOp: the same Update again installs nothing again, and reports success.
func TestReapplyIsANoOp(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	ua, ta := w.program(usecase.UA, 3, "server", launch.Spec{}), w.program(usecase.TA, 3, "echo v1", anyone)
	for range 3 {
		w.succeeds(w.update(ua, ta), 2)
	}
	if w.ree.writes != 1 || w.ree.fetches != 2 || w.start.launched("echo v1") != 1 {
		t.Fatalf("%d writes, %d fetches, %d starts", w.ree.writes, w.ree.fetches, w.start.launched("echo v1"))
	}
	pd := w.data(1, "rows", w.claim().EncKey, ta)
	for range 2 {
		w.succeeds(w.update(pd), 1)
	}
	if w.ree.fetches != 3 {
		t.Fatalf("%d fetches", w.ree.fetches)
	}
}

func TestRequestAndPolicy(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	ses, err := w.client.RequestTA(t.Context(), taID, "http://elsewhere.invalid")
	if err != nil || ses.TAMURI != "http://tam.invalid/d1" {
		t.Fatalf("%+v, %v", ses, err)
	}
	if _, r := w.attest(); len(r.RequestedTCList) != 1 || !r.RequestedTCList[0].Component.Equal(taID) {
		t.Fatalf("%+v", r.RequestedTCList)
	}
	w.succeeds(w.update(w.program(usecase.TA, 1, "echo v1", anyone)), 1)
	if ses, err := w.client.RequestTA(t.Context(), taID, ""); err != nil || ses.TAMURI != "" {
		t.Fatalf("%+v, %v", ses, err)
	}
	if ses, err := w.client.UnrequestTA(t.Context(), taID, ""); err != nil || ses.TAMURI == "" {
		t.Fatalf("%+v, %v", ses, err)
	}
	_, r := w.attest()
	if len(r.RequestedTCList) != 0 || len(r.UnneededManifestList) != 1 || r.UnneededManifestList[0].String() != "manifest/app/ta" {
		t.Fatalf("%+v", r)
	}
	w.succeeds(w.remove(r.UnneededManifestList[0]), 1)
	if _, r := w.attest(); len(r.UnneededManifestList) != 0 {
		t.Fatalf("%+v", r)
	}
	for range 2 {
		if ses, _ := w.client.RequestPolicyCheck(t.Context()); ses.TAMURI == "" {
			t.Fatal("no TAM")
		}
		if ses, _ := w.client.RequestPolicyCheck(t.Context()); ses.TAMURI != "" {
			t.Fatal("the round does not end")
		}
	}
	st, err := w.client.Status(t.Context())
	if err != nil || st.Deployment != "d1" {
		t.Fatalf("%+v, %v", st, err)
	}
}

// TestRemovalStartsNothing: a message that removes a TA's data and then the TA does not start the TA anew in between, and a TA that
// does not start without the data that was removed does not go on with it.
func TestRemovalStartsNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	dataID, taID := manifest.ID("app", manifest.RolePD), manifest.ID("app", manifest.RoleTA)
	ta := w.program(usecase.TA, 1, "echo v1", anyone)
	w.succeeds(w.update(ta), 1)
	w.succeeds(w.update(w.data(1, "rows", w.claim().EncKey, ta)), 1)
	before := w.start.launched("echo v1")
	w.succeeds(w.remove(dataID, taID), 2)
	if after := w.start.launched("echo v1"); after != before {
		t.Errorf("the TA was started %d times while it was removed", after-before)
	}
	if got := w.installed(); got != "" {
		t.Errorf("installed: %s", got)
	}

	w = newWorld(t, nil)
	w.attest()
	picky := w.program(usecase.TA, 1, "picky v1", anyone)
	w.succeeds(w.update(picky), 1)
	w.succeeds(w.update(w.data(1, "rows", w.claim().EncKey, picky)), 1)
	w.asks("now?", "rows=rows|picky v1|now?")
	w.succeeds(w.remove(dataID), 1)
	if got, _ := w.call(w.claim().TLSKey, nil, "still?"); got != "" {
		t.Errorf("after the removal of its data the TA answers %q", got)
	}
}
