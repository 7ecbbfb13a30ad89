// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"sealift/internal/moc/mocapi"
	"sealift/internal/owner"
)

func newUpdateCmd(a *app) *cobra.Command {
	var f ownerFlags
	var r owner.UpdateRequest
	cmd := &cobra.Command{
		Use:   "update DEPLOYMENT [PACKAGE]",
		Short: "bring a newer package to a running deployment, in place",
		Long: `Bring what has changed in a newer package of the same application to a deployment that runs. The present version serves until the
newer one has all it needs, and goes on if the update fails. A newer TA gets no PD by itself: it waits beside the present one until the owner
has appraised it and released PD to it. With --wait this command does both, when the owner's policy is satisfied. Without
PACKAGE it goes on with the update that was begun. A package with an older or equal sequence number is refused.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.openOwner(f)
			if err != nil {
				return err
			}
			r.Deployment = args[0]
			if len(args) > 1 {
				r.Package = args[1]
			}
			dep, err := o.Update(cmd.Context(), r)
			if err != nil {
				return a.explainRefusal(a.stderr, err)
			}
			return a.print(dep, func(w io.Writer) { writeUpdate(w, dep) })
		},
	}
	f.addPanel(cmd)
	cmd.Flags().BoolVar(&r.Wait, "wait", false, "verify and release as well, and wait until the newer version serves")
	cmd.Flags().StringVar(&r.Policy, "policy", "", "the owner's policy for --wait (default: default)")
	cmd.Flags().DurationVar(&r.Timeout, "timeout", defaultDeployTime, "give up after this time")
	return cmd
}

// writeUpdate says where an update stands.
func writeUpdate(w io.Writer, d *mocapi.Deployment) {
	u := d.Update
	if u == nil {
		return
	}
	fmt.Fprintf(w, "%s  %s  update %s: %s\n", printable(d.ID), printable(d.App), printable(u.ID), printable(string(u.State)))
	if u.Problem != nil {
		fmt.Fprintf(w, "update failed: %s; the former version serves\n", printable(u.Problem.Message))
	}
	if u.State == mocapi.UpdateAwaitingAppraisal {
		fmt.Fprintf(w, "next: sealift verify %s, then sealift release %s\n", printable(d.App), printable(d.App))
	}
}
