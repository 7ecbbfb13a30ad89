// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sealift/internal/image"
	"sealift/internal/platform/qemu"
)

// trialTime bounds a boot under KVM. Where a processor's virtualization carries the kernel it takes some seconds at most.
var trialTime = 20 * time.Second

// checkKVM says why not even to try; tests try all the same.
var checkKVM = qemu.CheckKVM

// accelerator decides whether guests run under KVM: those whose kernel has come up in a trial boot do. The first guest of a kernel never waits for
// that: it is emulated, and the trial follows behind its back, once for each kernel and machine.
type accelerator struct {
	trials  qemu.Trials
	now     func() time.Time
	busy    sync.Mutex     // held by the one trial
	running sync.WaitGroup // trials
}

// use says whether a vm of these parts is to run under KVM.
func (a *accelerator) use(p *parts, uid int) bool {
	if p.image.Instance != image.VM || checkKVM(uid) != nil {
		return false
	}
	kernel, err := kernelOf(p)
	if err != nil {
		return false
	}
	t, known := a.trials.Find(kernel)
	return known && t.KVM
}

// try boots the image of a vm that has just come up once more, under KVM, unless it is known what comes of that.
func (a *accelerator) try(ctx context.Context, p *parts, uid int, log func(msg string, args ...any)) {
	if p.image.Instance != image.VM || checkKVM(uid) != nil {
		return
	}
	kernel, err := kernelOf(p)
	if err != nil {
		return
	}
	if _, known := a.trials.Find(kernel); known || !a.busy.TryLock() {
		return
	}
	fd, err := unix.FcntlInt(p.file.Fd(), unix.F_DUPFD_CLOEXEC, 0) // the launch closes its own
	if err != nil {
		a.busy.Unlock()
		return
	}
	own := &parts{image: p.image, file: os.NewFile(uintptr(fd), "agent")}
	a.running.Go(func() {
		defer a.busy.Unlock()
		defer own.close()
		t := a.boot(ctx, own, uid)
		if ctx.Err() != nil {
			return // the emulator ends: nothing was learnt
		}
		log("a trial boot under KVM has ended", "works", t.KVM, "milliseconds", t.Millis, "why", t.Why)
		if err := a.trials.Put(kernel, t); err != nil {
			log("the outcome of a trial boot cannot be kept", "error", err)
		}
	})
}

// failed notes that a kernel that had come up under KVM did not.
func (a *accelerator) failed(p *parts, why error, log func(msg string, args ...any)) {
	log("a guest does not come up under KVM, and is emulated from now on", "error", why)
	kernel, err := kernelOf(p)
	if err == nil {
		err = a.trials.Put(kernel, qemu.Trial{Why: why.Error(), Millis: trialTime.Milliseconds(), Time: a.now().UTC()})
	}
	if err != nil {
		log("that cannot be kept", "error", err)
	}
}

// boot is one trial. The guest gets an empty folder and no secret: nobody answers its requests.
func (a *accelerator) boot(ctx context.Context, p *parts, uid int) qemu.Trial {
	begin := a.now()
	dir, err := os.MkdirTemp("", "sealift-kvm-trial-")
	if err != nil {
		return qemu.Trial{Why: err.Error(), Time: begin}
	}
	defer os.RemoveAll(dir)
	l, err := startVM(ctx, job{parts: p, store: dir, uid: uid, log: io.Discard, kvm: true}, trialTime)
	t := qemu.Trial{KVM: err == nil, Millis: a.now().Sub(begin).Milliseconds(), Time: begin.UTC()}
	if err != nil {
		t.Why = err.Error()
		return t
	}
	_ = l.kill()
	_ = l.wait()
	return t
}

func kernelOf(p *parts) ([32]byte, error) {
	h := sha256.New()
	if _, err := io.Copy(h, p.image.Open(p.file, image.PartKernel)); err != nil {
		return [32]byte{}, err
	}
	return [32]byte(h.Sum(nil)), nil
}
