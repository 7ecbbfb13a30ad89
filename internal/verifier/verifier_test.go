// SPDX-License-Identifier: Apache-2.0

package verifier_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"sealift/appraisal"
	"sealift/appraisal/ear"
	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/all"
	"sealift/evidence/emuroot"
	"sealift/evidence/emuroot/emutest"
	"sealift/internal/image"
	"sealift/internal/verifier"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newSigner(t testing.TB, alg cose.Algorithm) cose.Signer {
	t.Helper()
	key, err := cose.GenerateKey(alg, rand.Reader)
	must(t, err)
	s, err := cose.NewSigner(key)
	must(t, err)
	return s
}

// service is a Verifier for one architecture, behind a real socket, and a device that it trusts.
type service struct {
	*verifier.Service
	server *httptest.Server
	device *emuroot.Device
	hw     evidence.Hardware
	launch []byte
}

func newService(t testing.TB, hw evidence.Hardware) *service {
	t.Helper()
	pki := emutest.PKI(t, hw, now)
	device, err := pki.NewDevice(rand.Reader, "one")
	must(t, err)
	h := image.Hash(hw)()
	h.Write([]byte("agent"))
	launch := h.Sum(nil)
	measured := []appraisal.Launch{{Hardware: hw, Name: image.Measurement(hw), Digest: launch, Source: "the test"}}
	for _, m := range emuroot.Firmware(hw) {
		measured = append(measured, appraisal.Launch{Hardware: hw, Name: m.Name, Digest: m.Value, Source: "the emulator's firmware"})
	}
	policy, err := appraisal.NewPolicy(appraisal.NewPolicyInput{Name: "test", Hardware: []evidence.Hardware{hw}, Roots: []evidence.Anchor{pki.Anchor()},
		Launch: measured, AgentSource: "the test"})
	must(t, err)
	s := &verifier.Service{Verifiers: all.New(), Anchors: evidence.Anchors{Roots: []evidence.Anchor{pki.Anchor()}}, Policy: policy,
		Key: newSigner(t, cose.AlgESP256), ID: ear.VerifierID{Developer: "https://sealift.invalid", Build: "test"}, Form: ear.FormVeraison,
		Now: clock, Log: slog.New(slog.DiscardHandler)}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return &service{s, server, device, hw, launch}
}

// client is one that has pinned the service's key.
func (s *service) client() *verifier.Client {
	return &verifier.Client{URL: s.server.URL, HTTP: s.server.Client(), Keys: []*cose.Key{s.Key.Key()}, Now: clock}
}

func (s *service) evidence(t testing.TB, binding [64]byte) evidence.HardwareEvidence {
	t.Helper()
	e, err := s.device.Evidence(rand.Reader, emuroot.Request{Binding: binding, Launch: s.launch, Config: sha256.Sum256([]byte("config")), Now: now})
	must(t, err)
	return e
}

func (s *service) name() string { return s.hw.BindingName(true) }

var binding = [64]byte(bytes.Repeat([]byte("binding!"), 8))

// TestSixArchitectures guards the way from Evidence of every architecture to an EAR that a Relying Party believes.
func TestSixArchitectures(t *testing.T) {
	for _, hw := range evidence.AllHardware() {
		t.Run(string(hw), func(t *testing.T) {
			s := newService(t, hw)
			e := s.evidence(t, binding)
			// The API has one body, so what a bundle carries beside the hardware's part goes as a bundle.
			out, err := s.client().Ask(t.Context(), bundled(e), binding[:], s.name())
			must(t, err)
			if out.Verdict != ear.Allow {
				t.Errorf("%s: %+v", out.Verdict, out.Failed())
			}
		})
	}
}

// bundled wraps hardware Evidence with its collateral, as an Agent sends it; a Verifier that knows no challenge reads only that.
func bundled(e evidence.HardwareEvidence) evidence.HardwareEvidence {
	b := evidence.Bundle{Hardware: e.Data, HardwareType: e.MediaType, Collateral: e.Collateral, Claims: []byte{0xa0}, Config: []byte("config")}
	return evidence.HardwareEvidence{Data: b.Marshal(), MediaType: evidence.MediaType}
}

