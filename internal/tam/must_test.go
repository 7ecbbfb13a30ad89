// SPDX-License-Identifier: Apache-2.0

package tam_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"io"
	"log/slog"
	"testing"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/tam"
	"sealift/teep"
	"sealift/usecase"
)

// counted is a source of randomness that counts what was taken.
type counted struct{ n int }

func (c *counted) Read(p []byte) (int, error) {
	c.n += len(p)
	return rand.Read(p)
}

// broken gives no randomness.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func (w *world) engineWith(random io.Reader, log *slog.Logger) *tam.Engine {
	w.t.Helper()
	policy, err := appraisal.NewPolicy(appraisal.NewPolicyInput{Name: "operator", Hardware: []evidence.Hardware{evidence.TrustZone},
		Roots: []evidence.Anchor{w.pki.Anchor()}, AgentDigest: agentImage, AgentSource: "the test"})
	must(w.t, err)
	e, err := tam.New(tam.Config{Store: w.store, Keys: w.keys, Policy: policy, Rand: random, Log: log,
		Anchors: evidence.Anchors{Roots: []evidence.Anchor{w.pki.Anchor()}}})
	must(w.t, err)
	return e
}

// TestTokensAreRandom: each token and challenge takes new bytes from the source of randomness, no two are equal, also for Agents and
// deployments at the same instant, and without randomness nothing is sent.
func TestTokensAreRandom(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	source := &counted{}
	w.engine = w.engineWith(source, nil)
	seen := map[string]bool{}
	take := func() {
		t.Helper()
		before := source.n
		q, _ := w.request(w.connect())
		token := string(q.Token) + string(q.Challenge)
		if seen[token] || len(token) < 32 || source.n < before+12 {
			t.Fatalf("token %x", token)
		}
		seen[token] = true
	}
	for range 200 {
		take()
	}
	w.session()
	for range 200 {
		take()
	}
	defer func() {
		if recover() == nil {
			t.Error("a token without randomness")
		}
	}()
	_, _ = w.engineWith(broken{}, nil).Connect(t.Context(), id)
}

// TestLogsHaveNoEvidence: neither Evidence, good or bad, nor a private key appears in the log, in any usual notation.
func TestLogsHaveNoEvidence(t *testing.T) {
	for name, lie := range map[string]func(*world){
		"good":   func(*world) {},
		"bad":    lies["with another measurement"].lie,
		"broken": lies["over another challenge"].lie,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, usecase.ModeTAPD, "")
			var log bytes.Buffer
			w.engine = w.engineWith(nil, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
			lie(w)
			var secrets [][]byte
			w.agent.tamper = func(m teep.Message) {
				if r, ok := m.(*teep.QueryResponse); ok && r.AttestationPayload != nil {
					b, err := evidence.ParseBundle(r.AttestationPayload)
					must(t, err)
					secrets = append(secrets, b.Hardware[:32], b.Hardware[len(b.Hardware)-32:], b.Claims[len(b.Claims)-32:])
				}
			}
			w.session()
			msg := w.agent.process(w.connect())
			w.send(msg)
			w.send(msg)
			w.send(msg[:len(msg)-1])
			secrets = append(secrets, w.keys.MAC, w.keys.Decrypt.Bytes())
			if len(secrets) < 5 || log.Len() == 0 {
				t.Fatalf("%d secrets, log %q", len(secrets), log.String())
			}
			for _, s := range secrets {
				for _, form := range []string{string(s), hex.EncodeToString(s), base64.StdEncoding.EncodeToString(s)[:40], base64.URLEncoding.EncodeToString(s)[:40]} {
					if bytes.Contains(log.Bytes(), []byte(form)) {
						t.Errorf("in the log: %q", form)
					}
				}
			}
		})
	}
}

// TestErrorIsReadWhateverItsLanguage: an err-lang that nobody here reads takes nothing from the code.
func TestErrorIsReadWhateverItsLanguage(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	u := w.updateOf(w.send(w.agent.process(w.connect())))
	w.send(w.agent.sign(&teep.Error{Token: u.Token, Code: teep.ErrCodePermanent, Msg: "nein", Lang: "tlh-x-unknown"}))
	if w.problem() == "" {
		t.Error("the Error was overlooked")
	}
}

// TestRolledKeys: with other keys in the folder tokens of before are void, and what is signed under the old ones is not believed.
func TestRolledKeys(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	old := w.agent.answer(w.connect())
	var err error
	w.keys, err = tam.LoadKeys(t.TempDir())
	must(t, err)
	w.restart()
	w.dropped("an answer to a challenge of the old keys", w.agent.sign(old))
	w.agent.tam = []*cose.Key{}
	if _, err := teep.Verify(w.connect(), w.agent.tam); err == nil {
		t.Error("an Agent without the new keys believes the TAM")
	}
	w.agent.tam = w.keys.Public()
	w.session()
	if w.steps() != "admit ta-to-instance" {
		t.Errorf("trace %q", w.steps())
	}
}

// TestIncompleteResponse: a QueryResponse of the admitted Agent that does not fit the request changes nothing, and the Agent is told.
func TestIncompleteResponse(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	w.session()
	q, _ := w.request(w.connect())
	wrong := uint32(1)
	w.changesNothing("an answer in another version", func() {
		u := w.updateOf(w.send(w.agent.sign(&teep.QueryResponse{Token: q.Token, SelectedVersion: &wrong})))
		if u == nil || u.ErrCode == nil || *u.ErrCode != teep.ErrCodePermanent || len(u.ErrMsg) > 128 || u.ManifestList != nil {
			t.Errorf("%+v", u)
		}
	})
	if u := w.updateOf(w.send(w.agent.sign(&teep.QueryResponse{Token: q.Token}))); u == nil || len(u.ManifestList) != 1 {
		t.Errorf("the right answer afterwards: %+v", u)
	}
}
