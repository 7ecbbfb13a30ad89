// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"sealift/internal/agentconfig"
)

func newLogsCmd(a *app) *cobra.Command {
	var f ownerFlags
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs DEPLOYMENT",
		Short: "print what the TA has printed, out of the TEE, for its owner alone",
		Long: `Print the last of what the TA has printed to stdout (where it serves on a socket) and stderr. It comes out of the TEE over TLS 1.3 that
ends at the appraised TA's key, and only the owner's key gets it; the operator relays it and reads nothing.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.openOwner(f)
			if err != nil {
				return err
			}
			return o.Logs(cmd.Context(), args[0], follow, a.stdout)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the TA is stopped")
	return cmd
}

func newTopCmd(a *app) *cobra.Command {
	var f ownerFlags
	cmd := &cobra.Command{
		Use:   "top DEPLOYMENT",
		Short: "show what the TA takes: memory, CPU time, restarts, files of PD",
		Long:  `Show the resource use of the TA, as its TEE tells the owner and nobody else.`,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.openOwner(f)
			if err != nil {
				return err
			}
			u, err := o.Usage(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(u, func(w io.Writer) { writeUsage(w, u) })
		},
	}
	f.add(cmd)
	return cmd
}

func writeUsage(w io.Writer, u *agentconfig.DeskReport) {
	fmt.Fprintf(w, "%s  %s  restarts %d  PD %d files, %d bytes\n", printable(u.Component), printable(u.State), u.Restarts, u.PDFiles, u.PDBytes)
	if u.LastExit != "" {
		fmt.Fprintf(w, "last end: %s\n", printable(u.LastExit))
	}
	if u.Measured {
		fmt.Fprintf(w, "%d processes  memory %d KiB  CPU %s\n", u.Processes, u.MemoryBytes>>10, u.CPU.Round(10*time.Millisecond))
	} else {
		fmt.Fprintln(w, "memory and CPU time are not known in this instance type")
	}
}
