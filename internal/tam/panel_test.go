// SPDX-License-Identifier: Apache-2.0

package tam_test

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"sealift/appraisal"
	"sealift/appraisal/ear"
	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/all"
	"sealift/internal/tam"
	"sealift/internal/verifier"
	"sealift/usecase"
)

// serve starts a Verifier of its own for the world's devices, which accepts this Agent image, and returns a client that has pinned
// its key.
func (w *world) serve(name string, image [32]byte) *verifier.Client {
	w.t.Helper()
	policy, err := appraisal.NewPolicy(appraisal.NewPolicyInput{Name: name, Hardware: []evidence.Hardware{evidence.TrustZone},
		Roots: []evidence.Anchor{w.pki.Anchor()}, AgentDigest: image, AgentSource: "the test"})
	must(w.t, err)
	key := newSigner(w.t, cose.AlgESP256)
	s := &verifier.Service{Verifiers: all.New(), Anchors: evidence.Anchors{Roots: []evidence.Anchor{w.pki.Anchor()}}, Policy: policy,
		Key: key, ID: ear.VerifierID{Developer: "https://sealift.invalid", Build: "test"}, Form: ear.FormVeraison,
		Now: func() time.Time { return w.clock }, Log: slog.New(slog.DiscardHandler)}
	server := httptest.NewServer(s.Handler())
	w.t.Cleanup(server.Close)
	return &verifier.Client{Name: name, URL: server.URL, HTTP: server.Client(), Keys: []*cose.Key{key.Key()},
		Now: func() time.Time { return w.clock }}
}

// TestFurtherVerifiers: the TAM admits an Agent if as many Verifiers accept its Evidence as are needed, and says which did not.
func TestFurtherVerifiers(t *testing.T) {
	for name, c := range map[string]struct {
		images [][32]byte // that further Verifiers accept
		need   int
		lie    func(*world)
		admits bool
		says   string
	}{
		"all agree":             {[][32]byte{agentImage, agentImage}, 0, nil, true, ""},
		"one does not":          {[][32]byte{agentImage, {1}}, 0, nil, false, verifier.CodeRefused},
		"two of three":          {[][32]byte{agentImage, {1}}, 2, nil, true, ""},
		"one of three":          {[][32]byte{{1}, {1}}, 2, nil, false, verifier.CodeThreshold},
		"another configuration": {[][32]byte{agentImage, agentImage}, 1, lies["of another configuration"].lie, false, appraisal.CodeConfig},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, usecase.ModeTAPD, "")
			p := &verifier.Panel{Need: c.need}
			for i, image := range c.images {
				p.Clients = append(p.Clients, w.serve(string(rune('a'+i)), image))
			}
			w.panel = p
			w.restart()
			if c.lie != nil {
				c.lie(w)
			}
			w.session()
			d := w.deployment()
			if admitted := d.AgentKey != nil; admitted != c.admits {
				t.Fatalf("admitted: %v, problem %q", admitted, w.problem())
			}
			if c.says == "" {
				return
			}
			text, err := d.Problem.MarshalJSON()
			must(t, err)
			if !bytes.Contains(text, []byte(`"code":"`+c.says+`"`)) {
				t.Errorf("no finding %s in %s", c.says, text)
			}
		})
	}
}

var _ tam.Panel = (*verifier.Panel)(nil)
