// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package demo runs the worked example from start to end on one machine: an M/OC and a device with EMULATED secure hardware
// as processes of their own, and a data owner who packs examples/stats, appraises the device, releases the records, asks a
// question and removes everything again.
//
// With a fault, one party is dishonest, and the run ends where an honest one refuses. The faults are the planted ones of
// the design: a demo in which nothing can go wrong shows nothing.
package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/all"
	"sealift/examples/stats"
	"sealift/internal/dev"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner"
	"sealift/internal/owner/home"
	"sealift/internal/owner/packfile"
	"sealift/internal/supervise"
	"sealift/usecase"
)

// Options say what to show.
type Options struct {
	Mode     usecase.Mode
	Hardware usecase.Hardware // of the device; empty means trustzone
	Instance usecase.Instance // empty means process
	Delivery string           // usecase.DeliverySealed (empty: this) or usecase.DeliveryChannel
	Fault    string           // one of Faults, or empty
	Keep     bool             // leave the state folder behind
	Out      io.Writer
}

func (o *Options) cell() usecase.Cell {
	return usecase.Cell{Instance: o.Instance, Hardware: o.Hardware}
}

// Run shows the example and stops everything it started. The Report is complete as far as the run got; its Exit is that of
// the command. An error is returned with it when the run failed or, with a fault, was refused as it should be.
func Run(ctx context.Context, o Options) (*Report, error) {
	begun := time.Now()
	f, err := findFault(o.Fault)
	if err != nil {
		return nil, err
	}
	if o.Hardware == "" {
		o.Hardware = usecase.TrustZone
	}
	if o.Instance == "" {
		o.Instance = usecase.Process
	}
	if o.Delivery, err = usecase.ParseDelivery(o.Delivery); err != nil {
		return nil, fault.Wrap(fault.BadRequest, err)
	}
	r := &run{
		opt: o, fault: f, begun: begun,
		report: &Report{Mode: string(o.Mode), Hardware: string(o.Hardware), Instance: string(o.Instance), Delivery: o.Delivery, Emulated: true,
			Fault: o.Fault, Question: stats.Question, Plan: []usecase.Step{}, Trace: []mocapi.TraceStep{}, Appraisals: []Appraisal{}},
	}
	err = r.all(ctx)
	r.report.Milliseconds = time.Since(begun).Milliseconds()
	err = r.judge(err)
	return r.report, err
}

// run is one run of the demo.
type run struct {
	opt    Options
	fault  *Fault
	begun  time.Time
	dir    string
	report *Report

	stack  *dev.Stack
	images []string // Agent images beside the process's
	owner  *owner.Owner
	id     string // of the deployment
}

// say prints one line: when, who, what.
func (r *run) say(who, format string, args ...any) {
	if r.opt.Out == nil {
		return
	}
	lines := strings.Split(strings.TrimRight(fmt.Sprintf(format, args...), "\n"), "\n")
	fmt.Fprintf(r.opt.Out, "%7.3fs  %-9s%s\n", time.Since(r.begun).Seconds(), who, lines[0])
	for _, l := range lines[1:] {
		fmt.Fprintf(r.opt.Out, "%19s%s\n", "", l)
	}
}

// tell prints an event of the owner's side. A step of the plan is one that the M/OC has recorded as done.
func (r *run) tell(e owner.Event) {
	text := longHex.ReplaceAllString(e.Text, "$1...")
	i := slices.IndexFunc(r.report.Plan, func(s usecase.Step) bool { return string(s.Step) == e.Step && strings.HasPrefix(e.Text, s.What) })
	if i < 0 {
		r.say(e.Actor, "%s", text)
		return
	}
	what, detail, _ := strings.Cut(text, ": ")
	r.say("plan", "%d/%d %s: %s\n(%s)", i+1, len(r.report.Plan), e.Step, what, detail)
}

// longHex is a digest or a key in full: nobody reads it in a story, and the report has it.
var longHex = regexp.MustCompile(`\b([0-9a-f]{12})[0-9a-f]{20,}\b`)

// all runs the example in a folder of its own.
func (r *run) all(ctx context.Context) (err error) {
	if r.dir, err = os.MkdirTemp("", "sealift-demo-"); err != nil {
		return fmt.Errorf("making a folder for the demo: %w", err)
	}
	if r.opt.Keep {
		r.report.Dir = r.dir
	} else {
		defer os.RemoveAll(r.dir)
	}
	if err := r.startStack(ctx); err != nil {
		return err
	}
	defer func() {
		r.stack.Stop()
		r.say("demo", "stopped everything it started")
		if r.opt.Keep {
			r.say("demo", "kept %s", r.dir)
		}
	}()
	err = r.story(ctx)
	r.observe(context.WithoutCancel(ctx))
	return err
}

