// SPDX-License-Identifier: Apache-2.0

//go:build linux

package container_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sealift/internal/agent/runner"
	"sealift/internal/agent/runner/container"
	"sealift/internal/launch"
	"sealift/internal/oci"
	"sealift/internal/oci/ociruntime"
	"sealift/internal/oci/ocitest"
	"sealift/internal/pd"
	"sealift/internal/platform/sandbox"
	"sealift/internal/platform/sandbox/cgroup"
	"sealift/internal/sharedtest"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	if os.Args[0] == "runc" { // a runtime program that never does anything
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

// pod is what the platform and the Agent set up around containers.
type pod struct {
	dir     string
	group   *cgroup.Group
	loader  *container.Loader
	runtime string // its name
}

func newPod(t testing.TB) *pod {
	t.Helper()
	return newPodOf(t, ociruntime.Runc)
}

// newPodOf has a runtime program of this machine, by its name.
func newPodOf(t testing.TB, name string) *pod {
	t.Helper()
	file, err := exec.LookPath(name)
	if err != nil {
		sharedtest.Missing(t, "%s (Debian: apt-get install %s): %v", name, name, err)
	}
	p := newPodWith(t, file)
	p.runtime = name
	return p
}

// each runs a test with each of the runtime programs.
func each(t *testing.T, test func(*testing.T, *pod)) {
	for _, name := range ociruntime.Known {
		if name == ociruntime.Runsc && goruntime.GOARCH != "amd64" {
			continue // Debian has it for no other
		}
		t.Run(name, func(t *testing.T) { test(t, newPodOf(t, name)) })
	}
}

// newPodWith has the program at file as its runtime.
func newPodWith(t testing.TB, file string) *pod {
	t.Helper()
	part, err := ociruntime.Collect(file)
	if err != nil {
		t.Fatal(err)
	}
	parent, err := cgroup.Find()
	if err != nil {
		sharedtest.Missing(t, "control groups that this user can make: %v", err)
	}
	p := &pod{dir: t.TempDir()}
	name := strings.ReplaceAll(strings.ToLower(t.Name()), "/", "-")
	if p.group, err = parent.Child(fmt.Sprintf("sealift-test-%d-%s", os.Getpid(), name), cgroup.Limits{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.group.Remove(); err != nil {
			t.Error(err)
		}
	})
	if p.loader, err = container.New(bytes.NewReader(part), container.Options{Dir: p.dir, Group: p.group}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.loader.Close()
		if left, _ := filepath.Glob(filepath.Join(p.dir, "image-*")); len(left) > 0 {
			t.Errorf("%v are left", left)
		}
		if groups := p.groups(); len(groups) > 0 {
			t.Errorf("the groups %v are left", groups)
		}
	})
	return p
}

// groups lists the control groups of containers.
func (p *pod) groups() (list []string) {
	for _, m := range p.group.Mounts() {
		found, _ := filepath.Glob(filepath.Join(m.Source, "ta-*"))
		list = append(list, found...)
	}
	return list
}

// pids lists the processes of all containers whose program has that name.
func (p *pod) pids(name string) (list []int) {
	for _, g := range p.groups() {
		data, _ := os.ReadFile(filepath.Join(g, "cgroup.procs"))
		for _, field := range strings.Fields(string(data)) {
			comm, _ := os.ReadFile("/proc/" + field + "/comm")
			if pid, err := strconv.Atoi(field); err == nil && strings.HasPrefix(string(comm), name) && !slices.Contains(list, pid) {
				list = append(list, pid)
			}
		}
	}
	return list
}

// busybox returns an image of Debian's busybox-static with an entrypoint.
func busybox(t testing.TB, entrypoint ...string) *ocitest.Image {
	t.Helper()
	var data []byte
	for _, file := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		if read, err := os.ReadFile(file); err == nil {
			data = read
		}
	}
	if data == nil {
		sharedtest.Missing(t, "busybox-static")
	}
	entries := []*tar.Header{ocitest.File("bin/busybox", string(data))}
	for _, name := range []string{"sh", "cat", "grep", "sleep", "ls", "id", "mount", "unshare", "mknod", "ps", "dd", "tail", "head", "env", "kill", "echo"} {
		entries = append(entries, &tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"})
	}
	return &ocitest.Image{Layers: [][]byte{ocitest.Layer(t, entries...)}, Config: oci.Config{Config: oci.Process{Entrypoint: entrypoint}}}
}

// start loads and starts an image.
func (p *pod) start(t testing.TB, img *ocitest.Image, spec launch.Spec, data ...pd.Plain) (*runner.TA, error) {
	t.Helper()
	payload := img.Payload(t)
	spec.Kind = launch.KindOCI
	ta, err := runner.Start(t.Context(), runner.Program{
		Name: "tee/app/ta", Digest: sha256.Sum256(payload), Spec: spec, PD: data,
		Binary: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(payload)), nil },
	}, runner.Options{
		Loaders: map[string]runner.Loader{launch.KindOCI: p.loader}, Dir: t.TempDir(), MaxEnds: 3,
		MinBackOff: time.Millisecond, MaxBackOff: time.Millisecond, ReadyTimeout: 20 * time.Second,
		MaxMemoryBytes: 64 << 20, MaxProcs: 32,
	})
	if err == nil {
		t.Cleanup(ta.Stop)
	}
	return ta, err
}

