// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sealift/internal/image"
	"sealift/internal/platform"
	"sealift/internal/platform/packet"
	"sealift/internal/platform/qemu"
	"sealift/usecase"
)

// machine is the hardware with all its instances.
type machine struct {
	ctx    context.Context // ends with the emulator; every instance is killed then
	dir    string
	opts   Options
	log    *slog.Logger
	device *device
	copies chan struct{} // bounds images that are copied at one time
	accel  accelerator

	mu        sync.Mutex
	instances map[string]*instance
}

// instance is one TEE. Its lock is held while it is launched, stopped or destroyed, so that these happen one after the other.
type instance struct {
	id, dir string
	salt    []byte
	uid     int // of the host, 0 for the emulator's own

	mu   sync.Mutex
	gone bool // destroyed
	last measurement

	state sync.Mutex // guards what follows; never held while waiting for anything
	rec   record
	run   *run
	exit  string
	// stopped says that the Broker has stopped it: it takes no place. A new emulator learns it again from the Broker.
	stopped bool
	abort   context.CancelFunc // ends a start that is under way; nil when none is
}

// openMachine loads the state folder, after finishing what a killed emulator began.
func openMachine(ctx context.Context, dir string, o Options) (*machine, error) {
	device, err := openDevice(dir, o)
	if err != nil {
		return nil, err
	}
	m := &machine{
		ctx: ctx, dir: dir, opts: o, log: o.Log, device: device,
		copies: make(chan struct{}, 2), instances: map[string]*instance{},
		accel: accelerator{trials: qemu.Trials(o.Trials), now: o.Now},
	}
	if o.Trials == "" {
		m.accel.trials = qemu.DefaultTrials(dir)
	}
	for _, d := range []string{m.instanceDir(""), m.trash()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("emulator: %w", err)
		}
	}
	if err := errors.Join(m.emptyTrash(), sweepGroups(dir, o.Now())); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(m.instanceDir(""))
	if err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	for _, e := range entries {
		if err := m.loadInstance(e.Name()); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *machine) instanceDir(id string) string { return filepath.Join(m.dir, "instances", id) }
func (m *machine) trash() string                { return filepath.Join(m.dir, "trash") }

func (m *machine) loadInstance(name string) error {
	dir := m.instanceDir(name)
	if strings.HasPrefix(name, ".new-") { // its launch was never answered
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("emulator: %w", err)
		}
		return nil
	}
	rec, err := loadRecord(dir, name)
	if err != nil {
		return err
	}
	m.instances[name] = newInstance(dir, rec)
	return nil
}

func newInstance(dir string, rec record) *instance {
	return &instance{id: rec.ID, dir: dir, salt: rec.Salt, uid: rec.UID, rec: rec}
}

func (m *machine) info() platform.Info {
	types, lacks := m.instanceTypes()
	return platform.Info{
		Hardware: m.opts.Hardware, Emulated: true, InstanceTypes: types, Lacks: lacks, Capacity: m.opts.Capacity,
		RootFingerprint: m.device.root,
	}
}

// instanceTypes lists the types that this machine can run, and says what it lacks for the others that the hardware protects.
func (m *machine) instanceTypes() (types []string, lacks map[string]string) {
	for _, name := range []string{image.Process, image.Container, image.VM} {
		v := vessels()[name]
		if v == nil || usecase.Valid(usecase.Instance(name), m.opts.Hardware) != nil {
			continue
		}
		err := v.check()
		if err == nil {
			types = append(types, name)
			continue
		}
		if lacks == nil {
			lacks = map[string]string{}
		}
		text := strings.TrimPrefix(err.Error(), platform.ErrUnsupported.Error()+": ")
		lacks[name] = strings.ToValidUTF8(text[:min(len(text), maxLack)], "")
	}
	return types, lacks
}

// maxLack bounds what is said of one instance type.
const maxLack = 512

// launch implements platform.Driver.Launch. The files are the image and, if there is a second, a guest payload.
func (m *machine) launch(id string, files []*os.File, config []byte, limits platform.Limits) error {
	if !platform.ValidID(id) {
		return fmt.Errorf("%w: %q cannot name an instance", platform.ErrInvalid, id)
	}
	if len(config) > platform.MaxConfigBytes {
		return fmt.Errorf("%w: the configuration is larger than %d bytes", platform.ErrInvalid, platform.MaxConfigBytes)
	}
	m.copies <- struct{}{}
	p, err := copyParts(files)
	<-m.copies
	if err != nil {
		return err
	}
	defer p.close()
	img := p.image
	v := vessels()[img.Instance]
	if v == nil {
		return fmt.Errorf("%w: an image for a %s", platform.ErrUnsupported, img.Instance)
	}
	if err := usecase.Valid(usecase.Instance(img.Instance), m.opts.Hardware); err != nil {
		return fmt.Errorf("%w: %w", platform.ErrInvalid, err)
	}
	if err := v.check(); err != nil {
		return err
	}
	what, err := m.measure(p, config)
	if err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	in, err := m.instance(id, true)
	if err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.gone {
		return fmt.Errorf("%w: %s was destroyed meanwhile", platform.ErrNoInstance, id)
	}
	if err := m.start(in, v, job{parts: p, limits: withDefaults(limits)}, what, config); err != nil {
		return err
	}
	m.accel.try(m.ctx, p, runAs(in.uid), m.log.Info)
	return nil
}

