// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sealift/internal/sharedtest"
	"sealift/test/canary"
)

// vmImage builds the image of a virtual machine into a folder, with what scripts/setup.sh has fetched.
func vmImage(t *testing.T, u *user, dir string, args ...string) {
	t.Helper()
	kernel, err := filepath.Abs(filepath.Join("..", "..", ".cache", "kernel"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(kernel, "packages")); err != nil {
		sharedtest.Missing(t, "scripts/setup.sh was not run: %v", err)
	}
	u.must("", append([]string{"image", "build", "--instance", "vm", "-o", dir, "--kernel", kernel}, args...)...)
}

// vmPackage writes the example's package for a virtual machine on the hardware.
func vmPackage(t *testing.T, u *user, mode, hardware string) {
	t.Helper()
	file := statsPackage(t, u, mode)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "hardware: [trustzone]\ninstances: [process]", "hardware: ["+hardware+"]\ninstances: [vm]", 1)
	if changed == string(text) {
		t.Fatal("the example's package names other hardware than it did")
	}
	u.write("stats.yaml", changed)
	u.must("", "pack", "stats.yaml")
}

// qemus lists the virtual machines that run.
func qemus(t *testing.T) []int { return running(t, "qemu-system-x86_64") }

// running lists the processes of a program.
func running(t *testing.T, program string) (pids []int) {
	t.Helper()
	for _, p := range processes(t) {
		if p.args[0] == program {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// A deployment into a confidential virtual machine that is booted with its TA: the owner accepts what was measured of kernel, initramfs,
// command line and TA, the machine is killed and comes back with its sealed state, of which nothing lies on the host in the clear, and a
// removal leaves nothing. Beside it a TA that is an image of others' making runs in a guest too.
func TestVM(t *testing.T) {
	u := newUser(t)
	vmImage(t, u, filepath.Join(bin, "images"))
	t.Cleanup(func() { os.RemoveAll(filepath.Join(bin, "images")) })
	devUp(t, u, "--hardware", "tdx")
	vmPackage(t, u, "ua,ta,pd", "tdx")
	text, err := os.ReadFile(filepath.Join(u.dir, "stats.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	pack := func(program string) {
		u.write("stats.yaml", strings.Replace(string(text), "binary: "+filepath.Join(bin, "examples", "stats-ta"), "guest: "+program, 1))
		u.must("", "pack", "stats.yaml")
	}
	pack(filepath.Join(bin, "examples", "stats-ta"))
	r := u.must("", "deploy", "--wait", "stats.sealift")
	for _, want := range []string{"EMULATED", "starts it as a confidential vm", "device-tdx (tdx/vm)"} {
		if !strings.Contains(r.stdout+r.stderr, want) {
			t.Errorf("deploy does not say %q:\n%s\n%s", want, r.stdout, r.stderr)
		}
	}
	answers(t, u, "stats")
	measured := u.must("", "image", "measure", filepath.Join(bin, "images", "vm.img"), "--payload", "stats.sealift").stdout
	_, measured, _ = strings.Cut(measured, "MRTD")
	measured, _, _ = strings.Cut(strings.TrimSpace(measured), "\n")
	if r := u.must("", "verify", "stats", "--json"); !strings.Contains(r.stdout, "MRTD") || !strings.Contains(r.stdout, "with the guest payload sha256:") ||
		measured == "" || !strings.Contains(r.stdout, measured) {
		t.Errorf("the appraisal does not name the measurement %q:\n%s", measured, r.stdout)
	}
	pack(busybox(t))
	u.refused(2, []string{"booted and measured with it", "remove the deployment"}, "update", "stats", "stats.sealift")
	first := qemus(t)
	if len(first) != 1 {
		t.Fatalf("virtual machines: %v", first)
	}
	_ = syscall.Kill(first[0], syscall.SIGKILL)
	eventually(t, time.Minute, "the machine runs again", func() bool {
		now := qemus(t)
		return len(now) == 1 && now[0] != first[0]
	})
	answers(t, u, "stats")
	secret, err := canary.New([]byte("r10000,production,Eastfield,x,lead,35,40,65866")) // a record of the PD
	if err != nil {
		t.Fatal(err)
	}
	if found, files, err := secret.ScanTree(filepath.Join(u.home, "dev")); err != nil || len(found) != 0 || files < 5 {
		t.Errorf("on the host's disk: %v in %d files, %v", found, files, err)
	}
	u.must("", "verify", "stats") // the register of loaded programs began anew, and so did the Agent's record of them
	u.must("", "remove", "stats")

	file := imagePackage(u, "image", foreignImage(t, u), `args: [-f, /dev/stdin, "${PD}/image.txt"]`)
	if text, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	u.write("image.yaml", strings.NewReplacer("[container]", "[vm]", "[trustzone]", "[tdx]").Replace(string(text)))
	u.must("", "pack", file)
	u.must("", "deploy", "--wait", "image.sealift")
	if r := u.must("et\n", "call", "image"); r.stdout != "beta\n" {
		t.Errorf("%q\n%s\n%s", r.stdout, r.stderr, logs(u))
	}
	u.must("", "remove", "image")
	if left := qemus(t); len(left) != 0 {
		t.Errorf("still running: %v", left)
	}
}

// An operator that launches another command line than the owner accepts, in a machine that measures its boot into a TPM: the owner's
// appraisal says so by the measurements' names, and nothing is released. Under the policy that expects this image the same machine is
// accepted, with reference values that were computed from the files.
func TestVMOtherCommandLine(t *testing.T) {
	u := newUser(t)
	good := filepath.Join(u.dir, "images")
	vmImage(t, u, good, "--tpm")
	vmImage(t, u, filepath.Join(bin, "images"), "--tpm", "--cmdline", "console=ttyS0 quiet panic=-2 no_timer_check")
	t.Cleanup(func() { os.RemoveAll(filepath.Join(bin, "images")) })
	devUp(t, u, "--hardware", "cca")
	u.must("", "policy", "init", "--name", "mine", "--hardware", "cca", "--accept-emulated", "--agent", filepath.Join(good, "vm.img"))
	vmPackage(t, u, "ta,pd", "cca")
	r := u.refused(4, []string{"RIM", "TPM-CMDLINE"}, "deploy", "--wait", "--policy", "mine", "stats.sealift")
	for _, expected := range []string{"TPM-KERNEL is not", "TPM-INITRAMFS is not", "not recognized"} {
		if strings.Contains(r.stdout+r.stderr, expected) {
			t.Errorf("%q, and only the command line differs:\n%s\n%s", expected, r.stdout, r.stderr)
		}
	}
	r = u.must("", "verify", "stats", "--policy", "dev")
	for _, want := range []string{"TPM-KERNEL: sha-256:", "TPM-CMDLINE: sha-256:", "TPM-INITRAMFS: sha-256:"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("the appraisal does not say %q:\n%s", want, r.stdout)
		}
	}
	tpms, machines := running(t, "swtpm"), qemus(t)
	if len(tpms) != 1 || len(machines) != 1 {
		t.Fatalf("TPMs %v, machines %v", tpms, machines)
	}
	_ = syscall.Kill(tpms[0], syscall.SIGKILL)
	eventually(t, time.Minute, "the machine without its TPM is gone", func() bool { return !slices.Contains(qemus(t), machines[0]) })
	u.must("", "remove", "stats")
	if left := running(t, "swtpm"); len(left) != 0 {
		t.Errorf("a TPM still runs: %v", left)
	}
}

// Two builds give the same bytes, wherever and whenever, and say where the kernel is from.
func TestImagesAreReproducible(t *testing.T) {
	u := newUser(t)
	one, two := filepath.Join(u.dir, "one"), filepath.Join(u.dir, "two")
	vmImage(t, u, one)
	agent := filepath.Join(u.dir, "elsewhere")
	copyFile(t, filepath.Join(bin, "sealift-agent"), agent)
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(agent, later, later); err != nil {
		t.Fatal(err)
	}
	vmImage(t, u, two, "--agent", agent)
	for _, name := range []string{"vm.img", "reference-values.json"} {
		a, err1 := os.ReadFile(filepath.Join(one, name))
		b, err2 := os.ReadFile(filepath.Join(two, name))
		if err1 != nil || err2 != nil || string(a) != string(b) {
			t.Errorf("%s differs (%v, %v)", name, err1, err2)
		}
	}
	var refs struct {
		Images []struct {
			Packages []struct{ Name, Version, Digest string }
			Values   []struct {
				Name, Hardware string
				Digests        []string
			} `json:"reference_values"`
		}
	}
	text, err := os.ReadFile(filepath.Join(one, "reference-values.json"))
	if err != nil {
		t.Fatal(err)
	}
	decode(t, string(text), &refs)
	if len(refs.Images) != 1 || len(refs.Images[0].Packages) != 2 || len(refs.Images[0].Values) != 4 ||
		!strings.HasPrefix(refs.Images[0].Packages[0].Name, "linux-image-") {
		t.Errorf("%+v", refs)
	}
	u.refused(1, []string{"no kernel", "setup.sh"}, "image", "build", "--instance", "vm", "-o", one, "--kernel", u.dir)
	u.refused(2, []string{`there is no instance type "vn"`}, "image", "build", "--instance", "vn", "-o", one)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(fmt.Errorf("copying %s: %w", from, err))
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
