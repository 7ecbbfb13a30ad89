// SPDX-License-Identifier: Apache-2.0

//go:build linux

package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sealift/evidence"
	"sealift/internal/owner/home"
)

// Errors of the daemon.
var (
	ErrRunning    = errors.New("it is running already")
	ErrNotRunning = errors.New("it is not running")
)

// State is what a daemon tells of itself, in the file dev.json of its folder.
type State struct {
	PID       int       `json:"pid"`
	Ready     bool      `json:"ready"`
	Error     string    `json:"error,omitempty"` // why it could not start
	URL       string    `json:"url,omitempty"`
	Relay     string    `json:"relay,omitempty"`
	Home      string    `json:"home"`
	Context   string    `json:"context"`
	Device    string    `json:"device"` // the first
	Devices   []Device  `json:"devices,omitempty"`
	Emulated  bool      `json:"emulated"`
	KeptOwn   bool      `json:"kept_own_policy,omitempty"` // the owner's default policy was not ours and stays
	Processes []Process `json:"processes,omitempty"`
}

const (
	stateFile = "dev.json"
	lockFile  = "lock"
)

// Up starts a daemon that runs a Stack in dir and equips the owner's folder home, and waits until it is ready. supervisor is
// the command line that calls Supervise with the same folders. If one runs already, its state is returned with ErrRunning.
func Up(ctx context.Context, dir string, supervisor ...string) (*State, error) {
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
		return nil, fmt.Errorf("making the state folder: %w", err)
	}
	if st, err := Status(dir); err == nil {
		return st, ErrRunning
	}
	_ = os.Remove(filepath.Join(dir, stateFile))
	log, err := os.OpenFile(filepath.Join(dir, "log", "supervisor.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the daemon's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(supervisor[0], supervisor[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", environment(), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the daemon: %w", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	return awaitReady(ctx, dir, cmd.Process, ended)
}

// awaitReady waits for the daemon's word. If ctx ends before, the daemon is stopped.
func awaitReady(ctx context.Context, dir string, p *os.Process, ended <-chan struct{}) (*State, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ended:
			if st, err := readState(dir); err == nil && st.Error != "" {
				return nil, errors.New(st.Error)
			}
			return nil, fmt.Errorf("the daemon has ended; see %s", filepath.Join(dir, "log", "supervisor.log"))
		case <-ctx.Done():
			_ = p.Signal(syscall.SIGTERM)
			<-ended
			return nil, ctx.Err()
		}
		if st, err := readState(dir); err == nil && st.Ready && st.PID == p.Pid {
			return st, nil
		}
	}
}

// Supervise is the daemon: it runs a Stack until ctx ends.
func Supervise(ctx context.Context, cfg Config, ownerHome string) error {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	lock, err := acquire(cfg.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	st := State{PID: os.Getpid(), Home: ownerHome, Context: ContextName, Emulated: true}
	err = superviseLocked(ctx, cfg, &st)
	if err != nil && ctx.Err() == nil {
		st.Ready, st.Error = false, err.Error()
		return errors.Join(err, writeState(cfg.Dir, st))
	}
	return os.Remove(filepath.Join(cfg.Dir, stateFile))
}

func superviseLocked(ctx context.Context, cfg Config, st *State) error {
	// The M/OC's address is kept, so that what knows it keeps working after the next start.
	cfg.Listen = keptAddress(cfg.Dir, cfg.Listen)
	if err := keepHardware(&cfg); err != nil {
		return err
	}
	s, err := Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer s.Stop()
	if err := os.WriteFile(filepath.Join(cfg.Dir, "address"), []byte(s.cfg.Listen+"\n"), 0o600); err != nil {
		return err
	}
	h, err := home.Open(st.Home)
	if err != nil {
		return err
	}
	if st.KeptOwn, err = s.Equip(ctx, h, append([]string{s.cfg.Agent}, s.cfg.Images...)...); err != nil {
		return err
	}
	st.URL, st.Devices, st.Device, st.Relay, st.Ready = s.URL, s.Devices, s.Devices[0].Name, s.Devices[0].Relay, true
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		st.Processes = s.Processes()
		if err := writeState(cfg.Dir, *st); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Down stops the daemon of dir and all that it runs, and waits until nothing is left.
func Down(ctx context.Context, dir string) error {
	st, err := Status(dir)
	if err != nil {
		return err
	}
	if st.PID <= 0 {
		return fmt.Errorf("the daemon in %s is just starting", dir)
	}
	if err := syscall.Kill(st.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stopping the daemon: %w", err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	patience := time.After(20 * time.Second)
	for {
		lock, err := acquire(dir)
		if err == nil {
			lock.Close()
			return nil
		}
		select {
		case <-tick.C:
		case <-patience: // its processes die with it: each has it as its parent in death
			_ = syscall.Kill(st.PID, syscall.SIGKILL)
			patience = time.After(20 * time.Second)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Status returns the state of the daemon of dir, or ErrNotRunning.
func Status(dir string) (*State, error) {
	if _, err := os.Stat(filepath.Join(dir, lockFile)); err != nil {
		return nil, ErrNotRunning
	}
	if lock, err := acquire(dir); err == nil {
		lock.Close()
		return nil, ErrNotRunning
	} else if !errors.Is(err, ErrRunning) {
		return nil, err
	}
	st, err := readState(dir)
	if errors.Is(err, os.ErrNotExist) {
		return &State{}, nil
	}
	return st, err
}

// acquire takes the folder for one daemon. The lock is the kernel's: it ends with the process.
func acquire(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrRunning
		}
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return f, nil
}

func keptAddress(dir, wanted string) string {
	if wanted != "" {
		return wanted
	}
	data, err := os.ReadFile(filepath.Join(dir, "address"))
	if err != nil {
		return ""
	}
	kept := string(data[:max(0, len(data)-1)])
	if !free(kept) {
		return ""
	}
	return kept
}

// keepHardware remembers which devices there are, so that the next start without a choice has the same ones.
func keepHardware(cfg *Config) error {
	file := filepath.Join(cfg.Dir, "hardware")
	if len(cfg.Hardware) == 0 {
		data, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, name := range strings.Fields(string(data)) {
			cfg.Hardware = append(cfg.Hardware, evidence.Hardware(name))
		}
		return nil
	}
	var lines strings.Builder
	for _, hw := range cfg.Hardware {
		fmt.Fprintln(&lines, hw)
	}
	return os.WriteFile(file, []byte(lines.String()), 0o600)
}

func readState(dir string) (*State, error) {
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, err
	}
	st := new(State)
	if err := json.Unmarshal(data, st); err != nil {
		return nil, fmt.Errorf("reading the daemon's state: %w", err)
	}
	return st, nil
}

func writeState(dir string, st State) error {
	data, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, stateFile)
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing the daemon's state: %w", err)
	}
	return os.Rename(path+".new", path)
}

// Purge deletes the folder of a daemon that does not run. It refuses a folder that is not one.
func Purge(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if found, err := filepath.Glob(filepath.Join(dir, "emulator*")); err != nil || len(found) == 0 {
		return fmt.Errorf("%s does not hold the state of a dev device", dir)
	}
	lock, err := acquire(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	return os.RemoveAll(dir)
}
