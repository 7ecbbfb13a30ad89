// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// attempt is something that a TA must not be able to do. outside says that the same program can do it outside as root: an
// attempt that is never seen to succeed shows little. Outside, those that would harm the machine are made in namespaces of their
// own, or not at all.
type attempt struct {
	try     string
	outside bool
}

// outsider is what there is on the machine to be reached.
type outsider struct {
	program string // the one that makes the attempts
	dir     string
	secret  string // a file
	pid     int    // a process

	tcp, udp, socket, abstract string // servers
}

func newOutsider(t *testing.T, u *user) *outsider {
	t.Helper()
	o := &outsider{program: inmate(t, u), dir: u.dir, secret: filepath.Join(u.dir, "secret")}
	u.write("secret", "the host's")
	listen := func(network, address string) string {
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		return ln.Addr().String()
	}
	names, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { names.Close() })
	go func() {
		for buf := make([]byte, 100); ; {
			n, from, err := names.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = names.WriteTo(buf[:n], from)
		}
	}()
	o.tcp, o.udp = listen("tcp", "127.0.0.1:0"), names.LocalAddr().String()
	o.socket = listen("unix", filepath.Join(u.dir, "s"))
	o.abstract = fmt.Sprintf("sealift-escapes-%d", os.Getpid())
	listen("unix", "@"+o.abstract)
	victim := exec.Command(o.program, "sleep")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = victim.Process.Kill(); _ = victim.Wait() })
	o.pid = victim.Process.Pid
	return o
}

// neighbourMark and roommateMark are arguments by which the processes of two other TAs are found: one in another instance, and one in the
// same.
const (
	neighbourMark = "86399"
	roommateMark  = "86398"
)

// attempts lists them for an instance type. store is the folder in which the device keeps what the neighbour's Agent stores, as
// the machine sees it.
func (o *outsider) attempts(instance, store string) []attempt {
	pid := strconv.Itoa(o.pid)
	_, noKVM := os.Stat("/dev/kvm")
	return []attempt{
		// The network, names included.
		{"tcpdial " + o.tcp, true}, {"udp " + o.udp, true}, {"inet", true}, {"inet6", false}, {"raw", true}, {"netlink", true},
		{"vsock", false}, {"abstract " + o.abstract, true}, {"unixdial " + o.socket, true},
		// Files of the machine, of the Agent, and of other TAs.
		{"read " + o.secret, true}, {"read /etc/passwd", true}, {"ls " + o.dir, true}, {"read /proc/1/root" + o.secret, false},
		{"ls " + store, true}, {"ls /store", false}, {"ls /oci", false}, {"read /tmp/mine", false}, {"read /pd/roommate.txt", false}, {"ls /sys/fs/cgroup", true},
		{"handle", true},
		// Writing elsewhere than in its own folders, executing what it wrote, and changing what it runs from.
		{"write /inmate", false}, {"write /pd/more", false}, {"write /etc/passwd", false},
		{"write /proc/sys/kernel/hostname", false}, {"write /sys/fs/cgroup/pids/pids.max", false}, {"selfwrite", false},
		{"exec /tmp/copy-of-the-inmate", true}, {"exec /run/sealift/copy", false}, {"exec /dev/shm/copy", false},
		// Memory of others, signals to others.
		{"pidmem " + pid, true}, {"ptrace " + pid, true}, {"ptrace 1", false}, {"vmread 1 1000", false}, {"kill " + pid, true},
		{"killall", true}, {"othermem " + neighbourMark, instance == "process" || instance == "container"}, // in a vm, nobody outside sees its processes
		{"othermem " + roommateMark, instance == "process" || instance == "container"},
		// Namespaces and mounts.
		{"userns", false}, {"mountns", true}, {"clonens", true}, {"clone3", true}, {"setns", true}, {"mount", true},
		{"umount", false}, {"remount", true}, {"chroot", true},
		// Devices, the kernel, other users.
		{"mknod " + o.dir + "/disk", true}, {"mknod /tmp/disk-of-the-inmate", false}, {"mkchar " + o.dir + "/zero 1 5", true},
		{"mkchar /tmp/memory-of-the-inmate 1 1", false}, {"device /dev/kvm", noKVM == nil}, {"device /dev/mem", false},
		{"device /dev/port", false}, {"device /dev/vport0p1", false}, {"device /dev/hvc0", false}, {"module", false},
		{"become 4321", true}, {"bpf", false}, {"keyctl", true}, {"perf", false}, {"iouring", false}, {"userfault", false}, {"reboot", false},
		{"sethost", true}, {"settime", false},
		// As many processes as there is room for.
		{"forkbomb 400", false},
	}
}