// startStack starts M/OC and device, and makes the owner's folder.
func (r *run) startStack(ctx context.Context) error {
	agent, err := dev.FindAgent()
	if err != nil {
		return fault.Wrap(fault.Internal, err).WithHint("make build writes both programs to bin/")
	}
	cfg := dev.Config{Dir: filepath.Join(r.dir, "operator"), Agent: agent, Restart: supervise.OnFailure,
		Hardware: []evidence.Hardware{r.opt.Hardware}}
	if r.images, err = dev.FindImages(); err != nil {
		return err
	}
	if r.fault != nil {
		planted, args, err := r.fault.plant(r.dir, append([]string{agent}, r.images...))
		if err != nil {
			return err
		}
		cfg.Agent, cfg.Images, cfg.MOCArgs = planted[0], planted[1:], args
		r.say("demo", "planted fault %s: %s", r.fault.Name, r.fault.What)
	}
	r.say("demo", "starting an M/OC and a device with EMULATED %s hardware", r.opt.Hardware)
	if r.stack, err = dev.Start(ctx, cfg); err != nil {
		return err
	}
	var names []string
	for _, p := range r.stack.Processes() {
		names = append(names, fmt.Sprintf("%s (pid %d)", p.Name, p.PID))
	}
	r.say("moc", "serves at %s; running: %s", r.stack.URL, strings.Join(names, ", "))
	h, err := home.Open(filepath.Join(r.dir, "owner"))
	if err == nil {
		_, err = r.stack.Equip(ctx, h, append([]string{agent}, r.images...)...)
	}
	if err != nil {
		r.stack.Stop()
		return err
	}
	r.owner = owner.New(h)
	r.owner.Events, r.owner.Verifiers = r.tell, all.New()
	return nil
}

// story is what the data owner does.
func (r *run) story(ctx context.Context) error {
	programs, err := examplePrograms(r.dir)
	if err != nil {
		return err
	}
	ta := filepath.Join(programs, stats.TAProgram)
	if r.fault != nil && r.fault.older {
		if err := r.olderVersion(ctx, programs, ta); err != nil {
			return err
		}
	}
	dep, err := r.deploy(ctx, "stats", r.opt.Mode, programs, ta)
	if err != nil {
		return err
	}
	r.id, r.report.Plan = dep.ID, dep.Plan
	var steps []string
	for _, s := range dep.Plan {
		steps = append(steps, string(s.Step))
	}
	r.say("owner", "the plan of mode %s: %s", r.opt.Mode, strings.Join(steps, ", "))
	if dep, err = r.owner.Await(ctx, dep.ID); err != nil {
		return err
	}
	if dep.State == mocapi.StateAwaitingAppraisal {
		if err := r.appraiseAndRelease(ctx, dep); err != nil {
			return err
		}
	}
	if _, err = r.owner.AwaitRunning(ctx, dep.ID); err != nil {
		return err
	}
	return r.use(ctx)
}

// use does what the deployment is for, and removes it.
func (r *run) use(ctx context.Context) error {
	if r.opt.Mode.Sealed(usecase.TA) { // the TA's own keys exist only now
		if _, err := r.appraise(ctx); err != nil {
			return err
		}
	}
	if err := r.ask(ctx); err != nil {
		return err
	}
	if r.fault != nil && r.fault.Name == faultRollback {
		if err := r.awaitFailure(ctx); err != nil {
			return err
		}
	}
	r.watch(ctx) // before the removal: after it there is nothing to see
	return r.owner.Remove(ctx, r.id)
}

// deploy packs the example with a TA and asks the M/OC for a place.
func (r *run) deploy(ctx context.Context, name string, mode usecase.Mode, programs, ta string) (*mocapi.Deployment, error) {
	records := filepath.Join(r.dir, stats.RecordsFile)
	if err := os.WriteFile(records, stats.Records, 0o600); err != nil {
		return nil, err
	}
	path := filepath.Join(r.dir, name+".yaml")
	text := description(mode, r.opt.cell(), ta, filepath.Join(programs, stats.UAProgram), records)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	file, err := packfile.Read(path)
	if err != nil {
		return nil, err
	}
	packed, err := r.owner.Pack(owner.PackRequest{File: file, Out: filepath.Join(r.dir, name+".sealift")})
	if err != nil {
		return nil, err
	}
	request := owner.DeployRequest{Package: packed.File, Delivery: r.opt.Delivery}
	if name == older { // what a dishonest operator has kept was once stored
		request.Delivery = usecase.DeliverySealed
	}
	return r.owner.Deploy(ctx, request)
}

// older is the name of the older version's package file.
const older = "older"

// olderVersion deploys an older TA of the same owner: something for the operator to be dishonest with. Where the TA is to travel with the
// PD, the operator has either a TA that did not, or a package that was released to another Agent.
func (r *run) olderVersion(ctx context.Context, programs, ta string) error {
	file := filepath.Join(r.dir, "stats-ta-older")
	if err := appendByte(ta, file); err != nil {
		return err
	}
	mode := r.opt.Mode
	released := mode.Sealed(usecase.TA) && r.fault.Name == faultRollback
	if mode.Sealed(usecase.TA) && !released {
		mode = usecase.ModeTAPD
	}
	dep, err := r.deploy(ctx, older, mode, programs, file)
	if err != nil || !released {
		return err
	}
	if _, err := r.owner.Await(ctx, dep.ID); err != nil {
		return err
	}
	a, err := r.owner.Verify(ctx, dep.ID, owner.VerifyOptions{})
	if err == nil {
		_, err = r.owner.Release(ctx, a)
	}
	return err
}

