// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emulator_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sealift/evidence"
	"sealift/internal/image"
	imagebuild "sealift/internal/image/build"
	"sealift/internal/image/initramfs"
	"sealift/internal/platform"
	"sealift/internal/platform/emulator"
	"sealift/internal/platform/qemu"
	"sealift/internal/sharedtest"
)

// kernel is the one that scripts/setup.sh has fetched.
func kernel(t testing.TB) *imagebuild.Kernel {
	t.Helper()
	if _, err := qemu.Find(); err != nil {
		sharedtest.Missing(t, "%v", err)
	}
	k, err := imagebuild.ReadKernel(filepath.Join(sharedtest.Root(t), ".cache", "kernel"))
	if err != nil {
		sharedtest.Missing(t, "scripts/setup.sh was not run: %v", err)
	}
	return k
}

// guestImage writes the image of a vm with the test agent.
func guestImage(t testing.TB, k *imagebuild.Kernel, vm imagebuild.VM) string {
	t.Helper()
	program, err := os.ReadFile(agentPath(t))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := imagebuild.Guest(&out, program, []byte("no runtime"), k, vm); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "vm.img")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var small = imagebuild.VM{Cmdline: imagebuild.DefaultCmdline, VCPUs: 1, MemoryMiB: 192}

// qemus returns the process IDs of the virtual machines that this process has started.
func qemus() (pids []int) {
	for _, pid := range agentsOf(os.Getpid()) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && bytes.HasPrefix(line, []byte(qemu.Program+"\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestVM leads an Agent in a virtual machine through its life: hardware, store, channels that supersede each other, a TA and
// what it tries to get out, the machine killed and hanging, and launched again with all that it had.
func TestVM(t *testing.T) {
	k := kernel(t)
	path := guestImage(t, k, small)
	trials := qemu.Trials(filepath.Join(t.TempDir(), "trials"))
	w := serve(t, t.TempDir(), emulator.Options{Hardware: evidence.CCA, Trials: string(trials)})
	defer emulator.TryKVM()()
	launch := func(want bool) {
		t.Helper()
		begin := time.Now()
		if err := w.tryLaunch("v1", path, "config", platform.Limits{}); (err == nil) != want {
			t.Fatalf("%v\n%s", err, w.log)
		}
		t.Logf("after %s", time.Since(begin).Round(time.Millisecond))
	}
	w.layer = filepath.Join(t.TempDir(), "layer")
	payload := writeLayer(t, w.layer, "from the payload")
	launch(true)
	until(t, "the end of the trial boot under KVM", func() bool { return len(trials.All()) == 1 })
	if r := trials.All()[0]; r.KVM == (r.Why != "") || time.Duration(r.Millis)*time.Millisecond > time.Minute {
		t.Errorf("%+v", r)
	} else {
		t.Logf("KVM: %+v", r)
	}
	first := w.attach("v1")
	checkMeasured(t, path, payload, w.state("v1").AgentDigest)
	if got := string(first.must("read", "/"+initramfs.LayerDir+"/etc/motto", 0).Data); got != "from the payload" {
		t.Errorf("the guest has of its payload %q", got)
	}
	for name, content := range map[string]string{"another": "from The payload", "hostile": ""} {
		layer := w.layer
		w.layer = filepath.Join(t.TempDir(), name)
		writeLayer(t, w.layer, content)
		want := platform.ErrConflict
		if content == "" {
			want = platform.ErrInvalid
			hostile := bytes.Replace(payload, []byte("layer/etc/motto"), []byte("layer/../init\x00\x00"), 1)
			if err := os.WriteFile(w.layer, hostile, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		wantErr(t, w.tryLaunch("v1", path, "config", platform.Limits{}), want)
		w.layer = layer
	}
	if i := first.must("info", "", 0).Info; i == nil || string(i.Config) != "config" || i.Instance != "v1" {
		t.Errorf("%+v", i)
	}
	first.must("store-write", "x=the data", 0)
	first.must("increment", "", 0)
	key := first.must("key", "state", 0).Data
	if got := first.must("ls", "/sys/class/net", 0).Text; got != "lo" {
		t.Errorf("the guest has the network interfaces %q", got)
	}
	a := w.attach("v1")
	if _, err := first.try(order{Do: "info"}); err == nil {
		t.Error("the superseded channel is served")
	}
	checkGuestTA(t, w, a)
	if !strings.Contains(w.log.String(), "test agent is up") {
		t.Error("the agent's words are not in the log")
	}

	running := qemus()
	if len(running) != 1 {
		t.Fatalf("the virtual machines %v run", running)
	}
	checkConfined(t, running[0])
	_ = syscall.Kill(running[0], syscall.SIGKILL)
	until(t, "the end of the instance", func() bool { return !w.state("v1").Running })
	if exit := w.state("v1").Exit; !strings.Contains(exit, "QEMU was killed (signal: killed)") {
		t.Errorf("it ended because %q", exit)
	}
	// Where KVM is said to work and does not, the guest comes up all the same, and it is not said again.
	if err := trials.Put(sha256.Sum256(k.Image), qemu.Trial{KVM: true}); err != nil {
		t.Fatal(err)
	}
	launch(true)
	if r := trials.All()[0]; !r.KVM && !strings.Contains(w.log.String(), "does not come up under KVM") {
		t.Errorf("%+v", r)
	}
	a = w.attach("v1")
	if got := a.must("store-read", "x", 0).Data; string(got) != "the data" {
		t.Errorf("the store has %q", got)
	}
	if n := a.must("counter", "", 0).Number; n != 1 || !bytes.Equal(key, a.must("key", "state", 0).Data) {
		t.Errorf("another counter (%d) or key after the restart", n)
	}

	defer emulator.Impatient(time.Minute, 8*time.Second)()
	a.must("counter", "", 0) // from here on the shorter patience counts
	running = qemus()
	_ = syscall.Kill(running[0], syscall.SIGSTOP)
	until(t, "the end of the hanging instance", func() bool { return !w.state("v1").Running })
	if exit := w.state("v1").Exit; !strings.Contains(exit, "no sign of life for 8s") {
		t.Errorf("it ended because %q", exit)
	}
	if err := w.driver.Destroy(t.Context(), "v1"); err != nil {
		t.Error(err)
	}
	if left := qemus(); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

// writeLayer writes a guest payload with one file.
func writeLayer(t *testing.T, path, content string) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := initramfs.WriteLayer(&out, []initramfs.Entry{{Name: "etc/motto", Data: []byte(content)}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// checkMeasured compares the measurement of an instance with what an owner computes.
func checkMeasured(t *testing.T, path string, payload []byte, got [32]byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	base, err := img.Measure(bytes.NewReader(data), sha256.New)
	if err != nil || !bytes.Equal(image.WithLayer(sha256.New, base, sha256.Sum256(payload)), got[:]) {
		t.Errorf("measured as %x: %v", got, err)
	}
}

// checkGuestTA lets a TA in the guest try what TAs must not do.
func checkGuestTA(t *testing.T, w *world, a *agent) {
	t.Helper()
	program, err := os.ReadFile(taPath(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "instances", "v1", "store", "ta"), program, 0o644); err != nil {
		t.Fatal(err)
	}
	if out := a.must("ta", "ta who", 0).Text; !strings.HasPrefix(out, "pid 1 uid 1000 host ta\nCapPrm: 0000000000000000\n") {
		t.Error(out)
	}
	for _, verb := range []string{"inet", "read /init", "forkbomb 70"} {
		begin := time.Now()
		out := a.do("ta", "ta "+verb, 0).Text
		t.Logf("a TA that tries %s: %s", verb, time.Since(begin).Round(time.Millisecond))
		if strings.HasSuffix(out, "allowed\n") || out == "" {
			t.Errorf("%s: %.200s", verb, out)
		}
	}
	if r := a.do("read", "/dev/vport0p1", 0); r.Error == "" {
		t.Error("the agent could open its ports once more: it is root")
	}
}

// checkConfined looks at what the kernel says of QEMU.
func checkConfined(t *testing.T, pid int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("%s: not so in\n%s", want, status)
		}
	}
	if os.Getuid() == 0 && strings.Contains(string(status), "Uid:\t0") {
		t.Error("QEMU runs as root")
	}
	for _, ns := range []string{"net", "pid_for_children", "mnt", "user", "ipc"} {
		ours, err1 := os.Readlink("/proc/self/ns/" + ns)
		theirs, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
		if err1 != nil || err2 != nil || ours == theirs {
			t.Errorf("namespace %s: %s and %s", ns, ours, theirs)
		}
	}
}

// TestGuestThatNeverComesUp: a guest that fails is refused with what it said, one that hangs after a bounded time, and neither
// leaves anything behind.
func TestGuestThatNeverComesUp(t *testing.T) {
	k := kernel(t)
	w := serve(t, t.TempDir(), emulator.Options{Hardware: evidence.CCA})
	noKernel := *k
	noKernel.Image = bytes.Repeat([]byte("no kernel at all"), 1024)
	bad := guestImage(t, &noKernel, small)
	try := func() {
		t.Helper()
		err := w.tryLaunch("v1", bad, "c", platform.Limits{})
		if err == nil || !strings.Contains(err.Error(), "kernel") {
			t.Fatalf("%v", err)
		}
	}
	try()
	files := openFiles(t)
	for range 20 {
		try()
	}
	if now := openFiles(t); now >= files+20 { // some more are the runtime's, or on their way out
		t.Errorf("%d files are open, %d were before", now, files)
	}
	if w.state("v1").Running || len(qemus()) != 0 {
		t.Error("something runs")
	}

	// Destroyed while it boots, it does not boot to the end.
	endless := guestImage(t, k, imagebuild.VM{Cmdline: "console=ttyS0 no_timer_check rdinit=/none root=/dev/none rootwait", VCPUs: 1, MemoryMiB: 128})
	launched := make(chan error, 1)
	go func() { launched <- w.tryLaunch("v3", endless, "c", platform.Limits{}) }()
	until(t, "the machine boots", func() bool { return len(qemus()) == 1 })
	if err := w.driver.Destroy(t.Context(), "v3"); err != nil {
		t.Error(err)
	}
	if err := <-launched; err == nil {
		t.Error("a destroyed instance was launched")
	}

	defer emulator.Impatient(3*time.Second, time.Minute)()
	err := w.tryLaunch("v2", endless, "c", platform.Limits{})
	if err == nil || !strings.Contains(err.Error(), "has not come up within 3s; ") {
		t.Error(err)
	}
	if w.state("v2").Running || len(qemus()) != 0 {
		t.Error("something runs")
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestVMUpAndDown starts and destroys a guest again and again. It takes minutes.
func TestVMUpAndDown(t *testing.T) {
	rounds, _ := strconv.Atoi(os.Getenv("SEALIFT_VM_ROUNDS"))
	if rounds == 0 {
		t.Skip("SEALIFT_VM_ROUNDS=20 runs it")
	}
	path := guestImage(t, kernel(t), small)
	w := serve(t, t.TempDir(), emulator.Options{Hardware: evidence.CCA})
	var files int
	for round := range rounds {
		begin := time.Now()
		if err := w.tryLaunch("v1", path, "config", platform.Limits{}); err != nil {
			t.Fatal(err)
		}
		up := time.Since(begin)
		a := w.attach("v1")
		a.must("store-write", "x=the data", 0)
		a.conn.Close()
		if err := w.driver.Destroy(t.Context(), "v1"); err != nil {
			t.Fatal(err)
		}
		t.Logf("up after %s, %d files", up.Round(time.Millisecond), openFiles(t))
		if round == 1 {
			files = openFiles(t)
		}
	}
	if now := openFiles(t); now >= files+rounds-2 || len(qemus()) != 0 {
		t.Errorf("%d files are open, %d were before; virtual machines %v", now, files, qemus())
	}
}

// TestNoQEMU: a machine that lacks the program says so, offers no virtual machine, and puts nothing weaker in its place.
func TestNoQEMU(t *testing.T) {
	path := guestImage(t, kernel(t), small)
	t.Setenv("PATH", t.TempDir())
	w := serve(t, t.TempDir(), emulator.Options{Hardware: evidence.CCA})
	if slices.Contains(w.info.InstanceTypes, "vm") || !strings.Contains(w.info.Lacks["vm"], "the program qemu-system-x86_64 is missing") {
		t.Errorf("it offers %v, and lacks %v", w.info.InstanceTypes, w.info.Lacks)
	}
	err := w.tryLaunch("v1", path, "c", platform.Limits{})
	wantErr(t, err, platform.ErrUnsupported)
	if !strings.Contains(err.Error(), "qemu-system-x86_64 is missing") {
		t.Error(err)
	}
}

// TestWrongHardware: a virtual machine on hardware that protects none is refused, whatever the Broker says.
func TestWrongHardware(t *testing.T) {
	path := guestImage(t, kernel(t), small)
	w := serve(t, t.TempDir(), emulator.Options{})
	err := w.tryLaunch("v1", path, "c", platform.Limits{})
	wantErr(t, err, platform.ErrInvalid)
	if !strings.Contains(err.Error(), "cannot hold a guest of its own") {
		t.Error(err)
	}
}
