// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sandbox

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// verdicts runs a filter as the kernel does.
type verdicts struct {
	t     *testing.T
	vm    *bpf.VM
	table *arch.Info
}

func newVerdicts(t *testing.T, p Profile) *verdicts {
	t.Helper()
	program, err := filter(p)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	table, err := arch.GetInfo("")
	if err != nil {
		t.Fatal(err)
	}
	return &verdicts{t, vm, table}
}

// of returns the filter's verdict on one call. The words are big-endian for the library's machine (bpf.VM), which loads them
// the way network packets are.
func (v *verdicts) of(machine uint32, number uint32, args ...uint64) uint32 {
	v.t.Helper()
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data[0:], number)
	binary.BigEndian.PutUint32(data[4:], machine)
	for i, a := range args { // struct seccomp_data on a little-endian machine: the low word first
		binary.BigEndian.PutUint32(data[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[20+8*i:], uint32(a>>32))
	}
	n, err := v.vm.Run(data)
	if err != nil {
		v.t.Fatal(err)
	}
	return uint32(n)
}

// TestFilterEveryCall guards the filter as it is assembled: every system call of the table, and numbers beyond it, get the verdict
// that the lists say.
func TestFilterEveryCall(t *testing.T) {
	lists := map[Profile][]string{
		ProfileTA: allowed, ProfileUA: allowed, ProfileAgent: slices.Concat(allowed, forNesting), ProfilePod: slices.Concat(allowed, forNesting, forRuntime),
		ProfileSentry: slices.Concat(allowed, forNesting, forRuntime, forSentry),
	}
	for p, list := range lists {
		v := newVerdicts(t, p)
		conditional := map[string]bool{"socket": true, "socketpair": true, "personality": true, "ioctl": true, "clone": true, "clone3": true}
		newest := uint32(0)
		for number := range v.table.SyscallNumbers {
			newest = max(newest, uint32(number))
		}
		for number := range uint32(1000) {
			name := v.table.SyscallNumbers[int(number)]
			if conditional[name] {
				continue
			}
			want := retDenied
			if number > newest {
				want = retAbsent
			}
			if slices.Contains(list, name) {
				want = retAllow
			}
			for _, arg := range []uint64{0, 1, 16, ^uint64(0)} {
				if got := v.of(uint32(v.table.ID), number, arg, arg, arg); got != want {
					t.Errorf("profile %d, %s (%d), argument %x: %x, want %x", p, name, number, arg, got, want)
				}
			}
			if got := v.of(uint32(arch.I386.ID), number); got == retAllow {
				t.Errorf("profile %d: call %d through the 32-bit entry is allowed", p, number)
			}
			if got := v.of(uint32(v.table.ID), number|0x40000000); got == retAllow {
				t.Errorf("profile %d: call %d through the x32 entry is allowed", p, number)
			}
		}
	}
}

// TestFilterConditions guards the calls whose arguments decide.
func TestFilterConditions(t *testing.T) {
	ta, agent, pod := newVerdicts(t, ProfileTA), newVerdicts(t, ProfileAgent), newVerdicts(t, ProfilePod)
	ua, sentry := newVerdicts(t, ProfileUA), newVerdicts(t, ProfileSentry)
	number := func(name string) uint32 { return uint32(ta.table.SyscallNames[name]) }
	check := func(v *verdicts, want uint32, name string, args ...uint64) {
		t.Helper()
		if got := v.of(uint32(v.table.ID), number(name), args...); got != want {
			t.Errorf("%s%x: %x, want %x", name, args, got, want)
		}
	}
	for _, v := range []*verdicts{ta, agent, pod, sentry} {
		for family := range uint64(64) {
			want := retDenied
			if family == unix.AF_UNIX {
				want = retAllow
			}
			check(v, want, "socket", family, unix.SOCK_STREAM)
			check(v, want, "socket", family, unix.SOCK_RAW)
			check(v, want, "socketpair", family, unix.SOCK_STREAM)
		}
		check(v, retAbsent, "clone3")
		check(v, retAllow, "ioctl", 0, unix.TCGETS)
		check(v, retDenied, "ioctl", 0, unix.TIOCSTI)
		check(v, retDenied, "ioctl", 0, unix.TIOCLINUX)
		check(v, retAllow, "personality", 0xffffffff)
		check(v, retAllow, "personality", 0)
		check(v, retDenied, "personality", 0x0040000)
		check(v, retAllow, "clone", unix.CLONE_VM|unix.CLONE_FS|unix.CLONE_FILES|unix.CLONE_SIGHAND|unix.CLONE_THREAD)
		check(v, retAllow, "clone", uint64(unix.SIGCHLD))
	}
	for family := range uint64(64) {
		for protocol := range uint64(300) {
			want := retDenied
			if slices.Contains([]uint64{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6}, family) && slices.Contains([]uint64{0, unix.IPPROTO_TCP, unix.IPPROTO_UDP}, protocol) {
				want = retAllow
			}
			check(ua, want, "socket", family, unix.SOCK_STREAM, protocol)
		}
	}
	check(ua, retAllow, "socketpair", unix.AF_UNIX, unix.SOCK_STREAM)
	check(ua, retDenied, "socketpair", unix.AF_INET, unix.SOCK_STREAM)
	for _, flag := range []uint64{unix.CLONE_NEWUSER, unix.CLONE_NEWNS, unix.CLONE_NEWPID, unix.CLONE_NEWNET, unix.CLONE_NEWIPC,
		unix.CLONE_NEWUTS, unix.CLONE_NEWCGROUP, unix.CLONE_NEWTIME} {
		check(ta, retDenied, "clone", flag)
		check(ta, retDenied, "clone", flag|uint64(unix.SIGCHLD))
		check(ua, retDenied, "clone", flag)
		check(agent, retAllow, "clone", flag)
		check(pod, retAllow, "clone", flag)
		check(sentry, retAllow, "clone", flag)
	}
}

// TestNamesExist guards the lists against misspelt names, which would silently be no rule.
func TestNamesExist(t *testing.T) {
	for _, name := range slices.Concat(allowed, forNesting, forRuntime, forSentry) {
		if _, ok := arch.X86_64.SyscallNames[name]; !ok {
			t.Errorf("%s is no system call", name)
		}
	}
	if !slices.IsSorted(allowed) || !slices.IsSorted(forNesting) || !slices.IsSorted(forRuntime) || !slices.IsSorted(forSentry) {
		t.Error("a list is not sorted")
	}
	for _, name := range slices.Concat(forNesting, forRuntime, forSentry) {
		if slices.Contains(allowed, name) {
			t.Errorf("%s stands in both lists", name)
		}
	}
}
