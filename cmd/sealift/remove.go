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
	var forget bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "remove DEPLOYMENT",
		Short: "end a deployment and wait until the device has wiped it",
		Args:  cobra.ExactArgs(1),
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
				if r, err = o.RemoveProven(ctx, args[0]); err == nil {
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
	cmd.Flags().BoolVar(&forget, "forget", false, "only drop the local record, for an M/OC that is gone for good")
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
