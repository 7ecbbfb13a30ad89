// SPDX-License-Identifier: Apache-2.0

package course

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sealift/internal/fault"
	"sealift/internal/store"
	"sealift/usecase"
)

// classes are the first segments of the component identifiers in which the payloads arrive (docs/architecture.md section 3).
var classes = map[usecase.Payload]string{usecase.UA: "ree", usecase.TA: "tee", usecase.PD: "pd"}

// sight is where the Agent lists what a step brings: the positions of its first and last entry. The zero value: nowhere.
type sight struct {
	any, whole  bool // something of the step is listed; all of it is
	first, last int
}

// Advance notes the steps as done that the installed components prove, in the order in which they are listed. A step whose
// components stand before those of a step that the plan has earlier makes the deployment failed (fault.PlanViolated),
// and neither of the two is noted as done.
func Advance(d *store.Deployment, now time.Time) {
	for {
		step, ok := Next(d)
		if !ok {
			return
		}
		s := observe(d, step)
		if early, ok := overtaker(d, s); ok {
			Fail(d, violated(d, step, early), time.Time{})
			return
		}
		if !s.whole {
			return
		}
		p := d.Wanted[Role(d, step.Step)]
		detail := fmt.Sprintf("%s, sequence %d, %s", p.ManifestID, p.Sequence, p.ManifestDigest)
		if step.Trigger == usecase.TriggerUARequest && !d.Private.TARequested.IsZero() {
			detail += ", requested by the UA at " + d.Private.TARequested.Format(time.RFC3339Nano)
		}
		if Done(d, step.Step, now, detail) != nil {
			return
		}
	}
}

// Unlisted returns the next step if the Agent lists the manifest that brings it, and not all of its components. A TA that waits for
// its UA's request is not listed, and not missing.
func Unlisted(d *store.Deployment) (step usecase.Step, ok bool) {
	if step, ok = Next(d); !ok || step.Trigger == usecase.TriggerUARequest {
		return step, false
	}
	role := Role(d, step.Step)
	return step, role != "" && Present(d, role) && !observe(d, step).whole
}

// overtaker returns the first later step of which something is listed although s is not whole, or before s was.
func overtaker(d *store.Deployment, s sight) (usecase.Step, bool) {
	for _, later := range d.Plan[len(d.Trace)+1:] {
		o := observe(d, later)
		if o.any && (!s.whole || o.first < s.last) {
			return later, true
		}
	}
	return usecase.Step{}, false
}

// observe finds the entries of a step's components. They count only while the Agent lists the very manifest that is wanted:
// components of another version prove nothing about this plan.
func observe(d *store.Deployment, step usecase.Step) (s sight) {
	role := Role(d, step.Step)
	if role == "" || !Present(d, role) {
		return s
	}
	prefixes := expected(d, step, role)
	found := make([]bool, len(prefixes))
	for at, c := range d.Installed {
		i := slices.IndexFunc(prefixes, func(p string) bool { return strings.HasPrefix(c.Component, p) })
		if i < 0 {
			continue
		}
		if !s.any {
			s.any, s.first = true, at
		}
		s.last, found[i] = at, true
	}
	s.whole = !slices.Contains(found, false)
	return s
}

// expected returns what the identifiers of a step's components begin with, one for each thing that must be there. A bundle
// is in the TEE when its manifest is; what it holds is the matter of the steps that follow. Likewise a UA that came to the TA with the
// PD is the matter of the step that takes it out.
func expected(d *store.Deployment, step usecase.Step, role string) (prefixes []string) {
	carries := step.Carries
	switch step.Step {
	case usecase.BundleToTEE:
		return []string{d.Wanted[role].ManifestID}
	case usecase.UAPDToTA:
		carries = []usecase.Payload{usecase.PD}
	}
	for _, p := range carries {
		prefixes = append(prefixes, classes[p]+"/"+d.App+"/")
	}
	return prefixes
}

func violated(d *store.Deployment, due, early usecase.Step) *fault.Error {
	order := []string{}
	for _, c := range d.Installed {
		order = append(order, c.Component)
	}
	return fault.New(fault.PlanViolated, "the Agent reports step %s before step %s", early.Step, due.Step).
		WithDetails(map[string]any{"due": due.Step, "observed": early.Step, "reported": order})
}
