// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/home"
)

// check is one thing that doctor has looked at.
type check struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Required bool   `json:"required"` // something does not work without it
	Detail   string `json:"detail"`
	Hint     string `json:"hint,omitempty"`
}

func newDoctorCmd(a *app) *cobra.Command {
	var attest, binding string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "say what this machine can do, what it lacks, and how to mend it",
		Long: `Say what this machine can do, what it lacks, and how to mend it. With --attest, run inside a confidential virtual machine or an
enclave, have its hardware sign Evidence and write that to a file: sealift verify, inspect and policy init --from read it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if attest != "" {
				return a.attest(cmd.Context(), attest, binding)
			}
			if binding != "" {
				return usageError("", "--binding is for --attest")
			}
			checks := append(deviceChecks(), a.contextCheck(cmd.Context()))
			if err := a.print(checks, func(w io.Writer) { printChecks(w, checks) }); err != nil {
				return err
			}
			for _, c := range checks {
				if c.Required && !c.OK {
					return errors.New("this machine lacks something that is required")
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&attest, "attest", "", "write Evidence of the TEE around this program to this file")
	cmd.Flags().StringVar(&binding, "binding", "", "report data that the hardware signs, 64 bytes in hex (default: random ones, which are printed)")
	return cmd
}

func printChecks(w io.Writer, checks []check) {
	for _, c := range checks {
		mark := "ok     "
		switch {
		case !c.OK && c.Required:
			mark = "MISSING"
		case !c.OK:
			mark = "-      "
		}
		fmt.Fprintf(w, "%s %-20s %s\n", mark, c.Name, c.Detail)
		if !c.OK && c.Hint != "" {
			fmt.Fprintf(w, "        %-20s %s\n", "", c.Hint)
		}
	}
	fmt.Fprintf(w, "        %-20s %s/%s\n", "machine", runtime.GOOS, runtime.GOARCH)
}

// contextCheck asks the M/OC of the owner's context whether it is there.
func (a *app) contextCheck(ctx context.Context) check {
	c := check{Name: "M/OC", Hint: "sealift dev up starts one on this machine"}
	h, err := home.Open(a.home)
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	moc, name, err := h.Context("")
	if err != nil {
		c.Detail = "no M/OC is known yet"
		return c
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	health, err := (&mocapi.Client{BaseURL: moc.URL}).Health(ctx)
	if err != nil {
		c.Detail = fmt.Sprintf("context %s: %v", name, err)
		return c
	}
	c.OK, c.Detail = true, fmt.Sprintf("context %s at %s answers, version %s", name, moc.URL, health.Version)
	return c
}
