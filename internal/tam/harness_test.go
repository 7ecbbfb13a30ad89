// SPDX-License-Identifier: Apache-2.0

package tam_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/agentconfig"
	"sealift/internal/launch"
	"sealift/internal/moc/course"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/manifest"
	"sealift/internal/store"
	"sealift/internal/tam"
	"sealift/suit"
	"sealift/usecase"
)

const id = "d1"

var cell = usecase.Cell{Instance: usecase.Process, Hardware: usecase.TrustZone}

// world is one deployment at an M/OC of which only the TAM is there; the test plays the REST side and the Agent.
type world struct {
	t      testing.TB
	dir    string
	clock  time.Time
	store  *store.Store
	keys   *tam.Keys
	pki    *emuroot.PKI
	engine *tam.Engine
	owner  cose.Signer
	config []byte
	agent  *fakeAgent
	asked  int

	protocol tam.Protocol
	panel    tam.Panel // further Verifiers
}

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

// newWorld places a deployment with the packages that the mode needs at the start.
func newWorld(t testing.TB, mode usecase.Mode, misdeed tam.Adversary) *world {
	t.Helper()
	return newWorldPlanned(t, mode, misdeed, usecase.TrustZone)
}

// newWorldPlanned follows the plan of other hardware, which its Agent has all the same not.
func newWorldPlanned(t testing.TB, mode usecase.Mode, misdeed tam.Adversary, planned usecase.Hardware) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: time.Now().Truncate(time.Millisecond), owner: newSigner(t, cose.AlgESP256)}
	var err error
	w.keys, err = tam.LoadKeys(filepath.Join(w.dir, "keys"))
	must(t, err)
	w.pki, err = emuroot.New(rand.Reader, evidence.TrustZone, w.clock)
	must(t, err)
	w.open(misdeed)
	t.Cleanup(func() { w.store.Close() })
	w.config = agentconfig.Config{Version: agentconfig.Version, Deployment: id, Hardware: "trustzone", Instance: "process",
		TAMKeys: w.keys.Public(), TAMURI: "http://tam.invalid/" + id, Owners: []agentconfig.Owner{{Key: w.owner.Key(), App: "app"}}}.Marshal()
	w.agent = newAgent(w, cose.AlgESP256)
	w.place(mode, planned)
	return w
}

// open opens the state, as a start of the M/OC does.
func (w *world) open(misdeed tam.Adversary) {
	w.t.Helper()
	var err error
	w.store, err = store.Open(w.dir, store.Options{Now: func() time.Time { return w.clock }})
	must(w.t, err)
	policy, err := appraisal.NewPolicy(appraisal.NewPolicyInput{Name: "operator", Hardware: []evidence.Hardware{evidence.TrustZone},
		Roots: []evidence.Anchor{w.pki.Anchor()}, AgentDigest: agentImage, AgentSource: "the test"})
	must(w.t, err)
	w.engine, err = tam.New(tam.Config{Store: w.store, Keys: w.keys, Policy: policy,
		Anchors: evidence.Anchors{Roots: []evidence.Anchor{w.pki.Anchor()}}, Adversary: misdeed, Protocol: w.protocol, Hardware: tam.Hardware{Panel: w.panel}})
	must(w.t, err)
}

// restart kills the M/OC and starts it again.
func (w *world) restart() {
	w.t.Helper()
	must(w.t, w.store.Close())
	w.open(tam.Honest)
}

func (w *world) place(mode usecase.Mode, planned usecase.Hardware) {
	w.t.Helper()
	plan, err := usecase.Plan(mode, usecase.Process, planned)
	must(w.t, err)
	d := &store.Deployment{Wanted: map[string]*store.Package{}, Deployment: mocapi.Deployment{ID: id, Owner: "alice", App: "app", Mode: string(mode),
		Device: "dev", OwnerKey: w.owner.Key(), State: mocapi.StatePending, Plan: plan.Steps, Config: w.config}}
	start, _ := course.Roles(mode)
	for _, role := range start {
		d.SetWanted(w.program(role, 2, role+" v2"))
	}
	must(w.t, w.store.Write(w.t.Context(), func(tx *store.Tx) error {
		if err := tx.PutDevice(&store.Device{ID: "dev"}); err != nil {
			return err
		}
		return tx.InsertDeployment(d)
	}))
}

