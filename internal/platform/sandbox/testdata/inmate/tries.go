// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var tries = map[string]func([]string) error{
	"read":       func(a []string) error { _, err := os.ReadFile(a[0]); return err },
	"write":      func(a []string) error { return os.WriteFile(a[0], []byte("was here"), 0o600) },
	"unlink":     func(a []string) error { return os.Remove(a[0]) },
	"inet":       func([]string) error { return socket(unix.AF_INET, unix.SOCK_STREAM) },
	"inet6":      func([]string) error { return socket(unix.AF_INET6, unix.SOCK_DGRAM) },
	"raw":        func([]string) error { return socket(unix.AF_PACKET, unix.SOCK_RAW) },
	"netlink":    func([]string) error { return socket(unix.AF_NETLINK, unix.SOCK_RAW) },
	"vsock":      func([]string) error { return socket(unix.AF_VSOCK, unix.SOCK_STREAM) },
	"unix":       func([]string) error { return socket(unix.AF_UNIX, unix.SOCK_STREAM) },
	"abstract":   func(a []string) error { return dial("unix", "@"+a[0]) },
	"unixdial":   func(a []string) error { return dial("unix", a[0]) },
	"packetdial": packetDial,
	"tcpdial":    func(a []string) error { return dial("tcp", a[0]) },
	"unixserve":  unixServe,
	"listen":     func(a []string) error { _, err := net.Listen("tcp", a[0]); return err },
	"mptcp":      func([]string) error { return call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP) },
	"userns":     func([]string) error { return unix.Unshare(unix.CLONE_NEWUSER) },
	"mountns":    func([]string) error { return unix.Unshare(unix.CLONE_NEWNS) },
	"clonens":    cloneUser,
	"clone3":     clone3,
	"setns":      setns,
	"mount":      func([]string) error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") },
	"umount":     func([]string) error { return unix.Unmount("/tmp", unix.MNT_DETACH) },
	"remount":    func([]string) error { return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, "") },
	"chroot":     func([]string) error { return unix.Chroot("/tmp") },
	"mknod":      func(a []string) error { return unix.Mknod(a[0], unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0))) },
	"ptrace":     func(a []string) error { return unix.PtraceSeize(pid(a)) },
	"vmread":     vmRead,
	"kill":       func(a []string) error { return unix.Kill(pid(a), 0) },
	"killall":    func([]string) error { return unix.Kill(-1, 0) },
	"pidmem":     func(a []string) error { _, err := os.Open("/proc/" + a[0] + "/mem"); return err },
	"bpf":        func([]string) error { return call(unix.SYS_BPF, 0, 0, 0) },
	"keyctl":     func([]string) error { return call(unix.SYS_KEYCTL, 0, uintptr(0xfffffffd), 1) },
	"perf":       perf,
	"iouring":    ioURing,
	"userfault":  func([]string) error { return call(unix.SYS_USERFAULTFD, 1, 0, 0) },
	"reboot":     func([]string) error { return call(unix.SYS_REBOOT, 0, 0, 0) },
	"sethost":    func([]string) error { return unix.Sethostname([]byte("elsewhere")) },
	"settime":    func([]string) error { return unix.Settimeofday(&unix.Timeval{Sec: time.Now().Unix()}) },
	"handle":     openByHandle,
	"setuid":     func([]string) error { return syscall.Setuid(0) },
	"become":     func(a []string) error { return syscall.Setuid(pid(a)) },
	"mkchar":     mkChar,
	"device":     device,
	"module":     module,
	"udp":        udp,
	"othermem":   otherMem,
	"selfwrite":  selfWrite,
	"forkbomb":   forkBomb,
	"memory":     memory,
	"pieces":     pieces,
	"openfiles":  openFiles,
	"fill":       fill,
	"burn": func([]string) error {
		for {
			unix.Getpid()
		}
	},
	"sleep": func([]string) error { fmt.Println("asleep"); time.Sleep(time.Hour); return nil },
	"spawn": spawnSleep,
	"exec":  execCopy,
	"fds":   fds,
	"who":   who,
	"ls":    list,
	"cat":   func([]string) error { _, err := io.Copy(os.Stdout, os.Stdin); return err },
	"fd3": func([]string) error {
		_, err := os.NewFile(3, "three").WriteString("hello through three\n")
		return err
	},
	"exit": func(a []string) error { os.Exit(pid(a)); return nil },
}

func pid(a []string) int { n, _ := strconv.Atoi(a[0]); return n }

func call(n, a, b, c uintptr) error {
	if _, _, e := syscall.Syscall6(n, a, b, c, 0, 0, 0); e != 0 {
		return e
	}
	return nil
}

func socket(family, kind int) error {
	fd, err := unix.Socket(family, kind, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func dial(network, address string) error {
	c, err := net.DialTimeout(network, address, 2*time.Second)
	if err == nil {
		c.Close()
	}
	return err
}

// packetDial connects to a socket that keeps message boundaries and waits for anything to come back.
func packetDial(a []string) error {
	c, err := net.Dial("unixpacket", a[0])
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte{0xa1, 1, 1}); err != nil {
		return err
	}
	n, err := c.Read(make([]byte, 1000))
	if n == 0 && err == nil {
		return io.EOF
	}
	return err
}

// unixServe answers one connection, like a TA on SEALIFT_LISTEN.
func unixServe(a []string) error {
	l, err := net.Listen("unix", a[0])
	if err != nil {
		return err
	}
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.WriteString(c, "hello from inside")
	return err
}

func cloneUser([]string) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	return cmd.Run()
}

