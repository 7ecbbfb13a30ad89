// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"sealift/internal/demo"
	"sealift/usecase"
)

func newDemoCmd(a *app) *cobra.Command {
	var mode, planted, hardware, instance, delivery string
	var keep bool
	var names []string
	for _, f := range demo.Faults() {
		names = append(names, f.Name)
	}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "run the worked example from start to end on an EMULATED device",
		Long: `Start an M/OC and a device as separate processes, and run examples/stats as its data owner: pack, deploy, appraise
the device, release the records to it, ask a question, remove. Then stop everything that was started.
With --mode all, each of the seven package modes is run in turn, and told in one line.
The device's secure hardware is EMULATED. With --break, something is wrong on purpose and has to be refused.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := mode == allModes
			if all {
				mode = string(usecase.ModeUATAPD)
			}
			m, err := usecase.ParseMode(mode)
			var hw usecase.Hardware
			var i usecase.Instance
			if err == nil {
				hw, err = usecase.ParseHardware(hardware)
			}
			if err == nil {
				i, err = usecase.ParseInstance(instance)
			}
			if err == nil {
				err = usecase.Runnable(m, i, hw)
			}
			if err == nil {
				delivery, err = usecase.ParseDelivery(delivery)
			}
			if err != nil {
				return &exitError{code: exitUsage, err: err}
			}
			o := demo.Options{Mode: m, Hardware: hw, Instance: i, Delivery: delivery, Fault: planted, Keep: keep}
			if all {
				return a.demoAll(cmd.Context(), o)
			}
			return a.demo(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&mode, "mode", string(usecase.ModeUATAPD), "package mode: "+modeNames()+"; or "+allModes+": each in turn, one line for each")
	flags.StringVar(&hardware, "hardware", string(usecase.TrustZone), "hardware of the device: trustzone|sgx|sev-snp|cca|tdx|csv")
	flags.StringVar(&instance, "instance", string(usecase.Process), "TEE instance: process|container|vm")
	flags.StringVar(&delivery, "delivery", usecase.DeliverySealed, deliveryUsage)
	flags.StringVar(&planted, "break", "", "plant a fault: "+strings.Join(names, ", "))
	flags.BoolVar(&keep, "keep", false, "leave the folder with all state and logs")
	return cmd
}

// allModes stands for every package mode.
const allModes = "all"

func modeNames() string {
	var names []string
	for _, m := range usecase.Modes() {
		names = append(names, string(m))
	}
	return strings.Join(names, "  ")
}

// demoAll runs the demo in every mode. Where one ends otherwise than it should, the others are run all the same, and its error is
// returned; with a planted fault that is refused in every mode, the refusal is.
func (a *app) demoAll(ctx context.Context, o demo.Options) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGPIPE)
	defer stop()
	var reports []*demo.Report
	var worst error
	for _, o.Mode = range usecase.Modes() {
		report, err := demo.Run(ctx, o)
		if report == nil {
			return err
		}
		if ctx.Err() != nil {
			return errInterrupted
		}
		reports = append(reports, report)
		if err != nil && (worst == nil || report.Exit == exitFailure) {
			worst = err
		}
		if !a.json {
			printLine(a.stdout, report)
		}
	}
	err := a.print(reports, func(w io.Writer) {
		fmt.Fprintln(w, "EMULATED: the hardware was played by a program and protects nothing.")
	})
	if err != nil {
		return err
	}
	return worst
}

// printLine is a run in one line.
func printLine(w io.Writer, r *demo.Report) {
	outcome := "answered; the trace equals the plan"
	var plan, trace []string
	for _, s := range r.Plan {
		plan = append(plan, string(s.Step))
	}
	for _, s := range r.Trace {
		trace = append(trace, string(s.Step.Step))
	}
	switch {
	case r.Refusal != nil:
		outcome = "refused: " + r.Refusal.Code
	case r.Error != "":
		outcome = "FAILED: " + r.Error
	case !slices.Equal(plan, trace):
		outcome = "answered; the trace differs from the plan"
	}
	fmt.Fprintf(w, "%-9s %s/%s  %4.1f s  %s  %s\n", r.Mode, r.Hardware, r.Instance, float64(r.Milliseconds)/1000,
		strings.Join(trace, " > "), outcome)
}

func (a *app) demo(ctx context.Context, o demo.Options) error {
	if !a.json {
		o.Out = a.stdout
	}
	// A reader that has gone (sealift demo | head) ends the demo, and must not end it before it has stopped what it started.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGPIPE)
	defer stop()
	report, err := demo.Run(ctx, o)
	if report == nil {
		return err
	}
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	if printErr := a.print(report, func(w io.Writer) { printDemo(w, report) }); printErr != nil {
		return printErr
	}
	return err
}

// printDemo closes the story that was told while it happened.
func printDemo(w io.Writer, r *demo.Report) {
	if r.Exit != exitOK {
		return
	}
	var plan, trace []string
	for _, s := range r.Plan {
		plan = append(plan, string(s.Step))
	}
	for _, s := range r.Trace {
		trace = append(trace, string(s.Step.Step))
	}
	fmt.Fprintf(w, "\nplan   %s\ntrace  %s\n", strings.Join(plan, " > "), strings.Join(trace, " > "))
	for _, x := range r.Appraisals {
		fmt.Fprintf(w, "appraised by the %s: %s\n", x.Who, x.Result)
	}
	fmt.Fprintf(w, "mode %s on %s/%s in %.1f s. EMULATED: the hardware was played by a program and protects nothing.\n",
		r.Mode, r.Hardware, r.Instance, float64(r.Milliseconds)/1000)
}
