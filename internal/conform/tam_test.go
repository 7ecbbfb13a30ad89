// SPDX-License-Identifier: Apache-2.0

package conform_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/agentconfig"
	"sealift/internal/conform"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/manifest"
	"sealift/internal/store"
	"sealift/internal/tam"
	"sealift/suit"
	"sealift/teep"
	"sealift/teep/teephttp"
	"sealift/usecase"
)

const deployment = "d1"

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

// program signs the manifest of the TA of application "app".
func program(t testing.TB, owner cose.Signer, content string) []byte {
	t.Helper()
	p := manifest.Program{App: "app", Kind: usecase.TA, Sequence: 1, Digest: suit.SHA256([]byte(content)), Size: int64(len(content)),
		Cells: []usecase.Cell{{Instance: usecase.Process, Hardware: usecase.TrustZone}}}
	data, err := p.Build().Build(rand.Reader, owner)
	must(t, err)
	return data
}

// ourTAM is Sealift's TAM with one deployment that waits for its Agent.
type ourTAM struct {
	engine *tam.Engine
	keys   *tam.Keys
	agent  *conform.Emulated
}

func newTAM(t *testing.T) *ourTAM {
	t.Helper()
	dir := t.TempDir()
	owner := newSigner(t, cose.AlgESP256)
	keys, err := tam.LoadKeys(filepath.Join(dir, "keys"))
	must(t, err)
	pki, err := emuroot.New(rand.Reader, evidence.TrustZone, time.Now())
	must(t, err)
	device, err := pki.NewDevice(rand.Reader, "device")
	must(t, err)
	image := sha256.Sum256([]byte("agent"))
	config := agentconfig.Config{Version: agentconfig.Version, Deployment: deployment, Hardware: "trustzone", Instance: "process",
		TAMKeys: keys.Public(), TAMURI: "http://tam.invalid/" + deployment, Owners: []agentconfig.Owner{{Key: owner.Key(), App: "app"}}}.Marshal()
	st, err := store.Open(dir, store.Options{})
	must(t, err)
	t.Cleanup(func() { st.Close() })
	policy, err := appraisal.NewPolicy(appraisal.NewPolicyInput{Name: "operator", Hardware: []evidence.Hardware{evidence.TrustZone},
		Roots: []evidence.Anchor{pki.Anchor()}, AgentDigest: image, AgentSource: "the test"})
	must(t, err)
	engine, err := tam.New(tam.Config{Store: st, Keys: keys, Policy: policy, Anchors: evidence.Anchors{Roots: []evidence.Anchor{pki.Anchor()}},
		Protocol: tam.Protocol{Attest: func(_ context.Context, challenge []byte) ([]byte, error) {
			return cose.Sign1(rand.Reader, keys.Verifier, cose.MustMarshal(map[int]any{10: challenge}))
		}}})
	must(t, err)
	place(t, st, owner, config)
	return &ourTAM{engine, keys, &conform.Emulated{Device: device, Image: image, Config: config}}
}

// place makes the deployment: one TA, to be installed as soon as the Agent is admitted.
func place(t *testing.T, st *store.Store, owner cose.Signer, config []byte) {
	t.Helper()
	plan, err := usecase.Plan(usecase.ModeTAPD, usecase.Process, usecase.TrustZone)
	must(t, err)
	data := program(t, owner, "ta")
	e, err := suit.ParseEnvelope(data)
	must(t, err)
	m, err := e.ManifestInsecure()
	must(t, err)
	oci := sha256.Sum256(data)
	d := &store.Deployment{Wanted: map[string]*store.Package{}, Deployment: mocapi.Deployment{ID: deployment, Owner: "alice", App: "app",
		Mode: string(usecase.ModeTAPD), Device: "dev", OwnerKey: owner.Key(), State: mocapi.StatePending, Plan: plan.Steps, Config: config}}
	d.SetWanted(&store.Package{PackageRef: mocapi.PackageRef{Role: "ta", Repository: "alice/app/ta", Digest: "sha256:" + hex.EncodeToString(oci[:])},
		Owner: "alice", ManifestID: m.ComponentID.String(), ManifestDigest: "sha256:" + hex.EncodeToString(m.Digest.Bytes), Sequence: 1,
		Envelope: suit.WithoutTag(data)})
	must(t, st.Write(t.Context(), func(tx *store.Tx) error {
		if err := tx.PutDevice(&store.Device{ID: "dev"}); err != nil {
			return err
		}
		return tx.InsertDeployment(d)
	}))
}

