// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"sealift/internal/owner/inspect"
	"sealift/internal/rehearsal"
)

var errNotVerified = errors.New("the manifest did not pass")

func newManifestVerifyCmd(a *app) *cobra.Command {
	var keyFiles, payloads []string
	cmd := &cobra.Command{
		Use:   "verify ENVELOPE",
		Short: "check signatures, digests, rules and payloads, and report everything that is wrong",
		Long: `Check an envelope: the manifest's digest, each authentication block, severed members, the rules of command sequences, and the
digests of payloads, those in the envelope and those given with --payload. It passes if one block verified with a key
that was given or is in the owner's folder, and nothing was refused.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			keys, err := a.knownKeys(keyFiles)
			if err != nil {
				return err
			}
			data, err := a.readInput(args[0])
			if err != nil {
				return usageError("", "reading the envelope: %w", err)
			}
			files, err := a.readMap("--payload", payloads)
			if err != nil {
				return err
			}
			checks, passed := inspect.Envelope(data, keys, files)
			result := struct {
				Passed bool            `json:"passed"`
				Checks []inspect.Check `json:"checks"`
			}{passed, checks}
			err = a.print(result, func(w io.Writer) {
				for _, c := range checks {
					fmt.Fprintln(w, printable(c.String()))
				}
			})
			if err == nil && !passed {
				err = &exitError{code: exitFailure, err: fmt.Errorf("%s: %w", args[0], errNotVerified)}
			}
			return err
		},
	}
	cmd.Flags().StringArrayVar(&keyFiles, "key", nil, "file of a key to verify with (repeated)")
	cmd.Flags().StringArrayVar(&payloads, "payload", nil, "URI=FILE: what a URI stands for (repeated)")
	return cmd
}

// readMap reads the files of NAME=FILE flags.
func (a *app) readMap(flag string, values []string) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, v := range values {
		i := strings.LastIndexByte(v, '=')
		if i <= 0 || i == len(v)-1 {
			return nil, usageError("", "%s %q: NAME=FILE is expected", flag, v)
		}
		data, err := a.readInput(v[i+1:])
		if err != nil {
			return nil, usageError("", "%s: %w", flag, err)
		}
		out[v[:i]] = data
	}
	return out, nil
}

type rehearsalFlags struct {
	dry                              bool
	procedure, report                string
	keys, payloads, components, deps []string
	recipients                       []string
	vendors, classes                 []string
	setup                            rehearsal.Setup
}

func newManifestRunCmd(a *app) *cobra.Command {
	var f rehearsalFlags
	cmd := &cobra.Command{
		Use:   "run --dry ENVELOPE",
		Short: "rehearse a manifest in a temporary folder and show what each command does",
		Long: `Run a procedure of a manifest against a device that is a temporary folder, and print each command with its result and the
SUIT Report. Payloads come from files given with --payload; nothing is fetched, nothing is started, nothing is written
outside of the temporary folder but the --report. Without --vendor and --class the device has the identities that the
manifest asks for.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !f.dry {
				return usageError("a manifest runs for real in an Agent: sealift deploy", "run without --dry is not offered")
			}
			return a.rehearse(cmd.Context(), args[0], &f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.dry, "dry", false, "rehearse only")
	flags.StringVar(&f.procedure, "procedure", "update", "update, invocation or uninstall")
	flags.StringVar(&f.report, "report", "", "file to write the SUIT Report to")
	flags.StringArrayVar(&f.keys, "key", nil, "file of a key that the device trusts (repeated)")
	flags.StringArrayVar(&f.recipients, "recipient", nil, "file of a private key of the device, which opens encrypted payloads (repeated)")
	flags.StringArrayVar(&f.payloads, "payload", nil, "URI=FILE: what a URI stands for (repeated)")
	flags.StringArrayVar(&f.components, "component", nil, "ID=FILE: what a component holds before the run (repeated)")
	flags.StringArrayVar(&f.deps, "manifest", nil, "ID=FILE: a manifest that the device has stored (repeated)")
	flags.StringArrayVar(&f.vendors, "vendor", nil, "vendor identifier of the device, a UUID (repeated)")
	flags.StringArrayVar(&f.classes, "class", nil, "class identifier of the device, a UUID (repeated)")
	flags.Uint64Var(&f.setup.Sequence, "installed-sequence", 0, "sequence number of the manifest that is installed")
	flags.Uint64Var(&f.setup.Slot, "slot", 0, "slot of the components")
	flags.Uint64Var(&f.setup.Battery, "battery", 1<<32, "charge of the battery in mWh")
	flags.BoolVar(&f.setup.Lenient, "lenient", false, "take dependencies as published examples have them")
	return cmd
}

// device gathers what the flags say of the device.
func (a *app) device(f *rehearsalFlags) (err error) {
	s := &f.setup
	s.Now = time.Now()
	if s.Keys, err = a.knownKeys(f.keys); err != nil {
		return err
	}
	own := &inspect.Keys{}
	for _, file := range f.recipients {
		if err := a.addKey(own, file); err != nil {
			return err
		}
	}
	s.Ring = own.Ring
	for flag, m := range map[string]struct {
		values []string
		dst    *map[string][]byte
	}{"--payload": {f.payloads, &s.Payloads}, "--component": {f.components, &s.Components}, "--manifest": {f.deps, &s.Dependencies}} {
		if *m.dst, err = a.readMap(flag, m.values); err != nil {
			return err
		}
	}
	if s.Vendors, err = uuids("--vendor", f.vendors); err != nil {
		return err
	}
	s.Classes, err = uuids("--class", f.classes)
	return err
}

func (a *app) rehearse(ctx context.Context, path string, f *rehearsalFlags) error {
	if err := a.device(f); err != nil {
		return err
	}
	data, err := a.readInput(path)
	if err != nil {
		return usageError("", "reading the envelope: %w", err)
	}
	result, err := rehearsal.Run(ctx, data, f.procedure, f.setup)
	if errors.Is(err, rehearsal.ErrProcedure) {
		return usageError("", "%w", err)
	}
	if err != nil {
		return err
	}
	if f.report != "" {
		if err := os.WriteFile(f.report, result.Report, 0o644); err != nil {
			return err
		}
	}
	if err := a.print(result, func(w io.Writer) { printRehearsal(w, result) }); err != nil {
		return err
	}
	if !result.OK {
		return &exitError{code: exitFailure, err: fmt.Errorf("the %s would fail: %s", result.Procedure, printable(result.Error))}
	}
	return nil
}

func uuids(flag string, values []string) ([][]byte, error) {
	var out [][]byte
	for _, v := range values {
		id, err := uuid.Parse(v)
		if err != nil {
			return nil, usageError("", "%s %q: not a UUID", flag, v)
		}
		out = append(out, id[:])
	}
	return out, nil
}

func printRehearsal(w io.Writer, r *rehearsal.Result) {
	fmt.Fprintf(w, "%s, dry run\n", r.Procedure)
	if r.Assumed {
		fmt.Fprintln(w, "the device is assumed to have the identities that the manifest asks for")
	}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, s := range r.Steps {
		section := s.Section
		if s.Manifest != "" {
			section = s.Manifest + " " + section
		}
		fmt.Fprintf(tw, "%s\t%d\t%s%s\t%s\t%s\n", section, s.Offset, strings.Repeat("  ", s.Depth), s.Command, s.Component, s.Outcome)
	}
	tw.Flush()
	for _, e := range r.Effects {
		fmt.Fprintln(w, "effect: "+printable(e))
	}
	for _, c := range r.Components {
		fmt.Fprintln(w, "component "+printable(c))
	}
	if f, err := inspect.Read(r.Report, nil); err == nil {
		_ = f.Write(w, inspect.Style{})
	}
}
