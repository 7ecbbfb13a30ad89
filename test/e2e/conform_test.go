// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sealift/cose"
)

// conformance is what `sealift conform --json` prints: the names of its members are what other programs rely on.
type conformance struct {
	Role    string `json:"role"`
	Peer    string `json:"peer"`
	Results []struct {
		Requirement string `json:"requirement"`
		Section     string `json:"section"`
		Title       string `json:"title"`
		Status      string `json:"status"`
		Reason      string `json:"reason"`
		Messages    []struct {
			From string `json:"from"`
			Note string `json:"note"`
			Hex  string `json:"hex"`
			Diag string `json:"diag"`
		} `json:"messages"`
	} `json:"results"`
	Passed        *int `json:"passed"`
	Failed        *int `json:"failed"`
	NotApplicable *int `json:"not_applicable"`
}

// readConformance checks the shape of the report and that it agrees with itself and with the exit code. It returns why rows are not
// applicable.
func readConformance(t *testing.T, r result, role string) (report conformance, unseen []string) {
	t.Helper()
	if strings.Count(r.stdout, "\n") != 1 {
		t.Fatalf("exit %d, stdout is not one line\n%s\n%s", r.code, r.stdout, r.stderr)
	}
	decode(t, r.stdout, &report)
	if report.Role != role || report.Peer == "" || report.Passed == nil || report.Failed == nil || report.NotApplicable == nil {
		t.Fatalf("the report lacks something: %.300s", r.stdout)
	}
	count := map[string]int{}
	for _, row := range report.Results {
		count[row.Status]++
		if row.Requirement == "" || row.Section == "" || row.Title == "" || row.Status != "passed" && row.Reason == "" {
			t.Errorf("a row without everything that belongs to it: %+v", row)
		}
		switch row.Status {
		case "failed":
			t.Errorf("%s %s: %s", row.Section, row.Title, row.Reason)
		case "not applicable":
			unseen = append(unseen, row.Reason)
		}
		for _, m := range row.Messages {
			if m.From != "kit" && m.From != "peer" {
				t.Errorf("%s: a message from %q", row.Title, m.From)
			}
		}
	}
	if count["passed"] != *report.Passed || count["failed"] != *report.Failed || count["not applicable"] != *report.NotApplicable ||
		len(report.Results) != *report.Passed+*report.Failed+*report.NotApplicable {
		t.Errorf("the sums do not fit: %v, %d rows", count, len(report.Results))
	}
	if ok := *report.Failed == 0 && *report.Passed > 0; ok != (r.code == 0) {
		t.Errorf("exit %d with %d failed", r.code, *report.Failed)
	}
	return report, unseen
}

// serving starts a long-running command line and waits for the file that says that it serves; it is ended with the test.
func serving(t *testing.T, u *user, ready string, args ...string) {
	t.Helper()
	cmd, wait := u.background(args...)
	ended := make(chan result, 1)
	go func() { ended <- wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if r := <-ended; r.code != 0 {
			t.Errorf("sealift %s: exit %d\n%s", args[0], r.code, r.stderr)
		}
	})
	waitFor(t, ready, ended)
}

// waitFor waits for a file that a command line writes when it is ready.
func waitFor(t *testing.T, path string, ended <-chan result) string {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(text))
		}
		select {
		case r := <-ended:
			t.Fatalf("it ended: exit %d\n%s\n%s", r.code, r.stdout, r.stderr)
		default:
		}
	}
	t.Fatalf("%s is not written", filepath.Base(path))
	return ""
}

// freePort finds an address that nobody listens on now.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// operatorsMOC is a real M/OC with a root of EMULATED hardware that it trusts, an owner who has a package, and a token for the kit's device.
type operatorsMOC struct {
	*user
	url, root, agent, deviceToken string
}