// instance finds an instance, or makes one. With create it is for a launch, and takes a place.
func (m *machine) instance(id string, create bool) (*instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	in := m.instances[id]
	switch {
	case !create && in == nil:
		return nil, fmt.Errorf("%w: %q", platform.ErrNoInstance, id)
	case !create || in != nil && !in.isStopped():
		return in, nil
	case m.taken() >= m.opts.Capacity:
		return nil, fmt.Errorf("%w: all %d are taken", platform.ErrCapacity, m.opts.Capacity)
	case in != nil:
		in.setStopped(false)
		return in, nil
	case len(m.instances) >= maxKept:
		return nil, fmt.Errorf("%w: it keeps %d instances, stopped ones included", platform.ErrCapacity, maxKept)
	}
	rec := record{Version: recordVersion, ID: id, Salt: make([]byte, 32), UID: freshUID(m.device.dev.InstanceID, m.uids())}
	if _, err := io.ReadFull(m.opts.Rand, rec.Salt); err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	if err := createInstance(m.instanceDir(""), rec); err != nil {
		return nil, err
	}
	in = newInstance(m.instanceDir(id), rec)
	m.instances[id] = in
	return in, nil
}

// taken counts the instances that are not stopped. The lock is held.
func (m *machine) taken() (n int) {
	for _, in := range m.instances {
		if !in.isStopped() {
			n++
		}
	}
	return n
}

func (m *machine) uids() map[int]bool {
	taken := map[int]bool{}
	for _, in := range m.instances {
		taken[in.uid] = true
	}
	return taken
}

// attach implements platform.Driver.Attach. The caller closes the file.
func (m *machine) attach(id string) (*os.File, error) {
	in, err := m.instance(id, false)
	if err != nil {
		return nil, err
	}
	r := in.running()
	if r == nil {
		return nil, fmt.Errorf("%w: %s", platform.ErrNotRunning, id)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	broker, agent := os.NewFile(uintptr(fds[0]), "channel"), os.NewFile(uintptr(fds[1]), "channel")
	defer agent.Close()
	if err := r.attach(agent); err != nil {
		broker.Close()
		return nil, fmt.Errorf("%w: %s: %w", platform.ErrNotRunning, id, err)
	}
	return broker, nil
}

// stop implements platform.Driver.Stop.
func (m *machine) stop(id string) error {
	in, err := m.instance(id, false)
	if errors.Is(err, platform.ErrNoInstance) {
		return nil
	}
	in.abortStart()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.stop("stopped")
	in.setStopped(true)
	m.log.Info("instance stopped", "instance", id)
	return nil
}

// destroy implements platform.Driver.Destroy. The folder is out of the way at once; wiping it can be finished later.
func (m *machine) destroy(id string) error {
	in, err := m.instance(id, false)
	if errors.Is(err, platform.ErrNoInstance) {
		return nil
	}
	in.abortStart()
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.gone {
		return nil
	}
	in.stop("destroyed")
	grave, err := os.MkdirTemp(m.trash(), id+"-")
	if err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	if err := os.Rename(in.dir, filepath.Join(grave, "instance")); err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	in.gone = true
	m.mu.Lock()
	delete(m.instances, id)
	m.mu.Unlock()
	m.log.Info("instance destroyed", "instance", id)
	return errors.Join(syncDir(m.instanceDir("")), m.emptyTrash())
}

// emptyTrash wipes what was destroyed: first what the secrets were made from, then everything.
func (m *machine) emptyTrash() error {
	graves, err := os.ReadDir(m.trash())
	if err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	for _, g := range graves {
		dir := filepath.Join(m.trash(), g.Name())
		for _, name := range []string{recordFile, recordFile + ".new"} {
			if err := overwrite(filepath.Join(dir, "instance", name)); err != nil {
				return fmt.Errorf("emulator: wiping: %w", err)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("emulator: wiping: %w", err)
		}
	}
	return syncDir(m.trash())
}

// list implements platform.Driver.List.
func (m *machine) list() []wireInstance {
	m.mu.Lock()
	all := make([]*instance, 0, len(m.instances))
	for _, in := range m.instances {
		all = append(all, in)
	}
	m.mu.Unlock()
	states := make([]wireInstance, 0, len(all))
	for _, in := range all {
		states = append(states, in.describe())
	}
	slices.SortFunc(states, func(a, b wireInstance) int { return cmp.Compare(a.ID, b.ID) })
	return states
}

// stopAll ends every instance and waits until nothing is left of them.
func (m *machine) stopAll() {
	m.accel.running.Wait() // their context has ended
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, in := range m.instances {
		in.stop("the platform ended")
	}
	if err := sweepGroups(m.dir, m.opts.Now()); err != nil {
		m.log.Error("removing control groups", "error", err)
	}
}

func (in *instance) describe() wireInstance {
	in.state.Lock()
	defer in.state.Unlock()
	return wireInstance{ID: in.id, Running: in.run != nil, Agent: in.last.agent, Config: in.last.config, Exit: in.exit}
}

func (in *instance) running() *run {
	in.state.Lock()
	defer in.state.Unlock()
	return in.run
}

func (in *instance) isStopped() bool {
	in.state.Lock()
	defer in.state.Unlock()
	return in.stopped
}

func (in *instance) setStopped(stopped bool) {
	in.state.Lock()
	in.stopped = stopped
	in.state.Unlock()
}

// abortStart ends a start that is under way: a virtual machine takes its time.
func (in *instance) abortStart() {
	in.state.Lock()
	defer in.state.Unlock()
	if in.abort != nil {
		in.abort()
	}
}

func (in *instance) setAbort(abort context.CancelFunc) {
	in.state.Lock()
	in.abort = abort
	in.state.Unlock()
}

// stop kills what runs and waits for its end.
func (in *instance) stop(why string) {
	r := in.running()
	if r == nil {
		return
	}
	r.kill(why)
	<-r.done
}

// hardwarePair makes the socket pair of an Agent's hardware interface: this end, and the Agent's.
func hardwarePair() (*packet.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("emulator: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "hw")
	ours, err := packet.FromFile(os.NewFile(uintptr(fds[0]), "hw"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}
