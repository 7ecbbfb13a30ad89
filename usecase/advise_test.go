// SPDX-License-Identifier: Apache-2.0

package usecase_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sealift/usecase"
)

// subsets returns all subsets of list, the empty one first.
func subsets[T any](list []T) (out [][]T) {
	for set := range 1 << len(list) {
		var one []T
		for i, v := range list {
			if set&(1<<i) != 0 {
				one = append(one, v)
			}
		}
		out = append(out, one)
	}
	return out
}

// hardware are lists that stand for all: any, each alone, those with the same instance types, and one of each sort.
func hardware() [][]usecase.Hardware {
	out := [][]usecase.Hardware{nil, {"trustzone", "sgx"}, {"sev-snp", "cca", "tdx", "csv"}, {"sgx", "tdx"}, usecase.AllHardware()}
	for _, h := range usecase.AllHardware() {
		out = append(out, []usecase.Hardware{h})
	}
	return out
}

// everyAnswer calls f with each combination of answers.
func everyAnswer(f func(usecase.Facts)) (n int) {
	both := []bool{false, true}
	for _, ua := range both {
		for _, hide := range both {
			for _, apart := range both {
				for _, online := range both {
					for _, holder := range []usecase.Holder{usecase.HeldByOperator, usecase.HeldByOwner} {
						for _, hw := range hardware() {
							for _, i := range subsets(usecase.Instances()) {
								f(usecase.Facts{UA: ua, HideTA: hide, PDApart: apart, AtRest: holder, Online: online, Hardware: hw, Instances: i})
								n++
							}
						}
					}
				}
			}
		}
	}
	return n
}

// contradicts holds a recommendation against the answers, written down here a second time on purpose.
func contradicts(f usecase.Facts, c usecase.Choice) string {
	sealedTA := slices.Contains([]usecase.Mode{"ta+pd", "ta+pd,ua", "ua+ta+pd"}, c.Mode)
	switch {
	case strings.Contains(string(c.Mode), "ua") != f.UA:
		return "ua"
	case f.HideTA && !sealedTA:
		return "hide-ta"
	case f.PDApart && sealedTA:
		return "pd-apart"
	case f.AtRest == usecase.HeldByOwner && c.Delivery != "channel":
		return "at-rest"
	case !f.Online && c.Delivery != "sealed":
		return "online"
	case len(f.Hardware) > 0 && !slices.Contains(f.Hardware, c.Cell.Hardware):
		return "hardware"
	case len(f.Instances) > 0 && !slices.Contains(f.Instances, c.Cell.Instance):
		return "instance"
	case usecase.Valid(c.Cell.Instance, c.Cell.Hardware) != nil:
		return "cell"
	}
	return ""
}

// Over all combinations of answers: what is recommended contradicts none, and where nothing is recommended, the conflicts are real and
// smallest.
func TestAdviceContradictsNoAnswer(t *testing.T) {
	advised, refused := 0, 0
	n := everyAnswer(func(f usecase.Facts) {
		a, err := usecase.Advise(f)
		if err != nil {
			t.Fatal(err)
		}
		cellless := len(f.Hardware) > 0 && len(f.Instances) > 0 && !slices.ContainsFunc(usecase.Cells(), func(c usecase.Cell) bool {
			return slices.Contains(f.Hardware, c.Hardware) && slices.Contains(f.Instances, c.Instance)
		})
		hopeless := f.HideTA && f.PDApart || f.AtRest == usecase.HeldByOwner && !f.Online || cellless
		if (a.Recommended == nil) != hopeless || (len(a.Conflicts) > 0) != hopeless {
			t.Fatalf("%+v: recommended %v, conflicts %v", f, a.Recommended, a.Conflicts)
		}
		if hopeless {
			refused++
			checkConflicts(t, f, a.Conflicts, cellless)
			return
		}
		advised++
		if why := contradicts(f, *a.Recommended); why != "" {
			t.Fatalf("%+v: %+v contradicts %s", f, a.Recommended, why)
		}
		runs := usecase.Runnable(a.Recommended.Mode, a.Recommended.Cell.Instance, a.Recommended.Cell.Hardware) == nil
		if a.Runnable && !runs || a.Runnable == (a.NotRunnable != "") || !slices.Contains(a.Cells, a.Recommended.Cell) || len(a.Reasons) < 7 {
			t.Fatalf("%+v: %+v", f, a)
		}
		for _, alt := range a.Alternatives {
			if (contradicts(f, alt.Choice) == "") != (len(alt.Against) == 0) || alt.Choice == *a.Recommended || len(alt.Against) > 0 &&
				!slices.Contains(alt.Against, contradicts(f, alt.Choice)) {
				t.Fatalf("%+v: alternative %+v", f, alt)
			}
		}
	})
	t.Logf("%d combinations: %d advised, %d refused", n, advised, refused)
}

