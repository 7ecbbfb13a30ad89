// SPDX-License-Identifier: Apache-2.0

package course_test

import (
	"strings"
	"testing"
	"time"

	"sealift/internal/fault"
	"sealift/internal/moc/course"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/usecase"
)

// newer is a package of a role with a sequence number; its manifest's digest is that of the list "next".
func newer(role string, sequence uint64) *store.Package {
	return &store.Package{PackageRef: mocapi.PackageRef{Role: role}, ManifestID: "manifest/app/" + role, ManifestDigest: "sha256:next",
		Sequence: sequence}
}

// listNext lists what names holds, and of those that end in ">" the manifest has the newer digest.
func listNext(d *store.Deployment, names string) {
	list(d, strings.ReplaceAll(names, ">", ""))
	for i, name := range strings.Fields(names) {
		if strings.HasSuffix(name, ">") {
			d.Installed[i].Digest = "sha256:next"
		}
	}
}

func updateSteps(d *store.Deployment) string {
	var names []string
	for _, s := range d.Update.Trace {
		names = append(names, string(s.Step.Step))
	}
	return strings.Join(names, " ")
}

// look is what the TAM does with each tc-list.
func look(d *store.Deployment) {
	v := course.Current(d)
	course.Advance(v, now)
	course.Settle(d, v)
}

const running = "manifest/app/ta tee/app/ta manifest/app/pd pd/app/rows"

// TestUpdateCourse follows an update of the TA: candidate, appraisal, release, promotion. The present packages are the wanted ones until
// the device has the newer ones and no longer the former.
func TestUpdateCourse(t *testing.T) {
	updateCourse(t, usecase.DeliverySealed, mocapi.UpdateInstallingPD)
}

// TestUpdateCourseLive: where the owner delivers PD itself, it has its turn until the device has it.
func TestUpdateCourseLive(t *testing.T) {
	updateCourse(t, usecase.DeliveryChannel, mocapi.UpdateAwaitingAppraisal)
}

func updateCourse(t *testing.T, delivery string, released mocapi.UpdateState) {
	d := deployment(t, usecase.ModeTAPD, 4)
	d.Delivery = delivery
	d.Mode, d.Instance, d.Hardware = string(usecase.ModeTAPD), "process", "trustzone"
	list(d, running)
	if err := course.Start(d, "u1", map[string]*store.Package{"ta": newer("ta", 2)}, false, now); err != nil {
		t.Fatal(err)
	}
	state := func(want mocapi.UpdateState, trace, ta string) {
		t.Helper()
		if d.Update.State != want || updateSteps(d) != trace || d.Wanted["ta"].ManifestDigest != ta || d.Private.Failed {
			t.Fatalf("%s, trace %q, TA %s, %+v", d.Update.State, updateSteps(d), d.Wanted["ta"].ManifestDigest, d.Update.Problem)
		}
	}
	look(d)
	state(mocapi.UpdateInstalling, "", "sha256:ta")
	if p := course.Missing(course.Current(d)); p == nil || p.Sequence != 2 || p.Role != "ta" {
		t.Fatalf("missing %+v", p)
	}
	listNext(d, running+" manifest/app/ta/next> tee/app/ta/next")
	look(d)
	state(mocapi.UpdateAwaitingAppraisal, "ta-to-instance", "sha256:ta")
	if len(course.Abandoned(d)) != 0 {
		t.Fatal("the candidate is wanted")
	}
	v := course.Current(d)
	if err := course.Done(v, usecase.Attest, now, ""); err != nil {
		t.Fatal(err)
	}
	course.Settle(d, v)
	state(mocapi.UpdateAwaitingAppraisal, "ta-to-instance attest", "sha256:ta")
	pd := newer("pd", 3)
	pd.ManifestDigest = "sha256:nextpd"
	course.SetNext(d, pd)
	look(d)
	state(released, "ta-to-instance attest", "sha256:ta")
	listNext(d, "manifest/app/ta> tee/app/ta manifest/app/pd pd/app/rows")
	d.Installed[2].Digest = "sha256:nextpd"
	look(d)
	state(mocapi.UpdateDone, "ta-to-instance attest pd-to-ta", "sha256:next")
	if d.Wanted["pd"].ManifestDigest != "sha256:nextpd" || len(d.Wanted) != 2 || course.Current(d) != d {
		t.Fatalf("%+v", d.Wanted)
	}
}

// TestUpdateFails: the deployment is as it was, and the candidate is to be withdrawn.
func TestUpdateFails(t *testing.T) {
	d := deployment(t, usecase.ModeTAPD, 4)
	d.Mode, d.Instance, d.Hardware = string(usecase.ModeTAPD), "process", "trustzone"
	if err := course.Start(d, "u1", map[string]*store.Package{"ta": newer("ta", 2)}, false, now); err != nil {
		t.Fatal(err)
	}
	listNext(d, running+" manifest/app/ta/next> tee/app/ta/next")
	course.Fail(d, fault.New(fault.ManifestRefused, "the TA ends at once"), time.Time{})
	if d.Private.Failed || d.Update.State != mocapi.UpdateFailed || d.Update.Problem.Code != fault.ManifestRefused || len(d.Wanted) != 2 ||
		d.Wanted["ta"].ManifestDigest != "sha256:ta" {
		t.Fatalf("%+v %+v", d.Update, d.Wanted)
	}
	if gone := course.Abandoned(d); len(gone) != 1 || gone[0] != "manifest/app/ta/next" {
		t.Fatal(gone)
	}
	course.Fail(d, fault.New(fault.AgentChanged, "another Agent"), time.Time{})
	if !d.Private.Failed {
		t.Fatal("what has nothing to do with an update makes the deployment fail")
	}
}

// TestBelow: nothing at or below what is wanted, or what an update brings already.
func TestBelow(t *testing.T) {
	d := deployment(t, usecase.ModeTAPD, 4)
	d.Wanted["ta"].Sequence = 4
	d.Wanted[store.NextRole+"ta"] = newer(store.NextRole+"ta", 7)
	for sequence, refused := range map[uint64]bool{3: true, 4: true, 5: true, 7: true, 8: false} {
		p := newer("ta", sequence)
		p.ManifestDigest = "sha256:other"
		if got := course.Below(d, map[string]*store.Package{"ta": p}); (got != nil) != refused || got != nil && got.Code != fault.RollbackRefused {
			t.Errorf("%d: %v", sequence, got)
		}
	}
}
