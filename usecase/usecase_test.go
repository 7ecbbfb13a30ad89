// SPDX-License-Identifier: Apache-2.0

package usecase_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sealift/usecase"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; run with -update and read the difference. Got:\n%s", path, got)
	}
}

// all calls f for each of the 84 deployments.
func all(t *testing.T, f func(*usecase.LoadPlan)) {
	t.Helper()
	n := 0
	for _, m := range usecase.Modes() {
		for _, c := range usecase.Cells() {
			p, err := usecase.Plan(m, c.Instance, c.Hardware)
			if err != nil {
				t.Fatal(err)
			}
			f(p)
			n++
		}
	}
	if n != 84 {
		t.Errorf("%d deployments, want 84", n)
	}
}

// One line for each of the 84 plans: steps, whose key, what waits for the release.
func TestGoldenSequences(t *testing.T) {
	var b bytes.Buffer
	all(t, func(p *usecase.LoadPlan) {
		fmt.Fprintf(&b, "%-9s %-20s case %d:", p.Mode, usecase.Cell{Instance: p.Instance, Hardware: p.Hardware}, p.DraftCase)
		for _, s := range p.Steps {
			fmt.Fprintf(&b, " %s", s.Step)
			if s.EncryptedTo != "" {
				fmt.Fprintf(&b, "[%s]", s.EncryptedTo)
			}
			if s.NeedsRelease {
				b.WriteString("!")
			}
			if s.Trigger != "" {
				fmt.Fprintf(&b, "(%s)", s.Trigger)
			}
		}
		b.WriteString("\n")
	})
	golden(t, "sequences.txt", b.Bytes())
}

// The whole JSON form for each mode: others store it and compare with it.
func TestGoldenJSON(t *testing.T) {
	for _, m := range usecase.Modes() {
		cell := usecase.Cell{Instance: usecase.Process, Hardware: usecase.TrustZone}
		p, err := usecase.Plan(m, cell.Instance, cell.Hardware)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.MarshalIndent(p, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, strings.NewReplacer("+", "_", ",", "-").Replace(string(m))+".json", append(data, '\n'))
		var back usecase.LoadPlan
		if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(&back, p) {
			t.Errorf("%s: read again, it differs: %v", m, err)
		}
	}
}

// All 84 plans in full, as people read them: every step with its text, and who sees what. Which of them run is not a matter of
// the plan.
func TestGoldenPlans(t *testing.T) {
	var b bytes.Buffer
	all(t, func(p *usecase.LoadPlan) {
		p.Runnable, p.Reason = true, ""
		if err := p.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		b.WriteString("\n")
	})
	golden(t, "plans.txt", b.Bytes())
}

// The 84 plans with delivery channel have the steps of those with delivery sealed, one of them for each instance type in full. Of what
// is delivered, M/OC and TAM see neither size nor ciphertext, and nobody outside the TEE sees more than before.
func TestGoldenChannel(t *testing.T) {
	var b bytes.Buffer
	all(t, func(p *usecase.LoadPlan) {
		live, err := p.Through(usecase.DeliveryChannel)
		if err != nil || live.Delivery != usecase.DeliveryChannel || p.Delivery != usecase.DeliverySealed || !slices.Equal(live.Names(), p.Names()) {
			t.Fatalf("%v: %+v", err, live)
		}
		for _, r := range usecase.Roles() {
			for _, c := range []usecase.Payload{usecase.UA, usecase.TA, usecase.PD} {
				if now, was := live.SeenBy.Of(r, c), p.SeenBy.Of(r, c); !was.Has(now) {
					t.Errorf("%s sees %s of %s, with delivery sealed %s", r, now, c, was)
				}
			}
			if pd := live.SeenBy.Of(r, usecase.PD); (r == usecase.RoleMOC || r == usecase.RoleTAM) && pd != usecase.SeesName {
				t.Errorf("%s on %s/%s: %s sees %s of the PD", p.Mode, p.Hardware, p.Instance, r, pd)
			}
		}
		if !slices.Contains([]usecase.Hardware{usecase.SGX, usecase.TDX}, p.Hardware) || p.Hardware == usecase.TDX && p.Instance != usecase.VM {
			return
		}
		if err := live.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		b.WriteString("\n")
		if again, err := live.Through(usecase.DeliveryChannel); err != nil || again != live {
			t.Error("a plan with delivery channel cannot be asked for once more")
		}
	})
	golden(t, "channel.txt", b.Bytes())
	p := &usecase.LoadPlan{Delivery: usecase.DeliverySealed}
	if _, err := p.Through("by hand"); !errors.Is(err, usecase.ErrUnknown) {
		t.Error(err)
	}
}

