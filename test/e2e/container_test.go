// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"sealift/internal/oci"
	"sealift/internal/oci/ocitest"
	"sealift/internal/platform/sandbox/cgroup"
	"sealift/internal/sharedtest"
)

// containerImage builds the image of a container into a folder, or skips.
func containerImage(t *testing.T, u *user, dir string) {
	t.Helper()
	containerImageOf(t, u, "runc", dir)
}

// containerImageOf is containerImage with an OCI runtime program by name.
func containerImageOf(t *testing.T, u *user, runtime, dir string) {
	t.Helper()
	if _, err := exec.LookPath(runtime); err != nil {
		sharedtest.Missing(t, "%s: run scripts/setup.sh", runtime)
	}
	if _, err := cgroup.Find(); err != nil {
		sharedtest.Missing(t, "control groups that this user can make: %v", err)
	}
	u.must("", "image", "build", "--instance", "container", "--runtime", runtime, "--output", dir)
	t.Cleanup(func() {
		os.RemoveAll(dir)
		eventually(t, 10*time.Second, "the end of the emulators' control groups", func() bool { return len(emulatorGroups(u)) == 0 })
	})
}

// containerUp gives the user a device that runs containers, or skips.
func containerUp(t *testing.T, u *user, args ...string) {
	t.Helper()
	containerImage(t, u, filepath.Join(bin, "images"))
	devUp(t, u, args...)
}

// emulatorGroups lists the control groups of the user's emulators.
func emulatorGroups(u *user) (list []string) {
	parent, err := cgroup.Find()
	if err != nil {
		return nil
	}
	_ = filepath.WalkDir(filepath.Join(u.home, "dev"), func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Base(path) == "device.cbor" {
			name := fmt.Sprintf("sealift-emulator-%x", sha256.Sum256([]byte(filepath.Dir(path))))[:len("sealift-emulator-")+16]
			for _, m := range parent.At(name).Mounts() {
				if _, err := os.Stat(m.Source); err == nil {
					list = append(list, m.Source)
				}
			}
		}
		return nil
	})
	return list
}

// imagePackage writes a package file of a filter that is an image; more are further lines of its ta.
func imagePackage(u *user, name, image string, more ...string) string {
	u.write(name+".txt", "alpha\nbeta\n")
	text := fmt.Sprintf("name: %s\nmode: ta,pd\npd: [%s.txt]\nhardware: [trustzone]\ninstances: [container]\nta:\n  image: %s\n  serve: stdio\n", name, name, image)
	for _, line := range more {
		text += "  " + line + "\n"
	}
	return u.write(name+".yaml", text)
}

// TestContainerExample runs the example of this project, which was not packed as an image, in containers; on hardware of two kinds.
func TestContainerExample(t *testing.T) {
	u := newUser(t)
	containerUp(t, u, "--hardware", "trustzone", "--hardware", "sev-snp")
	for mode, hardware := range map[string]string{"ua,ta,pd": "trustzone", "ta+pd": "sev-snp"} {
		file := statsPackage(t, u, mode)
		data, err := os.ReadFile(filepath.Join(u.dir, file))
		if err != nil {
			data, err = os.ReadFile(file)
		}
		if err != nil {
			t.Fatal(err)
		}
		u.write("stats.yaml", strings.NewReplacer("[process]", "[container]", "[trustzone]", "["+hardware+"]").Replace(string(data)))
		u.must("", "pack", "stats.yaml")
		if r := u.must("", "deploy", "--wait", "stats.sealift"); !strings.Contains(r.stdout+r.stderr, hardware+"/container") {
			t.Errorf("it was deployed elsewhere:\n%s", r.stdout)
		}
		answers(t, u, "stats")
		u.must("", "remove", "stats")
	}
}