// awaitFailure waits until the M/OC has failed with what the Agent refuses, and returns that.
func (r *run) awaitFailure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client := r.stack.Client(mocapi.RoleOwner)
	var since uint64
	for {
		dep, err := client.Deployment(ctx, r.id, since, 5*time.Second)
		if ctx.Err() != nil {
			return nil // judge says that nobody noticed
		}
		if err != nil {
			return err
		}
		if dep.Problem != nil {
			return dep.Problem
		}
		since = dep.Version
	}
}

// description is the package file of the example in a mode.
func description(mode usecase.Mode, cell usecase.Cell, ta, ua, records string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "name: %s\nmode: %s\nhardware: [%s]\ninstances: [%s]\n", stats.App, mode, cell.Hardware, cell.Instance)
	fmt.Fprintf(&b, "ta:\n  binary: %q\n  serve: socket\n", ta)
	if mode.Has(usecase.UA) {
		fmt.Fprintf(&b, "ua:\n  binary: %q\n  args: [--listen, \"${HOST}:${PORT}\"]\n  ports: [questions]\n", ua)
	}
	fmt.Fprintf(&b, "pd:\n  - %q\n", records)
	return b.String()
}

// appraiseAndRelease is the owner's turn. The M/OC's word is not enough for it.
func (r *run) appraiseAndRelease(ctx context.Context, dep *mocapi.Deployment) error {
	if dep.Appraised {
		return r.releaseAsTold(ctx, dep)
	}
	a, err := r.appraise(ctx)
	if err != nil {
		return err
	}
	if r.opt.Mode.Bundled() && !r.opt.Mode.Sealed(usecase.TA) { // the TA comes after the Agent's appraisal and before the release
		if _, err := r.owner.Await(ctx, r.id); err != nil {
			return err
		}
		if a, err = r.appraise(ctx); err != nil {
			return err
		}
	}
	_, err = r.owner.Release(ctx, a)
	return err
}

// releaseAsTold does what the M/OC suggests: release at once, for the appraisal has been done.
func (r *run) releaseAsTold(ctx context.Context, dep *mocapi.Deployment) error {
	r.say("moc", "says that deployment %s was appraised, and asks for the PD", dep.ID)
	a, err := r.owner.Appraised(dep.ID)
	if err == nil {
		_, err = r.owner.Release(ctx, a)
		return err
	}
	f := fault.From(err)
	return f.WithDetails([]appraisal.Finding{{Claim: "positive appraisal of the present Agent and TA", Expected: "one of the owner's own",
		Got: "none, only the M/OC's word that there is one", Source: "the owner's folder"}})
}

// appraise gets Evidence, lets the owner judge it and notes who said what.
func (r *run) appraise(ctx context.Context) (*owner.Appraised, error) {
	a, err := r.owner.Verify(ctx, r.id, owner.VerifyOptions{})
	if refused, ok := errors.AsType[*owner.Refused](err); ok {
		r.noteAppraisals(ctx, refused.Result, refused.Advice)
	}
	if err == nil {
		r.noteAppraisals(ctx, a.Result, a.Advice)
	}
	return a, err
}

// noteAppraisals keeps what the owner found, and what the operator's Verifier says of the same Evidence.
func (r *run) noteAppraisals(ctx context.Context, result *appraisal.Result, advice []byte) {
	if keys, err := r.stack.Client(mocapi.RoleOwner).TrustAnchors(ctx); err == nil && len(advice) > 0 {
		if ar, err := appraisal.ParseResult(advice, []*cose.Key{keys.VerifierKey}, time.Now()); err == nil {
			r.report.Appraisals = append(r.report.Appraisals, operatorsAppraisal(ar))
		}
	}
	r.report.Appraisals = append(r.report.Appraisals, ownersAppraisal(result))
}

// ask calls the TA with the example's question.
func (r *run) ask(ctx context.Context) error {
	r.say("owner", "asks: %s", stats.Question)
	var out bytes.Buffer
	err := r.owner.Call(ctx, r.id, strings.NewReader(stats.Question+"\n"), &out, owner.CallOptions{Timeout: 20 * time.Second})
	if err != nil {
		return err
	}
	r.report.Answer = strings.TrimRight(out.String(), "\n")
	if r.report.Answer == "" || strings.HasPrefix(r.report.Answer, "error:") {
		return fmt.Errorf("the TA did not answer the question: %q", r.report.Answer)
	}
	r.say("ta", "%s", r.report.Answer)
	return nil
}

// observe reads the trace and the operator's appraisal from the M/OC, also after a refusal.
func (r *run) observe(ctx context.Context) {
	if r.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if t, err := r.stack.Client(mocapi.RoleOwner).Trace(ctx, r.id); err == nil && len(t.Trace) > 0 {
		r.report.Trace = slices.Clone(t.Trace)
	}
}
