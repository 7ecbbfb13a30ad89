// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sealift/internal/agentconfig"
)

func newLogsCmd(a *app) *cobra.Command {
	var f ownerFlags
	var follow, ua bool
	cmd := &cobra.Command{
		Use:   "logs DEPLOYMENT",
		Short: "print what the TA has printed, out of the TEE, for its owner alone",
		Long: `Print the last of what the TA has printed to stdout (where it serves on a socket) and stderr. It comes out of the TEE over TLS 1.3 that
ends at the appraised TA's key, and only the owner's key gets it; the operator relays it and reads nothing.

With --ua, print what the UA has printed. A UA runs outside the TEE: its device's operator reads that, and could have written it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.openOwner(f)
			if err != nil {
				return err
			}
			if !ua {
				return o.Logs(cmd.Context(), args[0], follow, a.stdout)
			}
			if follow {
				return usageError("without --follow it prints the last of what there is", "--ua and --follow do not go together")
			}
			logs, err := o.UALogs(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			result := uaLogs{UAs: []uaLog{}}
			for _, l := range logs {
				result.UAs = append(result.UAs, uaLog{l.Component, printableText(l.Text)})
			}
			return a.print(result, func(w io.Writer) { a.writeUALogs(w, result.UAs) })
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&ua, "ua", false, "what the UA has printed, from the REE: not attested")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the TA is stopped")
	return cmd
}

// uaLogs is what `logs --ua --json` prints. Attested is never true: it comes from the REE.
type uaLogs struct {
	Attested bool    `json:"attested"`
	UAs      []uaLog `json:"uas"`
}

type uaLog struct {
	Component string `json:"component"`
	Text      string `json:"text"`
}

// writeUALogs prints the logs as they are, and says beside them what they are worth.
func (a *app) writeUALogs(w io.Writer, logs []uaLog) {
	a.say("sealift: from the REE, not attested: the device's operator reads what UAs print, and could have written it")
	if len(logs) == 0 {
		a.say("sealift: the device has no UA of this deployment")
	}
	for _, l := range logs {
		if len(logs) > 1 {
			a.say("sealift: " + printable(l.Component) + ":")
		}
		_, _ = io.WriteString(w, l.Text)
	}
}

// printableText is printable for text of several lines.
func printableText(text []byte) string {
	lines := strings.Split(strings.ToValidUTF8(string(text), "\uFFFD"), "\n")
	for i, line := range lines {
		lines[i] = printable(strings.ReplaceAll(strings.TrimSuffix(line, "\r"), "\t", "    "))
	}
	return strings.Join(lines, "\n")
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
