// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sealift/internal/owner/inspect"
)

func newInspectCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect FILE",
		Short: "show what is in a file: TEEP, SUIT, COSE, Evidence, Attestation Results, packages",
		Long: `Show what is in a file (- is stdin): a TEEP message, SUIT envelope or report, COSE message, Evidence, Attestation Result,
measured configuration, packed application, or other CBOR. Nothing is verified: the output is worth what the file's origin is.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			data, err := a.readInput(args[0])
			if err != nil {
				return usageError("", "reading %s: %w", args[0], err)
			}
			node, err := inspect.Bytes(data)
			if err != nil {
				return &exitError{code: exitFailure, err: err}
			}
			return a.print(node, func(w io.Writer) {
				var b strings.Builder
				_ = node.Write(&b)
				for line := range strings.Lines(b.String()) {
					_, _ = io.WriteString(w, printable(strings.TrimSuffix(line, "\n"))+"\n")
				}
			})
		},
	}
}

// readInput reads a file, or stdin for "-", as far as inspect goes.
func (a *app) readInput(path string) ([]byte, error) {
	r := a.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	return io.ReadAll(io.LimitReader(r, inspect.MaxFile+1))
}
