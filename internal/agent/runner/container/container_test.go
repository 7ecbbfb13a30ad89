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
	"strings"
	"testing"
	"time"

	"sealift/internal/agent/runner"
	"sealift/internal/agent/runner/container"
	"sealift/internal/launch"
	"sealift/internal/oci"
	"sealift/internal/oci/ocitest"
	"sealift/internal/oci/ociruntime"
	"sealift/internal/pd"
	"sealift/internal/platform/sandbox"
	"sealift/internal/platform/sandbox/cgroup"
	"sealift/internal/sharedtest"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	os.Exit(m.Run())
}

// pod is what the platform and the Agent set up around containers.
type pod struct {
	dir    string
	group  *cgroup.Group
	loader *container.Loader
}

func newPod(t *testing.T, limits cgroup.Limits) *pod {
	t.Helper()
	file, err := exec.LookPath("runc")
	if err != nil {
		sharedtest.Missing(t, "runc (Debian: apt-get install runc): %v", err)
	}
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
	if p.group, err = parent.Child(fmt.Sprintf("sealift-test-%d-%s", os.Getpid(), name), limits); err != nil {
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
		for _, pattern := range []string{"image-*"} {
			if left, _ := filepath.Glob(filepath.Join(p.dir, pattern)); len(left) > 0 {
				t.Errorf("%v are left", left)
			}
		}
	})
	return p
}

// busybox returns an image of Debian's busybox-static with an entrypoint.
func busybox(t *testing.T, entrypoint ...string) *ocitest.Image {
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
	for _, name := range []string{"sh", "cat", "grep", "sleep", "ls", "id", "mount", "unshare", "mknod", "ps", "dd", "tail", "head", "env", "nc", "kill", "echo"} {
		entries = append(entries, &tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"})
	}
	return &ocitest.Image{Layers: [][]byte{ocitest.Layer(t, entries...)}, Config: oci.Config{Config: oci.Process{Entrypoint: entrypoint}}}
}

// start loads and starts an image.
func (p *pod) start(t *testing.T, img *ocitest.Image, spec launch.Spec, data ...pd.Plain) (*runner.TA, error) {
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
func ask(t *testing.T, ta *runner.TA, text string) (string, error) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	caller, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer caller.Close()
	inside, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		err := ta.Serve(context.Background(), inside)
		inside.Close()
		done <- err
	}()
	fmt.Fprint(caller, text)
	_ = caller.(*net.UnixConn).CloseWrite()
	answer, err := io.ReadAll(caller)
	return string(answer), errors.Join(<-done, err)
}

// shell runs a script in a container and returns what it prints.
func (p *pod) shell(t *testing.T, script string) (string, error) {
	t.Helper()
	ta, err := p.start(t, busybox(t, "/bin/sh"), launch.Spec{Serve: launch.ServeStdio, MemoryBytes: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer ta.Stop()
	answer, err := ask(t, ta, script)
	if err != nil {
		t.Logf("log: %s", ta.Log())
	}
	return answer, err
}

// TestFilter: a TA that this project did not write, as a filter with data.
func TestFilter(t *testing.T) {
	p := newPod(t, cgroup.Limits{})
	ta, err := p.start(t, busybox(t, "/bin/grep"), launch.Spec{Serve: launch.ServeStdio, Args: []string{"-f", "/dev/stdin", "${PD}/names"}},
		pd.FromBytes("names", []byte("alpha\nbeta\ngamma\n")))
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := ask(t, ta, "et"); answer != "beta\n" || err != nil {
		t.Errorf("%q %v\n%s", answer, err, ta.Log())
	}
	if answer, err := ask(t, ta, "none"); answer != "" || err != nil {
		t.Errorf("an exit status is an answer: %q %v", answer, err)
	}
}
