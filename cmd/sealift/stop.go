// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"sealift/internal/owner"
)

func newStopCmd(a *app) *cobra.Command {
	var f ownerFlags
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "stop DEPLOYMENT",
		Short: "stop a deployment and keep what its TEE instance has sealed",
		Long: `Stop the TEE instance and the UA of a deployment. What the instance has sealed stays on its device, program and PD, and opens again for the
same program and configuration only. Its place is free for another deployment while it is stopped. First the TEE itself is told, so that nobody
but this owner can have its TA run with PD again: sealift start does that, after it has appraised it anew. Where the TEE cannot be told, that is
said, and the stop goes on.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.openOwner(f)
			if err != nil {
				return err
			}
			ctx, cancel := contextWithTimeout(cmd.Context(), timeout)
			defer cancel()
			r, err := o.Stop(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", printable(r.ID), stoppedText(r)) })
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "give up waiting after this time")
	return cmd
}

// stoppedText says what came of a stop, and what is known of PD.
func stoppedText(r *owner.Stopped) string {
	switch {
	case r.Already:
		return "it was stopped already"
	case r.Held:
		return fmt.Sprintf("stopped; the TEE%s has sealed that its TA sees no PD until you start it", emulatedMark(r.Emulated))
	}
	return "stopped; nothing in the TEE waits for you: " + printable(r.Why)
}

func newStartCmd(a *app) *cobra.Command {
	var f ownerFlags
	var r owner.StartRequest
	cmd := &cobra.Command{
		Use:   "start DEPLOYMENT",
		Short: "run a deployment again that was stopped or has failed, and appraise it anew",
		Long: `Run a deployment again that was stopped, or that the device has given up because its TEE instance could not be launched or its TA kept
ending. When the instance is up it is appraised anew, by fresh Evidence and the owner's policy, and only if that accepts does the TEE let the TA
see its PD, and the deployment count as running. Nothing is released again: what is sealed is still there. Run it again if it was interrupted.
A deployment that runs is left alone. One whose installation had not ended goes on with that.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.openOwner(f)
			if err != nil {
				return err
			}
			r.Deployment = args[0]
			s, err := o.Start(cmd.Context(), r)
			if err != nil {
				return a.explainRefusal(a.stderr, err)
			}
			return a.print(s, func(w io.Writer) {
				if s.Already {
					fmt.Fprintf(w, "%s: it runs already\n", printable(s.ID))
					return
				}
				writeDeployment(w, s.Deployment)
			})
		},
	}
	f.addPanel(cmd)
	cmd.Flags().StringVar(&r.Policy, "policy", "", "the owner's policy (default: default)")
	cmd.Flags().DurationVar(&r.Timeout, "timeout", defaultDeployTime, "give up after this time")
	return cmd
}
