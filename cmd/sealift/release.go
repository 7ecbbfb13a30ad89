// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"sealift/usecase"
)

func newReleaseCmd(a *app) *cobra.Command {
	var f ownerFlags
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "release DEPLOYMENT",
		Short: "encrypt PD to the key of the appraised TEE and release it",
		Long: `Encrypt PD, and in a bundled mode what travels with it, to a key that the appraised Evidence vouches for, and release it. Without
a positive appraisal of the Agent and the TA that are there now, nothing is released (exit code 5). In a deployment with delivery channel
this delivers: through TLS that ends inside the TEE, after its Evidence over that very session was appraised too. The TEE keeps what is
delivered in memory only; when it has restarted, release again.`,
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
				return a.explainRefusal(a.stderr, err)
			}
			if wait {
				ctx, cancel := contextWithTimeout(cmd.Context(), timeout)
				defer cancel()
				if _, err := o.AwaitReleased(ctx, accepted); err != nil {
					return err
				}
			}
			return a.print(released, func(w io.Writer) {
				done := "released to"
				if released.Delivery == usecase.DeliveryChannel {
					done = "delivered to the TEE of"
				}
				fmt.Fprintf(w, "%s %s, encrypted to the attested %s's key %.16s, sequence %d%s\n", done, released.Deployment,
					released.EncryptedTo, released.Key, released.Sequence, emulatedMark(released.Emulated))
			})
		},
	}
	f.addPanel(cmd)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the application runs")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultDeployTime, "give up waiting after this time")
	return cmd
}
