// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package dev runs an operator's network and devices on one machine, for trying things out: an M/OC, and for each device its
// emulated secure hardware and a TEEP Broker, each a process of its own, supervised and started again when one dies. The demo runs such a
// Stack for a few seconds; `sealift dev up` leaves one running behind a daemon, see Up.
//
// Everything here rests on EMULATED hardware, which protects nothing from whoever runs the machine.
package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sealift/evidence"
	"sealift/internal/image"
	"sealift/internal/moc/mocapi"
	"sealift/internal/platform/sandbox"
	"sealift/internal/supervise"
)

// OwnerName is the name of the owner's token.
const OwnerName = "owner"

// startTimeout bounds the start of one process. The first start of emulated SEV-SNP makes RSA-4096 keys.
const startTimeout = 90 * time.Second

// Config says what a Stack runs.
type Config struct {
	Dir       string              // state of all processes
	Program   string              // the sealift program; empty means the running one
	Agent     string              // the Agent image that devices launch as a process; empty means sealift-agent beside the program
	Images    []string            // Agent images for further instance types; nil means those in the folder images beside the program
	Hardware  []evidence.Hardware // of the devices, each another; none means trustzone
	Listen    string              // address of the M/OC; empty means 127.0.0.1 and any free port
	MOCArgs   []string            // further arguments of `moc serve`
	Capacity  int                 // TEE instances of the device; 0 for the emulator's default
	Restart   string              // what becomes of a process that ends; empty means supervise.Always
	OnStarted func(process string, pid int)
}

// Stack is a running M/OC with emulated devices.
type Stack struct {
	cfg       Config
	socketDir string
	tmpDir    string // made for the sockets; removed with the Stack

	URL     string                 // of the M/OC
	Tokens  map[mocapi.Role]string // bearer tokens of owner and operator
	Devices []Device
	procs   []*named
}

// Device is an emulated device of a Stack.
type Device struct {
	Name     string            `json:"name"`
	Hardware evidence.Hardware `json:"hardware"`
	Relay    string            `json:"relay"` // of its Broker

	suffix string // of its folders and processes
}

// newDevice names a device after its hardware. The one with trustzone has the names that it had when it was the only one.
func newDevice(hw evidence.Hardware) Device {
	if hw == evidence.TrustZone {
		return Device{Name: "device-1", Hardware: hw}
	}
	return Device{Name: "device-" + string(hw), Hardware: hw, suffix: "-" + string(hw)}
}

type named struct {
	name string
	proc *supervise.Process
}

// Process is what Processes tells of one process.
type Process struct {
	Name     string `json:"name"`
	PID      int    `json:"pid"`
	Running  bool   `json:"running"`
	Restarts int    `json:"restarts"`
	Log      string `json:"log"`
}

