// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sealift/evidence"
	"sealift/internal/demo"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner"
	"sealift/internal/owner/packfile"
	"sealift/usecase"
)

// startRow is one instance type of `bench start --json`. Times are in milliseconds.
type startRow struct {
	Instance string  `json:"instance"`
	Hardware string  `json:"hardware"`
	Runs     int     `json:"runs"`
	Median   float64 `json:"evidence_median_ms"` // from the placement of a deployment to verified Evidence of its Agent
	Min      float64 `json:"evidence_min_ms"`
	Max      float64 `json:"evidence_max_ms"`
	Missing  string  `json:"missing,omitempty"` // why it was not measured
}

type startResult struct {
	Bench    string     `json:"bench"`
	Emulated bool       `json:"emulated"`
	Load     string     `json:"load_average"`
	Rows     []startRow `json:"rows"`
}

type startFlags struct {
	runs      int
	instances []string
}

func newBenchStartCmd(a *app) *cobra.Command {
	var f startFlags
	cmd := &cobra.Command{
		Use:   "start",
		Short: "time until a new TEE instance of each type has proved itself",
		Long: `Start an M/OC and devices with EMULATED hardware, and deploy a small application several times on each instance type. The time is
that from the placement of the deployment until the M/OC has verified the Agent's first Evidence: the Broker learns of it, the instance is
measured and launched, the Agent opens its sealed state, and a TEEP session asks it for Evidence. An instance type without an
Agent image beside this program is told as missing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.benchStart(cmd.Context(), f) },
	}
	cmd.Flags().IntVarP(&f.runs, "runs", "n", 5, "instances of each type")
	cmd.Flags().StringSliceVar(&f.instances, "instance", []string{"process", "container", "vm"}, "instance types")
	return cmd
}

func (a *app) benchStart(ctx context.Context, f startFlags) error {
	out := startResult{Bench: "start", Emulated: true}
	for _, name := range f.instances {
		instance, err := usecase.ParseInstance(name)
		if err != nil || f.runs < 1 {
			return usageError("process, container, vm, and at least one run", "%q is no instance type, or there is no run", name)
		}
		row := startRow{Instance: name, Hardware: string(usecase.TrustZone)}
		if instance == usecase.VM {
			row.Hardware = string(usecase.SEVSNP)
		}
		a.say("bench: %d instances of type %s", f.runs, name)
		if err := row.measure(ctx, instance, f.runs); err != nil {
			return fmt.Errorf("instance type %s: %w", name, err)
		}
		out.Rows = append(out.Rows, row)
	}
	out.Load = loadAverage()
	return a.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "placement to verified Evidence; hardware %s; load average %s\n", evidence.EmulatedMark, out.Load)
		fmt.Fprintf(w, "%-10s %-10s %5s %10s %10s %10s\n", "instance", "hardware", "runs", "median ms", "min ms", "max ms")
		for _, r := range out.Rows {
			if r.Missing != "" {
				fmt.Fprintf(w, "%-10s %-10s %s\n", r.Instance, r.Hardware, r.Missing)
				continue
			}
			fmt.Fprintf(w, "%-10s %-10s %5d %10.0f %10.0f %10.0f\n", r.Instance, r.Hardware, r.Runs, r.Median, r.Min, r.Max)
		}
	})
}

// measure deploys runs times on a Stack of its own.
func (r *startRow) measure(ctx context.Context, instance usecase.Instance, runs int) error {
	dir, err := os.MkdirTemp("", "sealift-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	stack, o, err := benchStack(ctx, dir, evidence.Hardware(r.Hardware))
	if err != nil {
		return err
	}
	defer stack.Stop()
	api := stack.Client(mocapi.RoleOwner)
	devices, err := stack.Client(mocapi.RoleOperator).Devices(ctx)
	if err != nil {
		return err
	}
	if len(devices) != 1 || !slices.Contains(devices[0].InstanceTypes, string(instance)) {
		r.Missing = "not offered here: no Agent image of this type, or what it needs is not on this machine (sealift doctor)"
		return nil
	}
	file, err := smallApp(dir, usecase.Cell{Instance: instance, Hardware: usecase.Hardware(r.Hardware)})
	if err != nil {
		return err
	}
	packed, err := o.Pack(owner.PackRequest{File: file, Out: filepath.Join(dir, "small.sealift")})
	if err != nil {
		return err
	}
	var took []float64
	for range runs {
		dep, err := o.Deploy(ctx, owner.DeployRequest{Package: packed.File})
		if err != nil {
			return err
		}
		admitted, err := awaitAdmission(ctx, api, dep.ID)
		if err != nil {
			return err
		}
		took = append(took, milliseconds(admitted.Sub(dep.Created)))
		if err := o.Remove(ctx, dep.ID); err != nil {
			return err
		}
	}
	slices.Sort(took)
	r.Runs, r.Median, r.Min, r.Max = runs, took[runs/2], took[0], took[runs-1]
	return nil
}

// awaitAdmission waits until the M/OC has verified Evidence of the deployment's Agent, and returns when that was.
func awaitAdmission(ctx context.Context, api *mocapi.Client, id string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, defaultDeployTime)
	defer cancel()
	var since uint64
	for {
		dep, err := api.Deployment(ctx, id, since, 10*time.Second)
		if err != nil {
			return time.Time{}, err
		}
		if dep.Problem != nil && dep.State == mocapi.StateFailed {
			return time.Time{}, dep.Problem
		}
		if len(dep.Trace) > 0 && dep.Trace[0].Step.Step == usecase.Admit {
			return dep.Trace[0].Time, nil
		}
		since = dep.Version
	}
}

// smallApp describes the example for one place.
func smallApp(dir string, cell usecase.Cell) (*packfile.File, error) {
	ta, records, err := demo.Example(dir)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("name: stats\nmode: %s\nhardware: [%s]\ninstances: [%s]\nta:\n  binary: %q\n  serve: socket\npd:\n  - %q\n",
		usecase.ModeTAPD, cell.Hardware, cell.Instance, ta, records)
	path := filepath.Join(dir, "small.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return packfile.Read(path)
}

// loadAverage says how busy the machine is, as three numbers (proc(5)).
func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(text))
	return strings.Join(fields[:min(3, len(fields))], " ")
}