// foreignImage makes an image with umoci of what Debian's package busybox-static holds, and returns the layout's folder.
func foreignImage(t *testing.T, u *user) string {
	t.Helper()
	dir := filepath.Join(u.dir, "foreign")
	rootfs := filepath.Join(u.dir, "bundle", "rootfs", "bin")
	steps := [][]string{
		{"umoci", "init", "--layout", dir},
		{"umoci", "new", "--image", dir + ":latest"},
		{"umoci", "unpack", "--rootless", "--image", dir + ":latest", filepath.Join(u.dir, "bundle")},
		{"mkdir", "-p", rootfs},
		{"cp", busybox(t), filepath.Join(rootfs, "busybox")},
		{"ln", "-s", "busybox", filepath.Join(rootfs, "grep")},
		{"umoci", "repack", "--image", dir + ":latest", filepath.Join(u.dir, "bundle")},
		{"umoci", "config", "--image", dir + ":latest", "--config.entrypoint", "/bin/grep", "--config.cmd", "nothing-to-look-for"},
		{"umoci", "gc", "--layout", dir},
	}
	for _, step := range steps {
		if _, err := exec.LookPath(step[0]); err != nil {
			sharedtest.Missing(t, "%s: run scripts/setup.sh", step[0])
		}
		if out, err := exec.Command(step[0], step[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", step, err, out)
		}
	}
	return dir
}

// TestContainerForeignImage runs an image that this project's code had no part in, in each of the forms in which images come.
func TestContainerForeignImage(t *testing.T) {
	u := newUser(t)
	containerUp(t, u)
	dir := foreignImage(t, u)
	forms := map[string]string{"layout": dir, "pulled": publish(t, dir)}
	for form, transport := range map[string]string{"archive": "oci-archive", "docker": "docker-archive"} {
		forms[form] = filepath.Join(u.dir, form+".tar")
		out, err := exec.Command("skopeo", "copy", "--insecure-policy", "oci:"+dir+":latest", transport+":"+forms[form]+":x/y:latest").CombinedOutput()
		if err != nil {
			sharedtest.Missing(t, "skopeo: %v\n%s", err, out)
		}
	}
	for form, image := range forms {
		u.must("", "pack", imagePackage(u, form, image, `args: [-f, /dev/stdin, "${PD}/`+form+`.txt"]`))
		u.must("", "deploy", "--wait", form+".sealift")
		if r := u.must("et\n", "call", form); r.stdout != "beta\n" {
			t.Errorf("%s: %q\n%s\n%s", form, r.stdout, r.stderr, logs(u))
		}
		u.must("", "remove", form)
	}
	u.refused(2, []string{"NAME@sha256:"}, "pack", imagePackage(u, "tagged", "registry.example/app:latest"))
}

// publish puts the image of a layout into a registry and returns its reference.
func publish(t *testing.T, dir string) string {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	return ref.Context().Digest(manifest.Manifests[0].Digest.String()).String()
}

// inmate builds the program that tries to get out.
func inmate(t *testing.T, u *user) string {
	t.Helper()
	file := filepath.Join(u.dir, "inmate")
	build := exec.Command("go", "build", "-o", file, "./internal/platform/sandbox/testdata/inmate")
	build.Dir, build.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return file
}

// imagePackageOf is imagePackage for a program alone.
func imagePackageOf(u *user, name, program string, more ...string) string {
	u.write(name+".txt", "alpha\nbeta\n")
	text := fmt.Sprintf("name: %s\nmode: ta,pd\npd: [%s.txt]\nhardware: [trustzone]\ninstances: [container]\nta:\n  binary: %s\n  serve: stdio\n", name, name, program)
	for _, line := range more {
		text += "  " + line + "\n"
	}
	return u.write(name+".yaml", text)
}

// TestContainerBadImages: images that must not be run are refused, by the packer where it can see it, else by the Agent, with the
// reason; nothing of them is left, and the device goes on.
func TestContainerBadImages(t *testing.T) {
	u := newUser(t)
	containerUp(t, u)
	good := ocitest.Layer(t, ocitest.File("bin/app", "no program"))
	var wg sync.WaitGroup
	for kind, c := range map[string]struct {
		words string
		layer []byte
	}{
		"traversal": {"forbidden entry", ocitest.Layer(t, ocitest.File("../../planted", "x"))},
		"device":    {"forbidden entry", ocitest.Layer(t, &tar.Header{Typeflag: tar.TypeBlock, Name: "dev/sda", Devmajor: 8})},
		"hardlink":  {"forbidden entry", ocitest.Layer(t, &tar.Header{Typeflag: tar.TypeLink, Name: "shadow", Linkname: "../../etc/shadow"})},
		"million":   {"too large", million(t)},
		"bomb":      {"too large", nil},
		"program":   {"the TA ends at once", good},
	} {
		img := &ocitest.Image{Layers: [][]byte{c.layer}, Config: oci.Config{Config: oci.Process{Entrypoint: []string{"/bin/app"}}}}
		if kind == "bomb" {
			img = bomb(t)
		}
		file := filepath.Join(u.dir, kind+".tar")
		if err := os.WriteFile(file, img.Payload(t), 0o600); err != nil {
			t.Fatal(err)
		}
		yaml := imagePackage(u, kind, file)
		if kind == "program" { // it is found out when it is started
			data := strings.Replace(mustRead(t, u, yaml), "serve: stdio", "serve: socket", 1)
			u.write(kind+".yaml", data)
		}
		u.must("", "pack", yaml)
		timeout, code := "60s", 1 // what can never run here is not tried again
		if kind == "program" {
			timeout, code = "12s", 3 // the M/OC goes on trying; by then the reason is known
		}
		wg.Go(func() { // at one time: each is waited for
			r := u.sealift("", "deploy", "--wait", "--timeout", timeout, kind+".sealift")
			if text := r.stdout + r.stderr; r.code != code || !strings.Contains(text, c.words) {
				t.Errorf("%s: exit %d, want %d and %q\n%s", kind, r.code, code, c.words, text)
			}
			if r := u.sealift("", "remove", kind); r.code != 0 {
				t.Errorf("remove %s: exit %d\n%s", kind, r.code, r.stderr)
			}
		})
	}
	wg.Wait()
	if len(emulatorGroups(u)) == 0 {
		t.Error("no control groups were found to look into")
	}
	for _, g := range emulatorGroups(u) {
		if left, _ := filepath.Glob(filepath.Join(g, "*", "ta-*")); len(left) > 0 {
			t.Errorf("%v are left", left)
		}
	}
	other := &ocitest.Image{Layers: [][]byte{good}, Config: oci.Config{Architecture: "s390x"}}
	file := filepath.Join(u.dir, "other.tar")
	payload := other.Payload(t)
	if err := os.WriteFile(file, payload, 0o600); err != nil {
		t.Fatal(err)
	}
	u.refused(2, []string{"s390x"}, "pack", imagePackage(u, "other", file))
	liar := &ocitest.Image{Layers: [][]byte{good}}
	if err := os.WriteFile(file, bytes.Replace(liar.Payload(t), []byte("no program"), []byte("no Program"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	u.refused(2, []string{"lies about a digest"}, "pack", imagePackage(u, "liar", file))
	u.refused(2, []string{"not an image"}, "pack", imagePackage(u, "nothing", filepath.Join(u.dir, "nothing-there")))
	u.refused(1, []string{"runc"}, "image", "build", "--instance", "container", "--runtime", "/no/runc", "--output", filepath.Join(u.dir, "out"))
	stillWorks(t, u)
}

func mustRead(t *testing.T, u *user, file string) string {
	t.Helper()
	if !filepath.IsAbs(file) {
		file = filepath.Join(u.dir, file)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// million is a layer of so many empty files that a million more would make no difference.
func million(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := range 150_000 {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("d%d/f%d", i/1000, i), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
	}
	return buf.Bytes()
}

// bomb is an image of 2.5 GiB of zeros, compressed.
func bomb(t *testing.T) *ocitest.Image {
	t.Helper()
	const part, parts = 64 << 20, 40
	var header bytes.Buffer
	if err := tar.NewWriter(&header).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Mode: 0o644, Size: part * parts}); err != nil {
		t.Fatal(err)
	}
	zip := func(data []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, _ = w.Write(data)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	// Members of a gzip file follow each other (RFC 1952 section 2.2), so the same one does for all.
	return &ocitest.Image{Zipped: [][]byte{append(zip(header.Bytes()), bytes.Repeat(zip(make([]byte, part)), parts)...)}}
}

// TestContainerDeviceKilled: nothing of containers outlives the platform, and the deployment comes back.
func TestContainerDeviceKilled(t *testing.T) {
	u := newUser(t)
	containerUp(t, u)
	u.must("", "pack", imagePackageOf(u, "lasting", busybox(t), `args: [grep, -f, /dev/stdin, "${PD}/lasting.txt"]`))
	u.must("", "deploy", "--wait", "lasting.sealift")
	if pid := outside("emulator", "run").find(t, u); pid == 0 {
		t.Fatal("no emulator")
	} else if p, err := os.FindProcess(pid); err != nil || p.Kill() != nil {
		t.Fatal("the emulator cannot be killed")
	}
	var r result
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if r = u.sealift("alp\n", "call", "lasting"); r.code == 0 && r.stdout == "alpha\n" {
			break
		}
	}
	if r.stdout != "alpha\n" {
		t.Errorf("it does not come back: exit %d\n%s\n%s", r.code, r.stderr, logs(u))
	}
	u.must("", "remove", "lasting")
}
