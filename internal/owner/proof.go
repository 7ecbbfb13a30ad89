// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sealift/cose"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/home"
	"sealift/suit"
	"sealift/suit/report"
	"sealift/usecase"
)

// Removal is what the owner knows of a deployment that was removed. It stays in the owner's folder.
type Removal struct {
	Deployment string    `json:"deployment"`
	App        string    `json:"app"`
	Time       time.Time `json:"time"`
	// Proven says that the Agent that this owner has appraised has signed for it: every component that held a program or data in the TEE
	// is uninstalled, its keys are destroyed with the sealed state that held them, and an older state no longer opens.
	Proven    bool     `json:"proven"`
	Why       string   `json:"why,omitempty"`       // there is no proof
	AgentKey  string   `json:"agent_key,omitempty"` // thumbprint of the key that signed, hex
	Destroyed []string `json:"destroyed,omitempty"` // components
	Reports   [][]byte `json:"reports,omitempty"`   // SUIT Reports in COSE_Sign1, as the Agent signed them
	Emulated  bool     `json:"emulated,omitempty"`  // the Agent's hardware
}

// proveRemoval judges what the Agent has signed: reports of this deployment's manifests that name the TA and all PD as gone.
func (o *Owner) proveRemoval(d *deployment, now *mocapi.Deployment) *Removal {
	r := &Removal{Deployment: d.ID, App: d.Package.Name, Time: o.Now().UTC()}
	if d.Appraised == nil || d.Appraised.AgentKey == nil {
		r.Why = "this owner has appraised no Agent of it"
		return r
	}
	r.Emulated, r.AgentKey = d.Appraised.Emulated, hex.EncodeToString(d.Appraised.AgentKey.KID())
	if now == nil || len(now.Removal) == 0 {
		r.Why = "the Agent gave no report: the device was gone, or did not answer in time"
		return r
	}
	gone, err := destroyed(now.Removal, d.Appraised.AgentKey, d.Package.Name)
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
		return r
	}
	r.Proven = true
	return r
}

// errNoProof says that a report of a removal proves nothing.
var errNoProof = errors.New("the reports of the removal do not hold")

// destroyed verifies the reports and returns the components that they say are gone.
func destroyed(reports [][]byte, agent *cose.Key, app string) (gone []string, err error) {
	for _, data := range reports {
		rep, err := report.Open(data, report.Keys{Signers: []*cose.Key{agent}})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoProof, err)
		}
		if !rep.OK() {
			return nil, fmt.Errorf("%w: the Agent reports a failure: %v", errNoProof, rep.Failure.Reason)
		}
		for _, item := range rep.Items {
			p, ok := item.(*report.SystemProperty)
			if !ok {
				continue
			}
			size, sized := p.Params[suit.ParamSize].(uint64)
			if _, has := p.Params.Digest(); has || !sized || size != 0 || len(p.Component) != 3 || string(p.Component[1]) != app {
				continue // something that is installed
			}
			gone = append(gone, p.Component.String())
		}
	}
	return gone, nil
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
