// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sealift/internal/collateral"
	"sealift/internal/owner/exhibit"
)

// collateralDir is the store in the owner's folder.
const collateralDir = "collateral"

func newCollateralCmd(a *app) *cobra.Command {
	var dir string
	cmd := newGroupCmd("collateral", "what vendors say about devices: certificates, TCB information, revocation lists",
		newCollateralAddCmd(a, &dir), newCollateralListCmd(a, &dir), newCollateralStatusCmd(a, &dir),
		newCollateralFetchCmd(a, &dir), newCollateralRemoveCmd(a, &dir))
	cmd.PersistentFlags().StringVar(&dir, "dir", "", "the store (default: collateral in the owner's folder)")
	return cmd
}

// collateralStore opens the store that dir names, or the owner's.
func (a *app) collateralStore(dir string) (*collateral.Store, error) {
	if dir != "" {
		return collateral.Open(dir), nil
	}
	h, err := a.openHome()
	if err != nil {
		return nil, err
	}
	return collateral.Open(filepath.Join(h.Dir(), collateralDir)), nil
}

func newCollateralAddCmd(a *app, dir *string) *cobra.Command {
	var serial string
	cmd := &cobra.Command{
		Use:   "add FILE...",
		Short: "keep files: certificates of AMD's chips, Intel's collateral, revocation lists, Hygon's certificates",
		Long: `Keep files that verifiers may need. What each one is, is found out by its content. None of them has to be trusted: verifiers
check every signature under their own anchors.

  a VCEK or VLEK certificate                      DER or PEM
  Intel's collateral for SGX or TDX               JSON as quote verification tools keep it, or this program's own form
  a certificate revocation list                   DER or PEM
  the certificates of a Hygon chip (hsk_cek)      with --serial, as they do not name the chip`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.collateralStore(*dir)
			if err != nil {
				return err
			}
			var items []collateral.Item
			for _, file := range args {
				data, err := os.ReadFile(file)
				if err != nil {
					return usageError("", "%w", err)
				}
				item, err := s.Add(data, serial)
				if err != nil {
					return usageError("", "%s: %w", file, err)
				}
				items = append(items, item)
			}
			return a.print(items, func(w io.Writer) { printItems(w, items) })
		},
	}
	cmd.Flags().StringVar(&serial, "serial", "", "serial number of the Hygon chip that the certificates are of")
	return cmd
}

func newCollateralListCmd(a *app, dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list what is kept",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := a.collateralStore(*dir)
			if err != nil {
				return err
			}
			items, err := s.List()
			if err != nil {
				return err
			}
			return a.print(items, func(w io.Writer) { printItems(w, items) })
		},
	}
}

func printItems(w io.Writer, items []collateral.Item) {
	if len(items) == 0 {
		fmt.Fprintln(w, "nothing is kept")
		return
	}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "KIND\tWHAT\tFROM\tUNTIL\tFILE")
	for _, i := range items {
		what := i.What
		if i.Error != "" {
			what = "of no use: " + i.Error
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", i.Kind, what, day(i.From), day(i.Until), i.File)
	}
	tw.Flush()
}

func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateOnly)
}