func newMOC(t *testing.T, args ...string) *operatorsMOC {
	t.Helper()
	u := newUser(t)
	t.Cleanup(func() { nothingLeft(t) })
	m := &operatorsMOC{user: u, root: filepath.Join(u.dir, "emulator", "pki"), agent: filepath.Join(bin, "sealift-agent")}
	emulatorReady := filepath.Join(u.dir, "emulator.ready")
	serving(t, u, emulatorReady, "emulator", "run", "--state", filepath.Join(u.dir, "emulator"), "--socket", filepath.Join(u.dir, "tee.sock"),
		"--ready-file", emulatorReady)
	state := filepath.Join(u.dir, "moc")
	m.deviceToken = u.write("device.token", u.must("", "moc", "token", "--state", state, "--role", "device", "--name", "kit").stdout)
	owner := u.write("owner.token", u.must("", "moc", "token", "--state", state, "--role", "owner", "--name", "alice").stdout)
	listen := freePort(t)
	m.url = "http://" + listen
	cmd, wait := u.background(append([]string{"moc", "serve", "--state", state, "--listen", listen, "--agent", m.agent,
		"--anchor", filepath.Join(m.root, "root.pem")}, args...)...)
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if r := wait(); r.code != 0 {
			t.Errorf("moc serve: exit %d\n%s", r.code, r.stderr)
		}
	})
	eventually(t, 20*time.Second, "the M/OC serves", func() bool {
		conn, err := net.Dial("tcp", listen)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	u.must("", "keys", "generate")
	u.must("", "context", "set", m.url, "--token-file", owner)
	u.must("", "pack", textPackage(t, u, "text", "some text"))
	return m
}

// probe runs `conform tam` as a device of the M/OC, and deploys to it.
func (m *operatorsMOC) probe(url ...string) result {
	m.t.Helper()
	ready := filepath.Join(m.dir, "kit.ready")
	_ = os.Remove(ready)
	_, wait := m.background(append([]string{"conform", "tam", "--json", "--moc", m.url, "--token-file", m.deviceToken, "--emulated-root", m.root,
		"--agent", m.agent, "--ready-file", ready}, url...)...)
	ended := make(chan result, 1)
	go func() { ended <- wait() }()
	name := waitFor(m.t, ready, ended)
	m.must("", "deploy", "--device", name, "text.sealift")
	return <-ended
}

// TestConformTAM: our TAM in a real M/OC keeps every requirement, under the TAM URI of a deployment and under the generic one.
func TestConformTAM(t *testing.T) {
	verifier := filepath.Join(t.TempDir(), "tam.result")
	m := newMOC(t, "--generic-uri", "--tam-result", verifier)
	writeTAMResult(t, verifier)
	report, unseen := readConformance(t, m.probe(), "TAM")
	if len(unseen) > 0 || *report.Passed < 70 {
		t.Errorf("%d passed, not applicable: %q", *report.Passed, unseen)
	}
	// Under the generic URI each session is one with somebody unknown, who is asked for attestation and gets no token.
	report, unseen = readConformance(t, m.probe(m.url+"/tam"), "TAM")
	if *report.Passed < 55 || slices.ContainsFunc(unseen, func(why string) bool { return !strings.Contains(why, "sends no token") }) {
		t.Errorf("%d passed, not applicable: %q", *report.Passed, unseen)
	}
	// What somebody types who knows nothing but the address.
	report, unseen = readConformance(t, m.must("", "conform", "tam", "--json", m.url+"/tam"), "TAM")
	if *report.Passed < 12 || len(unseen) == 0 || report.Peer != m.url+"/tam" {
		t.Errorf("%d passed, not applicable: %q", *report.Passed, unseen)
	}
	table := m.must("", "conform", "tam", m.url+"/tam").stdout
	for _, words := range []string{"NUMBER", "PASSED", "the kit was given no attester", "the kit was given no key of the TAM", fmt.Sprintf("%d passed, 0 failed", *report.Passed)} {
		if !strings.Contains(table, words) {
			t.Errorf("the table does not say %q:\n%s", words, table)
		}
	}
	// A TAM that does not serve there fails, and one that is not there cannot be probed.
	m.refused(1, []string{"the peer does not keep all requirements"}, "conform", "tam", m.url+"/elsewhere")
	m.refused(3, []string{"cannot be probed"}, "conform", "tam", "http://"+freePort(t)+"/tam")
	m.refused(2, []string{"the TAM's URL is missing"}, "conform", "tam")
	m.refused(2, []string{"role owner"}, "conform", "tam", "--moc", m.url, "--token-file", filepath.Join(m.dir, "owner.token"),
		"--emulated-root", m.root, "--agent", m.agent)
}

// writeTAMResult writes an Attestation Result about the TAM, as a Verifier of the operator's choice has signed it. Our TAM hands it on as
// it is.
func writeTAMResult(t *testing.T, path string) {
	t.Helper()
	key, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := cose.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	data, err := cose.Sign1(rand.Reader, verifier, cose.MustMarshal(map[int]any{6: time.Now().Unix()}))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestConformAgent: a real Agent, which a real Broker has launched in an instance of the real emulator, keeps every requirement. Nothing of
// it is left on the device.
func TestConformAgent(t *testing.T) {
	u := newUser(t)
	t.Cleanup(func() { nothingLeft(t) })
	socket := filepath.Join(u.dir, "tee.sock")
	ready := func(name string) string { return filepath.Join(u.dir, name+".ready") }
	serving(t, u, ready("emulator"), "emulator", "run", "--state", filepath.Join(u.dir, "emulator"), "--socket", socket, "--ready-file", ready("emulator"))
	tokenFile := filepath.Join(u.dir, "device.token")
	_, wait := u.background("conform", "agent", "--json", "--broker-listen", "127.0.0.1:0", "--token-file", tokenFile, "--ready-file", ready("kit"),
		"--patience", "60s")
	ended := make(chan result, 1)
	go func() { ended <- wait() }()
	url := waitFor(t, ready("kit"), ended)
	broker := []string{"broker", "run", "--device", "conform", "--moc", url, "--state", filepath.Join(u.dir, "broker"), "--emulator", socket}
	wrong := u.write("wrong.token", "nobody-gave-me-this\n")
	u.refused(1, []string{"the bearer token is not known"}, append(broker, "--token-file", wrong)...)
	serving(t, u, ready("broker"), append(broker, "--token-file", tokenFile, "--ready-file", ready("broker"))...)
	report, unseen := readConformance(t, <-ended, "Agent")
	if len(unseen) > 0 || *report.Passed < 40 {
		t.Errorf("%d passed, not applicable: %q", *report.Passed, unseen)
	}
	eventually(t, 10*time.Second, "the instance is destroyed", func() bool {
		for _, p := range processes(t) {
			if strings.Contains(strings.Join(p.args, " "), "sealift-agent") {
				return false
			}
		}
		return true
	})
}
