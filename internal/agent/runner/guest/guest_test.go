// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealift/internal/agent/runner"
	"sealift/internal/agent/runner/guest"
	"sealift/internal/image/initramfs"
	"sealift/internal/launch"
	"sealift/internal/pd"
	"sealift/internal/platform/sandbox"
	"sealift/internal/sharedtest"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	os.Exit(m.Run())
}

// busybox is Debian's, with a file and a link beside it.
func busybox(t *testing.T) []initramfs.Entry {
	t.Helper()
	for _, file := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		if data, err := os.ReadFile(file); err == nil {
			return []initramfs.Entry{{Name: "bin/busybox", Mode: 0o755, Data: data}, {Name: "bin/sh", Link: "busybox"},
				{Name: "etc/motto", Data: []byte("from the payload")}}
		}
	}
	sharedtest.Missing(t, "busybox-static")
	return nil
}

func layer(t *testing.T, entries []initramfs.Entry) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := initramfs.WriteLayer(&out, entries); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// boot does what a kernel does with a payload.
func boot(t *testing.T, entries []initramfs.Entry) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), initramfs.LayerDir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case e.Link != "":
			err = errors.Join(err, os.Symlink(e.Link, path))
		case e.Mode == 0o755:
			err = errors.Join(err, os.WriteFile(path, e.Data, 0o755))
		default:
			err = errors.Join(err, os.WriteFile(path, e.Data, 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func opener(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// ask runs a TA that was loaded by l, and returns what it answers.
func ask(t *testing.T, l guest.Loader, data []byte, spec launch.Spec) (string, error) {
	t.Helper()
	spec.Serve, spec.Kind = launch.ServeStdio, launch.KindGuest
	ta, err := runner.Start(t.Context(), runner.Program{Name: "tee/a/ta", Binary: opener(data), Digest: sha256.Sum256(data), Spec: spec,
		PD:     []pd.Plain{pd.FromBytes("secret", []byte("from the owner"))},
		Attest: func(context.Context, []byte) ([]byte, error) { return nil, errors.New("not here") },
	}, runner.Options{Launcher: l.Launcher, Loaders: map[string]runner.Loader{launch.KindGuest: l}, Dir: t.TempDir()})
	if err != nil {
		return "", err
	}
	defer ta.Stop()
	ours, theirs := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- errors.Join(ta.Serve(t.Context(), theirs), theirs.Close()) }()
	answer, _ := io.ReadAll(ours)
	return string(answer), <-done
}

// TestPayload: a TA runs from the payload that was booted and from one that came later, sees its files and its data, and can change nothing.
func TestPayload(t *testing.T) {
	entries := busybox(t)
	data := layer(t, entries)
	booted := boot(t, entries)
	for _, l := range []guest.Loader{{Booted: booted}, {Dir: t.TempDir()}} {
		l.Launcher = runner.Sandbox{}
		out, err := ask(t, l, data, launch.Spec{Entrypoint: []string{"/bin/sh", "-c"},
			Args: []string{`cat /etc/motto "$SEALIFT_PD/secret"; echo $0; ls /; echo x >/etc/motto || echo kept`}})
		want := "from the payloadfrom the ownersh\nbin\ndev\netc\npd\nproc\nrun\ntmp\nkept\n"
		if err != nil || out != want {
			t.Errorf("%q, %v", out, err)
		}
		if _, err := ask(t, l, data, launch.Spec{Entrypoint: []string{"/bin/none"}}); !errors.Is(err, runner.ErrProgram) {
			t.Error(err)
		}
		if _, err := ask(t, l, data, launch.Spec{Entrypoint: []string{"/etc/motto"}}); !errors.Is(err, runner.ErrProgram) {
			t.Error(err)
		}
		left, err := os.ReadDir(l.Dir)
		if l.Dir != "" && (err != nil || len(left) != 0) {
			t.Errorf("left over: %v, %v", left, err)
		}
	}
}

// TestBootedWithAnother: a guest that was booted with anything else than the signed payload runs nothing.
func TestBootedWithAnother(t *testing.T) {
	entries := busybox(t)
	data := layer(t, entries)
	for name, change := range map[string]func(dir string) error{
		"a byte": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "etc/motto"), []byte("from the Payload"), 0o644)
		},
		"longer": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "etc/motto"), []byte("from the payload!"), 0o644)
		},
		"more":      func(dir string) error { return os.WriteFile(filepath.Join(dir, "etc/more"), nil, 0o644) },
		"less":      func(dir string) error { return os.Remove(filepath.Join(dir, "etc/motto")) },
		"rights":    func(dir string) error { return os.Chmod(filepath.Join(dir, "etc/motto"), 0o755) },
		"a link":    func(dir string) error { return relink(filepath.Join(dir, "bin/sh"), "/init") },
		"no folder": func(dir string) error { return relink(filepath.Join(dir, "etc"), "bin") },
		"a folder":  func(dir string) error { return os.Mkdir(filepath.Join(dir, "extra"), 0o755) },
	} {
		dir := boot(t, entries)
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		_, _, err := guest.Loader{Booted: dir}.Load(t.Context(), opener(data))
		if !errors.Is(err, guest.ErrBooted) || !errors.Is(err, runner.ErrProgram) {
			t.Errorf("%s: %v", name, err)
		}
	}
	hostile := bytes.Replace(data, []byte("layer/etc/motto"), []byte("layer/../motto1"), 1)
	for _, l := range []guest.Loader{{Booted: boot(t, entries)}, {Dir: t.TempDir()}} {
		if _, _, err := l.Load(t.Context(), opener(hostile)); !errors.Is(err, initramfs.ErrLayer) || !strings.Contains(err.Error(), "no clean name") {
			t.Error(err)
		}
	}
}

func relink(path, target string) error {
	return errors.Join(os.RemoveAll(path), os.Symlink(target, path))
}
