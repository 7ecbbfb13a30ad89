// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"encoding/hex"
	"slices"
	"strings"

	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/home"
	"sealift/internal/owner/proof"
	"sealift/usecase"
)

// Removal is what the owner knows of a deployment that was removed. It stays in the owner's folder.
type Removal = proof.Removal

// proveRemoval judges what the Agent has signed: reports of this deployment's manifests that name the TA and all PD as gone.
func (o *Owner) proveRemoval(d *deployment, now *mocapi.Deployment) *Removal {
	r := &Removal{Deployment: d.ID, App: d.Package.Name, Time: o.Now().UTC()}
	if d.Appraised == nil || d.Appraised.AgentKey == nil {
		r.Why = "this owner has appraised no Agent of it"
		return r
	}
	a := d.Appraised
	r.Emulated, r.AgentKey, r.Key = a.Emulated, hex.EncodeToString(a.AgentKey.KID()), a.AgentKey
	r.Evidence = &proof.Evidence{SHA256: a.Evidence, Time: a.Time, Policy: a.Policy, PolicyHash: a.PolicyHash, Hardware: string(a.Hardware),
		Instance: string(a.Instance), ConfigSHA256: a.ConfigSHA256}
	if now == nil || len(now.Removal) == 0 {
		r.Why = "the Agent gave no report: the device was gone, or did not answer in time"
		return r
	}
	gone, err := proof.Destroyed(now.Removal, a.AgentKey, d.Package.Name)
	if err != nil {
		r.Why = err.Error()
		return r
	}
	r.Destroyed, r.Reports = gone, now.Removal
	var missing []string
	for _, c := range d.Package.Components {
		released := c.Kind == usecase.PD || d.Package.Mode.Sealed(c.Kind)
		if c.Kind == usecase.UA || released && len(d.Released) == 0 || slices.Contains(gone, c.ID.String()) {
			continue
		}
		missing = append(missing, c.ID.String())
	}
	if len(missing) > 0 {
		r.Why = "the Agent's reports do not name " + strings.Join(missing, ", ")
		if d.Delivery == usecase.DeliveryChannel {
			r.Why += " (what was delivered to its memory and lost in a restart is in no report)"
		}
		return r
	}
	r.Proven = true
	return r
}

// Removals returns what is known of removed deployments; with ref, that deployment's or that application's only.
func (o *Owner) Removals(ref string) ([]*Removal, error) {
	all, err := home.Removals[Removal](o.Home)
	if err != nil {
		return nil, err
	}
	if ref != "" {
		all = slices.DeleteFunc(all, func(r *Removal) bool { return r.Deployment != ref && r.App != ref })
	}
	slices.SortFunc(all, func(a, b *Removal) int { return a.Time.Compare(b.Time) })
	if ref != "" && len(all) == 0 {
		return nil, fault.New(fault.NotFound, "nothing is known of a removal of %q", ref)
	}
	return all, nil
}
