// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newStartCmd(a *app) *cobra.Command {
	var f ownerFlags
	cmd := &cobra.Command{
		Use:   "start DEPLOYMENT",
		Short: "try again to run a deployment that failed on its device",
		Long: `Try again to run a deployment that the device has given up: its TEE instance could not be launched, or its TA kept ending. What is sealed
there is still there, so nothing is released again.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.openOwner(f)
			if err != nil {
				return err
			}
			dep, err := o.Start(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(dep, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", printable(dep.ID), printable(string(dep.State))) })
		},
	}
	f.add(cmd)
	return cmd
}
