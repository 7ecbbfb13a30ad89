// SPDX-License-Identifier: Apache-2.0

package owner_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/agentconfig"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner"
	"sealift/internal/owner/archive"
	"sealift/internal/owner/home"
	"sealift/internal/owner/packfile"
	"sealift/suit"
	"sealift/teep"
	"sealift/usecase"
)

var agentBinary = []byte("the Agent that the owner trusts")

const canary = "canary-of-the-personalization-data-4711"

// taBinary is a small static program, built once.
var buildTA = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "owner-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	src, out := filepath.Join(dir, "main.go"), filepath.Join(dir, "ta")
	if err := os.WriteFile(src, []byte("package main\nfunc main() {}\n"), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "build", "-o", out, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=-trimpath")
	if _, err := cmd.CombinedOutput(); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
})

func taBinary(t *testing.T) []byte {
	t.Helper()
	data, err := buildTA()
	must(t, err)
	return data
}

// world is an owner with a packed application and an M/OC.
type world struct {
	moc    *fakeMOC
	owner  *owner.Owner
	dir    string
	pkg    string
	packed *owner.Packed
	events []owner.Event
}

func newWorld(t *testing.T, mode usecase.Mode) *world {
	t.Helper()
	w := &world{moc: newFakeMOC(t), dir: t.TempDir()}
	h, err := home.Open(filepath.Join(w.dir, "home"))
	must(t, err)
	w.owner = owner.New(h)
	w.owner.Retry = owner.Retry{Total: 2 * time.Second, First: time.Millisecond, Max: 10 * time.Millisecond}
	w.owner.Events = func(e owner.Event) { w.events = append(w.events, e) }
	must(t, h.AddAnchor(w.moc.pki.Anchor()))
	agent := filepath.Join(w.dir, "agent")
	must(t, os.WriteFile(agent, agentBinary, 0o600))
	_, err = w.owner.InitPolicy(owner.PolicyRequest{AgentFiles: []string{agent}, AcceptEmulated: true})
	must(t, err)
	_, err = w.owner.SetContext(t.Context(), "test", home.Context{URL: w.moc.URL, Token: "secret", TAMKeys: w.moc.tamKeys})
	must(t, err)
	w.pack(t, mode)
	return w
}

func (w *world) pack(t *testing.T, mode usecase.Mode) {
	t.Helper()
	ta := filepath.Join(w.dir, "ta")
	must(t, os.WriteFile(ta, taBinary(t), 0o600))
	data := filepath.Join(w.dir, "records.csv")
	must(t, os.WriteFile(data, []byte("name,value\n"+canary+",1\n"), 0o600))
	large := filepath.Join(w.dir, "large.bin")
	must(t, os.WriteFile(large, bytes.Repeat([]byte(canary), 40_000), 0o600))
	f := packfile.New(nil)
	f.Name, f.Mode = "stats", mode
	f.Hardware, f.Instances = []usecase.Hardware{"trustzone"}, []usecase.Instance{"process"}
	f.TA = &packfile.TA{Binary: ta, Args: []string{"--data", "${PD}/records.csv"}}
	if mode.Has(usecase.UA) {
		f.UA = &packfile.UA{Binary: ta, Ports: []packfile.Port{{Name: "http"}}}
	}
	f.PD = []packfile.Data{{Name: "records.csv", Path: data}, {Name: "large.bin", Path: large}}
	var err error
	w.pkg = filepath.Join(w.dir, "stats.sealift")
	w.packed, err = w.owner.Pack(owner.PackRequest{File: f, Out: w.pkg})
	must(t, err)
}

func (w *world) deploy(t *testing.T) *mocapi.Deployment {
	t.Helper()
	d, err := w.owner.Deploy(t.Context(), owner.DeployRequest{Package: w.pkg})
	must(t, err)
	return d
}

func TestDeployWait(t *testing.T) {
	for _, mode := range usecase.Modes() {
		t.Run(string(mode), func(t *testing.T) {
			w := newWorld(t, mode)
			d, err := w.owner.Deploy(t.Context(), owner.DeployRequest{Package: w.pkg, Wait: true, Timeout: time.Minute})
			must(t, err)
			if d.State != mocapi.StateRunning || len(w.moc.releases) != 1 {
				t.Fatalf("state %s, %d releases", d.State, len(w.moc.releases))
			}
			w.checkOpened(t)
			w.checkNothingLeaked(t)
			list, err := w.owner.Status(t.Context(), "stats")
			must(t, err)
			if len(list) != 1 || !list[0].Emulated || len(list[0].Drift) > 0 || list[0].Released == nil {
				t.Errorf("status %+v", list[0])
			}
			must(t, w.owner.Remove(t.Context(), "stats"))
			if _, err := w.owner.Appraised("stats"); !fault.Is(err, fault.NotFound) {
				t.Errorf("after the removal: %v", err)
			}
		})
	}
}