// sentryAllows are attempts that gVisor's kernel may allow: what they reach is its own, in the container's memory.
var sentryAllows = []string{"inet", "inet6", "netlink"}

// try makes an attempt outside.
func (o *outsider) try(a attempt) (string, error) {
	cmd := exec.Command(o.program, strings.Fields(a.try)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// neighbourStore finds the folder of the neighbour's Agent. In a vm it is a disk image beside it, in the same folder.
func neighbourStore(t *testing.T, u *user) string {
	t.Helper()
	stores, err := filepath.Glob(filepath.Join(u.home, "dev", "*", "instances", "*"))
	if err != nil || len(stores) == 0 {
		t.Fatalf("no instance's folder was found: %v", err)
	}
	return stores[0]
}

// TestEscapes: the same program, as a TA in each instance type, makes the same attempts. Each is denied inside, and what can
// be shown to work outside does; and after all that the TA goes on.
func TestEscapes(t *testing.T) {
	for name, hardware := range map[string]string{"process": "trustzone", "container": "trustzone", "gvisor": "trustzone", "vm": "cca"} {
		t.Run(name, func(t *testing.T) {
			u := newUser(t)
			instance := name
			switch name {
			case "process":
				devUp(t, u)
			case "container":
				containerUp(t, u)
			case "gvisor":
				if runtime.GOARCH != "amd64" {
					t.Skip("Debian has no runsc for " + runtime.GOARCH)
				}
				instance = "container"
				containerImageOf(t, u, "runsc", filepath.Join(bin, "images"))
				devUp(t, u)
			case "vm":
				vmImage(t, u, filepath.Join(bin, "images"))
				t.Cleanup(func() { os.RemoveAll(filepath.Join(bin, "images")) })
				devUp(t, u, "--hardware", hardware)
			}
			o := newOutsider(t, u)
			app := func(name, program, serve string, sharing []string, more ...string) {
				text := mustRead(t, u, imagePackageOf(u, name, program, more...))
				text = strings.NewReplacer("[container]", "["+instance+"]", "[trustzone]", "["+hardware+"]", "stdio", serve).Replace(text)
				u.must("", "pack", u.write(name+".yaml", text))
				u.must("", append([]string{"deploy", "--wait", name + ".sealift"}, sharing...)...)
			}
			app("neighbour", busybox(t), "socket", nil, `args: [sh, -c, "cp ${PD}/neighbour.txt /tmp/mine; sleep `+neighbourMark+`"]`)
			store := neighbourStore(t, u)
			app("roommate", filepath.Join(bin, "examples", "stats-ta"), "socket", []string{"--sharing", "owner"}, "args: ["+roommateMark+"]")
			app("inmate", o.program, "stdio", []string{"--share-with", "roommate"}, `args: [stdin]`, `memory: 256MiB`)
			o.check(t, u, name, "inmate", store)
			limited(t, u, name)
			u.must("", "remove", "inmate")
			if name == "vm" { // and from a container in the guest
				file := imagePackage(u, "boxed", o.image(t, u), "entrypoint: [/bin/inmate]", "args: [stdin]", "memory: 128MiB")
				u.write("boxed.yaml", strings.NewReplacer("[container]", "[vm]", "[trustzone]", "["+hardware+"]").Replace(mustRead(t, u, file)))
				u.must("", "pack", file)
				u.must("", "deploy", "--wait", "--share-with", "roommate", "boxed.sealift")
				o.check(t, u, name, "boxed", store)
				u.must("", "remove", "boxed")
			}
			u.must("", "remove", "roommate")
			u.must("", "remove", "neighbour")
		})
	}
}

// image makes a container image with the program in it.
func (o *outsider) image(t *testing.T, u *user) string {
	t.Helper()
	dir := foreignImage(t, u)
	if out, err := exec.Command("umoci", "insert", "--rootless", "--image", dir+":latest", o.program, "/bin/inmate").CombinedOutput(); err != nil {
		t.Fatalf("umoci: %v\n%s", err, out)
	}
	return dir
}

// check makes all attempts at once inside the TA of an application, and, for the first of them, one by one outside.
func (o *outsider) check(t *testing.T, u *user, instance, app, store string) {
	t.Helper()
	attempts := o.attempts(instance, store)
	if instance == "gvisor" {
		attempts = slices.DeleteFunc(attempts, func(a attempt) bool {
			return slices.Contains(sentryAllows, strings.Fields(a.try)[0]) ||
				a.try == "ls /sys/fs/cgroup" || strings.HasPrefix(a.try, "forkbomb") // its own folder; and what ends it is in limited
		})
	}
	text := "lines\n"
	for _, a := range attempts {
		text += a.try + "\n"
	}
	r := u.must(text, "call", app)
	told := map[string]string{}
	for lines := bufio.NewScanner(strings.NewReader(r.stdout)); lines.Scan(); {
		var report struct{ Try, Answer string }
		if err := json.Unmarshal(lines.Bytes(), &report); err != nil {
			t.Fatalf("%v: %s", err, lines.Text())
		}
		told[report.Try] = report.Answer
	}
	for _, a := range attempts {
		if !strings.HasPrefix(told[a.try], "denied: ") {
			t.Errorf("%s: %q", a.try, told[a.try])
		}
		t.Logf("%s: %s", a.try, told[a.try])
		if !a.outside || os.Getuid() != 0 || app != "inmate" { // once is enough
			continue
		}
		if answer, err := o.try(a); !strings.HasSuffix(answer, "allowed") {
			t.Errorf("outside: %s: %v %s", a.try, err, answer)
		}
	}
	if instance == "gvisor" {
		return
	}
	var bomb int
	if _, err := fmt.Sscanf(told["forkbomb 400"], "denied: after %d:", &bomb); err != nil || bomb < 2 {
		t.Errorf("the processes were not counted: %q", told["forkbomb 400"])
	}
	_ = os.Remove("/tmp/copy-of-the-inmate")
}

// limited takes more memory than is allowed: the program dies of it, its caller learns that, and the instance lives on.
func limited(t *testing.T, u *user, instance string) {
	t.Helper()
	tries := []string{"memory 400", "pieces 400"}
	if instance == "gvisor" {
		tries = []string{"memory 700"} // its own memory, up to 192 MiB, is within the limit too
	}
	for _, try := range tries {
		if r := u.sealift(try, "call", "inmate"); strings.Contains(r.stdout, "allowed") {
			t.Errorf("%s: exit %d %q", try, r.code, r.stdout)
		}
		// A program that is killed cannot say anything, and its TEE does; a guest may have less memory than its TA is allowed.
		want := []string{"memory limit"}
		if instance == "vm" {
			want = append(want, "last end: exit status 2", "last end: signal: killed")
		}
		said := u.must("", "top", "inmate").stdout
		if !slices.ContainsFunc(want, func(words string) bool { return strings.Contains(said, words) }) {
			t.Errorf("%s: the owner is told none of %q: %s", try, want, said)
		}
	}
	if u.sealift("forkbomb 400", "call", "inmate"); instance == "gvisor" {
		if said := u.must("", "top", "inmate").stdout; !strings.Contains(said, "more processes than it may have") {
			t.Errorf("forkbomb: %s", said)
		}
	}
	for _, try := range []string{"memory 64", "read /proc/self/status", "forkbomb 2"} {
		if r := u.must(try, "call", "inmate"); !strings.HasSuffix(r.stdout, "allowed\n") {
			t.Errorf("%s after all that: %q\n%s", try, r.stdout, r.stderr)
		}
	}
}
