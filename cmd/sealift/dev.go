// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"sealift/internal/dev"
	"sealift/usecase"
)

func newDevCmd(a *app) *cobra.Command {
	var dir string
	cmd := newGroupCmd("dev", "a local M/OC with EMULATED devices, for your own packages",
		newDevUpCmd(a, &dir), newDevDownCmd(a, &dir), newDevStatusCmd(a, &dir), newDevSuperviseCmd(a, &dir))
	cmd.Long = `Keep an M/OC and devices on this machine, so that pack, deploy, call and the others have something to work with.
The devices' secure hardware is EMULATED: it protects nothing from whoever runs this machine.`
	cmd.PersistentFlags().StringVar(&dir, "dir", "", "state folder (default: dev in the owner's folder)")
	return cmd
}

// devDir is the state folder, absolute because the daemon runs elsewhere.
func (a *app) devDir(dir string) (string, error) {
	if dir == "" {
		if a.home == "" {
			return "", usageError("set SEALIFT_HOME, or give --dir", "the owner's folder is not known")
		}
		dir = filepath.Join(a.home, "dev")
	}
	return filepath.Abs(dir)
}

func newDevUpCmd(a *app, dir *string) *cobra.Command {
	var f devFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "start M/OC and devices, and make the owner's folder fit for them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := a.devDir(*dir)
			if err != nil {
				return err
			}
			return a.devUp(cmd.Context(), path, f)
		},
	}
	f.add(cmd)
	return cmd
}

// devFlags say which devices there are.
type devFlags struct{ hardware, images []string }

func (f *devFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.hardware, "hardware", nil,
		"hardware of a device: trustzone|sgx|sev-snp|cca|tdx|csv; repeat for one device of each (default: as at the last time, else trustzone)")
	cmd.Flags().StringArrayVar(&f.images, "image", nil,
		"Agent image for containers or virtual machines, made by sealift image build; repeat for more (default: those in images beside this program)")
}

// config checks the flags.
func (f *devFlags) config(dir string) (dev.Config, error) {
	cfg := dev.Config{Dir: dir, Images: f.images}
	for _, name := range f.hardware {
		hw, err := usecase.ParseHardware(name)
		if err != nil {
			return cfg, usageError("", "--hardware: %w", err)
		}
		if slices.Contains(cfg.Hardware, hw) {
			return cfg, usageError("", "--hardware %s is given twice: there is one device of each", hw)
		}
		cfg.Hardware = append(cfg.Hardware, hw)
	}
	return cfg, nil
}

// arguments returns the flags for another command line, with absolute paths.
func (f *devFlags) arguments() (args []string, err error) {
	for _, hw := range f.hardware {
		args = append(args, "--hardware", hw)
	}
	for _, path := range f.images {
		if path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		args = append(args, "--image", path)
	}
	return args, nil
}

func (a *app) devUp(ctx context.Context, dir string, f devFlags) error {
	if _, err := f.config(dir); err != nil {
		return err
	}
	more, err := f.arguments()
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	ownerHome, err := filepath.Abs(a.home)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	st, err := dev.Up(ctx, dir, append([]string{exe, "dev", "supervise", "--dir", dir, "--home", ownerHome}, more...)...)
	if errors.Is(err, dev.ErrRunning) {
		a.say("sealift: it was running already")
		if len(more) > 0 {
			a.say("sealift: what --hardware and --image say counts after sealift dev down")
		}
	} else if err != nil {
		return &exitError{code: exitFailure, err: fmt.Errorf("starting M/OC and device: %w", err), hint: "sealift doctor says what this machine lacks"}
	}
	if st.KeptOwn {
		a.say("sealift: your default policy is your own and stays as it is; the one for this device is the policy dev (deploy --policy dev)")
	}
	return a.printDev(st)
}

func (a *app) printDev(st *dev.State) error {
	return a.print(st, func(w io.Writer) {
		fmt.Fprintf(w, "M/OC    %s\n", st.URL)
		for _, d := range st.Devices {
			fmt.Fprintf(w, "device  %s, %s, EMULATED; relay %s\n", d.Name, d.Hardware, d.Relay)
		}
		fmt.Fprintf(w, "owner   %s, context %s\n", st.Home, st.Context)
		for _, p := range st.Processes {
			state := "running"
			if !p.Running {
				state = "NOT running"
			}
			fmt.Fprintf(w, "  %-16s pid %-7d %s, restarted %d times, log %s\n", p.Name, p.PID, state, p.Restarts, p.Log)
		}
	})
}

func newDevDownCmd(a *app, dir *string) *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "stop M/OC and device; their state stays unless --purge",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := a.devDir(*dir)
			if err != nil {
				return err
			}
			err = dev.Down(cmd.Context(), path)
			was := !errors.Is(err, dev.ErrNotRunning)
			if err != nil && was {
				return fmt.Errorf("stopping M/OC and device: %w", err)
			}
			if purge {
				if err := dev.Purge(path); err != nil {
					return err
				}
			}
			return a.print(map[string]bool{"stopped": was, "purged": purge}, func(w io.Writer) {
				if was {
					fmt.Fprintln(w, "stopped")
				} else {
					fmt.Fprintln(w, "it was not running")
				}
			})
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "delete the state: deployments, packages, the emulated hardware's keys")
	return cmd
}

func newDevStatusCmd(a *app, dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "show what runs",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			path, err := a.devDir(*dir)
			if err != nil {
				return err
			}
			st, err := dev.Status(path)
			if errors.Is(err, dev.ErrNotRunning) {
				return &exitError{code: exitUnreachable, err: errors.New("M/OC and device are not running"), hint: "sealift dev up starts them"}
			}
			if err != nil {
				return err
			}
			return a.printDev(st)
		},
	}
}

// newDevSuperviseCmd is the daemon behind `dev up`.
func newDevSuperviseCmd(a *app, dir *string) *cobra.Command {
	var f devFlags
	cmd := &cobra.Command{
		Use:    "supervise",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := a.devDir(*dir)
			if err != nil {
				return err
			}
			cfg, err := f.config(path)
			if err != nil {
				return err
			}
			return dev.Supervise(cmd.Context(), cfg, a.home)
		},
	}
	f.add(cmd)
	return cmd
}