// Start brings a Stack up and returns when its device is announced. When it fails, nothing of it is left running.
func Start(ctx context.Context, cfg Config) (_ *Stack, err error) {
	if cfg, err = cfg.withDefaults(); err != nil {
		return nil, err
	}
	s := &Stack{cfg: cfg, Tokens: map[mocapi.Role]string{}}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	dirs := []string{"moc", "log"}
	for _, hw := range cfg.Hardware {
		d := newDevice(hw)
		s.Devices = append(s.Devices, d)
		dirs = append(dirs, "emulator"+d.suffix, "broker"+d.suffix)
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, dir), 0o700); err != nil {
			return nil, fmt.Errorf("making the state folder: %w", err)
		}
	}
	if err := s.chooseSocket(); err != nil {
		return nil, err
	}
	if err := s.startAll(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// startAll starts the processes. The emulators need nothing of the M/OC: all start at one time, and the Brokers wait for them.
func (s *Stack) startAll(ctx context.Context) error {
	for _, d := range s.Devices {
		s.start("emulator"+d.suffix, nil, "emulator", "run", "--hardware", string(d.Hardware), "--state", s.path("emulator"+d.suffix),
			"--socket", s.socket(d))
	}
	if err := s.makeTokens(ctx); err != nil {
		return err
	}
	if err := s.startMOC(ctx); err != nil {
		return err
	}
	for i := range s.Devices {
		if err := s.startBroker(ctx, &s.Devices[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) withDefaults() (Config, error) {
	var err error
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return c, err
	}
	if c.Program == "" {
		if c.Program, err = os.Executable(); err != nil {
			return c, fmt.Errorf("finding this program: %w", err)
		}
	}
	if c.Agent == "" {
		if c.Agent, err = FindAgent(); err != nil {
			return c, err
		}
	}
	if c.Images == nil {
		if c.Images, err = FindImages(); err != nil {
			return c, err
		}
	}
	if len(c.Hardware) == 0 {
		c.Hardware = []evidence.Hardware{evidence.TrustZone}
	}
	if c.Listen == "" {
		c.Listen, err = freeAddress()
	}
	return c, err
}

// FindAgent returns the path of the Agent image that lies beside this program.
func FindAgent() (string, error) {
	path, err := findBeside("sealift-agent")
	if err == nil {
		err = CheckAgent(path)
	}
	return path, err
}

// FindImages returns the Agent images of other instance types than process that lie in the folder images beside this program,
// where `sealift image build` writes them. There may be none.
func FindImages() ([]string, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	images := []string{}
	for _, instance := range []string{image.Container, image.VM} {
		path := filepath.Join(filepath.Dir(exe), image.Dir, image.FileName(instance))
		if _, err := os.Stat(path); err == nil {
			images = append(images, path)
		}
	}
	return images, nil
}

// CheckAgent says why no TEE instance could run the Agent image at path.
func CheckAgent(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading the Agent: %w", err)
	}
	defer f.Close()
	if err := sandbox.CheckProgram(f); err != nil {
		return fmt.Errorf("the Agent %s: %w", filepath.Base(path), err)
	}
	return nil
}

func findBeside(name string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding this program: %w", err)
	}
	path := filepath.Join(filepath.Dir(exe), name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not beside the sealift program: %w", name, err)
	}
	return path, nil
}

// freeAddress finds a port that is free now. Another program could take it before the M/OC does; the M/OC then says so.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("finding a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// free reports whether an address can be listened on.
func free(addr string) bool {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

// path names a file or folder of the Stack's state.
func (s *Stack) path(elem ...string) string {
	return filepath.Join(append([]string{s.cfg.Dir}, elem...)...)
}

// chooseSocket picks a folder for the emulators' sockets: the state folder, or a short one where that is too deep for the
// address of a Unix socket.
func (s *Stack) chooseSocket() error {
	s.socketDir = s.cfg.Dir
	longest := 0
	for _, d := range s.Devices {
		longest = max(longest, len(s.socket(d)))
	}
	if longest <= 100 {
		return nil
	}
	dir, err := os.MkdirTemp("", "sealift-")
	if err != nil {
		return fmt.Errorf("making a folder for a socket: %w", err)
	}
	s.socketDir, s.tmpDir = dir, dir
	return nil
}

func (s *Stack) socket(d Device) string {
	return filepath.Join(s.socketDir, "tee"+d.suffix+".sock")
}

// rootFile is where the device's emulator keeps the root of its vendor.
func (s *Stack) rootFile(d Device) string { return s.path("emulator"+d.suffix, "pki", "root.pem") }

// start begins to supervise one process of the Stack: this program with other arguments.
func (s *Stack) start(name string, listen []string, args ...string) *supervise.Process {
	restart := s.cfg.Restart
	if restart == "" {
		restart = supervise.Always
	}
	p := supervise.Start(supervise.Spec{
		Name: name, Path: s.cfg.Program, Args: args, Env: environment(), Dir: s.cfg.Dir, Log: s.log(name), LogMax: 8 << 20,
		Listen: listen, Restart: restart, MaxDelay: 5 * time.Second,
	})
	s.procs = append(s.procs, &named{name, p})
	return p
}

// environment is what the processes inherit: nothing of the user's but where to find things.
func environment() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "USER", "XDG_RUNTIME_DIR", "GOCOVERDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func (s *Stack) log(name string) string { return s.path("log", name+".log") }

// makeTokens has the M/OC's own command make the bearer tokens, before the M/OC serves.
func (s *Stack) makeTokens(ctx context.Context) error {
	for role, name := range map[mocapi.Role]string{mocapi.RoleOwner: OwnerName, mocapi.RoleOperator: "operator"} {
		token, err := s.makeToken(ctx, role, name, s.path(string(role)+".token"))
		if err != nil {
			return err
		}
		s.Tokens[role] = token
	}
	for _, d := range s.Devices {
		if _, err := s.makeToken(ctx, mocapi.RoleDevice, d.Name, s.tokenFile(d)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stack) tokenFile(d Device) string { return s.path("device" + d.suffix + ".token") }

// makeToken returns the token in file, or has one made.
func (s *Stack) makeToken(ctx context.Context, role mocapi.Role, name, file string) (string, error) {
	if token, err := os.ReadFile(file); err == nil && len(token) > 0 {
		return strings.TrimSpace(string(token)), nil
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, s.cfg.Program, "moc", "token", "--state", s.path("moc"), "--role", string(role), "--name", name)
	cmd.Env, cmd.Stdout, cmd.Stderr = environment(), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("making the token of %s: %w\n%s", name, err, strings.TrimSpace(stderr.String()))
	}
	token := strings.TrimSpace(stdout.String())
	if token == "" || strings.ContainsAny(token, " \n") {
		return "", fmt.Errorf("making the token of %s: the M/OC did not print one", name)
	}
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keeping the token of %s: %w", name, err)
	}
	return token, nil
}

func (s *Stack) startMOC(ctx context.Context) error {
	args := []string{"moc", "serve", "--state", s.path("moc"), "--listen", s.cfg.Listen, "--anchor-wait", startTimeout.String()}
	for _, path := range append([]string{s.cfg.Agent}, s.cfg.Images...) {
		args = append(args, "--agent", path)
	}
	for _, d := range s.Devices {
		args = append(args, "--anchor", s.rootFile(d))
	}
	args = append(args, s.cfg.MOCArgs...)
	p := s.start("moc", []string{s.cfg.Listen}, args...)
	if err := s.ready(ctx, "moc", p); err != nil {
		return err
	}
	s.URL = "http://" + s.cfg.Listen
	return nil
}

func (s *Stack) startBroker(ctx context.Context, d *Device) error {
	name := "broker" + d.suffix
	ready := s.path(name, "ready")
	_ = os.Remove(ready)
	args := []string{"broker", "run", "--device", d.Name, "--moc", s.URL, "--token-file", s.tokenFile(*d), "--state", s.path(name),
		"--emulator", s.socket(*d), "--agent", s.cfg.Agent, "--ready-file", ready}
	for _, path := range s.cfg.Images {
		args = append(args, "--image", path)
	}
	p := s.start(name, nil, args...)
	if err := s.ready(ctx, name, p); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if text, err := os.ReadFile(ready); err == nil {
			d.Relay = strings.TrimSpace(strings.TrimPrefix(string(text), "relay "))
			return nil
		}
		if err := s.ended(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s.failed(name, errors.New("the device is not announced in time"))
		}
	}
}

// ready waits until a process serves. One of the others that has ended meanwhile is the reason, where there is one: the M/OC
// waits for a file of the emulator.
func (s *Stack) ready(ctx context.Context, name string, p *supervise.Process) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- p.WaitReady(ctx) }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-served:
			if err == nil {
				return nil
			}
			if other := s.ended(); other != nil {
				return other
			}
			return s.failed(name, err)
		case <-tick.C:
			if err := s.ended(); err != nil {
				return err
			}
		}
	}
}