// probe runs the kit against w's TAM; wrap may put something in its way.
func (w *ourTAM) probe(t *testing.T, alg cose.Algorithm, engine teephttp.TAM, wrap func(http.Handler) http.Handler) *conform.Report {
	t.Helper()
	if engine == nil {
		engine = w.engine
	}
	h := teephttp.Handler(engine, teephttp.Options{Prefix: "/tam", MaxBody: 64 << 10})
	if wrap != nil {
		h = wrap(h)
	}
	server := httptest.NewServer(h)
	defer server.Close()
	rep, err := conform.TAM(t.Context(), conform.TAMOptions{URL: server.URL + "/tam/" + deployment, TAMKeys: w.keys.Public(),
		Agent: newSigner(t, alg), Attester: w.agent, Oversize: 128 << 10})
	must(t, err)
	return rep
}

func failures(rep *conform.Report) (titles []string) {
	for _, r := range rep.Results {
		if r.Status == conform.Failed {
			titles = append(titles, r.Title)
		}
	}
	return titles
}

// TestOurTAM: our TAM keeps everything, with an Agent of either suite.
func TestOurTAM(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		t.Run(alg.String(), func(t *testing.T) {
			rep := newTAM(t).probe(t, alg, nil, nil)
			if rep.Failed > 0 || rep.NotApplicable > 0 || rep.Passed < 60 {
				var out strings.Builder
				must(t, rep.Write(&out, false))
				t.Errorf("%s", out.String())
			}
		})
	}
}

// TestTAMWithoutKeys: somebody who has only the address sees everything but signatures, and is told so.
func TestTAMWithoutKeys(t *testing.T) {
	w := newTAM(t)
	server := httptest.NewServer(teephttp.Handler(w.engine, teephttp.Options{Prefix: "/tam", MaxBody: 64 << 10}))
	defer server.Close()
	rep, err := conform.TAM(t.Context(), conform.TAMOptions{URL: server.URL + "/tam/" + deployment, Agent: newSigner(t, cose.AlgEd25519),
		Attester: w.agent, Oversize: 128 << 10})
	must(t, err)
	i := slices.IndexFunc(rep.Results, func(r conform.Result) bool { return strings.Contains(r.Reason, "signatures are not checked") })
	if rep.Failed > 0 || rep.NotApplicable != 1 || i < 0 || rep.Results[i].Status != conform.NotApplicable {
		t.Errorf("%d failed, %d not applicable, %d", rep.Failed, rep.NotApplicable, i)
	}
}

// deviant is a TAM with a fault planted into it.
type deviant struct {
	*tam.Engine
	connect func(ctx context.Context, e *tam.Engine) ([]byte, error)
	message func(ctx context.Context, e *tam.Engine, msg []byte) ([]byte, error)
}

func (d *deviant) Connect(ctx context.Context, hint string) ([]byte, error) {
	if d.connect != nil {
		return d.connect(ctx, d.Engine)
	}
	return d.Engine.Connect(ctx, hint)
}

func (d *deviant) Message(ctx context.Context, hint string, msg []byte) ([]byte, error) {
	if d.message != nil {
		return d.message(ctx, d.Engine, msg)
	}
	return d.Engine.Message(ctx, hint, msg)
}