func clone3([]string) error {
	args := [11]uint64{0: unix.CLONE_NEWUSER, 4: uint64(unix.SIGCHLD)}
	r, _, e := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	if e != 0 {
		return e
	}
	if r == 0 {
		unix.Exit(0)
	}
	return nil
}

func setns([]string) error {
	f, err := os.Open("/proc/self/ns/uts")
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWUTS)
}

func vmRead(a []string) error {
	n, err := strconv.ParseUint(a[1], 16, 64)
	if err != nil {
		return err
	}
	buf := make([]byte, 16)
	local := []unix.Iovec{{Base: &buf[0], Len: 16}}
	_, err = unix.ProcessVMReadv(pid(a), local, []unix.RemoteIovec{{Base: uintptr(n), Len: 16}}, 0)
	return err
}

func perf([]string) error {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Bits: 1 << 5}
	_, err := unix.PerfEventOpen(&attr, 0, -1, -1, 0)
	return err
}

func ioURing([]string) error {
	var params [120]byte
	return call(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
}

func openByHandle([]string) error {
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/", 0)
	if err != nil {
		return err
	}
	fd, err := unix.OpenByHandleAt(unix.AT_FDCWD, h, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// selfWrite tries every way to change the file that it was started from.
func selfWrite([]string) error {
	var errs []error
	f, err := os.OpenFile("/proc/self/exe", os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{0}, 0)
	}
	errs = append(errs, err)
	errs = append(errs, os.Truncate("/proc/self/exe", 0))
	for _, err := range errs {
		if err == nil {
			return nil
		}
	}
	return errors.Join(errs...)
}

// forkBomb starts processes until it cannot, and fails with how many there were.
func forkBomb(a []string) error {
	for n := range pid(a) {
		cmd := exec.Command("/proc/self/exe", "sleep")
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("after %d: %w", n, err)
		}
		defer cmd.Process.Kill()
	}
	return nil
}

func memory(a []string) error {
	kept := make([]byte, pid(a)<<20)
	for i := 0; i < len(kept); i += 4096 {
		kept[i] = 1
	}
	return nil
}

// pieces takes memory a little at a time, which a runtime answers out of address space that it has reserved before.
func pieces(a []string) error {
	var kept [][]byte
	for range pid(a) {
		piece := make([]byte, 1<<20)
		for i := 0; i < len(piece); i += 4096 {
			piece[i] = 1
		}
		kept = append(kept, piece)
	}
	runtime.KeepAlive(kept)
	return nil
}

func openFiles(a []string) error {
	for n := range pid(a) {
		if _, err := os.Open("/dev/null"); err != nil {
			return fmt.Errorf("after %d: %w", n, err)
		}
	}
	return nil
}

func fill(a []string) error {
	f, err := os.Create(a[0])
	if err != nil {
		return err
	}
	chunk := make([]byte, 1<<20)
	for range pid(a[1:]) {
		if _, err := f.Write(chunk); err != nil {
			return err
		}
	}
	return f.Close()
}

// spawnSleep starts a process in a session of its own, as a daemon does, and ends.
func spawnSleep([]string) error {
	cmd := exec.Command("/proc/self/exe", "sleep")
	cmd.Args[0] = "left-behind"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start()
}

// execCopy copies itself to a file and executes that.
func execCopy(a []string) error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.WriteFile(a[0], self, 0o700); err != nil {
		return err
	}
	return exec.Command(a[0]).Run()
}

// fds prints the open descriptors that are not the runtime's.
func fds([]string) error {
	for fd := range 1024 {
		link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if err == nil {
			kind, _, _ := strings.Cut(link, ":")
			fmt.Println(fd, kind)
		}
	}
	return nil
}

// who prints what it is: process, user, host name, and what /proc/self/status says of its rights.
func who([]string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	fmt.Println("pid", os.Getpid(), "uid", os.Getuid(), "host", host)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		for _, key := range []string{"CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp:"} {
			if strings.HasPrefix(line, key) {
				fmt.Println(strings.Join(strings.Fields(line), " "))
			}
		}
	}
	return nil
}

// mkChar makes a node of a character device and reads from it.
func mkChar(a []string) error {
	if err := unix.Mknod(a[0], unix.S_IFCHR|0o600, int(unix.Mkdev(uint32(pid(a[1:])), uint32(pid(a[2:]))))); err != nil {
		return err
	}
	defer os.Remove(a[0])
	f, err := os.Open(a[0])
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Read(make([]byte, 1))
	return err
}

func device(a []string) error {
	f, err := os.OpenFile(a[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// module asks for a kernel module that is none. A kernel that looks at it has let the caller in.
func module([]string) error {
	image := []byte("no module")
	none := []byte{0} // no parameters
	err := call(unix.SYS_INIT_MODULE, uintptr(unsafe.Pointer(&image[0])), uintptr(len(image)), uintptr(unsafe.Pointer(&none[0])))
	if errors.Is(err, unix.ENOEXEC) || errors.Is(err, unix.EFAULT) {
		return nil
	}
	return err
}

// udp asks a question of an address and waits for the answer, as somebody does who looks up a name.
func udp(a []string) error {
	c, err := net.DialTimeout("udp", a[0], 2*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("who is there?")); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 100))
	return err
}

// otherMem opens the memory of a process that somebody else has started with this word among its arguments.
func otherMem(a []string) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil || n == os.Getpid() {
			continue
		}
		line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil || !strings.Contains(string(line), a[0]) || strings.Contains(string(line), "othermem") {
			continue
		}
		f, err := os.OpenFile("/proc/"+e.Name()+"/mem", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return f.Close()
	}
	return errors.New("no such process is to be seen")
}

func list(a []string) error {
	entries, err := os.ReadDir(a[0])
	for _, e := range entries {
		fmt.Println(e.Name())
	}
	return err
}
