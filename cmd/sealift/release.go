// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

func newReleaseCmd(a *app) *cobra.Command {
	var f ownerFlags
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "release DEPLOYMENT",
		Short: "encrypt PD to the key of the appraised TEE and release it",
		Long: `Encrypt PD, and in a bundled mode what travels with it, to a key that the appraised Evidence vouches for, and release it. Without
a positive appraisal of the Agent and the TA that are there now, nothing is released (exit code 5).`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.openOwner(f)
			if err != nil {
				return err
			}
			accepted, err := o.Appraised(args[0])
			if err != nil {
				return err
			}
			released, err := o.Release(cmd.Context(), accepted)
			if err != nil {
				return err
			}
			if wait {
				ctx, cancel := contextWithTimeout(cmd.Context(), timeout)
				defer cancel()
				if _, err := o.AwaitRunning(ctx, released.Deployment); err != nil {
					return err
				}
			}
			return a.print(released, func(w io.Writer) {
				fmt.Fprintf(w, "released to %s, encrypted to the attested %s's key %.16s, sequence %d%s\n", released.Deployment,
					released.EncryptedTo, released.Key, released.Sequence, emulatedMark(released.Emulated))
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the application runs")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultDeployTime, "give up waiting after this time")
	return cmd
}