// Every pair outside the table is refused with the reason and the nearest valid pairs.
func TestGoldenInvalid(t *testing.T) {
	var b bytes.Buffer
	for _, i := range usecase.Instances() {
		for _, hw := range usecase.AllHardware() {
			if _, err := usecase.Plan(usecase.ModeUATAPD, i, hw); err != nil {
				fmt.Fprintln(&b, err)
			}
		}
	}
	golden(t, "invalid.txt", b.Bytes())
}

// A plan that does not run ends with the reason.
func TestNotRunnableText(t *testing.T) {
	var b bytes.Buffer
	p := &usecase.LoadPlan{Mode: usecase.ModeTAPD, Instance: usecase.VM, Hardware: usecase.TDX, Reason: "the reason"}
	if err := p.WriteText(&b); err != nil || !strings.HasSuffix(b.String(), "\n\nthe reason\n") {
		t.Errorf("%v: %s", err, b.String())
	}
}

// With and Sealed agree with the names of the modes.
func TestSealed(t *testing.T) {
	for mode, sealed := range map[usecase.Mode]string{
		"ua+ta+pd": "ua ta pd", "ua+ta,pd": "pd", "ua,ta,pd": "pd", "ta,pd": "pd", "ta+pd,ua": "ta pd", "ta+pd": "ta pd", "ua+pd,ta": "ua pd",
	} {
		var got []string
		for _, p := range []usecase.Payload{usecase.UA, usecase.TA, usecase.PD} {
			if mode.Sealed(p) {
				got = append(got, string(p))
			}
		}
		if strings.Join(got, " ") != sealed {
			t.Errorf("%s: sealed are %v", mode, got)
		}
	}
	if got := usecase.ModeBundleUATA.With(usecase.TA); !slices.Equal(got, []usecase.Payload{"ua", "ta"}) {
		t.Errorf("got %v", got)
	}
}

// The two principles of the use case hold in every plan.
func TestPrinciples(t *testing.T) {
	all(t, func(p *usecase.LoadPlan) {
		name := fmt.Sprintf("%s on %s/%s", p.Mode, p.Hardware, p.Instance)
		if p.Names()[0] != usecase.Admit {
			t.Errorf("%s does not begin with admit", name)
		}
		attest := p.Index(usecase.Attest)
		released := false
		for i, s := range p.Steps {
			if !slices.Contains(s.Carries, usecase.PD) {
				continue
			}
			if i < attest || attest < 0 {
				t.Errorf("%s: %s carries PD before attest", name, s.Step)
			}
			if s.From == "owner" && (s.EncryptedTo == "" || !s.NeedsRelease) {
				t.Errorf("%s: %s carries PD without an attested key or a release", name, s.Step)
			}
			if !s.NeedsRelease && !released {
				t.Errorf("%s: %s carries PD that nobody released", name, s.Step)
			}
			released = released || s.NeedsRelease
		}
		if !released {
			t.Errorf("%s: no step releases the PD", name)
		}
		for _, r := range usecase.Roles() {
			seen := p.SeenBy.Of(r, usecase.PD)
			if !r.Trusted() && (seen.Has(usecase.SeesContent) || seen.Has(usecase.SeesHash)) {
				t.Errorf("%s: %s sees %s of the PD", name, r, seen)
			}
		}
		for _, c := range []usecase.Payload{usecase.UA, usecase.TA, usecase.PD} {
			if moved := slices.ContainsFunc(p.Steps, func(s usecase.Step) bool { return slices.Contains(s.Carries, c) }); moved != p.Mode.Has(c) {
				t.Errorf("%s: %s is moved: %v", name, c, moved)
			}
		}
	})
}

// Where the TA travels with PD, the operator does not see the TA's code.
func TestBundledTAIsHidden(t *testing.T) {
	for _, m := range []usecase.Mode{usecase.ModeBundleTAPD, usecase.ModeBundleTAPDUA, usecase.ModeBundleUATAPD} {
		p, err := usecase.Plan(m, usecase.Process, usecase.TrustZone)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []usecase.Role{usecase.RoleMOC, usecase.RoleTAM, usecase.RoleBroker} {
			if p.SeenBy.Of(r, usecase.TA).Has(usecase.SeesContent) {
				t.Errorf("%s: %s sees the TA", m, r)
			}
		}
	}
}

