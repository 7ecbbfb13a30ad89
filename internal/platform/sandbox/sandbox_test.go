// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sandbox_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sealift/internal/platform/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

var built struct {
	sync.Mutex
	dir string
}

// inmatePath builds the program that is put into sandboxes, once, where every user can read it.
func inmatePath(t testing.TB) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.dir != "" {
		return filepath.Join(built.dir, "inmate")
	}
	dir, err := os.MkdirTemp("", "sandbox-test-")
	if err != nil {
		t.Fatal(err)
	}
	built.dir = dir
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "inmate"), "./testdata/inmate")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the inmate: %v\n%s", err, text)
	}
	return filepath.Join(dir, "inmate")
}

// inmate is the program, ready to be started.
func inmate(t testing.TB) *os.File {
	t.Helper()
	return sealed(t, inmatePath(t))
}

func sealed(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	program, _, err := sandbox.SealedMemfd("inmate", f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return program
}

// someUser is another user of the host where this process can use one: the process limit does not hold for root.
func someUser() int {
	if sandbox.CanMapUID(sandbox.FirstHostUID) {
		return sandbox.FirstHostUID
	}
	return 0
}

// run runs the inmate in a sandbox and returns what it printed.
func run(t testing.TB, spec sandbox.Spec, stdin string, verb ...string) (string, error) {
	t.Helper()
	if spec.Program == nil {
		spec.Program = inmate(t)
	}
	spec.Args = append([]string{"inmate"}, verb...)
	if spec.HostUID == 0 {
		spec.HostUID = someUser()
	}
	var out bytes.Buffer
	cmd := sandbox.Command(t.Context(), spec)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &out
	err := cmd.Run()
	return out.String(), err
}

// TestView guards what a program sees of itself: no rights, no other process, no descriptor but those it was given.
func TestView(t *testing.T) {
	out, err := run(t, sandbox.Spec{Hostname: "tee"}, "", "who")
	if err != nil {
		t.Fatal(err)
	}
	const none = "0000000000000000"
	want := "pid 1 uid 1000 host tee\nCapPrm: " + none + "\nCapEff: " + none + "\nCapBnd: " + none + "\nCapAmb: " + none +
		"\nNoNewPrivs: 1\nSeccomp: 2\nallowed\n"
	if out != want {
		t.Errorf("got\n%s", out)
	}
	for dir, want := range map[string]string{
		"/":    "dev\nproc\ntmp\nallowed\n",
		"/dev": "fd\nfull\nnull\nrandom\nstderr\nstdin\nstdout\nurandom\nzero\nallowed\n",
		"/tmp": "allowed\n",
	} {
		if out, err := run(t, sandbox.Spec{}, "", "ls", dir); err != nil || out != want {
			t.Errorf("ls %s: %v\n%s", dir, err, out)
		}
	}
	out, err = run(t, sandbox.Spec{}, "", "ls", "/proc")
	if err != nil || strings.Trim(out, "0123456789\n") != "selfthread-selfallowed" && out != "1\nself\nthread-self\nallowed\n" {
		t.Errorf("ls /proc: %v\n%s", err, out)
	}
	secret, err := os.Open(os.DevNull) // a descriptor of this process that nobody gave away
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	out, err = run(t, sandbox.Spec{}, "", "fds")
	if err != nil || out != "0 pipe\n1 pipe\n2 pipe\nallowed\n" {
		t.Errorf("descriptors: %v\n%s", err, out)
	}
}

// TestStreams guards stdin, stdout, files and the exit status.
func TestStreams(t *testing.T) {
	big := strings.Repeat("all work and no play\n", 20000)
	if out, err := run(t, sandbox.Spec{}, big, "cat"); err != nil || out != big+"allowed\n" {
		t.Errorf("cat: %v, %d bytes", err, len(out))
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := run(t, sandbox.Spec{Files: []*os.File{w}}, "", "fd3"); err != nil {
		t.Error(err)
	}
	w.Close()
	buf := make([]byte, 64)
	if n, _ := r.Read(buf); string(buf[:n]) != "hello through three\n" {
		t.Errorf("descriptor 3: %q", buf[:n])
	}
	var exit *exec.ExitError
	if _, err := run(t, sandbox.Spec{}, "", "exit", "42"); !errors.As(err, &exit) || exit.ExitCode() != 42 {
		t.Errorf("exit status: %v", err)
	}
}

// TestManyFiles guards the order of descriptors, and that the first stage's own do not get in between.
func TestManyFiles(t *testing.T) {
	var files []*os.File
	for range 40 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	out, err := run(t, sandbox.Spec{Files: files}, "", "fds")
	if err != nil || strings.Count(out, "/dev/null\n") != 40 || !strings.HasPrefix(out, "0 pipe\n1 pipe\n2 pipe\n3 /dev/null\n") ||
		!strings.Contains(out, "\n42 /dev/null\nallowed\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestBinds guards what can be read and written of the caller's files.
func TestBinds(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ro", "rw"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "f"), []byte("x"), 0o666); err != nil {
			t.Fatal(err)
		}
		_ = os.Chmod(filepath.Join(dir, name), 0o777)
		_ = os.Chmod(filepath.Join(dir, name, "f"), 0o666)
	}
	// Only the starter can get to the sources: the program's user of the host cannot enter their parent.
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	spec := sandbox.Spec{
		ReadOnly:  []sandbox.Bind{{Source: dir + "/ro", Target: "/pd"}, {Source: dir + "/ro/f", Target: "/etc/one"}},
		ReadWrite: []sandbox.Bind{{Source: dir + "/rw", Target: "/srv/rw"}},
		Tmpfs:     []sandbox.Tmpfs{{Target: "/run", Bytes: 1 << 20}},
	}
	for _, c := range []struct {
		verb string
		args []string
		ok   bool
	}{
		{"read", []string{"/pd/f"}, true},
		{"read", []string{"/etc/one"}, true},
		{"read", []string{"/srv/rw/f"}, true},
		{"write", []string{"/srv/rw/f"}, true},
		{"write", []string{"/srv/rw/new"}, true},
		{"write", []string{"/run/new"}, true},
		{"write", []string{"/tmp/new"}, true},
		{"write", []string{"/pd/f"}, false},
		{"write", []string{"/pd/new"}, false},
		{"write", []string{"/etc/one"}, false},
		{"unlink", []string{"/pd/f"}, false},
		{"write", []string{"/new"}, false},
		{"write", []string{"/dev/new"}, false},
		{"write", []string{"/etc/new"}, false},
		{"exec", []string{"/srv/rw/program"}, false},
		{"exec", []string{"/tmp/program"}, false},
		{"fill", []string{"/run/big", "2"}, false},
		{"fill", []string{"/tmp/big", "64"}, false},
		{"read", []string{dir + "/ro/f"}, false},
	} {
		out, err := run(t, spec, "", append([]string{c.verb}, c.args...)...)
		if ok := err == nil && out == "allowed\n"; ok != c.ok {
			t.Errorf("%s %v: %v, %s", c.verb, c.args, err, out)
		}
	}
	if data, err := os.ReadFile(dir + "/rw/new"); err != nil || string(data) != "was here" {
		t.Errorf("what was written inside is not outside: %v", err)
	}
}

// TestRefusals guards that what cannot run is refused before it runs, with the reason.
func TestRefusals(t *testing.T) {
	script := sealedBytes(t, "#!/bin/sh\necho hello\n")
	inmateBytes, err := os.ReadFile(inmatePath(t))
	if err != nil {
		t.Fatal(err)
	}
	cut := sealedBytes(t, string(inmateBytes[:100]))
	unsealed, err := os.Open(inmatePath(t))
	if err != nil {
		t.Fatal(err)
	}
	defer unsealed.Close()
	good := inmate(t)
	bind := func(source, target string) []sandbox.Bind { return []sandbox.Bind{{Source: source, Target: target}} }
	for name, c := range map[string]struct {
		spec sandbox.Spec
		want error
		text string
	}{
		"script":      {sandbox.Spec{Program: script}, sandbox.ErrProgram, "not an ELF"},
		"cut":         {sandbox.Spec{Program: cut}, sandbox.ErrProgram, "ELF"},
		"empty":       {sandbox.Spec{Program: sealedBytes(t, "")}, sandbox.ErrProgram, "not an ELF"},
		"not sealed":  {sandbox.Spec{Program: unsealed}, sandbox.ErrSpec, "sealed"},
		"no source":   {sandbox.Spec{Program: good, ReadOnly: bind("/does/not/exist", "/pd")}, sandbox.ErrSpec, "/does/not/exist"},
		"relative":    {sandbox.Spec{Program: good, ReadOnly: bind("/etc", "pd")}, sandbox.ErrSpec, "pd"},
		"dotted":      {sandbox.Spec{Program: good, ReadOnly: bind("/etc", "/pd/../x")}, sandbox.ErrSpec, "/pd/../x"},
		"over proc":   {sandbox.Spec{Program: good, ReadOnly: bind("/etc", "/proc/sys")}, sandbox.ErrSpec, "/proc"},
		"over root":   {sandbox.Spec{Program: good, ReadOnly: bind("/etc", "/")}, sandbox.ErrSpec, "/"},
		"overlap":     {sandbox.Spec{Program: good, ReadOnly: bind("/etc", "/a"), ReadWrite: bind("/etc", "/a/b")}, sandbox.ErrSpec, "overlap"},
		"zero memory": {sandbox.Spec{Program: good, Tmpfs: []sandbox.Tmpfs{{Target: "/x"}}}, sandbox.ErrSpec, "size"},
		"zero byte":   {sandbox.Spec{Program: good, Env: []string{"A=\x00"}}, sandbox.ErrSpec, "environment"},
		"profile":     {sandbox.Spec{Program: good, Profile: 7}, sandbox.ErrSpec, "profile"},
		"user":        {sandbox.Spec{Program: good, HostUID: 1 << 30}, sandbox.ErrSpec, "user"},
	} {
		c.spec.Args = []string{"x"}
		if name == "user" && sandbox.CanMapUID(1<<30) {
			c.want, c.text = nil, ""
		}
		err := sandbox.Command(context.Background(), c.spec).Run()
		if !errors.Is(err, c.want) || c.want != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := sandbox.Command(context.Background(), sandbox.Spec{}).Start(); !errors.Is(err, sandbox.ErrSpec) {
		t.Errorf("nothing: %v", err)
	}
}

func sealedBytes(t testing.TB, content string) *os.File {
	t.Helper()
	f, _, err := sandbox.SealedMemfd("x", strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestDynamicProgram guards the message that an author of a TA gets most likely.
func TestDynamicProgram(t *testing.T) {
	for _, path := range []string{"/bin/ls", "/usr/bin/ls"} {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		err := sandbox.Command(t.Context(), sandbox.Spec{Program: sealed(t, path), Args: []string{"ls"}}).Run()
		if !errors.Is(err, sandbox.ErrProgram) || !strings.Contains(err.Error(), "dynamically linked") {
			t.Errorf("%s: %v", path, err)
		}
		return
	}
	t.Skip("no dynamically linked ls here")
}

// TestSealedMemfd guards that nobody can change what was measured.
func TestSealedMemfd(t *testing.T) {
	f, digest, err := sandbox.SealedMemfd("x", strings.NewReader("measured"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if digest != sha256.Sum256([]byte("measured")) {
		t.Errorf("digest %x", digest)
	}
	if _, err := f.WriteAt([]byte("M"), 0); err == nil {
		t.Error("it can be written")
	}
	if err := f.Truncate(3); err == nil {
		t.Error("it can be cut")
	}
	if err := f.Truncate(1 << 10); err == nil {
		t.Error("it can be extended")
	}
	if again, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), os.O_RDWR, 0); err == nil {
		if _, err := again.Write([]byte("M")); err == nil {
			t.Error("it can be written through /proc")
		}
		again.Close()
	}
}

// TestProbe guards that doctor's lines agree with what this machine can do.
func TestProbe(t *testing.T) {
	for _, f := range sandbox.Probe() {
		t.Logf("%-20s ok=%v required=%v %s", f.Name, f.OK, f.Required, f.Detail)
		if f.Required && !f.OK {
			t.Errorf("%s: %s", f.Name, f.Detail)
		}
	}
}
