// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sealift/evidence"
	"sealift/evidence/all"
	"sealift/internal/demo"
	"sealift/internal/dev"
	"sealift/internal/owner"
	"sealift/internal/owner/home"
	"sealift/internal/owner/packfile"
	"sealift/internal/supervise"
	"sealift/usecase"
)

// installRow is one installation of `bench install --json`. MB is 10^6 bytes.
type installRow struct {
	Payload   string  `json:"payload"` // "encrypted" or "clear"
	Kind      string  `json:"kind"`    // "program" or "image"
	Instance  string  `json:"instance"`
	Bytes     int64   `json:"bytes"`
	Seconds   float64 `json:"install_seconds"`           // in the Agent: fetch, decryption, digests, sealed storage, synced
	Rate      float64 `json:"install_mb_per_s"`          // of Seconds
	Start     float64 `json:"start_seconds"`             // in the Agent, after Seconds: read again, digests, unpacked into TEE memory, until it serves
	Whole     float64 `json:"begin_to_running_seconds"`  // from the release, or from the deployment of what is not encrypted
	Floor     float64 `json:"cryptography_by_agent_cpu"` // processor time of the cryptography alone / AgentCPU
	AgentCPU  float64 `json:"agent_cpu_seconds"`         // of all its threads, during Seconds
	StartCPU  float64 `json:"agent_start_cpu_seconds"`   // likewise, during Start
	BrokerCPU float64 `json:"broker_cpu_seconds"`        // during the whole deployment, Start included
	MOCCPU    float64 `json:"moc_cpu_seconds"`           // during Whole
	BrokerRSS float64 `json:"broker_peak_rss_mib"`
	AgentRSS  float64 `json:"agent_peak_rss_mib"`
	MOCRSS    float64 `json:"moc_peak_rss_mib"`
}

// installResult is what `bench install --json` prints.
type installResult struct {
	Bench    string       `json:"bench"`
	Emulated bool         `json:"emulated"`
	Load     string       `json:"load_average"`
	Floors   cryptoFloors `json:"floors"`
	Rows     []installRow `json:"rows"`
}

type installFlags struct {
	size      string
	encrypted bool
	clear     bool
	image     bool
	instance  string
	runs      int
}

