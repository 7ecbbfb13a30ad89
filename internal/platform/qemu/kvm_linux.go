// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kvmDevice is the kernel's interface for virtualization. It opens on machines where no stock kernel boots under it.
const kvmDevice = "/dev/kvm"

// CheckKVM says why a trial boot under KVM is not worth its time: nil if only a trial can tell. uid is the user that QEMU runs as; 0 for this
// process's own.
func CheckKVM(uid int) error {
	var st unix.Stat_t
	if err := unix.Stat(kvmDevice, &st); err != nil {
		return fmt.Errorf("%w: there is no %s: %w", ErrUnsupported, kvmDevice, err)
	}
	own := uid == 0 || uid == os.Geteuid()
	if own && unix.Access(kvmDevice, unix.R_OK|unix.W_OK) != nil || !own && st.Mode&0o006 != 0o006 {
		return fmt.Errorf("%w: the user that QEMU runs as cannot open %s (it has the mode %#o): run the emulator as a user of its group, or let others open it",
			ErrUnsupported, kvmDevice, st.Mode&0o777)
	}
	flags, err := processorFlags("/proc/cpuinfo")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if !slices.Contains(flags, "vmx") && !slices.Contains(flags, "svm") {
		return fmt.Errorf("%w: the processor offers no virtualization here (neither vmx nor svm), whatever stands behind %s", ErrUnsupported, kvmDevice)
	}
	return nil
}

// processorFlags are those of the first processor (proc_cpuinfo(5)).
func processorFlags(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "flags" {
			return strings.Fields(value), nil
		}
	}
	return nil, errors.Join(errors.New("no processor tells its flags"), lines.Err())
}

// Trial is the outcome of a boot under KVM.
type Trial struct {
	Kernel string    `json:"kernel"` // SHA-256 of the guest's kernel, hex
	Host   string    `json:"host"`   // version of the host's kernel, and of QEMU's file
	KVM    bool      `json:"kvm"`    // it came up
	Why    string    `json:"why,omitempty"`
	Millis int64     `json:"millis"` // that it took
	Time   time.Time `json:"time"`
}

// Trials are kept in a file, so that a machine is tried once for each kernel.
type Trials string

// DefaultTrials is the file of this user; fallback is the folder for a user without one for caches.
func DefaultTrials(fallback string) Trials {
	dir, err := os.UserCacheDir()
	if err != nil {
		return Trials(filepath.Join(fallback, trialsName))
	}
	return Trials(filepath.Join(dir, "sealift", trialsName))
}

const (
	trialsName = "kvm-trials.json"
	maxTrials  = 16
	maxText    = 512
)

// Host identifies what a trial depends on beside the guest's kernel. It changes when the host's kernel or QEMU is updated.
func Host() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	host := unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Version[:])
	if path, err := Find(); err == nil {
		if st, err := os.Stat(path); err == nil {
			host += fmt.Sprintf(" %s %d %d", path, st.Size(), st.ModTime().Unix())
		}
	}
	return host
}

// All returns the trials that are known, the last one last. A file that cannot be read is as good as none: then it is tried again.
func (t Trials) All() []Trial {
	f, err := os.Open(string(t))
	if err != nil {
		return nil
	}
	defer f.Close()
	var list []Trial
	if json.NewDecoder(bufio.NewReader(f)).Decode(&list) != nil || len(list) > maxTrials {
		return nil
	}
	return list
}

// Find returns the trial of a kernel on this host.
func (t Trials) Find(kernel [32]byte) (Trial, bool) {
	host := Host()
	for _, r := range t.All() {
		if r.Kernel == hex.EncodeToString(kernel[:]) && r.Host == host {
			return r, true
		}
	}
	return Trial{}, false
}

// Put keeps the outcome of a trial in the place of an earlier one.
func (t Trials) Put(kernel [32]byte, r Trial) error {
	r.Kernel, r.Host, r.Why = hex.EncodeToString(kernel[:]), Host(), r.Why[:min(len(r.Why), maxText)]
	list := slices.DeleteFunc(t.All(), func(o Trial) bool { return o.Kernel == r.Kernel })
	list = append(list, r)
	data, err := json.MarshalIndent(list[max(0, len(list)-maxTrials):], "", "  ")
	if err != nil {
		return fmt.Errorf("qemu: %w", err)
	}
	dir := filepath.Dir(string(t))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("qemu: %w", err)
	}
	f, err := os.CreateTemp(dir, trialsName+"-*")
	if err != nil {
		return fmt.Errorf("qemu: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), string(t))
	}
	if err != nil {
		return fmt.Errorf("qemu: keeping a trial: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
