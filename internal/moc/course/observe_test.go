// SPDX-License-Identifier: Apache-2.0

package course_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/internal/fault"
	"sealift/internal/moc/course"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/usecase"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// deployment has done the first steps of its plan, and wants the packages of all roles.
func deployment(t *testing.T, mode usecase.Mode, done int) *store.Deployment {
	t.Helper()
	plan, err := usecase.Plan(mode, usecase.Process, usecase.TrustZone)
	if err != nil {
		t.Fatal(err)
	}
	d := &store.Deployment{Wanted: map[string]*store.Package{}}
	d.ID, d.App, d.Mode, d.Plan = "d1", "app", string(mode), plan.Steps
	for _, s := range plan.Steps[:done] {
		d.Trace = append(d.Trace, mocapi.TraceStep{Step: s})
	}
	start, released := course.Roles(mode)
	for _, role := range append(start, released...) {
		d.Wanted[role] = &store.Package{PackageRef: mocapi.PackageRef{Role: role}, ManifestID: "manifest/app/" + role,
			ManifestDigest: "sha256:" + role, Sequence: 1}
	}
	return d
}

// list sets what the Agent lists; manifests get the wanted digest unless the name ends in '!'.
func list(d *store.Deployment, names string) {
	var out []mocapi.InstalledComponent
	for _, name := range strings.Fields(names) {
		c := mocapi.InstalledComponent{Component: strings.TrimSuffix(name, "!")}
		if role, ok := strings.CutPrefix(c.Component, "manifest/app/"); ok {
			c.Digest = "sha256:" + role
		}
		if c.Component != name {
			c.Digest = "sha256:another"
		}
		out = append(out, c)
	}
	course.SetInstalled(d, out)
}

func steps(d *store.Deployment) string {
	var names []string
	for _, s := range d.Trace {
		names = append(names, string(s.Step.Step))
	}
	return strings.Join(names, " ")
}

func TestAdvance(t *testing.T) {
	const bundle = "admit attest bundle-to-tee ta-to-instance pd-to-ta ua-to-ree"
	for _, c := range []struct {
		name     string
		mode     usecase.Mode
		done     int // steps done before
		list     string
		want     string
		violated string // "observed>due"; empty: none
	}{
		{"nothing", usecase.ModeUATAPD, 1, "", "admit", ""},
		{"the UA", usecase.ModeUATAPD, 1, "manifest/app/ua ree/app/ua", "admit ua-to-ree", ""},
		{"UA and TA in order", usecase.ModeUATAPD, 1, "manifest/app/ua ree/app/ua manifest/app/ta tee/app/ta",
			"admit ua-to-ree ta-to-instance", ""},
		{"TA before UA", usecase.ModeUATAPD, 1, "manifest/app/ta tee/app/ta manifest/app/ua ree/app/ua", "admit", "ta-to-instance>ua-to-ree"},
		{"TA without UA", usecase.ModeUATAPD, 1, "manifest/app/ta tee/app/ta", "admit", "ta-to-instance>ua-to-ree"},
		{"TA, and a UA that is another", usecase.ModeUATAPD, 1, "manifest/app/ua! ree/app/ua manifest/app/ta tee/app/ta", "admit",
			"ta-to-instance>ua-to-ree"},
		{"before admission", usecase.ModeTAPD, 0, "manifest/app/ta tee/app/ta", "", "ta-to-instance>admit"},
		{"PD before the appraisal", usecase.ModeTAPD, 2, "manifest/app/ta tee/app/ta manifest/app/pd pd/app/rows", "admit ta-to-instance",
			"pd-to-ta>attest"},
		{"PD", usecase.ModeTAPD, 3, "manifest/app/ta tee/app/ta manifest/app/pd pd/app/rows",
			"admit ta-to-instance attest pd-to-ta", ""},
		{"an old step is gone", usecase.ModeUATAPD, 4, "manifest/app/ta tee/app/ta manifest/app/pd pd/app/rows",
			"admit ua-to-ree ta-to-instance attest pd-to-ta", ""},
		{"another TA", usecase.ModeTAPD, 1, "manifest/app/ta! tee/app/ta", "admit", ""},
		{"a manifest without its component", usecase.ModeTAPD, 1, "manifest/app/ta", "admit", ""},
		{"a component of another application", usecase.ModeTAPD, 1, "manifest/app/ta tee/app2/ta", "admit", ""},
		{"one step for two payloads", usecase.ModeBundleTAPD, 2, "manifest/app/bundle pd/app/rows tee/app/ta", "admit attest ta+pd-to-instance", ""},
		{"only one of the two", usecase.ModeBundleTAPD, 2, "manifest/app/bundle tee/app/ta", "admit attest", ""},

		{"bundle in order", usecase.ModeBundleUATAPD, 2, "manifest/app/bundle tee/app/ta pd/app/a pd/app/b ree/app/ua", bundle, ""},
		{"bundle on its way", usecase.ModeBundleUATAPD, 2, "manifest/app/bundle tee/app/ta", "admit attest bundle-to-tee ta-to-instance", ""},
		{"UA before TA", usecase.ModeBundleUATAPD, 2, "manifest/app/bundle ree/app/ua tee/app/ta pd/app/a", "admit attest bundle-to-tee",
			"ua-to-ree>ta-to-instance"},
		{"UA before PD", usecase.ModeBundleUATAPD, 2, "manifest/app/bundle tee/app/ta ree/app/ua pd/app/a",
			"admit attest bundle-to-tee ta-to-instance", "ua-to-ree>pd-to-ta"},
		{"UA before the last of PD", usecase.ModeBundleUATAPD, 2, "manifest/app/bundle tee/app/ta pd/app/a ree/app/ua pd/app/b",
			"admit attest bundle-to-tee ta-to-instance", "ua-to-ree>pd-to-ta"},
		{"PD before TA", usecase.ModeBundleUATAPD, 2, "manifest/app/bundle pd/app/a tee/app/ta ree/app/ua", "admit attest bundle-to-tee",
			"pd-to-ta>ta-to-instance"},
		{"components before the bundle", usecase.ModeBundleUATAPD, 2, "tee/app/ta pd/app/a ree/app/ua manifest/app/bundle", "admit attest",
			"ta-to-instance>bundle-to-tee"},
		{"UA and TA of one package", usecase.ModeBundleUATA, 1, "manifest/app/bundle ree/app/ua tee/app/ta", "admit ua-to-ree ta-to-instance", ""},
		{"TA before the UA of its package", usecase.ModeBundleUATA, 1, "manifest/app/bundle tee/app/ta ree/app/ua", "admit",
			"ta-to-instance>ua-to-ree"},
		{"TA and PD before their UA", usecase.ModeBundleTAPDUA, 1, "manifest/app/bundle tee/app/ta pd/app/a", "admit", "ta+pd-to-instance>ua-to-ree"},
		{"UA, then TA and PD", usecase.ModeBundleTAPDUA, 3, "manifest/app/ua ree/app/ua manifest/app/bundle tee/app/ta pd/app/a",
			"admit ua-to-ree attest ta+pd-to-instance", ""},
		{"UA and PD in order", usecase.ModeBundleUAPD, 3, "manifest/app/ta tee/app/ta manifest/app/bundle pd/app/a pd/app/b ree/app/ua",
			"admit attest ta-to-instance ua+pd-to-ta ua-to-ree", ""},
		{"UA out before its PD", usecase.ModeBundleUAPD, 3, "manifest/app/ta tee/app/ta manifest/app/bundle ree/app/ua pd/app/a",
			"admit attest ta-to-instance", "ua-to-ree>ua+pd-to-ta"},
		{"UA and PD before the TA", usecase.ModeBundleUAPD, 2, "manifest/app/bundle pd/app/a ree/app/ua", "admit attest",
			"ua+pd-to-ta>ta-to-instance"},
		{"bundle before the appraisal", usecase.ModeBundleUATAPD, 1, "manifest/app/bundle tee/app/ta pd/app/a ree/app/ua", "admit",
			"bundle-to-tee>attest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := deployment(t, c.mode, c.done)
			list(d, c.list)
			for range 2 { // the second look at the same list changes nothing
				course.Advance(d, now)
				if got := steps(d); got != c.want {
					t.Errorf("trace %q, want %q", got, c.want)
				}
				got := ""
				if d.Problem != nil {
					details := d.Problem.Details.(map[string]any)
					got = string(details["observed"].(usecase.StepName)) + ">" + string(details["due"].(usecase.StepName))
					if d.Problem.Code != fault.PlanViolated || d.Problem.Exit != fault.ExitDrift || !d.Private.Failed {
						t.Errorf("problem %+v, failed %v", d.Problem, d.Private.Failed)
					}
				}
				if got != c.violated {
					t.Errorf("violation %q, want %q", got, c.violated)
				}
			}
		})
	}
}