func checkConflicts(t *testing.T, f usecase.Facts, got []usecase.Conflict, cellless bool) {
	t.Helper()
	var want []string
	if f.HideTA && f.PDApart {
		want = append(want, "hide-ta pd-apart")
	}
	if f.AtRest == usecase.HeldByOwner && !f.Online {
		want = append(want, "at-rest online")
	}
	if cellless {
		want = append(want, "hardware instance")
	}
	var have []string
	for _, c := range got {
		have = append(have, strings.Join(c.Facts, " "))
		if c.Text == "" {
			t.Fatalf("%+v: a conflict without a text", f)
		}
	}
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(want, have) {
		t.Fatalf("%+v: conflicts %q, want %q", f, have, want)
	}
}

func TestAdvise(t *testing.T) {
	tz := []usecase.Hardware{usecase.TrustZone}
	for name, c := range map[string]struct {
		facts    usecase.Facts
		mode     usecase.Mode
		cell     string
		delivery string
	}{
		"a program over data":        {usecase.Facts{AtRest: "operator", Hardware: tz}, "ta,pd", "trustzone/process", "sealed"},
		"a secret program":           {usecase.Facts{HideTA: true, AtRest: "operator", Hardware: tz}, "ta+pd", "trustzone/process", "sealed"},
		"with a server":              {usecase.Facts{UA: true, PDApart: true, AtRest: "operator", Hardware: tz}, "ua,ta,pd", "trustzone/process", "sealed"},
		"a secret with a server":     {usecase.Facts{UA: true, HideTA: true, AtRest: "operator", Hardware: tz}, "ua+ta+pd", "trustzone/process", "sealed"},
		"nothing at rest":            {usecase.Facts{AtRest: "owner", Online: true, Hardware: tz}, "ta,pd", "trustzone/process", "channel"},
		"sealed is enough online":    {usecase.Facts{AtRest: "operator", Online: true, Hardware: tz}, "ta,pd", "trustzone/process", "sealed"},
		"the owner's order":          {usecase.Facts{AtRest: "operator", Hardware: []usecase.Hardware{"csv", "cca"}, Instances: []usecase.Instance{"vm"}}, "ta,pd", "csv/vm", "sealed"},
		"a container before a guest": {usecase.Facts{AtRest: "operator", Hardware: []usecase.Hardware{"csv"}}, "ta,pd", "csv/container", "sealed"},
	} {
		a, err := usecase.Advise(c.facts)
		if err != nil {
			t.Fatal(err)
		}
		if a.Recommended == nil || a.Recommended.Mode != c.mode || a.Recommended.Cell.String() != c.cell || a.Recommended.Delivery != c.delivery {
			t.Errorf("%s: %+v", name, a.Recommended)
		}
	}
}

// What an alternative reveals is the difference of two plans.
func TestAdviseReveals(t *testing.T) {
	a, err := usecase.Advise(usecase.Facts{HideTA: true, AtRest: "operator", Online: true, Hardware: []usecase.Hardware{usecase.TrustZone}})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(a.Alternatives, func(x usecase.Alternative) bool { return x.Mode == "ta,pd" && x.Delivery == "sealed" })
	if i < 0 || !slices.Equal(a.Alternatives[i].Against, []string{"hide-ta"}) {
		t.Fatalf("%+v", a.Alternatives)
	}
	open, _ := usecase.Plan("ta,pd", usecase.Process, usecase.TrustZone)
	closed, _ := usecase.Plan("ta+pd", usecase.Process, usecase.TrustZone)
	moc := false
	for _, r := range a.Alternatives[i].Reveals {
		if r.Sees != open.SeenBy.Of(r.Role, r.Payload) || r.Recommended != closed.SeenBy.Of(r.Role, r.Payload) || r.Sees == r.Recommended {
			t.Errorf("%+v", r)
		}
		moc = moc || r.Role == usecase.RoleMOC && r.Payload == usecase.TA && r.Sees.Has(usecase.SeesContent)
	}
	if !moc {
		t.Error("it is not said that the M/OC would see the TA")
	}
	i = slices.IndexFunc(a.Alternatives, func(x usecase.Alternative) bool { return x.Delivery == "channel" && x.Mode == "ta+pd" })
	for _, r := range a.Alternatives[i].Reveals {
		if r.Role == usecase.RoleMOC && r.Sees.Has(usecase.SeesCiphertext) || r.Sees&^r.Recommended != 0 {
			t.Errorf("through a channel, %s sees %s of the %s", r.Role, r.Sees, r.Payload)
		}
	}
	data, err := json.Marshal(a)
	var back usecase.Advice
	if err != nil || json.Unmarshal(data, &back) != nil || !reflect.DeepEqual(&back, a) {
		t.Errorf("read again, it differs: %v\n%s", err, data)
	}
}

func TestAdviseUnknown(t *testing.T) {
	for _, f := range []usecase.Facts{{}, {AtRest: "cloud"}, {AtRest: "owner", Hardware: []usecase.Hardware{"z"}},
		{AtRest: "owner", Instances: []usecase.Instance{"pod"}}} {
		if _, err := usecase.Advise(f); !errors.Is(err, usecase.ErrUnknown) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}