func newCollateralStatusCmd(a *app, dir *string) *cobra.Command {
	var days int
	var at string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "forecast what will stop verifying, when and why",
		Long: `For everything that is kept, and for the roots of the owner's folder, say until when it serves: the best piece for each device
counts. The exit code is 6 if
something has stopped serving or will within the horizon, so that a monitor can watch it.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := a.collateralStore(*dir)
			if err != nil {
				return err
			}
			now := time.Now()
			if at != "" {
				if now, err = time.Parse(time.RFC3339, at); err != nil {
					return usageError("a time like 2026-12-31T12:00:00Z", "--at: %w", err)
				}
			}
			all, err := s.Status(now, time.Duration(days)*24*time.Hour)
			if err != nil {
				return err
			}
			if *dir == "" {
				anchors, err := a.forecastAnchors(now, time.Duration(days)*24*time.Hour)
				if err != nil {
					return err
				}
				all = collateral.Worst(append(all, anchors...))
			}
			if err := a.print(all, func(w io.Writer) { printForecasts(w, all, days) }); err != nil {
				return err
			}
			for _, f := range all {
				if f.State != collateral.StateOK {
					return &exitError{code: exitDrift, err: errors.New("some collateral does not serve, or will not much longer")}
				}
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&days, "days", 30, "how far to look ahead")
	cmd.Flags().StringVar(&at, "at", "", "look from this time instead of now (RFC 3339)")
	return cmd
}

func printForecasts(w io.Writer, all []collateral.Forecast, days int) {
	if len(all) == 0 {
		fmt.Fprintln(w, "nothing is kept: devices have to bring their certificates and collateral with their Evidence")
		return
	}
	for _, f := range all {
		line := fmt.Sprintf("%-8s %s", f.State, f.What)
		switch f.State {
		case collateral.StateOK:
			line += fmt.Sprintf(", serves for more than %d days", days)
			if !f.At.IsZero() {
				line += ", until " + day(f.At)
			}
		case collateral.StateEnding:
			line += fmt.Sprintf(": its %s ends on %s", f.Why, day(f.At))
		case collateral.StateStale:
			line += fmt.Sprintf(": its %s ended on %s", f.Why, day(f.At))
		case collateral.StateEarly:
			line += fmt.Sprintf(": valid only from %s", day(f.At))
		default:
			line += ": " + f.Why
		}
		if f.Do != "" {
			line += "; " + f.Do
		}
		fmt.Fprintln(w, strings.TrimSpace(line))
	}
}

func newCollateralRemoveCmd(a *app, dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "remove FILE...",
		Short: "remove files, by the names that list shows",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.collateralStore(*dir)
			if err != nil {
				return err
			}
			for _, file := range args {
				if err := s.Remove(file); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func newCollateralFetchCmd(a *app, dir *string) *cobra.Command {
	var f collateral.Fetcher
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "fetch EVIDENCE | fetch KIND KEY",
		Short: "get collateral from the vendors' services, or from a PCCS",
		Long: `Get what a verifier asks for about the device of the Evidence in a file, or what kind and key name. A refusal names them; status
and list show them for what is there:

  amd/vcek              PRODUCT/CHIP/TCB          AMD's Key Distribution Service, with the product's revocation list
  intel/sgx-collateral  FMSPC.CA                  Intel's PCS, or a PCCS (--pccs)
  intel/tdx-collateral  FMSPC.CA
  hygon/hsk-cek         SERIAL                    Hygon's certificate service

This is the only command that goes to a network for collateral.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.collateralStore(*dir)
			if err != nil {
				return err
			}
			wanted := []collateral.Asked{}
			if len(args) == 2 {
				wanted = append(wanted, collateral.Asked{Kind: args[0], Key: args[1]})
			} else if wanted, err = a.wantedBy(args[0]); err != nil {
				return err
			}
			f.HTTP = &http.Client{Timeout: timeout}
			items, err := fetchAll(cmd.Context(), &f, s, wanted)
			switch {
			case errors.Is(err, collateral.ErrKey), errors.Is(err, collateral.ErrNoSource):
				return usageError("", "%w", err)
			case errors.Is(err, collateral.ErrFetch):
				return &exitError{code: exitUnreachable, err: err, hint: "without a network, get the file elsewhere and use sealift collateral add"}
			case err != nil:
				return err
			}
			return a.print(items, func(w io.Writer) { printItems(w, items) })
		},
	}
	cmd.Flags().StringVar(&f.Intel, "pccs", "", "address of a PCCS to ask in place of Intel's service")
	cmd.Flags().StringVar(&f.AMD, "kds", "", "address of a service to ask in place of AMD's")
	cmd.Flags().StringVar(&f.Hygon, "hygon", "", "address of a service to ask in place of Hygon's")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "for each request")
	return cmd
}

// wantedBy returns what a verifier asks for about the device of the Evidence in a file, also where something is kept already: it
// may have ended.
func (a *app) wantedBy(path string) ([]collateral.Asked, error) {
	x, err := a.readExhibit(path)
	if err != nil {
		return nil, err
	}
	v, err := a.verifier(&evidenceFlags{})
	if err != nil {
		return nil, err
	}
	w := &collateral.Wanted{From: v.beside, All: true}
	v.input.Endorsements = w
	_, _ = x.Recorded(&exhibit.Beside{}, nil).Verify(v.input, nil) // the result is another command's
	if len(w.Asked) == 0 {
		return nil, usageError("certificates that come with the Evidence are not asked for; roots are anchors: --anchor",
			"%s: nothing is asked for about the device of this %s", path, x.Form)
	}
	return w.Asked, nil
}

// fetchAll gets what it can. It fails if nothing came: of a processor that Evidence does not name, one of several may be it.
func fetchAll(ctx context.Context, f *collateral.Fetcher, s *collateral.Store, wanted []collateral.Asked) ([]collateral.Item, error) {
	items := []collateral.Item{}
	var failed []error
	for _, w := range wanted {
		got, err := f.Fetch(ctx, s, w.Kind, w.Key)
		items = append(items, got...)
		if err != nil {
			failed = append(failed, err)
		}
	}
	if len(items) > 0 {
		return items, nil
	}
	return nil, errors.Join(failed...)
}

// forecastAnchors says which roots of the owner's folder end.
func (a *app) forecastAnchors(now time.Time, horizon time.Duration) ([]collateral.Forecast, error) {
	h, err := a.openHome()
	if err != nil {
		return nil, err
	}
	anchors, err := h.Anchors()
	if err != nil {
		return nil, err
	}
	var out []collateral.Forecast
	for _, anchor := range anchors {
		var certs []*x509.Certificate
		if anchor.Cert != nil {
			certs = append(certs, anchor.Cert)
		}
		for _, c := range append(certs, anchor.Intermediates...) {
			item := collateral.Item{Kind: "anchor", Key: anchor.FingerprintText(), What: "anchor " + c.Subject.CommonName, From: c.NotBefore,
				Until: c.NotAfter, Ends: "certificate"}
			forecast := collateral.ForecastOf(item, now, horizon)
			if forecast.Do != "" {
				forecast.Do = "ask the vendor for the next root, and name it in the policies"
			}
			out = append(out, forecast)
		}
	}
	return out, nil
}