// TestRefusals guards that what is wrong is an answer with a refusal in it, and that a Relying Party sees it.
func TestRefusals(t *testing.T) {
	s := newService(t, evidence.TrustZone)
	good := s.evidence(t, binding)
	other := [64]byte{1}
	altered := bytes.Clone(good.Data)
	altered[len(altered)-1] ^= 1
	stranger := newService(t, evidence.CSV)
	for name, c := range map[string]struct {
		e       evidence.HardwareEvidence
		binding [64]byte
		client  func(*verifier.Client)
	}{
		"another nonce": {good, other, nil},
		"altered":       {evidence.HardwareEvidence{Data: altered, MediaType: good.MediaType, Collateral: good.Collateral}, binding, nil},
		"foreign root":  {stranger.evidence(t, binding), binding, nil},
		"foreign key": {good, binding, func(c *verifier.Client) {
			c.Keys = []*cose.Key{newSigner(t, cose.AlgESP256).Key()}
		}},
		"another attester": {good, binding, func(c *verifier.Client) { c.Submods = []string{"trustzone"} }},
		"stale":            {good, binding, func(c *verifier.Client) { c.Now = func() time.Time { return now.Add(time.Hour) } }},
	} {
		client := s.client()
		if c.client != nil {
			c.client(client)
		}
		out, err := client.Ask(t.Context(), bundled(c.e), c.binding[:], s.name())
		must(t, err)
		if out.Verdict != ear.Refuse || len(out.Failed()) == 0 {
			t.Errorf("%s: %s %+v", name, out.Verdict, out.Findings)
		}
	}
}

// TestProtocol guards the API's statuses, and that a session takes Evidence once.
func TestProtocol(t *testing.T) {
	s := newService(t, evidence.TrustZone)
	base := s.server.URL + "/challenge-response/v1/"
	nonce := base64.URLEncoding.EncodeToString(binding[:])
	_, location := post(t, base+"newSession?nonce="+nonce, "", nil, http.StatusCreated)
	e := bundled(s.evidence(t, binding))
	std := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb, 0xff}, 16))
	post(t, base+"newSession?nonce="+url.QueryEscape(std), "", nil, http.StatusCreated) // older clients
	for _, c := range []struct {
		what, url, kind string
		body            []byte
		status          int
	}{
		{"no nonce", base + "newSession", "", nil, 400},
		{"both", base + "newSession?nonce=" + nonce + "&nonceSize=32", "", nil, 400},
		{"short", base + "newSession?nonce=AAAA", "", nil, 400},
		{"large", base + "newSession?nonceSize=65", "", nil, 400},
		{"no session", base + "session/none", e.MediaType, e.Data, 404},
		{"no type", base + location, "", e.Data, 400},
		{"foreign type", base + location, "application/x-abacus", e.Data, 415},
		{"large", base + location, e.MediaType, make([]byte, 2<<20), 413},
		{"Evidence", base + location, e.MediaType, e.Data, 200},
		{"again", base + location, e.MediaType, e.Data, 409},
	} {
		post(t, c.url, c.kind, c.body, c.status)
	}
	resp, err := http.Get(base + location)
	must(t, err)
	defer resp.Body.Close()
	var got struct{ Status, Result string }
	must(t, json.NewDecoder(resp.Body).Decode(&got))
	if got.Status != "complete" || strings.Count(got.Result, ".") != 2 {
		t.Errorf("%+v", got)
	}
	req, err := http.NewRequest(http.MethodDelete, base+location, nil)
	must(t, err)
	for _, want := range []int{204, 404} {
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("DELETE: %s, want %d", resp.Status, want)
		}
	}
}

func post(t *testing.T, address, kind string, body []byte, want int) (answer []byte, location string) {
	t.Helper()
	resp, err := http.Post(address, kind, bytes.NewReader(body))
	must(t, err)
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != want {
		t.Errorf("%s: %s %s, want %d", address, resp.Status, answer, want)
	}
	return answer, resp.Header.Get("Location")
}

// TestDiscovery guards the description, from which clients learn media types and, at their own risk, the key.
func TestDiscovery(t *testing.T) {
	s := newService(t, evidence.TrustZone)
	resp, err := http.Get(s.server.URL + "/.well-known/veraison/verification")
	must(t, err)
	defer resp.Body.Close()
	var d struct {
		Key   map[string]string `json:"ear-verification-key"`
		Types []string          `json:"media-types"`
		State string            `json:"service-state"`
	}
	must(t, json.NewDecoder(resp.Body).Decode(&d))
	if d.Key["crv"] != "P-256" || d.State != "READY" || len(d.Types) < 8 {
		t.Errorf("%+v", d)
	}
}

// TestExpiry guards that sessions end.
func TestExpiry(t *testing.T) {
	s := newService(t, evidence.TrustZone)
	at := now
	s.Now = func() time.Time { return at }
	base := s.server.URL + "/challenge-response/v1/"
	_, location := post(t, base+"newSession?nonceSize=64", "", nil, http.StatusCreated)
	at = at.Add(time.Hour)
	post(t, base+location, evidence.MediaType, []byte{0}, 404)
}

