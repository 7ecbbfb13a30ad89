// SPDX-License-Identifier: Apache-2.0

package tam_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/agentconfig"
	"sealift/internal/launch"
	"sealift/internal/owner/manifest"
	"sealift/internal/store"
	"sealift/internal/tam"
	"sealift/suit"
	"sealift/teep"
	"sealift/teep/teephttp"
	"sealift/usecase"
)

// under opens the world again under other choices of the protocol.
func (w *world) under(p tam.Protocol) {
	w.t.Helper()
	w.protocol = p
	w.restart()
}

// result makes an Attestation Result of the TEEP profile about a key.
func result(t *testing.T, verifier cose.Signer, about *cose.Key, nonce []byte, issued time.Time, status int) []byte {
	t.Helper()
	data, err := cose.Sign1(rand.Reader, verifier, cose.MustMarshal(map[int]any{
		4: issued.Add(100 * time.Hour).Unix(), 6: issued.Unix(), 8: map[int]any{3: about.KID()}, 10: nonce, 256: make([]byte, 17),
		258: make([]byte, 16), 259: []byte("model"), 260: []string{"1"}, 265: appraisal.TEEPProfile,
		266: map[string]any{"emu:trustzone": map[int]any{1000: status, 1001: map[int]int{0: status, 1: status, 2: status, 4: status},
			1003: []string{strings.Repeat("00", 32)}}},
		272:    []any{[]any{60, cose.MustMarshal([]any{"tag:a", []any{cose.AlgSHA256, make([]byte, 32)}})}},
		-70003: cose.RawMessage(evidence.MarshalTAs(nil)), -70004: make([]byte, 32), -70005: int(appraisal.TierAffirming),
	}))
	must(t, err)
	return data
}

// request decodes what the TAM has sent as a QueryRequest; nil is none.
func (w *world) request(msg []byte) (*teep.QueryRequest, []cose.Algorithm) {
	w.t.Helper()
	if msg == nil {
		return nil, nil
	}
	signed, err := teep.Parse(msg)
	must(w.t, err)
	v, err := teep.Verify(msg, w.keys.Public())
	must(w.t, err)
	q, ok := v.Message.(*teep.QueryRequest)
	if !ok {
		w.t.Fatalf("not a QueryRequest: %+v", v.Message)
	}
	return q, signed.Algorithms()
}

// updateOf decodes an Update; nil is none.
func (w *world) updateOf(msg []byte) *teep.Update {
	w.t.Helper()
	if msg == nil {
		return nil
	}
	v, err := teep.Verify(msg, w.keys.Public())
	must(w.t, err)
	u, ok := v.Message.(*teep.Update)
	if !ok {
		w.t.Fatalf("not an Update: %+v", v.Message)
	}
	return u
}

func (a *fakeAgent) keyOption() []teep.Option {
	return []teep.Option{{Label: agentconfig.AgentKeyOption, Value: a.signer.Key().Marshal()}}
}

// TestPassport: an Attestation Result admits an Agent like Evidence does, if a trusted Verifier says it about this very key and this very
// challenge.
func TestPassport(t *testing.T) {
	verifier := newSigner(t, cose.AlgESP256)
	w := newWorld(t, usecase.ModeTAPD, "")
	w.under(tam.Protocol{Verifiers: []*cose.Key{verifier.Key()}})
	answer := func(payload []byte) []byte {
		return w.agent.sign(&teep.QueryResponse{AttestationPayload: payload, AttestationPayloadFormat: teep.AttestationResultFormat,
			Extensions: w.agent.keyOption()})
	}
	q, _ := w.request(w.connect())
	own := w.agent.signer.Key()
	w.dropped("a result of an unknown Verifier", answer(result(t, newSigner(t, cose.AlgESP256), own, q.Challenge, w.clock, 2)))
	w.dropped("a result about another Agent", answer(result(t, verifier, w.owner.Key(), q.Challenge, w.clock, 2)))
	w.dropped("no result", answer([]byte{1}))
	for name, stale := range map[string][]byte{
		"over another's challenge": result(t, verifier, own, bytes.Repeat([]byte{1}, 64), w.clock, 2),
		"expired":                  result(t, verifier, own, q.Challenge, w.clock.Add(-1000*time.Hour), 2),
	} {
		w.changesNothing(name, func() {
			if again, _ := w.request(w.send(answer(stale))); again == nil || again.Challenge == nil {
				t.Errorf("%s: the TAM does not ask for something fresh", name)
			}
		})
	}
	good := answer(result(t, verifier, own, q.Challenge, w.clock, 2))
	if u := w.updateOf(w.send(good)); u == nil || len(u.ManifestList) != 1 {
		t.Fatalf("%+v", u)
	}
	if w.steps() != "admit" {
		t.Errorf("trace %q", w.steps())
	}
	w.dropped("the same result again", good)

	strict := newWorld(t, usecase.ModeTAPD, "")
	q, _ = strict.request(strict.connect())
	strict.dropped("a result where only Evidence is taken", strict.agent.sign(&teep.QueryResponse{
		AttestationPayload: result(t, verifier, strict.agent.signer.Key(), q.Challenge, strict.clock, 2), Extensions: strict.agent.keyOption()}))
}

