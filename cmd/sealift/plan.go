// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sealift/internal/launch"
	"sealift/internal/owner"
	"sealift/internal/owner/archive"
	"sealift/usecase"
)

// plansResult is what `plan --json` prints: one plan for each place that the package accepts.
type plansResult struct {
	Name  string              `json:"name,omitempty"`
	Plans []*usecase.LoadPlan `json:"plans"`
}

func newPlanCmd(a *app) *cobra.Command {
	var mode, hardware, instance, delivery string
	cmd := &cobra.Command{
		Use:   "plan [PACKAGE]",
		Short: "print what a deployment would do: who acts, what moves where, encrypted to whom, and who sees what",
		Long: `Print the load sequence of a package (NAME.sealift, or a package file in YAML), or of a mode on a place: each step, who acts, what
moves from where to where, to whose key it is encrypted, and what each role gets to see. Nothing is sent anywhere.`,
		Example: "  sealift plan stats.sealift\n  sealift plan --mode ta,pd --hardware trustzone --instance process",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			result, err := planned(args, mode, hardware, instance, delivery)
			if err != nil {
				return err
			}
			return a.print(result, func(w io.Writer) {
				for i, p := range result.Plans {
					if i > 0 {
						fmt.Fprintln(w)
					}
					writePlan(w, result.Name, p)
				}
			})
		},
	}
	cmd.Flags().StringVar(&mode, "mode", "", "package mode, where no package is given")
	cmd.Flags().StringVar(&hardware, "hardware", "", "hardware, where no package is given (with one: only this)")
	cmd.Flags().StringVar(&instance, "instance", "", "instance type, where no package is given (with one: only this)")
	cmd.Flags().StringVar(&delivery, "delivery", usecase.DeliverySealed, deliveryUsage)
	return cmd
}

// deliveryUsage explains the flag --delivery.
const deliveryUsage = "how PD comes to the TEE: sealed (stored encrypted at the operator) or channel (live from the owner, stored nowhere)"

func planned(args []string, mode, hardware, instance, delivery string) (*plansResult, error) {
	result := &plansResult{}
	m, guest := usecase.Mode(mode), false
	cells := []usecase.Cell{{Instance: usecase.Instance(instance), Hardware: usecase.Hardware(hardware)}}
	if len(args) == 1 {
		if mode != "" {
			return nil, usageError("", "a package has its mode; --mode does not go with it")
		}
		p, err := describePackage(args[0])
		if err != nil {
			return nil, err
		}
		result.Name, m, cells, guest = p.name, p.mode, nil, p.guest
		for _, c := range p.cells {
			if (hardware == "" || string(c.Hardware) == hardware) && (instance == "" || string(c.Instance) == instance) {
				cells = append(cells, c)
			}
		}
		if len(cells) == 0 {
			return nil, usageError("", "the package does not accept %s/%s", hardware, instance)
		}
	} else if mode == "" || hardware == "" || instance == "" {
		return nil, usageError("sealift plan PACKAGE, or sealift plan --mode M --hardware H --instance I", "nothing to plan")
	}
	var err error
	result.Plans, err = owner.Plans(m, cells, delivery)
	for _, p := range result.Plans {
		if guest {
			p.Note = strings.TrimSpace(p.Note + "\n" + guestNote(m))
		}
	}
	return result, err
}

// guestNote says what it means that the TA is a guest payload.
func guestNote(m usecase.Mode) string {
	if m.Bundled() {
		return "The TA is a guest payload. In this mode it comes after the attestation: the launch measurement does not cover it, the Evidence of the running Agent does."
	}
	return "The TA is a guest payload: the vm is booted with it before step 1, and the launch measurement covers it."
}

// plannedPackage is what a plan is made from.
type plannedPackage struct {
	name  string
	mode  usecase.Mode
	cells []usecase.Cell
	guest bool // the TA is a guest payload
}

// describePackage reads a packed application, or a package file that was not packed yet.
func describePackage(path string) (*plannedPackage, error) {
	file, err := archive.Open(path)
	if err == nil {
		defer file.Close()
		ta, _ := file.Description.Component(usecase.TA)
		return &plannedPackage{file.Description.Name, file.Description.Mode, owner.CellsOf(&file.Description),
			ta.Launch != nil && ta.Launch.Kind == launch.KindGuest}, nil
	}
	if !errors.Is(err, archive.ErrFormat) || strings.HasSuffix(path, ".sealift") {
		return nil, usageError("sealift pack makes one", "%w", err)
	}
	p, err := readPackFile(path)
	if err != nil {
		return nil, err
	}
	if err := p.Check(); err != nil {
		return nil, usageError("", "%w", err)
	}
	return &plannedPackage{p.Name, p.Mode, p.Cells(), p.TA != nil && p.TA.Guest != ""}, nil
}

func writePlan(w io.Writer, name string, p *usecase.LoadPlan) {
	if name != "" {
		name += ": "
	}
	fmt.Fprintf(w, "%smode %s on %s/%s (draft case %d), delivery %s\n\n", name, p.Mode, p.Hardware, p.Instance, p.DraftCase, p.Delivery)
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "\tSTEP\tWHO ACTS\tMOVES\tFROM -> TO\tENCRYPTED TO\tWHAT HAPPENS")
	for i, s := range p.Steps {
		carries := make([]string, len(s.Carries))
		for k, c := range s.Carries {
			carries[k] = string(c)
		}
		to := string(s.EncryptedTo)
		if to == "" {
			to = "-"
		}
		what := s.What
		if s.NeedsRelease {
			what += " (waits for the owner's release)"
		}
		fmt.Fprintf(tw, "%d\t%s\t%s\t%s\t%s -> %s\t%s\t%s\n", i+1, s.Step, s.Actor, strings.Join(carries, "+"), s.From, s.To, to, what)
	}
	fmt.Fprintln(tw)
	fmt.Fprintln(tw, "\tWHO SEES\tUA\tTA\tPD")
	for _, role := range usecase.Roles() {
		row := []string{string(role)}
		for _, c := range []usecase.Payload{usecase.UA, usecase.TA, usecase.PD} {
			cell := "-"
			if p.Mode.Has(c) {
				cell = p.SeenBy.Of(role, c).String()
			}
			row = append(row, cell)
		}
		fmt.Fprintf(tw, "\t%s\n", strings.Join(row, "\t"))
	}
	tw.Flush()
	if p.Note != "" {
		fmt.Fprintf(w, "\n%s\n", p.Note)
	}
	if !p.Runnable {
		fmt.Fprintf(w, "\n%s\n", p.Reason)
	}
}
