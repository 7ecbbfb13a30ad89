// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"sealift/internal/agentconfig"
	"sealift/internal/fault"
	"sealift/internal/launch"
	"sealift/internal/moc/course"
	"sealift/internal/moc/mocapi"
	"sealift/internal/payload"
	"sealift/internal/store"
	"sealift/suit"
	"sealift/usecase"
)

// Placement into a TEE instance that is there already (docs/design/0019).

// tee is an instance that its owner may share, with the deployments in it.
type tee struct {
	id      string
	members []*store.Deployment // at least one
	config  *agentconfig.Config
}

// cell is what the instance is.
func (t *tee) cell() usecase.Cell {
	return usecase.Cell{Instance: usecase.Instance(t.members[0].Instance), Hardware: usecase.Hardware(t.members[0].Hardware)}
}

// teesOf gathers an owner's instances, the oldest first.
func teesOf(members []*store.Deployment) (out []*tee, err error) {
	for _, d := range members {
		i := slices.IndexFunc(out, func(t *tee) bool { return t.id == d.TEE })
		if i >= 0 {
			out[i].members = append(out[i].members, d)
			continue
		}
		c, err := agentconfig.Parse(d.Config)
		if err != nil {
			return nil, fmt.Errorf("the configuration of %s: %w", d.ID, err)
		}
		out = append(out, &tee{id: d.TEE, members: []*store.Deployment{d}, config: c})
	}
	return out, nil
}

// shareable returns the instances that the owner may share, if the wish is to share. with is a deployment whose instance it has to be.
func (w *wish) shareable(tx *store.Tx, owner, with string) ([]*tee, error) {
	if !w.sharing {
		return nil, nil
	}
	if with != "" {
		d, err := tx.Deployment(with)
		if errors.Is(err, store.ErrNotFound) || err == nil && d.Owner != owner {
			return nil, fault.New(fault.NotFound, "there is no deployment %q to share an instance with", with)
		}
		if err != nil {
			return nil, err
		}
		if err := notRemoved(d); err != nil {
			return nil, err
		}
		if d.Sharing == "" {
			return nil, fault.New(fault.Conflict, "the instance of %s is for that deployment alone: so it stands in its measured configuration", with).
				WithHint("remove it and deploy it with --sharing %s; a running instance's configuration cannot change", mocapi.SharingOwner)
		}
		w.tee = d.TEE
	}
	members, err := tx.Sharing(owner)
	if err != nil {
		return nil, err
	}
	return teesOf(members)
}

// join picks the instance for a wish to share: in the owner's preferred cell, the oldest. It returns nil if none fits, and why not.
func (w *wish) join(tees []*tee, devices []*store.Device, now time.Time) (*place, []mocapi.Exclusion) {
	var excluded []mocapi.Exclusion
	var fit []*tee
	for _, t := range tees {
		if w.tee != "" && w.tee != t.id {
			continue
		}
		i := slices.IndexFunc(devices, func(d *store.Device) bool { return d.ID == t.members[0].Device })
		if i < 0 {
			continue
		}
		if x := w.fits(t, devices[i], now); x != nil {
			x.TEE = t.id
			excluded = append(excluded, *x)
			continue
		}
		fit = append(fit, t)
	}
	for _, cell := range w.cells() {
		for _, t := range fit {
			if t.cell() == cell {
				return &place{device: t.members[0].Device, cell: cell, tee: t}, nil
			}
		}
	}
	return nil, excluded
}

// fits returns the first constraint that keeps the wish out of an instance, or nil.
func (w *wish) fits(t *tee, dev *store.Device, now time.Time) *mocapi.Exclusion {
	no := func(constraint, format string, args ...any) *mocapi.Exclusion {
		return &mocapi.Exclusion{Device: dev.ID, Constraint: constraint, Reason: fmt.Sprintf(format, args...)}
	}
	if x := w.admits(dev, now); x != nil {
		return x
	}
	if !t.config.Shared() || !t.config.Owners[0].Key.Equal(w.owner) {
		return no("sharing", "its configuration does not let applications of this owner's key share it")
	}
	plan, err := usecase.Plan(w.mode, t.cell().Instance, t.cell().Hardware)
	if err != nil || !slices.Contains(w.cells(), t.cell()) || usecase.Runnable(w.mode, t.cell().Instance, t.cell().Hardware) != nil {
		return no("instance", "it is %s, which the request does not accept", t.cell())
	}
	if onRequest := plan.HasTrigger(usecase.TriggerUARequest); slices.Contains(w.mode.With(usecase.UA), usecase.TA) && onRequest != t.config.TAOnRequest {
		return no("ta-start", "its Agent does not start a TA that comes with its UA as mode %s needs it", w.mode)
	}
	manifests, memory := len(w.mode.Packages()), w.memory
	for _, d := range t.members {
		switch {
		case d.App == w.app:
			return no("name", "it has an application %s already: deployment %s", d.App, d.ID)
		case !d.Private.Stopped.IsZero():
			return no("stopped", "deployment %s in it is stopped", d.ID)
		}
		manifests += len(usecase.Mode(d.Mode).Packages())
		memory += memoryOf(d.Wanted)
	}
	limits := t.config.Limits.WithDefaults()
	switch {
	case !slices.ContainsFunc(t.members, course.Stays):
		return no("removal", "it is being removed")
	case len(t.members) >= int(limits.TAs) || manifests > int(limits.Manifests):
		return no("programs", "it has %d applications; its Agent takes %d TAs and %d manifests", len(t.members), limits.TAs, limits.Manifests)
	case w.memory > 0 && memory > limits.TAMemoryBytes:
		return no("memory", "the TAs would have %d MiB together, and it gives %d", memory>>20, limits.TAMemoryBytes>>20)
	}
	return nil
}

// memoryOf is what the manifests of packages ask for a TA in the clear: the most that a version of it asks for. What is asked for a TA
// that comes with PD, its Agent learns, which holds the same bound.
func memoryOf(packages map[string]*store.Package) (most uint64) {
	for _, p := range packages {
		envelope, err := suit.ParseEnvelope(p.Envelope)
		if err != nil {
			continue
		}
		m, err := envelope.ManifestInsecure() // it was verified when the package came
		if err != nil {
			continue
		}
		for _, x := range payload.Of(m) {
			if spec, err := launch.Parse(x.Args); err == nil && len(x.Target) == 3 && string(x.Target[0]) == classes[usecase.TA] {
				most = max(most, spec.MemoryBytes)
			}
		}
	}
	return most
}