func TestUnlisted(t *testing.T) {
	d := deployment(t, usecase.ModeTAPD, 1)
	if _, ok := course.Unlisted(d); ok {
		t.Error("nothing is listed, so nothing is missing from the list")
	}
	list(d, "manifest/app/ta")
	if step, ok := course.Unlisted(d); !ok || step.Step != usecase.TAToInstance {
		t.Errorf("%v %v", step.Step, ok)
	}
	list(d, "manifest/app/ta tee/app/ta")
	if _, ok := course.Unlisted(d); ok {
		t.Error("all is listed")
	}
}

// TestReportThenList: the steps that the reports have shown are not judged again by the order of a later list.
func TestReportThenList(t *testing.T) {
	d := deployment(t, usecase.ModeUATAPD, 1)
	for _, name := range []string{"manifest/app/ua", "ree/app/ua", "manifest/app/ta", "tee/app/ta"} {
		c := mocapi.InstalledComponent{Component: name}
		if role, ok := strings.CutPrefix(name, "manifest/app/"); ok {
			c.Digest = "sha256:" + role
		}
		course.AddInstalled(d, c)
		course.Advance(d, now)
	}
	reversed := slices.Clone(d.Installed)
	slices.Reverse(reversed)
	course.SetInstalled(d, reversed)
	course.Advance(d, now)
	if steps(d) != "admit ua-to-ree ta-to-instance" || d.Problem != nil {
		t.Errorf("%s, %v", steps(d), d.Problem)
	}
}

// TestMissing: the first package that the plan has reached and the device lacks.
func TestMissing(t *testing.T) {
	d := deployment(t, usecase.ModeUATAPD, 1)
	delete(d.Wanted, mocapi.PackagePD) // not released
	want := func(role string) {
		t.Helper()
		p := course.Missing(d)
		if (p == nil) != (role == "") || p != nil && p.Role != role {
			t.Fatalf("missing %+v, want %q", p, role)
		}
	}
	want(mocapi.PackageUA)
	list(d, "manifest/app/ua ree/app/ua")
	course.Advance(d, now)
	want(mocapi.PackageTA)
	list(d, "manifest/app/ua ree/app/ua manifest/app/ta tee/app/ta")
	course.Advance(d, now)
	want("")
	list(d, "manifest/app/ta tee/app/ta") // the device has lost the UA
	want(mocapi.PackageUA)
}