func TestValid(t *testing.T) {
	n := 0
	for _, i := range usecase.Instances() {
		for _, hw := range usecase.AllHardware() {
			err := usecase.Valid(i, hw)
			if err == nil {
				n++
				continue
			}
			var e *usecase.InvalidCellError
			if !errors.As(err, &e) || !errors.Is(err, usecase.ErrInvalidCell) {
				t.Fatalf("got %T", err)
			}
			if len(e.Nearest) == 0 || e.Nearest[0].Hardware != hw || e.Reason == "" || !strings.Contains(err.Error(), e.Nearest[0].String()) {
				t.Errorf("got %v", err)
			}
			for _, c := range e.Nearest {
				if usecase.Valid(c.Instance, c.Hardware) != nil {
					t.Errorf("%s is named as valid", c)
				}
			}
			if _, planErr := usecase.Plan(usecase.ModeTAPD, i, hw); !errors.Is(planErr, usecase.ErrInvalidCell) {
				t.Errorf("planned: %v", planErr)
			}
			if err := usecase.Runnable(usecase.ModeTAPD, i, hw); !errors.Is(err, usecase.ErrInvalidCell) {
				t.Errorf("runnable: %v", err)
			}
		}
	}
	if n != 12 || len(usecase.Cells()) != 12 {
		t.Errorf("%d valid cells, want 12", n)
	}
}

func TestNames(t *testing.T) {
	for _, m := range usecase.Modes() {
		if got, err := usecase.ParseMode(string(m)); err != nil || got != m {
			t.Errorf("%s: %v", m, err)
		}
	}
	for _, bad := range []string{"", "pd", "TA,PD", "ta, pd", "pd,ta", "ua,ta"} {
		_, err := usecase.ParseMode(bad)
		if !errors.Is(err, usecase.ErrUnknown) || !strings.Contains(err.Error(), "ua+ta+pd") {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := usecase.Plan(usecase.Mode(bad), usecase.Process, usecase.TrustZone); !errors.Is(err, usecase.ErrUnknown) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := usecase.ParseInstance("pod"); !errors.Is(err, usecase.ErrUnknown) {
		t.Error(err)
	}
	if _, err := usecase.ParseHardware("emu:trustzone"); !errors.Is(err, usecase.ErrUnknown) {
		t.Error(err)
	}
	if err := usecase.Valid("pod", usecase.CCA); !errors.Is(err, usecase.ErrUnknown) {
		t.Error(err)
	}
	if err := usecase.Valid(usecase.VM, "z"); !errors.Is(err, usecase.ErrUnknown) {
		t.Error(err)
	}
}

func TestRunnable(t *testing.T) {
	n := 0
	all(t, func(p *usecase.LoadPlan) {
		err := usecase.Runnable(p.Mode, p.Instance, p.Hardware)
		if (err == nil) != p.Runnable || (p.Reason == "") != p.Runnable {
			t.Errorf("%s: %v, plan says %v %q", p.Mode, err, p.Runnable, p.Reason)
		}
		if err == nil {
			n++
		} else if !errors.Is(err, usecase.ErrNotRunnable) {
			t.Errorf("got %v", err)
		}
	})
	if want := len(usecase.Modes()) * len(usecase.RunnableCells()); n != want || n == 0 {
		t.Errorf("%d deployments run, want %d", n, want)
	}
	for _, c := range usecase.RunnableCells() {
		if err := usecase.Valid(c.Instance, c.Hardware); err != nil {
			t.Error(err)
		}
	}
}

func TestPackages(t *testing.T) {
	if got := usecase.ModeBundleTAPDUA.Packages(); !reflect.DeepEqual(got, [][]usecase.Payload{{"ta", "pd"}, {"ua"}}) {
		t.Errorf("got %v", got)
	}
	if usecase.ModeUATAPD.Bundled() || !usecase.ModeBundleUAPD.Bundled() || usecase.ModeBundleUATA.Bundled() {
		t.Error("Bundled is wrong")
	}
}

func TestSightJSON(t *testing.T) {
	var s usecase.Sight
	if err := json.Unmarshal([]byte(`["name","content"]`), &s); err != nil || s != usecase.SeesName|usecase.SeesContent {
		t.Errorf("got %s %v", s, err)
	}
	if err := json.Unmarshal([]byte(`["smell"]`), &s); !errors.Is(err, usecase.ErrUnknown) {
		t.Errorf("got %v", err)
	}
}