// ended returns why one of the processes has ended, if one has.
func (s *Stack) ended() error {
	for _, n := range s.procs {
		if st := n.proc.Status(); st.Error != "" {
			return s.failed(n.name, fmt.Errorf("%s: %w: %s", n.name, supervise.ErrExited, st.Error))
		}
	}
	return nil
}

// failed adds the end of a process's log to its error: that is where the reason stands.
func (s *Stack) failed(name string, err error) error {
	text, readErr := os.ReadFile(s.log(name))
	if readErr != nil || len(bytes.TrimSpace(text)) == 0 {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%w\n%s", err, strings.Join(lines[max(0, len(lines)-5):], "\n"))
}

// Stop ends all processes, the last started first, and removes sockets. State and logs stay.
func (s *Stack) Stop() {
	for i := len(s.procs) - 1; i >= 0; i-- {
		s.procs[i].proc.Stop()
	}
	s.procs = nil
	for _, d := range s.Devices {
		_ = os.Remove(s.socket(d))
	}
	if s.tmpDir != "" {
		_ = os.RemoveAll(s.tmpDir)
	}
}

// Processes lists the Stack's processes in the order of their start.
func (s *Stack) Processes() []Process {
	var out []Process
	for _, n := range s.procs {
		st := n.proc.Status()
		out = append(out, Process{Name: n.name, PID: st.PID, Running: st.Running, Restarts: st.Restarts, Log: s.log(n.name)})
	}
	return out
}

// Client returns a client of the M/OC with the token of a role.
func (s *Stack) Client(role mocapi.Role) *mocapi.Client {
	return &mocapi.Client{BaseURL: s.URL, Token: s.Tokens[role]}
}