// checkOpened decrypts the released payloads with the key that is inside the TEE, and only with that one.
func (w *world) checkOpened(t *testing.T) {
	t.Helper()
	w.moc.mu.Lock()
	defer w.moc.mu.Unlock()
	ref := w.moc.releases[0].Packages[0]
	layers, m := w.moc.layers(ref), w.moc.manifest(ref)
	right, wrong := w.moc.taEnc, w.moc.agentEnc
	if ref.Role == mocapi.PackageBundle {
		right, wrong = wrong, right
	}
	var contents []string
	for _, c := range m.Install {
		info, ok := c.Params.Bytes(suit.ParamEncryptionInfo)
		if !ok {
			continue
		}
		if _, err := cose.OpenInfo(info, teeKeys{wrong}, cose.ContextSUITPayload); err == nil {
			t.Error("another key opens the payload")
		}
		cipher, err := cose.OpenInfo(info, teeKeys{right}, cose.ContextSUITPayload)
		must(t, err)
		var out bytes.Buffer
		_, err = cipher.Open(&out, bytes.NewReader(layers[1+len(contents)]))
		must(t, err)
		contents = append(contents, out.String())
	}
	want := []string{"name,value\n" + canary + ",1\n", strings.Repeat(canary, 40_000)}
	if ref.Role == mocapi.PackageBundle {
		mode := usecase.Mode(w.moc.dep.Mode)
		if mode.Sealed(usecase.TA) {
			want = append([]string{string(taBinary(t))}, want...)
		}
		if mode.Sealed(usecase.UA) {
			want = append(want, string(taBinary(t)))
		}
	}
	if len(contents) != len(want) {
		t.Fatalf("%d payloads, want %d", len(contents), len(want))
	}
	for i := range want {
		if contents[i] != want[i] {
			t.Errorf("payload %d differs", i)
		}
	}
}

