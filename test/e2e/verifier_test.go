// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sealift/appraisal"
	"sealift/appraisal/ear"
	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/evidence/emuroot/emutest"
)

// serveVerifier starts `sealift verifier serve` and returns its address; the key of its results lies in key.pem.pub.
func serveVerifier(t *testing.T, u *user, name, policy string, anchors ...string) string {
	t.Helper()
	ready := filepath.Join(u.dir, name+".ready")
	args := []string{"verifier", "serve", "--listen", "127.0.0.1:0", "--policy", policy, "--key", filepath.Join(u.dir, name+".pem"), "--ready-file", ready}
	for _, a := range anchors {
		args = append(args, "--anchor", a)
	}
	cmd := exec.Command(filepath.Join(bin, "sealift"), args...)
	cmd.Dir, cmd.Env = u.dir, append(os.Environ(), "SEALIFT_HOME="+u.home)
	var talk bytes.Buffer
	cmd.Stderr = &talk
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("verifier serve ended with %v\n%s", err, talk.String())
		}
	})
	for range 200 {
		if data, err := os.ReadFile(ready); err == nil {
			return strings.TrimSpace(string(data))
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("verifier serve does not come up\n%s", talk.String())
	return ""
}

// An unmodified client of Veraison's API uses our Verifier: good Evidence is affirmed, altered Evidence is refused inside an
// answer with status 200.
func TestVerifierServesVeraisonsClient(t *testing.T) {
	u := newUser(t)
	client := filepath.Join(u.dir, "veraison")
	build := exec.Command("go", "build", "-o", client, ".")
	build.Dir = filepath.Join("..", "veraison")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the client: %v\n%s", err, text)
	}
	now := time.Now()
	pki := emutest.PKI(t, evidence.TrustZone, now)
	device, err := pki.NewDevice(rand.Reader, "one")
	if err != nil {
		t.Fatal(err)
	}
	agent := sha256.Sum256([]byte("agent"))
	policy, err := appraisal.NewPolicy(appraisal.NewPolicyInput{Name: "service", Hardware: []evidence.Hardware{evidence.TrustZone},
		Roots: []evidence.Anchor{pki.Anchor()}, AgentDigest: agent, AgentSource: "the test"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := policy.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	root, err := pki.Anchor().PEM()
	if err != nil {
		t.Fatal(err)
	}
	at := serveVerifier(t, u, "service", u.write("policy.json", string(text)), u.write("root.pem", string(root)))
	nonce := sha256.Sum256([]byte("nonce"))
	binding := [64]byte(append(nonce[:], nonce[:]...))
	e, err := device.Evidence(rand.Reader, emuroot.Request{Binding: binding, Launch: agent[:], Config: sha256.Sum256([]byte("config")), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func([]byte)
		want   ear.Verdict
	}{
		{"good", func([]byte) {}, ear.Allow},
		{"altered", func(b []byte) { b[len(b)-1] ^= 1 }, ear.Refuse},
	} {
		data := bytes.Clone(e.Data)
		c.change(data)
		b := evidence.Bundle{Hardware: data, HardwareType: e.MediaType, Collateral: e.Collateral, Claims: []byte{0xa0}, Config: []byte("config")}
		out, err := exec.Command(client, at+"/challenge-response/v1/newSession", evidence.MediaType, u.write(c.name+".cmw", string(b.Marshal())),
			hex.EncodeToString(binding[:])).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: the client fails: %v\n%s", c.name, err, out)
		}
		var token string
		if err := json.Unmarshal(bytes.TrimSpace(out), &token); err != nil {
			t.Fatalf("%s: %v\n%s", c.name, err, out)
		}
		got := ear.Check([]byte(token), ear.Expected{Keys: []*cose.Key{publicKey(t, filepath.Join(u.dir, "service.pem.pub"))}, Nonce: binding[:],
			Submods: []string{"emu:trustzone"}, OwnConfiguration: true, MaxAge: time.Minute, Now: time.Now()})
		if got.Verdict != c.want {
			t.Errorf("%s: %s %+v", c.name, got.Verdict, got.Failed())
		}
	}
}

func publicKey(t *testing.T, path string) *cose.Key {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a, err := evidence.ParseAnchorPEM(data)
	if err != nil || a.Key == nil {
		t.Fatal(err)
	}
	return a.Key
}

// An owner asks a further Verifier: one that knows the device agrees, one that expects another Agent refuses, and then the
// owner refuses as well, by name.
func TestOwnerAsksFurtherVerifiers(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	roots := filepath.Join(u.home, "anchors", "*.pem")
	knows := serveVerifier(t, u, "knows", filepath.Join(u.home, "policies", "default.json"), roots)
	data, err := os.ReadFile(filepath.Join(u.home, "policies", "default.json"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := appraisal.ParsePolicy(data)
	if err != nil {
		t.Fatal(err)
	}
	for i := range p.ReferenceValues {
		for k := range p.ReferenceValues[i].Digests {
			p.ReferenceValues[i].Digests[k].Bytes[0] ^= 1
		}
	}
	other, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	strange := serveVerifier(t, u, "strange", u.write("strange.json", string(other)), roots)
	ask := func(name, url string) string {
		return "url=" + url + ",name=" + name + ",key=" + filepath.Join(u.dir, name+".pem.pub")
	}
	u.must("", "pack", textPackage(t, u, "text", "some text"))
	u.must("", "deploy", "--wait", "--ask-verifier", ask("knows", knows), "text.sealift")
	u.refused(4, []string{"verifier.refused", "verifier.threshold", "strange"}, "verify", "--ask-verifier", ask("strange", strange), "text")
	u.must("", "verify", "--ask-verifier", ask("strange", strange), "--ask-verifier", ask("knows", knows), "--verifiers-needed", "2", "text")
	u.refused(4, []string{"verifier.unreachable"}, "verify", "--ask-verifier", ask("knows", "http://127.0.0.1:1"), "text")
	u.must("", "dev", "down")
}
