// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sealift/docs/codes"
)

func newExplainCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "explain [CODE]",
		Short: "say what a code means, where it usually comes from, and what to do; without a code, list them",
		Long: `Refusals and errors carry stable codes: evidence.* is not authentic, appraisal.* is not acceptable by the policy, ear.* is about another
Verifier's result, the others are errors of commands and of the M/OC. A family's name with a dot (evidence.) lists that family.`,
		Example: "  sealift explain evidence.nonce",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				if p, found := codes.Find(args[0]); found {
					return a.print(p, func(w io.Writer) { fmt.Fprint(w, p) })
				}
			}
			prefix := strings.Join(args, "")
			list := []codes.Page{}
			for _, p := range codes.All() {
				if strings.HasPrefix(p.Code, prefix) {
					list = append(list, p)
				}
			}
			if len(list) == 0 {
				return usageError("sealift explain lists them", "there is no code %q", prefix)
			}
			return a.print(list, func(w io.Writer) {
				tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
				for _, p := range list {
					fmt.Fprintf(tw, "%s\t%s\n", p.Code, p.Title)
				}
				tw.Flush()
			})
		},
	}
}