// program makes the package of a UA, a TA, or both, in the clear.
func (w *world) program(role string, sequence uint64, content string) *store.Package {
	w.t.Helper()
	kinds := []usecase.Payload{usecase.Payload(role)}
	if role == manifest.RoleBundle {
		kinds = []usecase.Payload{usecase.UA, usecase.TA}
	}
	var programs []manifest.Program
	for _, kind := range kinds {
		programs = append(programs, manifest.Program{App: "app", Kind: kind, Sequence: sequence, Cells: []usecase.Cell{cell},
			Digest: suit.SHA256([]byte(content)), Size: int64(len(content)), Launch: launch.Spec{}})
	}
	return w.pack(role, sequence, manifest.Programs(programs...))
}

// sealed makes a package with PD: files of PD alone, or the bundle of a mode.
func (w *world) sealed(role string, sequence uint64, to *cose.Key, items ...manifest.Item) *store.Package {
	w.t.Helper()
	for i := range items {
		content := fmt.Sprintf("%s %d", items[i].Name, sequence)
		info, enc, err := cose.NewEncrypter(rand.Reader, cose.AlgA128GCM, cose.Recipient{Key: to, KID: to.KID()}, cose.ContextSUITPayload)
		must(w.t, err)
		var out bytes.Buffer
		_, err = enc.Seal(&out, strings.NewReader(content))
		must(w.t, err)
		items[i].Ciphertext, items[i].Size, items[i].Encryption = suit.SHA256(out.Bytes()), int64(out.Len()), info
	}
	s := manifest.Sealed{App: "app", Role: role, Sequence: sequence, Cells: []usecase.Cell{cell}, Items: items}
	d := w.deployment()
	if ta := d.Wanted[course.TARole(d)]; !usecase.Mode(d.Mode).Sealed(usecase.TA) && ta != nil {
		digest, err := hex.DecodeString(strings.TrimPrefix(ta.ManifestDigest, "sha256:"))
		must(w.t, err)
		s.DependsOn = &manifest.Dependency{ID: manifest.ID("app", ta.Role), Digest: suit.Digest{Alg: cose.AlgSHA256, Bytes: digest}}
	}
	b, err := s.Build()
	must(w.t, err)
	return w.pack(role, sequence, b)
}

func (w *world) pack(role string, sequence uint64, b *suit.Builder) *store.Package {
	w.t.Helper()
	data, err := b.Build(rand.Reader, w.owner)
	must(w.t, err)
	e, err := suit.ParseEnvelope(data)
	must(w.t, err)
	m, err := e.ManifestInsecure()
	must(w.t, err)
	oci := sha256.Sum256(data)
	return &store.Package{PackageRef: mocapi.PackageRef{Role: role, Repository: "alice/app/" + role, Digest: "sha256:" + hex.EncodeToString(oci[:])},
		Blobs: []string{"sha256:" + strings.Repeat("0b", 32)},
		Owner: "alice", ManifestID: m.ComponentID.String(), ManifestDigest: "sha256:" + hex.EncodeToString(m.Digest.Bytes), Sequence: sequence,
		Envelope: suit.WithoutTag(data)}
}

// dataPackage makes the package with PD that a mode's release brings.
func (w *world) dataPackage(mode usecase.Mode, sequence uint64) *store.Package {
	w.t.Helper()
	spec := &launch.Spec{}
	ta, ua := manifest.Item{Kind: usecase.TA, Name: "ta", Launch: spec}, manifest.Item{Kind: usecase.UA, Name: "ua", Launch: spec}
	a, b := manifest.Item{Kind: usecase.PD, Name: "a.csv"}, manifest.Item{Kind: usecase.PD, Name: "b.csv"}
	switch mode {
	case usecase.ModeBundleTAPD, usecase.ModeBundleTAPDUA:
		return w.sealed(manifest.RoleBundle, sequence, w.agent.enc, ta, a, b)
	case usecase.ModeBundleUATAPD:
		return w.sealed(manifest.RoleBundle, sequence, w.agent.enc, ta, a, b, ua)
	}
	if mode == usecase.ModeBundleUAPD {
		return w.sealed(manifest.RoleBundle, sequence, w.agent.enc, a, b, ua)
	}
	return w.sealed(manifest.RolePD, sequence, w.agent.enc, a, b)
}

// update changes the deployment as the REST side does.
func (w *world) update(change func(*store.Tx, *store.Deployment) error) {
	w.t.Helper()
	_, err := w.store.Update(w.t.Context(), id, func(tx *store.Tx, d *store.Deployment) error {
		if err := change(tx, d); err != nil {
			return err
		}
		return course.Refresh(tx, d)
	})
	must(w.t, err)
}