// ask sends text to a TA and returns its answer.
func ask(t testing.TB, ta *runner.TA, text string) (string, error) {
	t.Helper()
	caller, done := open(t, ta)
	fmt.Fprint(caller, text)
	_ = caller.CloseWrite()
	answer, err := io.ReadAll(caller)
	return string(answer), errors.Join(<-done, err)
}

// open makes a call to a TA. done gets what Serve returns.
func open(t testing.TB, ta *runner.TA) (caller *net.UnixConn, done chan error) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	inside, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	done = make(chan error, 1)
	go func() {
		err := ta.Serve(context.Background(), inside)
		inside.Close()
		done <- err
	}()
	return conn.(*net.UnixConn), done
}

// shell runs a script in a container of its own and returns what it prints.
func (p *pod) shell(t *testing.T, script string, spec launch.Spec) (string, error) {
	t.Helper()
	spec.Serve = launch.ServeStdio
	if spec.MemoryBytes == 0 {
		spec.MemoryBytes = 32 << 20
	}
	ta, err := p.start(t, busybox(t, "/bin/sh"), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer ta.Stop()
	answer, err := ask(t, ta, script)
	t.Logf("log: %s", ta.Log())
	return answer, err
}

// TestShared guards that a TA that is started anew while it runs is not unpacked a second time, and that the root goes with the
// last of them.
func TestShared(t *testing.T) {
	p := newPod(t)
	roots := func() int {
		list, err := filepath.Glob(filepath.Join(p.dir, "image-*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	spec := launch.Spec{Serve: launch.ServeStdio, Args: []string{"-c", "cat ${PD}/d"}}
	old, err := p.start(t, busybox(t, "/bin/sh"), spec, pd.FromBytes("d", []byte("old")))
	if err != nil {
		t.Fatal(err)
	}
	next, err := p.start(t, busybox(t, "/bin/sh"), spec, pd.FromBytes("d", []byte("new")))
	if err != nil {
		t.Fatal(err)
	}
	if n := roots(); n != 1 {
		t.Errorf("%d root file systems", n)
	}
	old.Stop()
	if answer, err := ask(t, next, ""); answer != "new" || err != nil {
		t.Errorf("%q %v", answer, err)
	}
	next.Stop()
	if n := roots(); n != 0 {
		t.Errorf("%d root file systems are left", n)
	}
}

// TestFilter: a TA that this project did not write, as a filter with data.
func TestFilter(t *testing.T) { each(t, testFilter) }

func testFilter(t *testing.T, p *pod) {
	ta, err := p.start(t, busybox(t, "/bin/grep"), launch.Spec{Serve: launch.ServeStdio, Args: []string{"-f", "/dev/stdin", "${PD}/names"}},
		pd.FromBytes("names", []byte("alpha\nbeta\ngamma\n")))
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := ask(t, ta, "et"); answer != "beta\n" || err != nil {
		t.Errorf("%q %v\n%s", answer, err, ta.Log())
	}
	if answer, err := ask(t, ta, "none"); answer != "" || !errors.Is(err, runner.StatusError{Code: 1}) {
		t.Errorf("the exit status is told: %q %v", answer, err)
	}
}

// TestServerDies guards that a server that ends instead of answering is told from one that hangs up.
func TestServerDies(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ta")
	build := exec.Command("go", "build", "-o", file, "sealift/internal/agent/testdata/ta")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := newPod(t)
	img := &ocitest.Image{Layers: [][]byte{ocitest.Layer(t, ocitest.File("ta", string(program)))},
		Config: oci.Config{Config: oci.Process{Entrypoint: []string{"/ta"}}}}
	ta, err := p.start(t, img, launch.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := ask(t, ta, "hello"); answer != "||hello" || err != nil {
		t.Errorf("%q %v", answer, err)
	}
	if answer, err := ask(t, ta, "exit"); answer != "" || !errors.Is(err, runner.StatusError{Code: 3}) {
		t.Errorf("%q %v", answer, err)
	}
}

// TestInside guards what a program sees: the image, read-only, one user without rights, and nothing of anybody else.
func TestInside(t *testing.T) { each(t, testInside) }

func testInside(t *testing.T, p *pod) {
	img := busybox(t, "/bin/sh")
	img.Config.Config.Env = []string{"FROM=image", "BOTH=image", "SEALIFT_PD=/evil"}
	img.Config.Config.WorkingDir = "/srv"
	img.Config.Config.Volumes = map[string]struct{}{"/var/lib/app": {}, "/tmp": {}}
	img.Config.Config.User = "1234"
	img.Layers = append(img.Layers, ocitest.Layer(t, &tar.Header{Typeflag: tar.TypeDir, Name: "srv", Mode: 0o755},
		&tar.Header{Typeflag: tar.TypeSymlink, Name: "run", Linkname: "/etc"}))
	ta, err := p.start(t, img, launch.Spec{Serve: launch.ServeStdio, Env: []string{"BOTH=owner"}}, pd.FromBytes("d", []byte("data")))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ask(t, ta, `id; pwd; echo $FROM $BOTH $SEALIFT_PD $(cat $SEALIFT_PD/d)
grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status
for f in /x /bin/x /srv/x /pd/x /dev/x /proc/sys/kernel/hostname; do (echo x > $f) 2>/dev/null && echo wrote $f; done
for f in /tmp/x /var/lib/app/x /run/sealift/x /dev/shm/x; do (echo x > $f) || echo cannot write $f; done
cat /proc/[0-9]*/cmdline | head -c 300 | tail -c 20 >/dev/null; ls /proc | grep -c '^[0-9]'; ls /sys 2>/dev/null; ls /`)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(answer)
	wants := []string{"uid=0 gid=0", "\n/srv\n", "image owner /pd data\n", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "Seccomp:\t2"}
	if p.runtime == ociruntime.Runsc {
		answer = strings.Replace(answer, "wrote /dev/x\n", "", 1) // in the memory of its own kernel
	} else {
		wants = append(wants, "NoNewPrivs:\t1") // older versions of gVisor do not show it
	}
	for _, want := range wants {
		if !strings.Contains(answer, want) {
			t.Errorf("%q is not in the answer", want)
		}
	}
	if strings.Contains(answer, "wrote") || strings.Contains(answer, "cannot write") {
		t.Error("the wrong files can be written")
	}
}

// TestOverrides guards that what the owner signed goes before what the image says.
func TestOverrides(t *testing.T) {
	p := newPod(t)
	img := busybox(t, "/nonsense")
	img.Config.Config.Cmd = []string{"more nonsense"}
	for name, c := range map[string]struct {
		spec launch.Spec
		want string
	}{
		"entrypoint": {launch.Spec{Entrypoint: []string{"/bin/echo", "a", "${PD}"}}, "a /pd\n"},
		"args too":   {launch.Spec{Entrypoint: []string{"/bin/echo"}, Args: []string{"b"}}, "b\n"},
		"dir":        {launch.Spec{Entrypoint: []string{"/bin/busybox", "pwd"}, Dir: "/bin"}, "/bin\n"},
	} {
		c.spec.Serve = launch.ServeStdio
		ta, err := p.start(t, img, c.spec)
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := ask(t, ta, ""); answer != c.want || err != nil {
			t.Errorf("%s: %q %v", name, answer, err)
		}
		ta.Stop()
	}
}

// TestMemoryLimit guards that the limit binds all memory of a container together, and is told as what it is.
func TestMemoryLimit(t *testing.T) { each(t, testMemoryLimit) }

func testMemoryLimit(t *testing.T, p *pod) {
	for name, script := range map[string]string{
		"one process":     "exec tail /dev/zero",
		"files in memory": "exec dd if=/dev/zero of=/dev/shm/x bs=1M count=300",
		"many processes":  "for i in 1 2 3 4 5 6 7 8; do head -c 20m /dev/zero | tail -c 20m | (sleep 1; cat >/dev/null) & done; wait; exec tail /dev/zero",
	} {
		if name == "many processes" && p.runtime == ociruntime.Runsc {
			continue // its own memory is much more than theirs
		}
		_, err := p.shell(t, script, launch.Spec{MemoryBytes: 32 << 20})
		if !errors.Is(err, runner.ErrMemory) && !(name == "files in memory" && errors.Is(err, runner.StatusError{Code: 1})) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if answer, err := p.shell(t, "echo fine", launch.Spec{}); answer != "fine\n" || err != nil {
		t.Errorf("after it: %q %v", answer, err)
	}
}

// TestForkBomb guards the limit of processes, and that what was started ends with the container.
func TestForkBomb(t *testing.T) { each(t, testForkBomb) }

func testForkBomb(t *testing.T, p *pod) {
	answer, _ := p.shell(t, "trap '' TERM; for i in $(busybox seq 200); do sleep 1000 & done 2>&1 || echo denied; echo done; exit 0",
		launch.Spec{MaxProcs: 16, MemoryBytes: 64 << 20})
	if strings.Contains(answer, "done") && !strings.Contains(answer, "fork") {
		t.Errorf("200 processes were started: %q", answer)
	}
	if pids := p.pids("sleep"); len(pids) > 0 {
		t.Errorf("%v run on", pids)
	}
}

// BenchmarkRequest is a request to a TA that is a filter: a container from its start to its end.
func BenchmarkRequest(b *testing.B) {
	for _, name := range ociruntime.Known {
		b.Run(name, func(b *testing.B) { benchmarkRequest(b, newPodOf(b, name)) })
	}
}

func benchmarkRequest(b *testing.B, p *pod) {
	ta, err := p.start(b, busybox(b, "/bin/cat"), launch.Spec{Serve: launch.ServeStdio})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if answer, err := ask(b, ta, "x"); answer != "x" || err != nil {
			b.Fatal(answer, err)
		}
	}
	ta.Stop() // before the loader is closed
}
