// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/moc"
	"sealift/internal/moc/load"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/teep/teephttp"
)

// benchFlags are the flags of `bench session`.
type benchFlags struct {
	n           int
	concurrency []int
}

// benchRow is one run of `bench session --json`.
type benchRow struct {
	Concurrency int     `json:"concurrency"`
	Sessions    int     `json:"sessions"`
	PerSecond   float64 `json:"sessions_per_second"`
	P50         float64 `json:"p50_ms"`
	P99         float64 `json:"p99_ms"`
	ServerCPU   float64 `json:"server_cpu_ms_per_session,omitempty"` // 0: this system does not tell
	ClientCPU   float64 `json:"client_cpu_ms_per_session,omitempty"` // of the played Agents, their Broker's HTTP included
	First       float64 `json:"first_tenth_per_second"`
	Last        float64 `json:"last_tenth_per_second"`
	Flatness    float64 `json:"last_by_first"`                       // last tenth / first tenth of the sessions; 1: history costs nothing
	FirstCPU    float64 `json:"first_tenth_server_cpu_ms,omitempty"` // per session; says more than the rates where others use the machine
	LastCPU     float64 `json:"last_tenth_server_cpu_ms,omitempty"`
	ServerRSS   float64 `json:"server_rss_mib,omitempty"`
	Database    float64 `json:"database_mib"` // with its journal, at the end
}

// benchResult is what `bench session --json` prints.
type benchResult struct {
	Bench    string     `json:"bench"`
	Emulated bool       `json:"emulated"`
	Posts    int        `json:"posts_per_session"`
	Rows     []benchRow `json:"rows"`
}