func newBenchInstallCmd(a *app) *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use:   "install",
		Short: "MB/s and memory of installing a large TA, from the M/OC's store into sealed storage",
		Long: `Start an M/OC and a device with EMULATED trustzone hardware, all as processes of their own, and deploy a TA of the given size: a small
program with random bytes behind it or, with --image, a container image of eight layers with the program and files of random bytes. The rate is the Agent's own: from the first byte that it asks its Broker for until the TA is in sealed
storage and synced. What follows is told apart: the TA is read back, verified once more, put into TEE memory (an image is unpacked there), and started. Encrypted, the TA comes with the release, under the Agent's key with A128CTR; in the clear, as a package of its own.
Beside it stand the processor time of Agent and Broker, which other work on the machine changes little, and what SHA-256, AES-128-CTR and
AES-256-GCM need alone in the same run: crypto/CPU is the part of the Agent's processor time that the cryptography cannot do without.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.benchInstall(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.size, "size", "1GiB", "size of the TA")
	cmd.Flags().BoolVar(&f.encrypted, "encrypted", false, "only an encrypted TA")
	cmd.Flags().BoolVar(&f.clear, "clear", false, "only a TA in the clear")
	cmd.Flags().BoolVar(&f.image, "image", false, "the TA is a container image, and the instance a container")
	cmd.Flags().StringVar(&f.instance, "instance", "process", "instance type: process or container")
	cmd.Flags().IntVarP(&f.runs, "runs", "n", 1, "installations of each kind")
	return cmd
}

func (a *app) benchInstall(ctx context.Context, f installFlags) error {
	size, err := parseSize(f.size)
	if err != nil || size < 8<<20 || size > 2_000_000_000 || f.runs < 1 {
		return usageError("for example --size 1GiB", "the size is to be between 8MiB and 2GB, and at least one run")
	}
	if f.image {
		f.instance = string(usecase.Container)
	}
	modes := []usecase.Mode{usecase.ModeBundleTAPD, usecase.ModeTAPD}
	switch {
	case f.encrypted && !f.clear:
		modes = modes[:1]
	case f.clear && !f.encrypted:
		modes = modes[1:]
	}
	out := installResult{Bench: "install", Emulated: true, Floors: measureFloors()}
	for _, mode := range modes {
		for range f.runs {
			row, err := a.benchInstallRun(ctx, mode, f, size)
			if err != nil {
				return err
			}
			row.Floor = float64(row.Bytes) / 1e6 / out.Floors.together(row.Payload == "encrypted") / max(row.AgentCPU, 0.001)
			out.Rows = append(out.Rows, *row)
		}
	}
	out.Load = loadAverage()
	return a.print(out, func(w io.Writer) { out.write(w) })
}

// parseSize reads a number of bytes with a unit: "64MiB", "1GiB".
func parseSize(text string) (int64, error) {
	for unit, factor := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if number, ok := strings.CutSuffix(text, unit); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 32)
			return n * factor, err
		}
	}
	return strconv.ParseInt(text, 10, 64)
}

func (r *installResult) write(w io.Writer) {
	fmt.Fprintf(w, "installation of a large TA; hardware %s; load average %s\n", evidence.EmulatedMark, r.Load)
	r.Floors.write(w)
	fmt.Fprintf(w, "%-9s %-7s %-9s %12s %7s %5s %10s %9s %10s %7s %10s %9s %11s %10s %9s %7s\n", "payload", "TA", "instance", "bytes", "seconds",
		"MB/s", "crypto/CPU", "agent CPU", "broker CPU", "moc CPU", "then start", "start CPU", "all seconds", "broker MiB", "agent MiB", "moc MiB")
	for _, x := range r.Rows {
		fmt.Fprintf(w, "%-9s %-7s %-9s %12d %7.2f %5.0f %10.2f %9.2f %10.2f %7.2f %10.2f %9.2f %11.2f %10.0f %9.0f %7.0f\n", x.Payload, x.Kind, x.Instance,
			x.Bytes, x.Seconds, x.Rate, x.Floor, x.AgentCPU, x.BrokerCPU, x.MOCCPU, x.Start, x.StartCPU, x.Whole, x.BrokerRSS, x.AgentRSS, x.MOCRSS)
	}
}

// benchInstallRun deploys one TA on a Stack of its own.
func (a *app) benchInstallRun(ctx context.Context, mode usecase.Mode, f installFlags, size int64) (*installRow, error) {
	dir, err := os.MkdirTemp("", "sealift-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	stack, o, err := benchStack(ctx, dir, evidence.TrustZone)
	if err != nil {
		return nil, err
	}
	defer stack.Stop()
	a.say("bench: packing a TA of %d bytes", size)
	file, err := benchApp(dir, mode, f, size)
	if err != nil {
		return nil, err
	}
	packed, err := o.Pack(owner.PackRequest{File: file, Out: filepath.Join(dir, "large.sealift")})
	if err != nil {
		return nil, err
	}
	a.say("bench: deploying it, mode %s", mode)
	o.Progress = a.progress()
	var begun time.Time
	var moc time.Duration
	o.Events = func(e owner.Event) {
		// What moves the TA: the release where it is encrypted, else the deployment.
		if e.Step == "release" && mode.Sealed(usecase.TA) || e.Step == "deploy" && begun.IsZero() {
			begun, moc = time.Now(), stackCPU(stack, "moc")
		}
	}
	before := stackCPU(stack, "broker")
	dep, err := o.Deploy(ctx, owner.DeployRequest{Package: packed.File, Wait: true, Timeout: defaultDeployTime})
	if err != nil {
		return nil, err
	}
	row := &installRow{Payload: "clear", Kind: "program", Instance: f.instance, Whole: time.Since(begun).Seconds(),
		BrokerCPU: (stackCPU(stack, "broker") - before).Seconds(), MOCCPU: (stackCPU(stack, "moc") - moc).Seconds()}
	if f.image {
		row.Kind = "image"
	}
	if mode.Sealed(usecase.TA) {
		row.Payload = "encrypted"
	}
	if err := row.fromLog(stack); err != nil {
		return nil, err
	}
	row.memory(stack)
	return row, o.Remove(ctx, dep.ID)
}

// stackCPU is the processor time that a process of the Stack has used.
func stackCPU(stack *dev.Stack, name string) (used time.Duration) {
	for _, p := range stack.Processes() {
		if strings.HasPrefix(p.Name, name) {
			used, _ = processCPU(p.PID)
		}
	}
	return used
}

// benchStack starts an M/OC and a device, and makes an owner for them.
func benchStack(ctx context.Context, dir string, hardware evidence.Hardware) (*dev.Stack, *owner.Owner, error) {
	agent, err := dev.FindAgent()
	if err != nil {
		return nil, nil, err
	}
	images, err := dev.FindImages()
	if err != nil {
		return nil, nil, err
	}
	stack, err := dev.Start(ctx, dev.Config{Dir: filepath.Join(dir, "operator"), Agent: agent, Restart: supervise.OnFailure,
		Hardware: []evidence.Hardware{hardware}})
	if err != nil {
		return nil, nil, err
	}
	h, err := home.Open(filepath.Join(dir, "owner"))
	if err == nil {
		_, err = stack.Equip(ctx, h, append([]string{agent}, images...)...)
	}
	if err != nil {
		stack.Stop()
		return nil, nil, err
	}
	o := owner.New(h)
	o.Verifiers = all.New()
	return stack, o, nil
}

// benchApp writes the example's TA with random bytes behind it, so that it has the size, and describes it with the example's records.
func benchApp(dir string, mode usecase.Mode, f installFlags, size int64) (*packfile.File, error) {
	ta, records, err := demo.Example(dir)
	if err != nil {
		return nil, err
	}
	large, what, make := filepath.Join(dir, "large-ta"), "binary", padded
	if f.image {
		what, make = "image", benchImage
	}
	if err := make(large, ta, size); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("name: stats\nmode: %s\nhardware: [trustzone]\ninstances: [%s]\nta:\n  %s: %q\n  serve: socket\npd:\n  - %q\n",
		mode, f.instance, what, large, records)
	path := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return packfile.Read(path)
}

// padded writes a copy of a program with bytes behind it that do not compress.
func padded(path, program string, size int64) error {
	in, err := os.Open(program)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, in)
	if err == nil && n < size {
		_, err = io.CopyN(out, rand.NewChaCha8([32]byte{1}), size-n)
	}
	return errors.Join(err, out.Close())
}

// What an Agent logs for each manifest, and for each start of a TA.
var (
	stagedLine  = regexp.MustCompile(`msg=staged manifest=\S+ bytes=(\d+) milliseconds=(\d+) cpu_ms=(\d+)`)
	startedLine = regexp.MustCompile(`msg=started ta=\S+ bytes=(\d+) milliseconds=(\d+) cpu_ms=(\d+)`)
)

// fromLog takes the size and the times of the largest installation from the Agent's log, which is a part of the emulator's.
func (r *installRow) fromLog(stack *dev.Stack) error {
	for _, p := range stack.Processes() {
		if !strings.HasPrefix(p.Name, "emulator") {
			continue
		}
		text, err := os.ReadFile(p.Log)
		if err != nil {
			return err
		}
		r.Bytes, r.Seconds, r.AgentCPU = largest(stagedLine, string(text))
		_, r.Start, r.StartCPU = largest(startedLine, string(text))
	}
	if r.Bytes == 0 {
		return errors.New("the Agent's log does not tell of an installation")
	}
	r.Rate = float64(r.Bytes) / 1e6 / max(r.Seconds, 0.001)
	return nil
}

// largest finds the line with the most bytes, the first of them, and returns its numbers, in bytes and seconds.
func largest(line *regexp.Regexp, text string) (size int64, took, cpu float64) {
	for _, m := range line.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.ParseInt(m[1], 10, 64)
		if n <= size {
			continue
		}
		ms, _ := strconv.ParseInt(m[2], 10, 64)
		used, _ := strconv.ParseInt(m[3], 10, 64)
		size, took, cpu = n, float64(ms)/1000, float64(used)/1000
	}
	return size, took, cpu
}

// memory notes the peaks of the processes that the TA went through.
func (r *installRow) memory(stack *dev.Stack) {
	for _, p := range stack.Processes() {
		switch {
		case p.Name == "moc":
			r.MOCRSS = peakRSS(p.PID)
		case strings.HasPrefix(p.Name, "broker"):
			r.BrokerRSS = peakRSS(p.PID)
		case strings.HasPrefix(p.Name, "emulator"):
			for _, pid := range descendants(p.PID) {
				if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(string(name), "sealift-agent") {
					r.AgentRSS = max(r.AgentRSS, peakRSS(pid))
				}
			}
		}
	}
}

// peakRSS returns the largest resident memory that a running process has had, in MiB (VmHWM of proc(5)), 0 if it is not known.
func peakRSS(pid int) float64 { return statusMiB(pid, "VmHWM:") }

// descendants lists the processes below pid.
func descendants(pid int) (all []int) {
	parents := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		child, err1 := strconv.Atoi(strings.Split(path, "/")[2])
		parent, err2 := strconv.Atoi(fields[1])
		if err1 == nil && err2 == nil {
			parents[child] = parent
		}
	}
	for _, child := range slices.Sorted(maps.Keys(parents)) {
		for at := child; at != 0; at = parents[at] {
			if parents[at] == pid {
				all = append(all, child)
				break
			}
		}
	}
	return all
}
