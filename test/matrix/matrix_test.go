// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

// Package matrix makes the table of the founding text true: seven package modes on twelve cells of instance type and hardware,
// each run end to end by the real programs, and the six pairs that do not exist, refused. `make matrix` runs it and prints the
// table.
//
// Each cell is one run of `sealift demo --mode all`: a stack of its own, and the seven modes in turn on it. What a run says
// is checked here against the plan, and the answers of all 84 against each other: the same question to the same records has
// one answer, wherever it is asked.
//
// The planted faults of the demo are run as well. With SEALIFT_MATRIX=full that is every fault in every mode of every cell,
// which takes hours; without it, every fault in every cell that is a process or a container, and in one cell of vms, in one mode
// that has everything.
package matrix

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealift/internal/demo"
	"sealift/usecase"
)

// bin is where `make build` puts the programs.
var bin = filepath.Join("..", "..", "bin", "sealift")

var full = os.Getenv("SEALIFT_MATRIX") == "full"

// run is one deployment as the demo tells it.
type run struct {
	Mode     usecase.Mode     `json:"mode"`
	Hardware usecase.Hardware `json:"hardware"`
	Instance usecase.Instance `json:"instance"`
	Delivery string           `json:"delivery"`
	Emulated bool             `json:"emulated"`
	Plan     []step           `json:"plan"`
	Trace    []step           `json:"trace"`
	Answer   string           `json:"answer"`
	Millis   int64            `json:"milliseconds"`
	Error    string           `json:"error"`
	Exit     int              `json:"exit"`
}

type step struct {
	Step usecase.StepName `json:"step"`
}

// sealift runs the program under test.
func sealift(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), "SEALIFT_HOME="+t.TempDir())
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: make build makes it", err)
	}
	return out.String(), talk.String(), cmd.ProcessState.ExitCode()
}

// demoCell runs all seven modes in a cell.
func demoCell(t *testing.T, c usecase.Cell, more ...string) []run {
	t.Helper()
	var runs []run
	stderr := demoJSON(t, &runs, c, append([]string{"--mode", "all"}, more...)...)
	if len(runs) != len(usecase.Modes()) {
		t.Errorf("%s: %d modes were run\n%s", c, len(runs), tail(stderr))
	}
	return runs
}

// demoJSON runs the demo in a cell and decodes what it prints.
func demoJSON(t *testing.T, out any, c usecase.Cell, more ...string) (stderr string) {
	t.Helper()
	args := append([]string{"demo", "--json", "--hardware", string(c.Hardware), "--instance", string(c.Instance)}, more...)
	stdout, stderr, _ := sealift(t, args...)
	if err := json.Unmarshal([]byte(stdout), out); err != nil {
		t.Fatalf("%s: %v\n%s\n%s", c, err, stdout, tail(stderr))
	}
	return stderr
}

func tail(text string) string { return text[max(0, len(text)-3000):] }

func names(steps []step) []usecase.StepName {
	out := make([]usecase.StepName, len(steps))
	for i, s := range steps {
		out[i] = s.Step
	}
	return out
}

