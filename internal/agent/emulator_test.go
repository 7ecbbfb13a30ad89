// SPDX-License-Identifier: Apache-2.0

//go:build linux

package agent_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/agent"
	"sealift/internal/agentconfig"
	"sealift/internal/channel"
	"sealift/internal/launch"
	"sealift/internal/owner/manifest"
	"sealift/internal/platform"
	"sealift/internal/platform/emulator"
	"sealift/internal/platform/sandbox"
	"sealift/internal/sharedtest"
	"sealift/suit/report"
	"sealift/teep"
	"sealift/usecase"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	os.Exit(m.Run())
}

// built builds a static program.
func built(t *testing.T, pkg string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// syncBuffer collects the emulator's log.
type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// device is an emulated device with the real Agent binary in an instance of it.
type device struct {
	*world
	driver platform.Driver
	image  string
	config []byte
	state  string
	log    syncBuffer
	stop   func()
}

func newDevice(t *testing.T) *device {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and starts programs")
	}
	for _, f := range sandbox.Probe() {
		if f.Required && !f.OK {
			sharedtest.Missing(t, "%s: %s", f.Name, f.Detail)
		}
	}
	d := &device{world: &world{t: t, ree: newREE()}, image: built(t, "sealift/cmd/sealift-agent"), state: t.TempDir()}
	d.tam, _ = newSigner(t, cose.AlgEd25519)
	d.owner, d.ownerKey = newSigner(t, cose.AlgEd25519)
	d.config = agentconfig.Config{
		Version: agentconfig.Version, Deployment: "d1", Hardware: "trustzone", Instance: "process",
		TAMKeys: []*cose.Key{d.tam.Key()}, TAMURI: "http://tam.invalid/d1",
		Owners: []agentconfig.Owner{{Key: d.owner.Key(), App: "app"}},
	}.Marshal()
	d.serve()
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Log(d.log.String())
		}
	})
	return d
}

// serve starts the emulator, the instance and the Broker's end of the channel.
func (d *device) serve() {
	d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	socket := filepath.Join(d.t.TempDir(), "hw")
	ready, done := make(chan platform.Info, 1), make(chan error, 1)
	go func() {
		done <- emulator.Serve(ctx, d.state, socket, emulator.Options{
			Log: slog.New(slog.NewTextHandler(&d.log, nil)), Ready: func(i platform.Info) { ready <- i },
		})
	}()
	d.stop = sync.OnceFunc(func() { cancel(); <-done })
	select {
	case <-ready:
	case err := <-done:
		done <- err
		d.t.Fatal(err)
	}
	d.driver = emulator.Dial(socket)
	var err error
	if d.pki, err = emuroot.Load(filepath.Join(d.state, "pki")); err != nil {
		d.t.Fatal(err)
	}
	d.launch()
}

func (d *device) launch() {
	d.t.Helper()
	image, err := os.Open(d.image)
	if err != nil {
		d.t.Fatal(err)
	}
	defer image.Close()
	if err := d.driver.Launch(d.t.Context(), platform.Spec{ID: "d1", Agent: image, Config: d.config}); err != nil {
		d.t.Fatal(err)
	}
	conn, err := d.driver.Attach(d.t.Context(), "d1")
	if err != nil {
		d.t.Fatal(err)
	}
	if d.client, err = channel.ServeBroker(conn, d.ree); err != nil {
		d.t.Fatal(err)
	}
}

