// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/home"
	"sealift/usecase"
)

// Status is what is known of one deployment, from the owner's folder and from the M/OC.
type Status struct {
	ID        string             `json:"id"`
	App       string             `json:"app"`
	Mode      usecase.Mode       `json:"mode"`
	Context   string             `json:"context"`
	Created   time.Time          `json:"created,omitzero"`
	Appraised *time.Time         `json:"appraised,omitempty"` // when the owner accepted its Evidence
	Released  *time.Time         `json:"released,omitempty"`
	Emulated  bool               `json:"emulated"`
	Remote    *mocapi.Deployment `json:"remote,omitempty"` // as the M/OC tells it; nil when it does not answer
	Problem   *fault.Error       `json:"problem,omitempty"`
	Unknown   bool               `json:"unknown,omitempty"` // the M/OC has it, and this folder does not: a deploy was interrupted
	Removal   *Removal           `json:"removal,omitempty"` // it was removed; who signed for that, and what was destroyed
	Drift     []string           `json:"drift,omitempty"`   // where the M/OC's word differs from what was planned or appraised
}

// State is the M/OC's state, or "unreachable".
func (s *Status) State() string {
	switch {
	case s.Removal != nil:
		return string(mocapi.StateRemoved)
	case s.Remote == nil:
		return "unreachable"
	}
	return string(s.Remote.State)
}

// Status returns the state of the deployment that ref names, or of all when ref is empty. A M/OC that does not answer is
// told in the Status, not as an error. Of what was removed it returns what the owner's folder knows, where ref names nothing else.
func (o *Owner) Status(ctx context.Context, ref string) ([]*Status, error) {
	var list []*deployment
	if ref != "" {
		d, err := o.find(ref)
		if fault.Is(err, fault.NotFound) {
			if removed, unknown := o.Removed(ref); unknown == nil {
				return removed, nil
			}
		}
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	} else {
		all, err := home.Deployments[deployment](o.Home)
		if err != nil {
			return nil, err
		}
		for _, d := range all {
			if err := d.restore(); err != nil {
				return nil, err
			}
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b *deployment) int { return a.Created.Compare(b.Created) })
	out := make([]*Status, 0, len(list))
	for _, d := range list {
		out = append(out, o.statusOf(ctx, d))
	}
	if ref == "" {
		out = append(out, o.unknown(ctx, list)...)
	}
	return out, nil
}

// Removed returns the removed deployments that the owner's folder knows, the last removed last; with ref, that deployment's or that
// application's only.
func (o *Owner) Removed(ref string) ([]*Status, error) {
	all, err := o.Removals(ref)
	out := make([]*Status, 0, len(all))
	for _, r := range all {
		st := &Status{ID: r.Deployment, App: r.App, Emulated: r.Emulated, Removal: r}
		if r.Evidence != nil {
			st.Appraised = &r.Evidence.Time
		}
		out = append(out, st)
	}
	return out, err
}

// unknown lists this owner's deployments at the M/OC of the context in use that are not in the folder. A deploy that was
// interrupted leaves one; remove takes its id.
func (o *Owner) unknown(ctx context.Context, known []*deployment) []*Status {
	s, err := o.connect(o.Context)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, shortly)
	defer cancel()
	all, err := s.api.Deployments(ctx)
	if err != nil {
		return nil
	}
	var out []*Status
	for _, d := range all {
		here := slices.ContainsFunc(known, func(k *deployment) bool { return k.ID == d.ID })
		if here || d.State == mocapi.StateRemoving || d.State == mocapi.StateRemoved || d.OwnerKey == nil {
			continue
		}
		if _, err := o.Home.KeyByPublic(d.OwnerKey); err == nil {
			out = append(out, &Status{ID: d.ID, App: d.App, Mode: usecase.Mode(d.Mode), Context: s.name, Created: d.Created, Emulated: d.Emulated,
				Remote: &d, Problem: d.Problem, Unknown: true})
		}
	}
	return out
}

func (o *Owner) statusOf(ctx context.Context, d *deployment) *Status {
	st := &Status{ID: d.ID, App: d.Package.Name, Mode: d.Package.Mode, Context: d.Context, Created: d.Created}
	if d.Appraised != nil {
		st.Appraised, st.Emulated = &d.Appraised.Time, d.Appraised.Emulated
	}
	if n := len(d.Released); n > 0 {
		st.Released = &d.Released[n-1].Time
	}
	s, err := o.connect(d.Context)
	if err == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, shortly)
		defer cancel()
		st.Remote, err = s.api.Deployment(ctx, d.ID, 0, 0)
	}
	if err != nil {
		st.Problem = fault.Wrap(fault.Unreachable, err)
		return st
	}
	if err := o.settle(d, st.Remote); err != nil {
		st.Problem = fault.Wrap(fault.Internal, err)
		return st
	}
	st.Emulated = st.Emulated || st.Remote.Emulated
	st.Problem = st.Remote.Problem
	st.Drift = drift(d, st.Remote)
	return st
}

// drift lists where the M/OC's word differs from the plan and from what was appraised. The M/OC may lie, so an empty list proves nothing:
// verify does.
func drift(d *deployment, now *mocapi.Deployment) []string {
	var list []string
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if err := checkPlan(&d.Package, now, d.Delivery); err != nil {
		say("%v", err)
	}
	if tee := cmp.Or(now.TEE, now.ID); tee != d.instance() {
		say("another TEE instance than at the beginning: %s", tee)
	}
	if a := d.Appraised; a != nil {
		if now.AgentKey != nil && !now.AgentKey.Equal(a.AgentKey) {
			say("another Agent key than the appraised one: %x", now.AgentKey.KID())
		}
		if sum := sha256.Sum256(now.Config); len(now.Config) > 0 && hex.EncodeToString(sum[:]) != a.ConfigSHA256 {
			say("another measured configuration than the appraised one: %x", sum)
		}
	}
	for _, in := range now.Installed {
		for _, c := range d.Package.Components {
			if d.Update != nil { // either version may be there
				continue
			}
			if c.ID.String() == in.Component && c.Kind != usecase.PD && in.Digest != "" && in.Digest != "sha256:"+c.SHA256 {
				say("%s is %s, packed was sha256:%s", in.Component, in.Digest, c.SHA256)
			}
		}
	}
	if now.State == mocapi.StateRunning && !traceEqualsPlan(now) {
		say("the trace differs from the plan")
	}
	return list
}

func traceEqualsPlan(d *mocapi.Deployment) bool {
	return slices.EqualFunc(d.Plan, d.Trace, func(p usecase.Step, t mocapi.TraceStep) bool { return p.Step == t.Step.Step })
}