func newBenchCmd(a *app) *cobra.Command {
	var f benchFlags
	session := &cobra.Command{
		Use:   "session",
		Short: "TEEP sessions per second of an M/OC, and its CPU time per session",
		Long: `Start an M/OC of its own, in a process of its own and with a durable store, and run TEEP sessions of admitted Agents
against it over HTTP on loopback: an empty POST gets a QueryRequest with a token, the QueryResponse an Update, the Success
ends the session. The Agents are played, with real keys and messages and EMULATED hardware; one deployment for each
session that runs at a time. The last tenth of the sessions is compared with the first: history should cost nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.benchSession(cmd.Context(), f) },
	}
	session.Flags().IntVarP(&f.n, "sessions", "n", 2000, "sessions of each run")
	session.Flags().IntSliceVarP(&f.concurrency, "concurrency", "c", []int{1, 8}, "sessions at a time; one run for each")
	return newGroupCmd("bench", "measure this program on this machine", session, newBenchSuitCmd(a), newBenchEvidenceCmd(a),
		newBenchInstallCmd(a), newBenchStartCmd(a))
}

func (a *app) benchSession(ctx context.Context, f benchFlags) error {
	if f.n < 10 || len(f.concurrency) == 0 || slices.Min(f.concurrency) < 1 || slices.Max(f.concurrency) > 256 {
		return usageError("", "a run needs at least 10 sessions, and 1 to 256 at a time")
	}
	out := benchResult{Bench: "session", Emulated: true, Posts: 3}
	for _, c := range f.concurrency {
		row, err := a.benchRun(ctx, f.n, c)
		if err != nil {
			return fmt.Errorf("concurrency %d: %w", c, err)
		}
		out.Rows = append(out.Rows, *row)
	}
	return a.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "TEEP sessions of admitted Agents, 3 POSTs each, durable store; hardware %s\n", evidence.EmulatedMark)
		fmt.Fprintf(w, "%5s %9s %11s %7s %7s %11s %11s %14s %13s %11s %10s %8s %7s\n", "conc", "sessions", "sessions/s", "p50 ms", "p99 ms",
			"server CPU", "client CPU", "CPU first 10%", "CPU last 10%", "first 10%/s", "last 10%/s", "RSS MiB", "db MiB")
		for _, r := range out.Rows {
			fmt.Fprintf(w, "%5d %9d %11.0f %7.2f %7.2f %8.3f ms %8.3f ms %11.3f ms %10.3f ms %11.0f %10.0f %8.0f %7.1f\n", r.Concurrency,
				r.Sessions, r.PerSecond, r.P50, r.P99, r.ServerCPU, r.ClientCPU, r.FirstCPU, r.LastCPU, r.First, r.Last, r.ServerRSS, r.Database)
		}
	})
}

// benchRun measures one concurrency against a fresh M/OC.
func (a *app) benchRun(ctx context.Context, n, concurrency int) (_ *benchRow, err error) {
	dir, err := os.MkdirTemp("", "sealift-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b, err := startBenchMoc(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	fleet, err := load.Launch(ctx, b.pki, b.client(mocapi.RoleOwner), b.client(mocapi.RoleDevice), "bench", "bench", concurrency)
	if err != nil {
		return nil, err
	}
	for _, agent := range fleet.Agents {
		agent.Forgetful = true
	}
	a.say("bench: %d sessions, %d at a time", n, concurrency)
	before, _ := processCPU(b.cmd.Process.Pid)
	own, _ := processCPU(os.Getpid())
	begun := time.Now()
	marks := map[int]time.Duration{n / 10: 0, n - n/10: 0} // server's CPU time when so many sessions were done
	took, done, err := runSessions(ctx, fleet.Agents, n, func(sessions int) {
		if _, wanted := marks[sessions]; wanted {
			marks[sessions], _ = processCPU(b.cmd.Process.Pid)
		}
	})
	if err != nil {
		return nil, err
	}
	elapsed := time.Since(begun)
	after, known := processCPU(b.cmd.Process.Pid)
	ownAfter, _ := processCPU(os.Getpid())
	row := summarize(took, done, begun, elapsed)
	row.Concurrency = concurrency
	if known {
		row.ServerCPU, row.ClientCPU = milliseconds(after-before)/float64(n), milliseconds(ownAfter-own)/float64(n)
		row.FirstCPU = milliseconds(marks[n/10]-before) / float64(n/10)
		row.LastCPU = milliseconds(after-marks[n-n/10]) / float64(n/10)
		row.ServerRSS = processRSS(b.cmd.Process.Pid)
	}
	for _, name := range []string{"moc.db", "moc.db-wal"} {
		if st, err := os.Stat(filepath.Join(dir, "moc", name)); err == nil {
			row.Database += float64(st.Size()) / (1 << 20)
		}
	}
	return row, nil
}

// runSessions runs n sessions, as many at a time as there are Agents, and returns how long each took and when it ended. It calls
// each with the number of sessions done, one call at a time.
func runSessions(ctx context.Context, agents []*load.Agent, n int, each func(int)) (took []time.Duration, done []time.Time, err error) {
	took, done = make([]time.Duration, n), make([]time.Time, n)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var mu sync.Mutex
	all := 0
	var wg sync.WaitGroup
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = len(agents) // a device keeps its connection
	defer transport.CloseIdleConnections()
	client := &teephttp.Client{HTTP: &http.Client{Transport: transport}}
	for _, agent := range agents {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				begun := time.Now()
				counted := &counter{Agent: agent}
				err := client.Session(ctx, agent.TAMURI, counted, nil)
				if err == nil && counted.messages != 2 {
					err = fmt.Errorf("a session of %d messages of the TAM, not 2", counted.messages)
				}
				if err != nil {
					cancel(err)
					return
				}
				done[i], took[i] = time.Now(), time.Since(begun)
				mu.Lock()
				all++
				each(all)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return took, done, context.Cause(ctx)
}

// counter counts the TAM's messages of one session: a QueryRequest and an Update, or it was not what is to be measured.
type counter struct {
	*load.Agent
	messages int
}

// ProcessTeepMessage implements teephttp.Agent.
func (c *counter) ProcessTeepMessage(ctx context.Context, msg []byte) ([]byte, error) {
	c.messages++
	return c.Agent.ProcessTeepMessage(ctx, msg)
}

func summarize(took []time.Duration, done []time.Time, begun time.Time, elapsed time.Duration) *benchRow {
	n := len(took)
	slices.Sort(took)
	slices.SortFunc(done, time.Time.Compare)
	part := max(n/10, 1)
	row := &benchRow{Sessions: n, PerSecond: float64(n) / elapsed.Seconds(), P50: milliseconds(took[n/2]), P99: milliseconds(took[n*99/100]),
		First: float64(part) / done[part-1].Sub(begun).Seconds(), Last: float64(part) / done[n-1].Sub(done[n-1-part]).Seconds()}
	row.Flatness = row.Last / row.First
	return row
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// benchMoc is an M/OC in a process of its own, and what it takes to talk to it.
type benchMoc struct {
	pki    *emuroot.PKI
	cmd    *exec.Cmd
	url    string
	tokens map[mocapi.Role]string
}

func (b *benchMoc) client(role mocapi.Role) *mocapi.Client {
	return &mocapi.Client{BaseURL: b.url, Token: b.tokens[role]}
}

// startBenchMoc starts this program's own `moc serve` and waits until it answers.
func startBenchMoc(ctx context.Context, dir string) (*benchMoc, error) {
	b := &benchMoc{tokens: map[mocapi.Role]string{}}
	var err error
	if b.pki, err = emuroot.New(rand.Reader, evidence.TrustZone, time.Now()); err != nil {
		return nil, err
	}
	args, err := b.prepare(ctx, dir)
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	b.cmd = exec.Command(exe, args...)
	b.cmd.Stdout, b.cmd.Stderr = log, log
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting an M/OC: %w", err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		if _, err = b.client(mocapi.RoleOwner).Health(ctx); err == nil {
			return b, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			text, _ := os.ReadFile(log.Name())
			return nil, errors.Join(fmt.Errorf("the M/OC does not start: %w\n%s", err, text), b.stop())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// prepare writes what the M/OC needs and returns its command line.
func (b *benchMoc) prepare(ctx context.Context, dir string) ([]string, error) {
	policy, err := load.Operator(b.pki)
	if err != nil {
		return nil, err
	}
	rules, err := policy.Marshal()
	if err != nil {
		return nil, err
	}
	root, err := b.pki.Anchor().PEM()
	if err != nil {
		return nil, err
	}
	state, policyFile, rootFile := filepath.Join(dir, "moc"), filepath.Join(dir, "policy.json"), filepath.Join(dir, "root.pem")
	err = errors.Join(os.Mkdir(state, 0o700), os.WriteFile(policyFile, rules, 0o600), os.WriteFile(rootFile, root, 0o600))
	if err != nil {
		return nil, err
	}
	st, err := store.Open(state, store.Options{})
	if err != nil {
		return nil, err
	}
	for _, role := range []mocapi.Role{mocapi.RoleOwner, mocapi.RoleDevice} {
		if b.tokens[role], err = moc.NewToken(ctx, st, rand.Reader, mocapi.Identity{Role: role, Name: "bench"}); err != nil {
			return nil, errors.Join(err, st.Close())
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	addr := ln.Addr().String()
	b.url = "http://" + addr
	return []string{"moc", "serve", "--state", state, "--listen", addr, "--policy", policyFile, "--anchor", rootFile},
		errors.Join(ln.Close(), st.Close())
}

// stop ends the M/OC's process.
func (b *benchMoc) stop() error {
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return b.cmd.Wait()
}