// checkNothingLeaked looks for PD in all that the owner sent, in the package file, and in what is left of its work.
func (w *world) checkNothingLeaked(t *testing.T) {
	t.Helper()
	sent := w.moc.wire.Bytes()
	if len(sent) < 1000 {
		t.Fatalf("only %d bytes were recorded", len(sent))
	}
	pkg, err := os.ReadFile(w.pkg)
	must(t, err)
	left, err := os.ReadDir(filepath.Join(w.owner.Home.Dir(), "work"))
	must(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	places := map[string][]byte{"the wire": sent, "the package file": pkg}
	for name, data := range places {
		if where := findCanary(data, []byte(canary)); where != "" {
			t.Errorf("PD is in %s (%s)", name, where)
		}
	}
	mode := w.packed.Description.Mode
	if mode.Sealed(usecase.TA) && (mode.Sealed(usecase.UA) || !mode.Has(usecase.UA)) { // there the programs are secret as well
		for name, data := range places {
			if bytes.Contains(data, taBinary(t)[:4096]) {
				t.Errorf("the TA is in %s", name)
			}
		}
	}
	if findCanary(append(sent, "x"+hex.EncodeToString([]byte(canary))...), []byte(canary)) == "" {
		t.Error("the scan does not find a planted canary")
	}
}

// findCanary looks for secret in raw, hexadecimal and base64 form, the latter at each of its three alignments.
func findCanary(data, secret []byte) string {
	if bytes.Contains(data, secret) {
		return "raw"
	}
	if bytes.Contains(bytes.ToLower(data), []byte(hex.EncodeToString(secret))) {
		return "hexadecimal"
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for skip := range 3 {
			part := secret[skip:]
			part = part[:len(part)/3*3]
			if bytes.Contains(data, []byte(enc.EncodeToString(part))) {
				return "base64"
			}
		}
	}
	return ""
}

// TestRefused has one dishonest operator for each claim: each must be refused with that claim named, and nothing released.
func TestRefused(t *testing.T) {
	_, stranger := newKey(t, cose.AlgESP256)
	for name, tc := range map[string]struct {
		plant func(*fakeMOC)
		code  string
	}{
		"measurement":  {func(m *fakeMOC) { m.agent[0] ^= 1 }, "appraisal.measurement"},
		"nonce":        {func(m *fakeMOC) { m.staleNonce = true }, evidence.CodeNonce},
		"signature":    {func(m *fakeMOC) { m.flipBit = true }, evidence.CodeSignature},
		"ta-swap":      {func(m *fakeMOC) { m.changeTA = func(ta *evidence.TAClaim) { ta.Digest = suit.SHA256([]byte("x")) } }, "appraisal.ta.digest"},
		"rollback":     {func(m *fakeMOC) { m.changeTA = func(ta *evidence.TAClaim) { ta.Sequence-- } }, "appraisal.ta.sequence"},
		"ta-signer":    {func(m *fakeMOC) { m.changeTA = func(ta *evidence.TAClaim) { ta.Signer = stranger.KID() } }, "appraisal.ta.signer"},
		"ta-missing":   {func(m *fakeMOC) { m.changeTA = func(ta *evidence.TAClaim) { ta.Sequence = 0 } }, "appraisal.ta.missing"},
		"second owner": {func(m *fakeMOC) { m.changeConf = addOwner(stranger) }, owner.CodeConfigOwner},
		"other app": {func(m *fakeMOC) {
			m.changeConf = func(c *agentconfig.Config) { c.Owners[0].App = "other" }
		}, owner.CodeConfigOwner},
		"shared, not asked for": {func(m *fakeMOC) {
			m.changeConf = func(c *agentconfig.Config) { c.Owners[0].App = agentconfig.AnyApp }
		}, owner.CodeConfigOwner},
		"another TA": {func(m *fakeMOC) { m.beside = stranger }, "appraisal.ta.unexpected"},
		"other TAM": {func(m *fakeMOC) {
			m.changeConf = func(c *agentconfig.Config) { c.TAMKeys = []*cose.Key{stranger} }
		}, owner.CodeConfigTAM},
		"further TAM": {func(m *fakeMOC) {
			m.changeConf = func(c *agentconfig.Config) {
				c.FurtherTAMs = []agentconfig.TAM{{URI: "http://other.invalid/", Keys: []*cose.Key{stranger}}}
			}
		}, owner.CodeConfigTAM},
		"lenient Agent": {func(m *fakeMOC) {
			m.changeConf = func(c *agentconfig.Config) { c.Profile = teep.ProfileDrafts }
		}, owner.CodeConfigTAM},
		"other deployment": {func(m *fakeMOC) { m.changeConf = func(c *agentconfig.Config) { c.Deployment = "d-2" } }, owner.CodeConfigDeployment},
		"other place":      {func(m *fakeMOC) { m.changeConf = func(c *agentconfig.Config) { c.Instance = "container" } }, owner.CodeConfigPlace},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, usecase.ModeTAPD)
			w.pack(t, usecase.ModeTAPD) // so that there is an older sequence number to fall back to
			tc.plant(w.moc)
			_, err := w.owner.Deploy(t.Context(), owner.DeployRequest{Package: w.pkg, Wait: true})
			var refused *owner.Refused
			if !asRefused(err, &refused) {
				t.Fatalf("got %v", err)
			}
			if f := fault.From(err); f.Code != fault.AppraisalRefused || f.Exit != fault.ExitAttestation {
				t.Errorf("code %s, exit %d", f.Code, f.Exit)
			}
			found := false
			for _, f := range refused.Result.Failed() {
				found = found || f.Code == tc.code
			}
			if !found {
				t.Errorf("%s is not among the findings: %v", tc.code, err)
			}
			hasText(t, err, "EMULATED")
			if len(w.moc.releases) > 0 {
				t.Error("something was released")
			}
			if _, err := w.owner.Appraised("stats"); !fault.Is(err, fault.ReleaseBeforeAppraisal) {
				t.Errorf("Appraised after a refusal: %v", err)
			}
		})
	}
}

func addOwner(k *cose.Key) func(*agentconfig.Config) {
	return func(c *agentconfig.Config) { c.Owners = append(c.Owners, agentconfig.Owner{Key: k, App: "stats"}) }
}

func asRefused(err error, target **owner.Refused) bool {
	for err != nil {
		if r, ok := err.(*owner.Refused); ok {
			*target = r
			return true
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return false
		}
		err = u.Unwrap()
	}
	return false
}

