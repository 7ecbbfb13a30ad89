// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sealift/internal/image"
	"sealift/internal/platform"
	"sealift/internal/platform/hw"
	"sealift/internal/platform/packet"
	"sealift/internal/platform/qemu"
	"sealift/internal/platform/sandbox"
	"sealift/internal/platform/serial"
)

var (
	// bootTime bounds the time from the start of a guest to its Agent's first sign of life. A boot takes some 3 s on a quiet
	// machine without virtualization.
	bootTime = 2 * time.Minute
	// silence is how long an Agent in a guest may give no sign of life.
	silence = 18 * hw.AliveInterval
)

// vmVessel runs the Agent as the first program of a virtual machine. The hardware that it plays protects the whole guest.
type vmVessel struct{}

func (vmVessel) check() error {
	if _, err := qemu.Find(); err != nil {
		return fmt.Errorf("%w: %w", platform.ErrUnsupported, err)
	}
	return nil
}

// start boots the guest and returns when its Agent has given the first sign of life. Where the same kernel has come up under KVM before, that
// is used; if it does not now, the guest is booted once more without.
func (vmVessel) start(ctx context.Context, j job) (life, error) {
	if j.kvm {
		l, err := startVM(ctx, j, trialTime)
		if err == nil || ctx.Err() != nil {
			return l, err
		}
		j.kvmFailed(err)
		j.kvm = false
	}
	return startVM(ctx, j, bootTime)
}

func startVM(ctx context.Context, j job, limit time.Duration) (life, error) {
	l := &vmLife{console: &console{log: j.log}}
	if err := l.boot(ctx, j); errors.Is(err, qemu.ErrUnsupported) {
		return nil, fmt.Errorf("%w: %w", platform.ErrUnsupported, err)
	} else if err != nil {
		return nil, err
	}
	if err := l.await(limit); err != nil {
		l.end(err)
		_ = l.wait()
		return nil, err
	}
	return l, nil
}

// boot starts QEMU on the parts of the image, and this end's service of the three ports.
func (l *vmLife) boot(ctx context.Context, j job) (err error) {
	m := qemu.Machine{Cmdline: j.image.Cmdline, VCPUs: j.image.VCPUs, MemoryMiB: j.image.MemoryMiB, Console: l.console, UID: j.uid, KVM: j.kvm}
	var opened []io.Closer
	defer func() { // QEMU has its own copies
		for _, c := range opened {
			c.Close()
		}
	}()
	for name, part := range map[string]**os.File{
		image.PartKernel: &m.Kernel, image.PartInitramfs: &m.Initramfs, image.PartFirmware: &m.Firmware,
	} {
		if *part, err = j.part(name); err != nil {
			return err
		}
		if *part != nil {
			opened = append(opened, *part)
		}
	}
	ours := map[string]net.Conn{}
	defer func() {
		if err != nil {
			for _, c := range ours {
				c.Close()
			}
		}
	}()
	for _, name := range []string{serial.PortHW, serial.PortChannel, serial.PortStore} {
		conn, theirs, err := streamPair(name)
		if err != nil {
			return err
		}
		opened = append(opened, theirs)
		ours[name] = conn
		m.Ports = append(m.Ports, qemu.Port{Name: name, File: theirs})
	}
	root, err := os.OpenRoot(j.store)
	if err != nil {
		return fmt.Errorf("emulator: the store: %w", err)
	}
	if err := l.addTPM(ctx, j, &m); err != nil {
		root.Close()
		return err
	}
	if l.tpm != nil {
		opened = append(opened, l.tpm.Control)
	}
	defer func() {
		if err != nil && l.tpm != nil {
			err = errors.Join(err, l.tpm.Remove())
		}
	}()
	if l.vm, err = qemu.Start(ctx, m); err != nil {
		root.Close()
		return err
	}
	l.port, l.channelPort = ours[serial.PortHW], ours[serial.PortChannel]
	l.messages, l.line = serial.NewMessages(l.port), serial.NewLine(l.channelPort)
	l.serving.Go(func() {
		defer root.Close()
		if err := serial.ServeFolder(ours[serial.PortStore], root); err != nil {
			l.end(fmt.Errorf("the agent's use of its store: %w", err))
		}
	})
	l.closers = []io.Closer{l.messages, l.line, ours[serial.PortStore]}
	if l.tpm != nil {
		l.serving.Go(l.watchTPM)
	}
	return nil
}

// part returns a part of the image as a file that nobody can change, the initramfs with the guest payload behind it; nil where the image has none.
func (j job) part(name string) (*os.File, error) {
	section := j.image.Open(j.file, name)
	if section == nil {
		return nil, nil
	}
	r := io.Reader(section)
	if name == image.PartInitramfs && j.layer != nil { // the kernel unpacks one archive after the other
		r = io.MultiReader(section, bytes.NewReader(make([]byte, -section.Size()&3)), io.NewSectionReader(j.layer, 0, 1<<62))
	}
	f, _, err := sandbox.SealedMemfd(name, r)
	return f, err
}