// TestNegativePassport: the verdict of a trusted Verifier counts in both directions, and the Agent is told.
func TestNegativePassport(t *testing.T) {
	verifier := newSigner(t, cose.AlgESP256)
	w := newWorld(t, usecase.ModeTAPD, "")
	w.under(tam.Protocol{Verifiers: []*cose.Key{verifier.Key()}})
	q, _ := w.request(w.connect())
	u := w.updateOf(w.send(w.agent.sign(&teep.QueryResponse{
		AttestationPayload: result(t, verifier, w.agent.signer.Key(), q.Challenge, w.clock, 96), Extensions: w.agent.keyOption()})))
	if u == nil || u.ErrCode == nil || *u.ErrCode != teep.ErrCodeAttestationRequired || u.ErrMsg == "" || u.ErrLang != "en" || u.ManifestList != nil {
		t.Fatalf("%+v", u)
	}
	if w.deployment().AgentKey != nil || !strings.HasPrefix(w.problem(), "operator-appraisal-refused") {
		t.Errorf("problem %q", w.problem())
	}
}

// TestFreshnessByTime: where the operator wants it, admitted Agents show a result that is young enough, also without being asked.
func TestFreshnessByTime(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	w.under(tam.Protocol{Window: time.Hour, ByTime: true, HandOver: true})
	w.session()
	var passport []byte
	for _, m := range w.agent.received {
		if u, ok := m.(*teep.Update); ok && u.AttestationPayload != nil {
			passport = u.AttestationPayload
		}
	}
	if passport != nil {
		t.Fatal("the result was handed over although there was something to install")
	}
	w.ask() // the owner wants Evidence, and this time nothing is left to install
	w.session()
	last, ok := w.agent.received[len(w.agent.received)-1].(*teep.Update)
	if !ok || last.AttestationPayload == nil || last.ManifestList != nil || last.Token == nil {
		t.Fatalf("%+v", last)
	}
	passport = last.AttestationPayload
	q, _ := w.request(w.connect())
	if q.Token != nil || q.Challenge != nil || !slices.Equal(q.SupportedFreshness, []uint32{teep.FreshnessTimestamp}) {
		t.Fatalf("%+v", q)
	}
	w.agent.installed = nil // so that there is something to send
	unasked := w.agent.sign(&teep.QueryResponse{AttestationPayload: passport})
	if u := w.updateOf(w.send(unasked)); u == nil || len(u.ManifestList) != 1 {
		t.Fatalf("unasked, by time: %+v", u)
	}
	w.clock = w.clock.Add(2 * time.Hour)
	if q, _ := w.request(w.send(unasked)); q == nil || q.Challenge == nil {
		t.Fatal("too old, and the TAM does not ask for Evidence")
	}
	w.under(tam.Protocol{})
	w.clock = w.clock.Add(-2 * time.Hour)
	w.dropped("unasked, where the operator does not want it", unasked)
	if _, err := tam.New(tam.Config{Store: w.store, Keys: w.keys, Policy: &appraisal.Policy{}, Protocol: tam.Protocol{ByTime: true}}); err == nil {
		t.Error("freshness by time without a window")
	}
}

