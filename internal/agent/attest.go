// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"fmt"

	"sealift/cose"
	"sealift/evidence"
	"sealift/suit"
)

// What the claims say about the product that made the TEE (RFC 9711 sections 4.2.3 to 4.2.5). The emulated device has no
// vendor with a registered number, so oemid is of the random kind: 16 fixed bytes.
var oemID = sha256.Sum256([]byte("sealift.invalid emulated device"))

const hwVersion = "1"

// evidence makes Evidence for a challenge: the claims, bound together with the Agent's signing key into the hardware's signature.
func (a *Agent) evidence(ctx context.Context, challenge []byte) ([]byte, error) {
	a.loads.mu.Lock()
	defer a.loads.mu.Unlock()
	claims, err := a.claims(challenge)
	if err != nil {
		return nil, err
	}
	claims.Loads = a.loads.list
	if a.opts.TPM != nil {
		claims.QuoteKey = a.opts.TPM.QuoteKey()
	}
	record := claims.Marshal()
	b := evidence.Binding(a.hw.Hardware, challenge, a.identity.signer.Key().Thumbprint(), sha256.Sum256(record))
	token, err := a.opts.TEE.Evidence(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("agent: evidence: %w", err)
	}
	bundle := evidence.Bundle{
		Hardware: token.Token, HardwareType: token.MediaType, Collateral: token.Chain, Claims: record, Config: a.hw.Config,
	}
	if a.opts.TPM != nil {
		if bundle.Quote, err = a.opts.TPM.Quote(b); err != nil {
			return nil, fmt.Errorf("agent: evidence: %w", err)
		}
	}
	return bundle.Marshal(), nil
}

// claims describes the committed state.
func (a *Agent) claims(challenge []byte) (*evidence.Claims, error) {
	s := a.state.Load()
	c := &evidence.Claims{
		Nonce: challenge, UEID: a.hw.UEID[:], OEMID: oemID[:16], HWModel: []byte(a.hw.Hardware), HWVersion: hwVersion,
		AgentKID: a.identity.signer.Key().KID(), AgentEncKey: a.identity.encPub, ConfigDigest: sha256.Sum256(a.hw.Config),
	}
	for i := range s.Components {
		if class(s.Components[i].ID) != classTEE || s.Components[i].Waits {
			continue
		}
		claim, err := taClaim(s.manifestOf(&s.Components[i]), &s.Components[i])
		if err != nil {
			return nil, err
		}
		c.TAs = append(c.TAs, claim)
	}
	for _, next := range s.Candidates {
		for i := range next.Components {
			if class(next.Components[i].ID) != classTEE {
				continue
			}
			claim, err := taClaim(&next.Manifest, &next.Components[i])
			if err != nil {
				return nil, err
			}
			claim.Component = candidateID(claim.Component)
			c.TAs = append(c.TAs, claim)
		}
		waiting := next.Manifest
		waiting.ID = candidateID(waiting.ID)
		c.Manifests = append(c.Manifests, evidence.ManifestRef{URI: manifestURI(waiting), Digest: waiting.Digest})
	}
	for _, m := range s.Manifests {
		c.Manifests = append(c.Manifests, evidence.ManifestRef{URI: manifestURI(m), Digest: m.Digest})
	}
	return c, nil
}

func taClaim(m *manifest, c *component) (evidence.TAClaim, error) {
	if m == nil || c.TA == nil {
		return evidence.TAClaim{}, fmt.Errorf("agent: %s has no manifest", c.ID)
	}
	enc, tls, err := c.TA.keys()
	if err != nil {
		return evidence.TAClaim{}, err
	}
	encKey, err := cose.NewKey(enc.PublicKey())
	if err != nil {
		return evidence.TAClaim{}, err
	}
	tlsKey, err := cose.NewKey(&tls.PublicKey)
	if err != nil {
		return evidence.TAClaim{}, err
	}
	return evidence.TAClaim{
		Component: c.ID, Digest: c.Digest, Sequence: m.Sequence, Signer: m.Signer, EncKey: encKey, TLSKey: tlsKey,
	}, nil
}

// manifestURI names a manifest in SUIT_Reference, which demands a URI: the manifest's own, or one made from its identifier.
func manifestURI(m manifest) string {
	if m.URI != "" {
		return m.URI
	}
	return "tag:sealift.invalid,2026:" + m.ID.String()
}

// bound returns the digests of the TAs that data of the manifest m, which lists components and depends on other manifests, may be
// shown to. There is one: PD goes to the TA of its own bundle, or to that of the one manifest it depends on.
func bound(s *state, components, depends []suit.ComponentID) []*component {
	var tas []*component
	for _, id := range components {
		if c := s.component(id); c != nil && class(id) == classTEE {
			tas = append(tas, c)
		}
	}
	for _, dep := range depends {
		for i := range s.Components {
			c := &s.Components[i]
			if m := s.manifestOf(c); class(c.ID) == classTEE && m != nil && m.ID.Equal(dep) {
				tas = append(tas, c)
			}
		}
	}
	return tas
}