// streamPair makes the socket pair of a port: this end, and QEMU's.
func streamPair(name string) (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("emulator: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("emulator: %w", err)
	}
	return conn, theirs, nil
}

// vmLife is a running guest.
type vmLife struct {
	vm          *qemu.VM
	tpm         *qemu.TPM // nil: none
	console     *console
	port        net.Conn // under messages
	channelPort net.Conn // under line
	messages    *serial.Messages
	line        *serial.Line
	closers     []io.Closer
	serving     sync.WaitGroup

	mu  sync.Mutex
	why error // why it was ended from here
}

// await waits for the first sign of life.
func (l *vmLife) await(limit time.Duration) error {
	first := make(chan error, 1)
	_ = l.port.SetReadDeadline(time.Now().Add(limit))
	go func() {
		alive, err := l.messages.Receive(&hw.Request{})
		if err == nil && !alive {
			err = packet.ErrMalformed
		}
		first <- err
	}()
	var err error
	select {
	case err = <-first:
	case <-l.vm.Done():
		err = io.EOF
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("emulator: the guest has not come up within %s%s", limit, l.console.last())
	case errors.Is(err, packet.ErrMalformed), errors.Is(err, serial.ErrMalformed):
		return fmt.Errorf("emulator: the guest begins with something else than a sign of life: %w", err)
	}
	// Its ports are closed: QEMU has ended, or is about to. What it said last says why.
	select {
	case <-l.vm.Done():
	case <-time.After(sendTime):
	}
	return fmt.Errorf("emulator: the guest ended before it came up%s", l.console.last())
}

// receive implements life. A guest that gives no sign of life is ended.
func (l *vmLife) receive(q *hw.Request) error {
	for {
		*q = hw.Request{}
		_ = l.port.SetReadDeadline(time.Now().Add(silence))
		alive, err := l.messages.Receive(q)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			l.end(fmt.Errorf("the guest has given no sign of life for %s", silence))
			return err
		case errors.Is(err, serial.ErrMalformed):
			return fmt.Errorf("%w: %w", packet.ErrMalformed, err)
		case err != nil || !alive:
			return err
		}
	}
}

func (l *vmLife) send(a hw.Answer, timeout time.Duration) error {
	_ = l.port.SetWriteDeadline(time.Now().Add(timeout))
	return l.messages.Send(a)
}

// attach joins the channel to the port: bytes are copied, because a guest cannot be given a descriptor.
func (l *vmLife) attach(channel *os.File, timeout time.Duration) error {
	conn, err := net.FileConn(channel)
	if err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	// A guest that does not take bytes must not hold up whoever attaches.
	stop := time.AfterFunc(timeout, func() { l.end(errors.New("the agent does not read its channel")) })
	defer stop.Stop()
	return l.line.Open(conn)
}

// end kills the guest for a reason.
func (l *vmLife) end(why error) {
	l.mu.Lock()
	if l.why == nil {
		l.why = why
	}
	l.mu.Unlock()
	_ = l.kill()
}

func (l *vmLife) kill() error { return l.vm.Kill() }

func (l *vmLife) wait() error {
	err := l.vm.Wait()
	if l.tpm != nil {
		err = errors.Join(err, l.tpm.Remove())
	}
	for _, c := range l.closers {
		c.Close()
	}
	l.serving.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	var status *exec.ExitError
	switch {
	case l.why != nil:
		return l.why
	case errors.As(err, &status) && !status.Exited():
		return fmt.Errorf("QEMU was killed (%v)", err)
	case err != nil:
		return fmt.Errorf("QEMU failed (%v)%s", err, l.console.last())
	}
	return fmt.Errorf("the guest ended%s", l.console.last())
}

// console keeps the last lines of a guest's serial console, and hands everything on.
type console struct {
	log io.Writer

	mu   sync.Mutex
	tail []byte
}

const consoleTail = 4096

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.tail = append(c.tail, p...)
	c.tail = c.tail[max(0, len(c.tail)-consoleTail):]
	c.mu.Unlock()
	return c.log.Write(p)
}

// last returns the last lines as the end of an error's text.
func (c *console) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := string(bytes.ToValidUTF8(c.tail, []byte("?")))
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' {
			return -1
		}
		return r
	}, text))
	if text == "" {
		return "; its console is empty"
	}
	lines := strings.Split(text, "\n")
	end := lines[max(0, len(lines)-4):]
	// A kernel that gives up says why, and then what it was doing in many lines.
	if at := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "Kernel panic") }); at >= 0 && at < len(lines)-4 {
		end = append([]string{lines[at]}, end[1:]...)
	}
	return "; the last lines of its console: " + strings.Join(end, " | ")
}
