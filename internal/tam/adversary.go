// SPDX-License-Identifier: Apache-2.0

package tam

import (
	"context"
	"fmt"
	"slices"

	"sealift/evidence"
	"sealift/internal/moc/course"
	"sealift/internal/store"
	"sealift/usecase"
)

// Adversary makes the engine a dishonest operator's, so that everybody can watch what its owners and Agents make of it. It has
// all the powers that an operator has: the TAM's keys, the store, the packages that owners have registered.
type Adversary string

// The misdeeds.
const (
	Honest        Adversary = ""
	BreakNonce    Adversary = "nonce"     // answer the owner's challenge with older Evidence
	BreakSign     Adversary = "signature" // alter the hardware's signature in the Evidence
	BreakTASwap   Adversary = "ta-swap"   // install another TA that the owner has signed once, as if it were the wanted one
	BreakRollback Adversary = "rollback"  // after everything is installed, go back to an older TA
	BreakPDEarly  Adversary = "pd-early"  // tell the owner that it has appraised already, to get its PD
)

// ParseAdversary reads a name of a misdeed.
func ParseAdversary(s string) (Adversary, error) {
	all := []Adversary{Honest, BreakNonce, BreakSign, BreakTASwap, BreakRollback, BreakPDEarly}
	if !slices.Contains(all, Adversary(s)) {
		return Honest, fmt.Errorf("tam: there is no misdeed %q, only %q", s, all[1:])
	}
	return Adversary(s), nil
}

// older finds another manifest of that name by the same owner, with a smaller sequence number.
func (e *Engine) older(d *store.Deployment, p *store.Package) *store.Package {
	all, err := e.Store.Registered(context.Background(), d.Owner, p.ManifestID)
	if err != nil {
		return nil
	}
	for _, q := range all {
		if q.Sequence < p.Sequence && q.ManifestDigest != p.ManifestDigest {
			return q
		}
	}
	return nil
}

// extra is an Update that no plan has.
func (a Adversary) extra(e *Engine, d *store.Deployment) *store.Package {
	if d.Private.Failed {
		return nil
	}
	p := d.Wanted[course.TARole(d)]
	switch {
	case a == BreakRollback && p != nil && len(d.Trace) == len(d.Plan):
		return e.older(d, p)
	case a == BreakTASwap && course.Sealed(d, course.TARole(d)):
		return e.stray(d)
	}
	return nil
}

// stray is a TA in the clear that the owner has signed once. A TA that travels with the PD cannot be swapped on its way; this one is put
// into the TEE before the owner looks.
func (e *Engine) stray(d *store.Deployment) *store.Package {
	if next, ok := course.Next(d); !ok || next.Step != usecase.Attest {
		return nil
	}
	all, err := e.Store.Registered(context.Background(), d.Owner, "manifest/"+d.App+"/ta")
	if err != nil || len(all) == 0 || course.HasManifest(d, all[0].ManifestDigest) {
		return nil
	}
	return all[0]
}

// Swap replaces the wanted TA by an older one, when a deployment is made.
func (a Adversary) Swap(e *Engine, d *store.Deployment) {
	role := course.TARole(d)
	if p := d.Wanted[role]; a == BreakTASwap && p != nil {
		if old := e.older(d, p); old != nil {
			q := *old
			q.PackageRef = p.PackageRef // the API goes on naming the one that was asked for
			d.Wanted[role] = &q
		}
	}
}

// tamper changes Evidence before the owner gets it.
func (a Adversary) tamper(e *Engine, d *store.Deployment, p *store.Evidence) error {
	switch a {
	case BreakNonce:
		old, err := e.Store.AnsweredEvidence(context.Background(), d.ID)
		if err != nil || len(old) == 0 {
			return err
		}
		p.Bundle, p.AgentKey = old[0].Bundle, old[0].AgentKey
	case BreakSign:
		b, err := evidence.ParseBundle(p.Bundle)
		if err != nil {
			return err
		}
		b.Hardware = slices.Clone(b.Hardware)
		b.Hardware[len(b.Hardware)-1] ^= 1
		p.Bundle = b.Marshal()
	}
	return nil
}
