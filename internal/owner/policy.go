// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"
	"errors"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/fault"
	"sealift/internal/image"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/home"
	"sealift/usecase"
)

// PolicyRequest says what a new policy accepts.
type PolicyRequest struct {
	Name           string             // empty: home.DefaultPolicy
	AgentFiles     []string           // Agent binaries, by their SHA-256
	AgentDigests   []appraisal.Hex32  // SHA-256 of further ones
	Roots          []evidence.Anchor  // kept in the owner's folder as well; none: those that are there already
	Hardware       []usecase.Hardware // empty: TrustZone
	AcceptEmulated bool               // without it an emulated root is refused
	Production     bool               // never accept an emulated root
	Replace        bool               // overwrite a policy of that name
}

// InitPolicy makes a policy in the owner's folder: the Agents, roots and hardware that it names are accepted, and nothing else.
func (o *Owner) InitPolicy(r PolicyRequest) (*appraisal.Policy, error) {
	if r.Name == "" {
		r.Name = home.DefaultPolicy
	}
	if len(r.Hardware) == 0 {
		r.Hardware = []usecase.Hardware{usecase.TrustZone}
	}
	agents, err := launches(r)
	if err != nil {
		return nil, err
	}
	if len(r.Roots) == 0 {
		if r.Roots, err = o.Home.Anchors(); err != nil {
			return nil, err
		}
	}
	if err := checkRoots(r); err != nil {
		return nil, err
	}
	agents = append(agents, EmulatedFirmware(r.Roots, r.Hardware)...)
	p, err := appraisal.NewPolicy(appraisal.NewPolicyInput{Name: r.Name, Hardware: r.Hardware, Roots: r.Roots, Launch: agents,
		Production: r.Production})
	if err != nil {
		return nil, fault.Wrap(fault.BadRequest, err)
	}
	data, err := p.Marshal()
	if err != nil {
		return nil, fault.Wrap(fault.BadRequest, err)
	}
	for _, root := range r.Roots {
		if err := o.Home.AddAnchor(root); err != nil {
			return nil, err
		}
	}
	err = o.Home.SetPolicy(r.Name, data, r.Replace)
	if errors.Is(err, home.ErrExists) {
		return nil, fault.Wrap(fault.Conflict, err).WithHint("--force replaces it, --name makes another")
	}
	return p, err
}

// launches gathers what the new policy accepts as the Agent: images, measured as each architecture does, and digests, which are
// SHA-256 of an executable and so of the architectures that measure with it.
func launches(r PolicyRequest) ([]appraisal.Launch, error) {
	var list []appraisal.Launch
	for _, path := range r.AgentFiles {
		l, err := Launches(path, r.Hardware)
		if err != nil {
			return nil, fault.Wrap(fault.BadRequest, err)
		}
		list = append(list, l...)
	}
	for _, d := range r.AgentDigests {
		for _, hw := range r.Hardware {
			if image.Hash(hw)().Size() == len(d) && hw != evidence.CSV {
				list = append(list, appraisal.Launch{Hardware: hw, Name: image.Measurement(hw), Digest: d[:], Source: "the owner, by digest"})
			}
		}
	}
	if len(list) == 0 {
		return nil, fault.New(fault.BadRequest, "the policy would accept no Agent").WithHint("name the sealift-agent binary that you built or checked: --agent FILE")
	}
	return list, nil
}

func checkRoots(r PolicyRequest) error {
	if len(r.Roots) == 0 {
		return fault.New(fault.BadRequest, "the policy would accept no hardware root").WithHint("name the root certificate of the hardware's vendor: --root FILE")
	}
	for _, root := range r.Roots {
		if root.IsEmulated() && (r.Production || !r.AcceptEmulated) {
			e := fault.New(fault.AppraisalRefused, "the root is EMULATED and protects nothing from the machine's operator: %s", root)
			e.Exit = fault.ExitPolicy
			return e.WithHint("--accept-emulated names it on purpose; a production policy never does")
		}
	}
	return nil
}

// SetContext stores an M/OC, makes it the one in use, and pins the keys of its TAM as it names them now. Where TAM keys are given in c
// nothing is asked.
func (o *Owner) SetContext(ctx context.Context, name string, c home.Context) (*home.Context, error) {
	if name == "" {
		name = home.DefaultContext
	}
	if err := c.Check(); err != nil {
		return nil, fault.Wrap(fault.BadRequest, err)
	}
	if len(c.TAMKeys) == 0 {
		client, err := httpClient(&c)
		if err != nil {
			return nil, err
		}
		if o.HTTP != nil {
			client = o.HTTP
		}
		s := &session{api: &mocapi.Client{BaseURL: c.URL, Token: c.Token, HTTP: client}, context: &c, name: name}
		anchors, err := persist(ctx, o, func() (mocapi.TrustAnchors, error) { return s.api.TrustAnchors(ctx) })
		if err != nil {
			return nil, err
		}
		if len(anchors.TAMKeys) == 0 {
			return nil, fault.New(fault.Internal, "the M/OC does not name the keys of its TAM")
		}
		c.TAMKeys = anchors.TAMKeys
	}
	return &c, o.Home.SetContext(name, c)
}

// ReadPolicy reads a policy in any form. Where the named context (empty: the one in use) pins signers of policies, one of them must
// have signed it.
func (o *Owner) ReadPolicy(data []byte, contextName string) (*appraisal.PolicyFile, error) {
	var signers []*cose.Key
	if o.Home != nil {
		c, _, err := o.Home.Context(contextName)
		switch {
		case err == nil:
			signers = c.PolicySigners
		case !errors.Is(err, home.ErrNotFound):
			return nil, err
		}
	}
	f, err := appraisal.ReadPolicy(data, signers...)
	if errors.Is(err, appraisal.ErrPolicySigner) {
		e := fault.Wrap(fault.BadRequest, err)
		e.Exit = fault.ExitPolicy
		return nil, e.WithHint("this context accepts policies of its pinned signers only: have it signed with sealift policy sign")
	}
	if err != nil {
		return nil, fault.Wrap(fault.BadRequest, err)
	}
	return f, nil
}

// Deployment says whether the owner's folder knows a deployment by its id or its application's name.
func (o *Owner) Deployment(ref string) (id string, err error) {
	d, err := o.find(ref)
	if err != nil {
		return "", err
	}
	return d.ID, nil
}
