// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"encoding/hex"
	"time"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/agentconfig"
	"sealift/internal/owner/archive"
	"sealift/internal/owner/home"
	"sealift/suit"
	"sealift/usecase"
)

// Appraised is Evidence that the owner's own policy has accepted: the Agent and the TAs that may get PD, by their keys. Only
// [Owner.Verify] makes one, from Evidence, and [Owner.Appraised], from the owner's folder where Verify kept it.
type Appraised struct {
	Deployment string
	Result     *appraisal.Result // of this appraisal; nil when it was read from the owner's folder
	Advice     []byte            // Attestation Result of the operator's Verifier, unverified; may be empty

	state    appraisedState
	positive bool
}

// appraisedState is what is kept of an appraisal in the owner's folder.
type appraisedState struct {
	Appraisal    string            `json:"appraisal"` // its id at the M/OC
	Evidence     string            `json:"evidence"`  // SHA-256 of the bundle, hex
	Policy       string            `json:"policy"`    // name
	PolicyHash   string            `json:"policy_hash"`
	Hardware     evidence.Hardware `json:"hardware"`
	Instance     usecase.Instance  `json:"instance"`
	Emulated     bool              `json:"emulated"`
	AgentKey     *cose.Key         `json:"agent_key"`
	AgentEncKey  *cose.Key         `json:"agent_enc_key"`
	ConfigSHA256 string            `json:"config_sha256"`
	TAs          []appraisedTA     `json:"tas"`
	Time         time.Time         `json:"time"`
}

// appraisedTA is one TA that the Evidence names, with its keys.
type appraisedTA struct {
	Component suit.ComponentID `json:"component"`
	SHA256    string           `json:"sha256"`
	Sequence  uint64           `json:"sequence"`
	EncKey    *cose.Key        `json:"enc_key"`
	TLSKey    *cose.Key        `json:"tls_key"`
}

// packed returns the TA that is the packed one, by its digest and the sequence number of its manifest: the serving version or the one that
// waits for its PD.
func (s *appraisedState) packed(d *archive.Description) (appraisedTA, bool) {
	want, ok := d.Component(usecase.TA)
	for _, ta := range s.TAs {
		own := ta.Component.Equal(want.ID) || ta.Component.Equal(agentconfig.CandidateID(want.ID))
		if ok && own && ta.SHA256 == want.SHA256 && (ta.Sequence == d.Sequence || d.Mode.Sealed(usecase.TA)) {
			return ta, true
		}
	}
	return appraisedTA{}, false
}

// Emulated reports whether the appraisal rests on an emulated root.
func (a *Appraised) Emulated() bool { return a.state.Emulated }

// AppraisalID returns the appraisal's id at the M/OC.
func (a *Appraised) AppraisalID() string { return a.state.Appraisal }

// Time returns when the Evidence was appraised.
func (a *Appraised) Time() time.Time { return a.state.Time }

// cells is the place that was appraised: what is released fits nothing else.
func (a *Appraised) cells() []usecase.Cell {
	return []usecase.Cell{{Instance: a.state.Instance, Hardware: a.state.Hardware}}
}

// Appraised returns the last positive appraisal of a deployment. Where there is none the error is a fault with the code
// release-before-appraisal.
func (o *Owner) Appraised(ref string) (*Appraised, error) {
	d, err := o.find(ref)
	if err != nil {
		return nil, err
	}
	if d.Appraised == nil || d.Appraised.AgentKey == nil || d.Appraised.AgentEncKey == nil {
		return nil, errNotAppraised("no positive appraisal of this deployment is known")
	}
	return &Appraised{Deployment: d.ID, state: *d.Appraised, positive: true}, nil
}

// newState takes from verified, accepted Evidence what a release and a call need.
func newState(r *appraisal.Result, v *evidence.Verified, c *agentconfig.Config, id, policy string, agent *cose.Key) appraisedState {
	if policy == "" {
		policy = home.DefaultPolicy
	}
	s := appraisedState{Appraisal: id, Evidence: hex.EncodeToString(v.Digest[:]), Policy: policy, PolicyHash: r.PolicyHash.String(),
		Hardware: v.Hardware, Instance: usecase.Instance(c.Instance), Emulated: v.Emulated, AgentKey: agent,
		AgentEncKey: v.Claims.AgentEncKey, ConfigSHA256: digestText(v.Config), Time: r.Time}
	for _, ta := range v.Claims.TAs {
		s.TAs = append(s.TAs, appraisedTA{Component: ta.Component, SHA256: hex.EncodeToString(ta.Digest.Bytes), Sequence: ta.Sequence,
			EncKey: ta.EncKey, TLSKey: ta.TLSKey})
	}
	return s
}
