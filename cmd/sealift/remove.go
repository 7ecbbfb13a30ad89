// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sealift/internal/owner"
)

func newRemoveCmd(a *app) *cobra.Command {
	var f ownerFlags
	var forget, lost bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "remove DEPLOYMENT",
		Short: "end a deployment and wait until the device has wiped it",
		Long: `End a deployment: its Agent gives up the TA and PD, the device destroys the TEE instance with its secrets. It waits until the device has
reported that, and says what is proven of it. A device that does not answer may come back: the removal goes on then. With --lost the M/OC does
not wait for a device that it has not heard of for a while: the deployment is removed, without proof, and its packages are deleted from the
operator's store; should the device come back, it destroys what it has of it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.openOwner(f)
			if err != nil {
				return err
			}
			ctx, cancel := contextWithTimeout(cmd.Context(), timeout)
			defer cancel()
			what, result := "removed", map[string]any{"deployment": args[0], "removed": !forget, "forgotten": true}
			if forget {
				what, err = "forgotten here; the M/OC was not asked", o.Forget(args[0])
			} else {
				var r *owner.Removal
				if r, err = o.RemoveProven(ctx, args[0], lost); err == nil {
					result["removal"] = r
					what = removalText(r)
				}
			}
			if err != nil {
				return err
			}
			return a.print(result, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s\n", args[0], what)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "give up waiting after this time")
	cmd.Flags().BoolVar(&lost, "lost", false, "do not wait for the device: the M/OC does not hear from it, and it is gone for good")
	cmd.Flags().BoolVar(&forget, "forget", false, "only drop the local record, for an M/OC that is gone for good")
	cmd.MarkFlagsMutuallyExclusive("lost", "forget")
	return cmd
}

// removalText says what is proven of a removal.
func removalText(r *owner.Removal) string {
	if !r.Proven {
		return "removed; there is no proof: " + printable(r.Why)
	}
	return fmt.Sprintf("removed; the appraised Agent %.16s%s signed that it destroyed %s", r.AgentKey, emulatedMark(r.Emulated),
		printable(strings.Join(r.Destroyed, ", ")))
}