// TestReleaseNeedsAppraisal: exit code 5, and not a byte of PD encrypted.
func TestReleaseNeedsAppraisal(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	d := w.deploy(t)
	if _, err := w.owner.Appraised(d.ID); err == nil || fault.From(err).Exit != fault.ExitPolicy || !fault.Is(err, fault.ReleaseBeforeAppraisal) {
		t.Errorf("without an appraisal: %v", err)
	}
	for _, none := range []*owner.Appraised{nil, {Deployment: d.ID}} {
		if _, err := w.owner.Release(t.Context(), none); !fault.Is(err, fault.ReleaseBeforeAppraisal) {
			t.Errorf("released without an appraisal: %v", err)
		}
	}
	w.moc.otherAgent = true
	a, err := w.owner.Verify(t.Context(), d.ID, owner.VerifyOptions{})
	must(t, err)
	if _, err := w.owner.Release(t.Context(), a); !fault.Is(err, fault.ReleaseBeforeAppraisal) {
		t.Errorf("released to another Agent: %v", err)
	}
	if len(w.moc.releases) > 0 {
		t.Error("something was released")
	}
}

func TestChangedPDIsNotReleased(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	d := w.deploy(t)
	a, err := w.owner.Verify(t.Context(), d.ID, owner.VerifyOptions{})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(w.dir, "records.csv"), []byte("name,value\n"+strings.ToUpper(canary)+",1\n"), 0o600))
	_, err = w.owner.Release(t.Context(), a)
	hasText(t, err, "changed since it was packed")
}

func TestAbsentMOC(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	w.moc.away = 5
	if _, err := w.owner.Deploy(t.Context(), owner.DeployRequest{Package: w.pkg, Wait: true}); err != nil {
		t.Errorf("an M/OC that restarts: %v", err)
	}
	w.owner.Retry.Total = 50 * time.Millisecond
	w.moc.Close()
	_, err := w.owner.Verify(t.Context(), "stats", owner.VerifyOptions{})
	if fault.From(err).Exit != fault.ExitUnreachable {
		t.Errorf("an M/OC that stays away: %v", err)
	}
	list, err := w.owner.Status(t.Context(), "")
	must(t, err)
	if list[0].State() != "unreachable" {
		t.Errorf("status %s", list[0].State())
	}
}

// TestLostAnswer: the M/OC creates the deployment and the answer is lost; there must be one deployment, not two.
func TestLostAnswer(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	w.moc.loseCreate = true
	if d := w.deploy(t); d.ID != "d-1" || w.moc.created != 1 {
		t.Errorf("deployment %s, created %d times", d.ID, w.moc.created)
	}
}

// TestInterruptedDeploy: a deployment that the folder does not know of is shown, and can be removed by its id.
func TestInterruptedDeploy(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	d := w.deploy(t)
	must(t, w.owner.Forget(d.ID))
	list, err := w.owner.Status(t.Context(), "")
	must(t, err)
	if len(list) != 1 || !list[0].Unknown || list[0].ID != d.ID {
		t.Fatalf("status %+v", list)
	}
	must(t, w.owner.Remove(t.Context(), d.ID))
	if w.moc.dep.State != mocapi.StateRemoved {
		t.Errorf("the deployment is %s", w.moc.dep.State)
	}
	if err := w.owner.Remove(t.Context(), "other"); !fault.Is(err, fault.NotFound) {
		t.Errorf("removing what is nowhere: %v", err)
	}
}

func TestPlanOfTheOperator(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	w.moc.swapPlan = true
	_, err := w.owner.Deploy(t.Context(), owner.DeployRequest{Package: w.pkg})
	if fault.From(err).Exit != fault.ExitDrift {
		t.Errorf("a plan with PD before the attestation: %v", err)
	}
}

func TestProductionPolicyRefusesEmulated(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	_, err := w.owner.InitPolicy(owner.PolicyRequest{Name: "prod", AgentDigests: nil, AgentFiles: []string{filepath.Join(w.dir, "agent")}, Production: true})
	if fault.From(err).Exit != fault.ExitPolicy {
		t.Errorf("a production policy over an emulated root: %v", err)
	}
	hasText(t, err, "EMULATED")
}

func TestSequenceRises(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	first := w.packed.Description.Sequence
	w.pack(t, usecase.ModeTAPD)
	if second := w.packed.Description.Sequence; second != first+1 {
		t.Errorf("%d after %d", second, first)
	}
	f, err := archive.Open(w.pkg)
	must(t, err)
	defer f.Close()
	envelope, err := f.Artifacts[0].Envelope()
	must(t, err)
	e, err := suit.ParseEnvelope(envelope)
	must(t, err)
	v, err := e.Verify([]*cose.Key{f.Description.Owner}, suit.VerifyOptions{})
	must(t, err)
	if v.Sequence != first+1 {
		t.Errorf("the manifest says %d", v.Sequence)
	}
}

func TestCancelled(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.owner.Deploy(ctx, owner.DeployRequest{Package: w.pkg}); err == nil {
		t.Error("a cancelled deployment succeeded")
	}
}