// TestWishes: the TAM sends nothing that is older than the Agent would take, and no payload that it has.
func TestWishes(t *testing.T) {
	taID := suit.NewComponentID("tee", "app", "ta")
	yes, no := true, false
	number := func(n uint64) *uint64 { return &n }
	for name, c := range map[string]struct {
		wish     teep.RequestedTC
		sent     bool
		payloads int
	}{
		"any":                        {teep.RequestedTC{Component: taID}, true, 1},
		"this one or a later one":    {teep.RequestedTC{Component: taID, SequenceNumber: number(2)}, true, 1},
		"only a later one":           {teep.RequestedTC{Component: taID, SequenceNumber: number(3)}, false, 0},
		"the manifest alone":         {teep.RequestedTC{Component: taID, SequenceNumber: number(2), HaveBinary: &yes}, true, 0},
		"with the binary":            {teep.RequestedTC{Component: taID, SequenceNumber: number(2), HaveBinary: &no}, true, 1},
		"another component's binary": {teep.RequestedTC{Component: suit.NewComponentID("tee", "app", "x"), SequenceNumber: number(9), HaveBinary: &yes}, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, usecase.ModeTAPD, "")
			b := manifest.Program{App: "app", Kind: usecase.TA, Sequence: 2, Cells: []usecase.Cell{cell}, Digest: suit.SHA256([]byte("ta v2")), Size: 5,
				Launch: launch.Spec{}}.Build()
			b.Payloads = map[string][]byte{"#ta": []byte("ta v2")}
			w.update(func(_ *store.Tx, d *store.Deployment) error {
				d.SetWanted(w.pack("ta", 2, b))
				return nil
			})
			w.agent.tamper = func(m teep.Message) {
				if r, ok := m.(*teep.QueryResponse); ok {
					r.RequestedTCList = []teep.RequestedTC{c.wish}
				}
			}
			u := w.updateOf(w.send(w.agent.process(w.connect())))
			if (u != nil) != c.sent {
				t.Fatalf("%+v", u)
			}
			if u == nil {
				return
			}
			e, err := suit.ParseEnvelope(u.ManifestList[0])
			must(t, err)
			if len(e.Payloads()) != c.payloads {
				t.Errorf("payloads %v", e.Payloads())
			}
			if _, err := e.Verify([]*cose.Key{w.owner.Key()}, suit.VerifyOptions{StrictAlgorithms: true}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestUnneeded: what the Agent no longer needs is removed, unless the owner's plan wants it.
func TestUnneeded(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	w.session()
	old := install{id: suit.NewComponentID("manifest", "app", "old"), digest: suit.SHA256([]byte("old")), components: []suit.ComponentID{suit.NewComponentID("tee", "app", "old")}}
	w.agent.installed = append(w.agent.installed, old)
	wanted := w.agent.installed[0].id
	w.agent.tamper = func(m teep.Message) {
		if r, ok := m.(*teep.QueryResponse); ok {
			r.UnneededManifestList = []suit.ComponentID{wanted, old.id, suit.NewComponentID("manifest", "app", "absent")}
		}
	}
	w.session()
	u, ok := w.agent.received[len(w.agent.received)-1].(*teep.Update)
	if !ok || len(u.UnneededManifestList) != 1 || !u.UnneededManifestList[0].Equal(old.id) || u.Token == nil || u.ManifestList != nil {
		t.Fatalf("%+v", u)
	}
	if len(w.agent.installed) != 1 || w.problem() != "" {
		t.Errorf("installed %v, problem %q", w.agent.installed, w.problem())
	}
	n := len(w.agent.received)
	w.session()
	if len(w.agent.received) != n+1 {
		t.Errorf("%d more messages", len(w.agent.received)-n)
	}
}

// TestEncrypted: Evidence and reports that are encrypted to the TAM count as if they were not, each under its own purpose.
func TestEncrypted(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	enc, err := w.keys.EncKey()
	must(t, err)
	if slices.ContainsFunc(w.keys.Public(), enc.Equal) {
		t.Fatal("one key signs and decrypts")
	}
	seal := func(purpose string, plain []byte) []byte {
		out, err := cose.Encrypt(rand.Reader, cose.AlgA128GCM, cose.Recipient{Key: enc}, purpose, plain)
		must(t, err)
		return out
	}
	eat, reports := cose.ContextSUITReport, cose.ContextSUITReport
	w.agent.tamper = func(m teep.Message) {
		switch m := m.(type) {
		case *teep.QueryResponse:
			if m.AttestationPayload != nil {
				m.AttestationPayload = seal(eat, m.AttestationPayload)
			}
		case *teep.Success:
			for i, r := range m.SUITReports {
				m.SUITReports[i] = seal(reports, cose.MustMarshal(r))
			}
		}
	}
	request := w.connect()
	w.dropped("Evidence encrypted as a report", w.agent.process(request))
	eat = cose.ContextEAT
	update := w.send(w.agent.process(request))
	reports = cose.ContextEAT
	w.dropped("a report encrypted as Evidence", w.agent.process(update))
	reports = cose.ContextSUITReport
	w.send(w.agent.process(update))
	if w.steps() != "admit ta-to-instance" {
		t.Errorf("trace %q", w.steps())
	}
	w.restart() // the key is the one in the folder
	again, err := tam.LoadKeys(w.dir + "/keys")
	must(t, err)
	if key, err := again.EncKey(); err != nil || !key.Equal(enc) {
		t.Errorf("another key: %v", err)
	}
}

// TestGenericURI: a URI without a deployment finds it by what the Agent's Evidence shows, and later by its key.
func TestGenericURI(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	if _, err := w.engine.Connect(t.Context(), ""); !errors.Is(err, teephttp.ErrNotFound) {
		t.Errorf("where it is not wanted: %v", err)
	}
	w.under(tam.Protocol{Generic: true})
	for range 2 {
		msg, err := w.engine.Connect(t.Context(), "")
		must(t, err)
		for posts := 0; msg != nil; posts++ {
			if posts > 10 {
				t.Fatal("the session does not end")
			}
			msg, err = w.engine.Message(t.Context(), "", w.agent.process(msg))
			must(t, err)
		}
		if w.steps() != "admit ta-to-instance" || w.problem() != "" {
			t.Fatalf("trace %q, problem %q", w.steps(), w.problem())
		}
	}
	for name, msg := range map[string][]byte{
		"nothing": {0}, "a stranger without Evidence": newAgent(w, cose.AlgESP256).sign(&teep.QueryResponse{}),
	} {
		w.changesNothing(name, func() {
			if _, err := w.engine.Message(t.Context(), "", msg); !errors.Is(err, teephttp.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// TestSuiteOfTheAgent: once the Agent has chosen a suite with its first answer, the TAM signs with that one only.
func TestSuiteOfTheAgent(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		w := newWorld(t, usecase.ModeTAPD, "")
		w.agent = newAgent(w, alg)
		first, err := teep.Parse(w.connect())
		must(t, err)
		update, err := teep.Parse(w.send(w.agent.process(w.connect())))
		must(t, err)
		if len(first.Algorithms()) != 2 || !slices.Equal(update.Algorithms(), []cose.Algorithm{alg}) {
			t.Errorf("%v: first %v, then %v", alg, first.Algorithms(), update.Algorithms())
		}
		q, _ := w.request(w.connect())
		if len(q.CipherSuites) != 2 || len(q.SUITProfiles) != 4 {
			t.Errorf("offers %v and %v", q.CipherSuites, q.SUITProfiles)
		}
	}
}

// TestCompatibilityProfile: one name makes the TAM take signatures that the text does not allow.
func TestCompatibilityProfile(t *testing.T) {
	for profile, ok := range map[teep.Profile]bool{teep.ProfileStrict: false, teep.ProfileDrafts: true} {
		w := newWorld(t, usecase.ModeTAPD, "")
		w.under(tam.Protocol{Profile: profile})
		w.session()
		q, _ := w.request(w.connect())
		data, err := cose.Sign1(rand.Reader, w.agent.signer, must2(teep.Encode(&teep.QueryResponse{Token: q.Token})))
		must(t, err)
		// The kid is a hint and stands unprotected: without it the signature is the same.
		kid := append([]byte{0xa1, 0x04, 0x58, 0x20}, w.agent.signer.Key().KID()...)
		data = bytes.Replace(data, kid, []byte{0xa0}, 1)
		v, err := teep.Verify(w.send(data), w.keys.Public())
		must(t, err)
		if _, believed := v.Message.(*teep.Update); believed != ok { // else Evidence is asked for
			t.Errorf("%q: answer %v", profile, v.Message.Type())
		}
	}
	w := newWorld(t, usecase.ModeTAPD, "")
	if _, err := tam.New(tam.Config{Store: w.store, Keys: w.keys, Policy: &appraisal.Policy{}, Protocol: tam.Protocol{Profile: "lax"}}); err == nil {
		t.Error("an unknown profile")
	}
}

func must2(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}