// TestPanel guards all, any and k of n.
func TestPanel(t *testing.T) {
	s, strict := newService(t, evidence.TrustZone), newService(t, evidence.TrustZone)
	strict.Policy.ReferenceValues = nil // knows no Agent: refuses
	e := s.evidence(t, binding)
	b := &evidence.Bundle{Hardware: e.Data, HardwareType: e.MediaType, Collateral: e.Collateral, Claims: []byte{0xa0}, Config: []byte("config")}
	gone := &verifier.Client{Name: "gone", URL: "http://127.0.0.1:1", HTTP: http.DefaultClient, Keys: []*cose.Key{s.Key.Key()}, Now: clock}
	if _, err := gone.Ask(t.Context(), e, binding[:], "x"); !errors.Is(err, verifier.ErrService) {
		t.Error(err)
	}
	yes, no := s.client(), strict.client()
	for name, c := range map[string]struct {
		own     appraisal.Tier
		clients []*verifier.Client
		need    int
		ok      bool
	}{
		"alone":                  {appraisal.TierAffirming, nil, 0, true},
		"all agree":              {appraisal.TierAffirming, []*verifier.Client{yes}, 0, true},
		"one refuses":            {appraisal.TierAffirming, []*verifier.Client{yes, no}, 0, false},
		"two of three":           {appraisal.TierAffirming, []*verifier.Client{yes, no}, 2, true},
		"unreachable":            {appraisal.TierAffirming, []*verifier.Client{gone}, 0, false},
		"any, and it is another": {appraisal.TierContraindicated, []*verifier.Client{yes}, 1, true},
		"any, and it is nobody":  {appraisal.TierContraindicated, []*verifier.Client{no}, 1, false},
		"the own one refuses":    {appraisal.TierContraindicated, []*verifier.Client{yes}, 0, false},
	} {
		r := &appraisal.Result{Status: c.own, Accept: appraisal.TierAffirming, Hardware: evidence.TrustZone, Emulated: true}
		p := &verifier.Panel{Clients: c.clients, Need: c.need}
		p.Judge(t.Context(), b, binding, r)
		if r.OK() != c.ok {
			t.Errorf("%s: %v %+v", name, r.Status, r.Findings)
		}
		if len(c.clients) > 0 && len(r.Findings) != len(c.clients)+1 {
			t.Errorf("%s: %d findings", name, len(r.Findings))
		}
	}
}

// TestPanelOverrulesOpinionsOnly guards that no other Verifier makes good what it cannot judge: another owner's configuration, an
// unexpected TA, emulated hardware under a production policy.
func TestPanelOverrulesOpinionsOnly(t *testing.T) {
	s := newService(t, evidence.TrustZone)
	e := s.evidence(t, binding)
	b := &evidence.Bundle{Hardware: e.Data, HardwareType: e.MediaType, Collateral: e.Collateral, Claims: []byte{0xa0}, Config: []byte("config")}
	for code, overruled := range map[string]bool{appraisal.CodeMeasurement: true, appraisal.CodeRule: true, appraisal.CodeTCBStatus: true,
		appraisal.CodeConfig: false, appraisal.CodeTAUnexpected: false, appraisal.CodeTAMissing: false, appraisal.CodeEmulated: false,
		evidence.CodeNonce: false, evidence.CodeSignature: false, "appraisal.something-new": false} {
		r := &appraisal.Result{Status: appraisal.TierContraindicated, Accept: appraisal.TierAffirming, Hardware: evidence.TrustZone, Emulated: true,
			Findings: []appraisal.Finding{{Code: code, Claim: "the thing"}}}
		p := &verifier.Panel{Clients: []*verifier.Client{s.client()}, Need: 1}
		p.Judge(t.Context(), b, binding, r)
		last := r.Findings[len(r.Findings)-1]
		if r.OK() != overruled || last.OK != overruled || !overruled && !strings.Contains(last.Got, "the thing") {
			t.Errorf("%s: %v, %+v", code, r.Status, last)
		}
	}
}

// FuzzSubmit sends a service what is no Evidence, under any media type: an answer with a refusal in it, or an error of the client.
func FuzzSubmit(f *testing.F) {
	s := newService(f, evidence.TrustZone)
	handler := s.Handler()
	good := bundled(s.evidence(f, [64]byte{9}))
	f.Add(good.MediaType, good.Data)
	f.Add("application/eat+cwt", []byte{0xd2, 0x84})
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		opened := httptest.NewRecorder()
		handler.ServeHTTP(opened, httptest.NewRequest(http.MethodPost, "/challenge-response/v1/newSession?nonceSize=64", nil))
		path := "/challenge-response/v1/" + opened.Header().Get("Location")
		r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
		r.Header.Set("Content-Type", kind)
		got := httptest.NewRecorder()
		handler.ServeHTTP(got, r)
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodDelete, path, nil))
		if got.Code == http.StatusOK {
			var a struct{ Result, Nonce string }
			must(t, json.Unmarshal(got.Body.Bytes(), &a))
			nonce, err := base64.StdEncoding.DecodeString(a.Nonce)
			must(t, err)
			o := ear.Check([]byte(a.Result), ear.Expected{Keys: []*cose.Key{s.Key.Key()}, Nonce: nonce, Submods: []string{s.name()}, Now: now, MaxAge: time.Hour})
			if o.Verdict == ear.Allow {
				t.Errorf("%q is allowed", kind)
			}
		} else if got.Code < 400 || got.Code >= 500 {
			t.Errorf("status %d", got.Code)
		}
	})
}
