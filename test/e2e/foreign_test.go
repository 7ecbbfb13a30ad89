// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sealift/internal/sharedtest"
)

// A WebAssembly module that this project did not write: gofmt, as the Go distribution has it, formats released data.
func TestForeignModule(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.write("secret.go", "package secret\nvar   answer=42\n")
	module := goModule(t, u, "gofmt.wasm", "cmd/gofmt")
	u.must("", "pack", u.write("gofmt.yaml", "name: gofmt\nmode: ta,pd\nta:\n  binary: "+module+
		"\n  args: [\"${PD}/secret.go\"]\n  serve: stdio\npd: [secret.go]\nhardware: [trustzone]\ninstances: [process]\n"))
	u.must("", "deploy", "--wait", "gofmt.sealift")
	const want = "package secret\n\nvar answer = 42\n"
	if r := u.must("", "call", "gofmt"); r.stdout != want {
		t.Errorf("%q, want %q\n%s", r.stdout, want, r.stderr)
	}
	u.must("", "remove", "gofmt")
}

// packageTree puts the files of installed Debian packages into a folder, as the package manager lists them.
func packageTree(t *testing.T, root string, packages ...string) {
	t.Helper()
	for link, target := range map[string]string{"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"} {
		if err := errors.Join(os.MkdirAll(filepath.Join(root, target), 0o755), os.Symlink(target, filepath.Join(root, link))); err != nil {
			t.Fatal(err)
		}
	}
	list, err := exec.Command("dpkg", append([]string{"-L"}, packages...)...).Output()
	if err != nil {
		sharedtest.Missing(t, "the files of Debian's packages %v: %v", packages, err)
	}
	for path := range strings.Lines(string(list)) {
		path = strings.TrimSpace(path)
		st, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && st.IsDir() || !filepath.IsAbs(path) || strings.HasPrefix(path, "/usr/share/") {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "--archive", path, filepath.Join(root, path)).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

// An image of Debian's packages, put together by umoci and copied by skopeo: an interpreter with the libraries that it is linked
// to and loads. It computes over released data.
func TestForeignDebianImage(t *testing.T) {
	u := newUser(t)
	containerUp(t, u)
	dir, bundle := filepath.Join(u.dir, "perl"), filepath.Join(u.dir, "bundle")
	archive := filepath.Join(u.dir, "perl.tar")
	steps := func(list ...[]string) {
		t.Helper()
		for _, step := range list {
			if _, err := exec.LookPath(step[0]); err != nil {
				sharedtest.Missing(t, "%s: run scripts/setup.sh", step[0])
			}
			if out, err := exec.Command(step[0], step[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", step, err, out)
			}
		}
	}
	steps([]string{"umoci", "init", "--layout", dir}, []string{"umoci", "new", "--image", dir + ":latest"},
		[]string{"umoci", "unpack", "--rootless", "--image", dir + ":latest", bundle})
	packageTree(t, filepath.Join(bundle, "rootfs"), "perl-base", "libc6", "libcrypt1")
	steps([]string{"umoci", "repack", "--image", dir + ":latest", bundle},
		[]string{"umoci", "config", "--image", dir + ":latest", "--config.entrypoint", "/usr/bin/perl", "--config.workingdir", "/tmp"},
		[]string{"skopeo", "copy", "--quiet", "--insecure-policy", "oci:" + dir + ":latest", "oci-archive:" + archive + ":perl:latest"})

	script := `use strict; use List::Util qw(sum); open my $f, q(<), qq($ENV{SEALIFT_PD}/perl.txt) or die $!; ` +
		`my @n = <$f>; chomp(my $what = <STDIN>); printf qq(%s of %d lines, %d bytes\n), $what, scalar @n, sum map { length } @n;`
	u.must("", "pack", imagePackage(u, "perl", archive, `args: [-e, '`+script+`']`))
	u.must("", "deploy", "--wait", "perl.sealift")
	const want = "sum of 2 lines, 11 bytes\n"
	if r := u.must("sum\n", "call", "perl"); r.stdout != want {
		t.Errorf("%q, want %q\n%s\n%s", r.stdout, want, r.stderr, logs(u))
	}
	u.must("", "remove", "perl")
}
