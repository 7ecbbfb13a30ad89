// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sealift/internal/moc/mocapi"
	"sealift/internal/owner"
	"sealift/usecase"
)

func newStatusCmd(a *app) *cobra.Command {
	var f ownerFlags
	var removed bool
	cmd := &cobra.Command{
		Use:   "status [DEPLOYMENT]",
		Short: "show the owner's deployments, or one in detail",
		Long: `Show what the owner knows and what the M/OC says of its deployments. Exit code 6 means that the two differ (drift), 3 that the
M/OC does not answer. The M/OC's word is no proof: verify is. Of a deployment that was removed it shows what is known of that: who signed, by
which Evidence the key is known, what was destroyed; --removed lists them all.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.openOwner(f)
			if err != nil {
				return err
			}
			ref := ""
			if len(args) == 1 {
				ref = args[0]
			}
			look := o.Status
			if removed {
				look = func(_ context.Context, ref string) ([]*owner.Status, error) { return o.Removed(ref) }
			}
			list, err := look(cmd.Context(), ref)
			if err != nil {
				return err
			}
			if err := a.print(list, func(w io.Writer) { writeStatus(w, list, ref != "") }); err != nil {
				return err
			}
			return statusExit(list)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&removed, "removed", false, "show deployments that were removed")
	return cmd
}

// statusExit makes drift and an absent M/OC the command's outcome, so that a script need not parse the text.
func statusExit(list []*owner.Status) error {
	var drifted, away []string
	for _, s := range list {
		if len(s.Drift) > 0 {
			drifted = append(drifted, s.ID)
		}
		if s.Remote == nil && s.Removal == nil {
			away = append(away, s.ID)
		}
	}
	switch {
	case len(drifted) > 0:
		return &exitError{code: exitDrift, err: fmt.Errorf("drift in %s", strings.Join(drifted, ", ")), hint: "sealift verify asks the TEE itself"}
	case len(away) > 0 && list[0].Problem != nil:
		return fmt.Errorf("the M/OC did not tell of %s: %w", strings.Join(away, ", "), list[0].Problem)
	}
	return nil
}

func writeStatus(w io.Writer, list []*owner.Status, detail bool) {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "DEPLOYMENT\tAPP\tMODE\tSTATE\tAPPRAISED\tRELEASED\tWHERE")
	for _, s := range list {
		where := "-"
		if s.Removal != nil && s.Removal.Evidence != nil {
			where = printable(s.Removal.Evidence.Hardware + "/" + s.Removal.Evidence.Instance + emulatedMark(s.Emulated))
		}
		released := yes(s.Released != nil)
		if s.Removal != nil {
			released = "-"
		}
		if s.Remote != nil {
			where = printable(fmt.Sprintf("%s (%s/%s)%s", s.Remote.Device, s.Remote.Hardware, s.Remote.Instance, emulatedMark(s.Emulated)))
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", printable(s.ID), printable(s.App), printable(string(s.Mode)), printable(s.State()), yes(s.Appraised != nil), released, where)
	}
	tw.Flush()
	for _, s := range list {
		if s.Unknown {
			fmt.Fprintf(w, "%s is not in this owner's folder: a deploy was interrupted; sealift remove %s ends it\n", printable(s.ID), printable(s.ID))
		}
		for _, d := range s.Drift {
			fmt.Fprintf(w, "drift: %s: %s\n", s.ID, printable(d))
		}
		if s.Remote != nil && s.Remote.State == mocapi.StateAwaitingDelivery {
			fmt.Fprintf(w, "%s waits for its owner to deliver: sealift release %s\n", printable(s.ID), printable(s.ID))
		}
		if s.Problem != nil {
			fmt.Fprintf(w, "problem: %s: %s\n", s.ID, printable(s.Problem.Message))
		}
	}
	for _, s := range list {
		if s.Removal != nil {
			writeRemoval(w, s.Removal)
		}
	}
	if detail && len(list) == 1 && list[0].Remote != nil {
		writeStatusDetail(w, list[0])
	}
}

// writeRemoval says what is known of a removal.
func writeRemoval(w io.Writer, r *owner.Removal) {
	fmt.Fprintf(w, "%s at %s: %s\n", printable(r.Deployment), r.Time.Local().Format("2006-01-02 15:04:05"), removalText(r))
	if e := r.Evidence; e != nil {
		fmt.Fprintf(w, "  the Agent's key is known by the Evidence sha-256 %s, accepted at %s by policy %q\n", printable(e.SHA256),
			e.Time.Local().Format("2006-01-02 15:04:05"), printable(e.Policy))
	}
}

func writeStatusDetail(w io.Writer, s *owner.Status) {
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for i, p := range s.Remote.Plan {
		when := "-"
		if i < len(s.Remote.Trace) && s.Remote.Trace[i].Step.Step == p.Step {
			when = s.Remote.Trace[i].Time.Local().Format("15:04:05.000")
		}
		fmt.Fprintf(tw, "%d\t%s\t%s\t%s\n", i+1, printable(string(p.Step)), when, printable(p.What))
	}
	for _, c := range s.Remote.Installed {
		fmt.Fprintf(tw, "installed\t%s\t%s\n", printable(c.Component), printable(c.Digest))
	}
	tw.Flush()
	if s.Remote.Delivery == usecase.DeliveryChannel {
		fmt.Fprintln(w, "delivery channel: what the owner delivers is in the TEE's memory only, and is delivered again when the TEE has restarted")
	}
	writeSharing(w, s.Remote)
	writeUpdate(w, s.Remote)
	if st := s.Remote.InstanceStatus; st != nil {
		for _, t := range st.Transfers {
			fmt.Fprintf(w, "installing %s: %d of %d MiB\n", printable(t.Component), t.Bytes>>20, t.Total>>20)
		}
	}
	if st := s.Remote.InstanceStatus; st != nil && st.LastError != "" {
		fmt.Fprintf(w, "the device says: %s\n", printable(st.LastError))
	}
	switch st := s.Remote.State; {
	case st == mocapi.StateStopped:
		fmt.Fprintf(w, "it is stopped, and its place is free; sealift start %s runs it again\n", printable(s.App))
	case st == mocapi.StateAwaitingAppraisal && len(s.Remote.Trace) == len(s.Remote.Plan):
		fmt.Fprintf(w, "it was started again, and waits for your consent: sealift start %s appraises it anew\n", printable(s.App))
	}
	if since := s.Remote.DeviceSilentSince; !since.IsZero() {
		fmt.Fprintf(w, "the device has not been heard of since %s\n", since.Local().Format("2006-01-02 15:04:05"))
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