// TestPlantedTAMFaults: a TAM that breaks a rule is found out, by the probe of that rule.
func TestPlantedTAMFaults(t *testing.T) {
	for name, c := range map[string]struct {
		plant func(*ourTAM) *deviant
		wrap  func(http.Handler) http.Handler
		want  string
	}{
		"replays": {plant: func(w *ourTAM) *deviant {
			return &deviant{Engine: w.engine, message: remember(w)}
		}, want: "a QueryResponse that comes again is not acted on"},
		"one signature": {plant: func(w *ourTAM) *deviant {
			return &deviant{Engine: w.engine, connect: resign(w, func(q *teep.QueryRequest) {})}
		}, want: "the first QueryRequest bears one signature for each suite"},
		"one suite": {plant: func(w *ourTAM) *deviant {
			return &deviant{Engine: w.engine, connect: resign(w, func(q *teep.QueryRequest) { q.CipherSuites = q.CipherSuites[:1] })}
		}, want: "both mandatory cipher suites are offered"},
		"one profile": {plant: func(w *ourTAM) *deviant {
			return &deviant{Engine: w.engine, connect: resign(w, func(q *teep.QueryRequest) { q.SUITProfiles = q.SUITProfiles[:1] })}
		}, want: "all four SUIT profiles are offered"},
		"same challenge": {plant: func(w *ourTAM) *deviant {
			var first []byte
			return &deviant{Engine: w.engine, connect: func(ctx context.Context, e *tam.Engine) (out []byte, err error) {
				if first == nil {
					first, err = e.Connect(ctx, deployment)
				}
				return first, err
			}}
		}, want: "tokens and challenges differ and are not short"},
		"refuses removals": {plant: func(w *ourTAM) *deviant {
			return &deviant{Engine: w.engine, message: func(ctx context.Context, e *tam.Engine, msg []byte) ([]byte, error) {
				if s, err := teep.Parse(msg); err == nil {
					if m, err := s.MessageInsecure(); err == nil {
						if r, ok := m.(*teep.QueryResponse); ok && r.UnneededManifestList != nil {
							return nil, teephttp.ErrUnavailable
						}
					}
				}
				return e.Message(ctx, deployment, msg)
			}}
		}, want: "an unneeded-manifest-list of component identifiers is accepted"},
		"no headers": {wrap: without("X-Content-Type-Options"), want: "a response has the media type of TEEP and the three headers"},
		"redirects": {wrap: func(http.Handler) http.Handler { return http.RedirectHandler("/elsewhere", http.StatusFound) },
			want: "no Cache-Control, cookies or redirects"},
		"takes anything": {wrap: func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Method = http.MethodPost
				h.ServeHTTP(w, r)
			})
		}, want: "only POST is allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTAM(t)
			var engine teephttp.TAM
			if c.plant != nil {
				engine = c.plant(w)
			}
			if got := failures(w.probe(t, cose.AlgESP256, engine, c.wrap)); !slices.Contains(got, c.want) {
				t.Errorf("failures: %q", got)
			}
		})
	}
}

// remember answers every message that comes again as the first time.
func remember(w *ourTAM) func(context.Context, *tam.Engine, []byte) ([]byte, error) {
	answers := map[string][]byte{}
	return func(ctx context.Context, e *tam.Engine, msg []byte) ([]byte, error) {
		if old, ok := answers[string(msg)]; ok {
			return old, nil
		}
		out, err := e.Message(ctx, deployment, msg)
		answers[string(msg)] = out
		return out, err
	}
}

// resign changes the first QueryRequest and signs it once.
func resign(w *ourTAM, change func(*teep.QueryRequest)) func(context.Context, *tam.Engine) ([]byte, error) {
	return func(ctx context.Context, e *tam.Engine) ([]byte, error) {
		data, err := e.Connect(ctx, deployment)
		if err != nil {
			return nil, err
		}
		v, err := teep.Verify(data, w.keys.Public())
		if err != nil {
			return nil, err
		}
		q := v.Message.(*teep.QueryRequest)
		change(q)
		return teep.Sign(rand.Reader, w.keys.Signers[0], q)
	}
}

func without(header string) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(&dropper{w, header}, r) })
	}
}

// dropper takes a header out.
type dropper struct {
	http.ResponseWriter
	header string
}

func (d *dropper) WriteHeader(code int) {
	d.Header().Del(d.header)
	d.ResponseWriter.WriteHeader(code)
}