// ask is the owner's evidence request.
func (w *world) ask() (request string, nonce []byte) {
	w.t.Helper()
	w.asked++
	request, nonce = fmt.Sprintf("e%d", w.asked), make([]byte, evidence.NonceSize)
	rand.Read(nonce)
	w.update(func(tx *store.Tx, d *store.Deployment) error {
		d.Private.Asked = append(d.Private.Asked, store.Asked{ID: request, Nonce: nonce, Time: w.clock})
		d.Private.Wake++
		return tx.PutEvidence(&store.Evidence{Evidence: mocapi.Evidence{ID: request}, Deployment: id, Nonce: nonce, Created: w.clock})
	})
	return request, nonce
}

func (w *world) evidence(request string) *store.Evidence {
	w.t.Helper()
	e, err := w.store.Evidence(w.t.Context(), id, request)
	must(w.t, err)
	return e
}

// appraise is the owner's positive appraisal of the admitted Agent and the wanted TA.
func (w *world) appraise() {
	w.t.Helper()
	w.update(func(_ *store.Tx, d *store.Deployment) error {
		var manifests []string
		for _, c := range d.Installed {
			manifests = append(manifests, c.Digest)
		}
		covers := course.Covers(d, "a1", d.AgentKey.KID(), manifests)
		d.Private.Appraised = &covers
		if next, ok := course.Next(d); ok && next.Step == usecase.Attest {
			return course.Done(d, usecase.Attest, w.clock, "appraisal a1")
		}
		return nil
	})
}

// appraiseAll appraises the Agent and, where the TA comes only then, once more with the TA.
func (w *world) appraiseAll() {
	w.t.Helper()
	w.appraise()
	w.session()
	w.appraise()
}

func (w *world) release(p *store.Package) {
	w.t.Helper()
	w.update(func(_ *store.Tx, d *store.Deployment) error {
		d.SetWanted(p)
		d.Released = true
		course.Recovered(d)
		d.Private.Wake++
		return nil
	})
}

func (w *world) deployment() *store.Deployment {
	w.t.Helper()
	d, err := w.store.Deployment(w.t.Context(), id)
	must(w.t, err)
	return d
}

func (w *world) steps() string {
	var names []string
	for _, s := range w.deployment().Trace {
		names = append(names, string(s.Step.Step))
	}
	return strings.Join(names, " ")
}

func (w *world) connect() []byte {
	w.t.Helper()
	msg, err := w.engine.Connect(w.t.Context(), id)
	must(w.t, err)
	return msg
}

// send hands the TAM a message and returns its answer, nil for 204.
func (w *world) send(msg []byte) []byte {
	w.t.Helper()
	answer, err := w.engine.Message(w.t.Context(), id, msg)
	must(w.t, err)
	return answer
}

// session runs a session to its end and returns how many POSTs it took.
func (w *world) session() (posts int) {
	w.t.Helper()
	return w.sessionWith(w.agent)
}

func (w *world) sessionWith(a *fakeAgent) (posts int) {
	w.t.Helper()
	answer := w.connect()
	for posts = 1; answer != nil; posts++ {
		if posts > 20 {
			w.t.Fatal("the session does not end")
		}
		answer = w.send(a.process(answer))
	}
	return posts
}

// changesNothing fails the test if do changes anything in the database, the answered tokens included.
func (w *world) changesNothing(what string, do func()) {
	w.t.Helper()
	before := w.dump()
	do()
	if after := w.dump(); after != before {
		w.t.Errorf("%s changed the state:\n--- before\n%s--- after\n%s", what, before, after)
	}
}

// dump prints every row of every table.
func (w *world) dump() string {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.dir, "moc.db")+"?mode=ro")
	must(w.t, err)
	defer db.Close()
	var out strings.Builder
	for _, table := range strings.Fields("deployments trace packages evidence appraisals releases events used_tokens token_floors devices tokens") {
		rows, err := db.QueryContext(context.Background(), "SELECT * FROM "+table)
		must(w.t, err)
		names, err := rows.Columns()
		must(w.t, err)
		for rows.Next() {
			values := make([]any, len(names))
			for i := range values {
				values[i] = new([]byte)
			}
			must(w.t, rows.Scan(values...))
			fmt.Fprint(&out, table)
			for _, v := range values {
				fmt.Fprintf(&out, " %q", *v.(*[]byte))
			}
			fmt.Fprintln(&out)
		}
		must(w.t, rows.Err())
		rows.Close()
	}
	return out.String()
}

// problem returns the code and exit code of the deployment's problem.
func (w *world) problem() string {
	if p := w.deployment().Problem; p != nil {
		return fmt.Sprintf("%s/%d", p.Code, p.Exit)
	}
	return ""
}