// TestMatrix runs the 84 deployments and prints the table.
func TestMatrix(t *testing.T) {
	table := map[usecase.Cell]map[usecase.Mode]run{}
	answers := map[string][]string{}
	var mu sync.Mutex
	start := time.Now()
	inCells(t, usecase.Cells(), func(t *testing.T, c usecase.Cell) {
		runs := demoCell(t, c)
		mu.Lock()
		defer mu.Unlock()
		table[c] = map[usecase.Mode]run{}
		for _, r := range runs {
			table[c][r.Mode] = r
			where := fmt.Sprintf("%s on %s", r.Mode, c)
			check(t, where, c, r)
			answers[r.Answer] = append(answers[r.Answer], where)
		}
	})
	if len(answers) != 1 {
		t.Errorf("the answers differ: %v", answers)
	}
	text := fmt.Sprintf("84 deployments in %.0f s\n%s\n", time.Since(start).Seconds(), draw(table))
	t.Log(text)
	if path := os.Getenv("SEALIFT_MATRIX_TABLE"); path != "" {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// TestChannel runs deployments in which the owner takes PD to the TEE itself: all seven modes in a cell of processes, and on SGX the one in
// which the TA that it delivers waits for its UA; one mode in a cell of containers and in one of vms. With SEALIFT_MATRIX=full it is all 84.
func TestChannel(t *testing.T) {
	modes := map[usecase.Cell][]usecase.Mode{
		{Instance: usecase.Process, Hardware: usecase.TrustZone}: usecase.Modes(),
		{Instance: usecase.Process, Hardware: usecase.SGX}:       {usecase.ModeBundleTAPDUA},
		{Instance: usecase.Container, Hardware: usecase.TDX}:     {usecase.ModeBundleUATAPD},
		{Instance: usecase.VM, Hardware: usecase.SEVSNP}:         {usecase.ModeTAPD},
	}
	inCells(t, usecase.Cells(), func(t *testing.T, c usecase.Cell) {
		todo := modes[c]
		if full {
			todo = usecase.Modes()
		}
		for _, m := range todo {
			var r run
			demoJSON(t, &r, c, "--mode", string(m), "--delivery", usecase.DeliveryChannel)
			check(t, fmt.Sprintf("%s on %s, delivery channel", m, c), c, r)
			if r.Delivery != usecase.DeliveryChannel {
				t.Errorf("%s on %s: delivery %q", m, c, r.Delivery)
			}
		}
	})
}

// inCells does something in each cell. A virtual machine without virtualization wants more than a core for itself, so as many are
// busy at one time as there are pairs of cores.
func inCells(t *testing.T, cells []usecase.Cell, do func(*testing.T, usecase.Cell)) {
	free := make(chan struct{}, max(1, runtime.NumCPU()/2))
	t.Run("in", func(t *testing.T) { // returns when all have ended
		for _, c := range cells {
			t.Run(c.String(), func(t *testing.T) {
				t.Parallel()
				free <- struct{}{}
				defer func() { <-free }()
				do(t, c)
			})
		}
	})
}

// check compares what a run says with its plan.
func check(t *testing.T, where string, c usecase.Cell, r run) {
	t.Helper()
	plan, err := usecase.Plan(r.Mode, c.Instance, c.Hardware)
	if err != nil {
		t.Fatal(where, err)
	}
	switch {
	case r.Exit != 0 || r.Error != "":
		t.Errorf("%s: exit %d, %s", where, r.Exit, r.Error)
	case !slices.Equal(names(r.Trace), plan.Names()):
		t.Errorf("%s: the trace is %v, the plan %v", where, names(r.Trace), plan.Names())
	case !r.Emulated || r.Answer == "":
		t.Errorf("%s: emulated %v, answer %q", where, r.Emulated, r.Answer)
	}
}

// draw prints a tick, the time and the first digits of the answer's digest for each deployment.
func draw(table map[usecase.Cell]map[usecase.Mode]run) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-20s", "EMULATED")
	for _, m := range usecase.Modes() {
		fmt.Fprintf(&b, "%-24s", m)
	}
	for _, i := range usecase.Instances() {
		for _, h := range usecase.AllHardware() {
			c := usecase.Cell{Instance: i, Hardware: h}
			fmt.Fprintf(&b, "\n%-20s", c)
			if err := usecase.Valid(i, h); err != nil {
				fmt.Fprintf(&b, "refused: %v", err)
				continue
			}
			for _, m := range usecase.Modes() {
				r, ok := table[c][m]
				if !ok || r.Exit != 0 {
					fmt.Fprintf(&b, "%-24s", "-")
					continue
				}
				fmt.Fprintf(&b, "%-24s", fmt.Sprintf("ok %5.1fs %.6x", float64(r.Millis)/1000, sha256.Sum256([]byte(r.Answer))))
			}
		}
	}
	return b.String()
}

// TestInvalidPairs guards that what cannot be is refused before anything moves, with the reason and the nearest valid pairs.
func TestInvalidPairs(t *testing.T) {
	for _, i := range usecase.Instances() {
		for _, h := range usecase.AllHardware() {
			var invalid *usecase.InvalidCellError
			if !errors.As(usecase.Valid(i, h), &invalid) {
				continue
			}
			for _, m := range usecase.Modes() {
				_, stderr, code := sealift(t, "demo", "--mode", string(m), "--hardware", string(h), "--instance", string(i))
				if code != 2 || !strings.Contains(stderr, invalid.Reason) || !strings.Contains(stderr, invalid.Nearest[0].String()) {
					t.Errorf("%s on %s/%s: exit %d\n%s", m, h, i, code, tail(stderr))
				}
			}
		}
	}
}

// TestFaults guards that each planted fault is refused in every cell as it is on TrustZone: with the same exit code. Processes on
// TrustZone are left out: the tests of package e2e plant the faults there in every mode.
func TestFaults(t *testing.T) {
	modes := []usecase.Mode{usecase.ModeUATAPD}
	if full {
		modes = usecase.Modes()
	}
	cells := slices.DeleteFunc(usecase.Cells(), func(c usecase.Cell) bool {
		return c == usecase.Cell{Instance: usecase.Process, Hardware: usecase.TrustZone} ||
			c.Instance == usecase.VM && c.Hardware != usecase.SEVSNP && !full
	})
	inCells(t, cells, func(t *testing.T, c usecase.Cell) {
		for _, f := range demo.Faults() {
			for _, m := range modes {
				_, stderr, code := sealift(t, "demo", "--mode", string(m), "--hardware", string(c.Hardware), "--instance", string(c.Instance),
					"--break", f.Name)
				if code != f.Exit {
					t.Errorf("%s in %s on %s: exit %d, want %d\n%s", f.Name, m, c, code, f.Exit, tail(stderr))
				}
			}
		}
	})
}