// TestRealAgent runs a deployment with the real Agent binary in the emulated TEE, and real TAs in sandboxes within.
func TestRealAgent(t *testing.T) {
	d := newDevice(t)
	begin := time.Now()
	v, _ := d.attest()
	t.Logf("first Evidence after %v", time.Since(begin))
	if !v.Emulated || len(v.Claims.TAs) != 0 {
		t.Fatalf("%+v", v)
	}
	image, err := os.ReadFile(built(t, "./testdata/ta"))
	if err != nil {
		t.Fatal(err)
	}
	spec := launch.Spec{Args: []string{"-data", "${PD}"}}
	ta := d.program(usecase.TA, 1, string(image), spec)
	d.succeeds(d.update(ta), 1)
	owner := certificate(t, d.ownerKey, d.ownerKey.Public())
	ask := func(question, want string) {
		t.Helper()
		eventually(t, func() bool {
			got, err := d.call(d.claim().TLSKey, owner, question)
			if err == nil && got != want {
				t.Fatalf("%q: %q", question, got)
			}
			return err == nil
		})
	}
	ask("q1", "|-data /pd|q1")
	ask("network", "true true")
	const secret = "rows of canary 5d3e9a"
	d.succeeds(d.update(d.data(1, secret, d.claim().EncKey, ta)), 1)
	ask("q2", "rows="+secret+"|-data /pd|q2")
	if _, err := d.call(d.claim().TLSKey, nil, "q"); err == nil {
		t.Fatal("a stranger was let in")
	}
	d.attestsItself(owner)
	_, _ = d.call(d.claim().TLSKey, owner, "exit")
	ask("q3", "rows="+secret+"|-data /pd|q3")

	key := d.claim().TLSKey
	d.stop() // the device loses its power
	d.serve()
	if now := d.claim().TLSKey; !now.Equal(key) {
		t.Fatal("the TA has another key after the restart")
	}
	ask("q4", "rows="+secret+"|-data /pd|q4")
	d.neverOnDisk(secret)
	d.succeeds(d.remove(manifest.ID("app", "ta")), 1)
	if got := d.installed(); got != "" {
		t.Fatal(got)
	}
	if strings.Contains(d.log.String(), secret) {
		t.Fatal("the data is in the log")
	}
}

// attestsItself lets the TA ask for Evidence for its own nonce.
func (d *device) attestsItself(owner *tls.Certificate) {
	d.t.Helper()
	bundle, err := d.call(d.claim().TLSKey, owner, "attest")
	if err != nil {
		d.t.Fatal(err)
	}
	challenge := agent.TAChallenge(taID, []byte("a nonce of this TA"))
	v, err := evidence.Verify([]byte(bundle), evidence.Input{
		Challenge: challenge[:], AgentKey: d.agentKey, Anchors: evidence.Anchors{Roots: []evidence.Anchor{d.pki.Anchor()}}, Now: time.Now(),
	})
	if err != nil || len(v.Claims.TAs) != 1 {
		d.t.Fatalf("%+v, %v", v, err)
	}
}

func (d *device) neverOnDisk(secret string) {
	d.t.Helper()
	err := filepath.Walk(d.state, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(secret)) {
			d.t.Fatalf("the data is in %s", path)
		}
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// TestRealStdio runs a stdio TA, and refuses what is no program.
func TestRealStdio(t *testing.T) {
	d := newDevice(t)
	d.attest()
	image, err := os.ReadFile(built(t, "./testdata/ta"))
	if err != nil {
		t.Fatal(err)
	}
	d.fails(d.update(d.program(usecase.TA, 1, "#!/bin/sh\nexit 0\n", anyStdio)), report.ReasonComponentUnsupported, "program cannot be run")
	ta := d.program(usecase.TA, 1, string(image), anyStdio)
	d.succeeds(d.update(ta), 1)
	d.succeeds(d.update(d.data(1, "the rows", d.claim().EncKey, ta)), 1)
	for range 3 {
		d.asks("line", "rows=the rows||line")
	}
}

// TestRealBusybox runs a program that nobody wrote for TEEs.
func TestRealBusybox(t *testing.T) {
	image, err := os.ReadFile("/bin/busybox")
	if err != nil {
		sharedtest.Missing(t, "there is no /bin/busybox here")
	}
	d := newDevice(t)
	d.attest()
	spec := anyStdio
	spec.Name, spec.Args = "busybox", []string{"grep", "-i", "-f", "/dev/stdin", "${PD}/rows"}
	ta := d.program(usecase.TA, 1, string(image), spec)
	if e, ok := d.update(ta).(*teep.Error); ok {
		if strings.Contains(e.Msg, "program cannot be run") {
			sharedtest.Missing(t, "/bin/busybox is not static here") // busybox-static is
		}
		t.Fatal(e.Msg)
	}
	d.succeeds(d.update(d.data(1, "00-00-01 Alpha\n00-00-02 Beta\n00-00-03 alphabet\n", d.claim().EncKey, ta)), 1)
	d.asks("ALPHA\n", "00-00-01 Alpha\n00-00-03 alphabet\n")
	if got, err := d.call(d.claim().TLSKey, nil, "gamma\n"); got != "" || !errors.Is(err, errEnd) || !strings.Contains(err.Error(), "exit code 1") {
		t.Errorf("what grep says of no line: %q, %v", got, err)
	}
}
