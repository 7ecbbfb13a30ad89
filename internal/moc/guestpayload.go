// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"encoding/base64"

	"sealift/internal/agentconfig"
	"sealift/internal/fault"
	"sealift/internal/launch"
	"sealift/internal/moc/course"
	"sealift/internal/payload"
	"sealift/internal/store"
	"sealift/suit"
	"sealift/usecase"
)

// guestPayload returns the SHA-256 of the guest payload that a new deployment's vm is booted with: that of a TA which is one, where the
// mode has the TA in the clear and before the attestation. It is nil for all others, and where applications share the vm: there is
// none whose TA is in it from the beginning to the end. The owner says in the signed manifest what the TA is.
func guestPayload(d *store.Deployment) ([]byte, error) {
	if d.Instance != string(usecase.VM) || d.Sharing != "" || usecase.Mode(d.Mode).Bundled() {
		return nil, nil
	}
	p := d.Wanted[course.TARole(d)]
	if p == nil {
		return nil, nil
	}
	return payloadIn(p)
}

// payloadIn returns the SHA-256 of the guest payload that a package brings as its TA; nil if the TA is something else.
func payloadIn(p *store.Package) ([]byte, error) {
	envelope, err := suit.ParseEnvelope(p.Envelope)
	if err != nil {
		return nil, err
	}
	m, err := envelope.ManifestInsecure() // it was verified when the package came
	if err != nil {
		return nil, err
	}
	for _, x := range payload.Of(m) {
		if len(x.Component) != 3 || string(x.Component[0]) != classes[usecase.TA] {
			continue
		}
		spec, err := launch.Parse(x.Args)
		if err != nil {
			return nil, fault.New(fault.BadPackage, "package %s: the start parameters of %s: %w", p.Role, x.Component, err)
		}
		if spec.Kind != launch.KindGuest {
			continue
		}
		if x.Digest.Alg != suit.AlgSHA256 || x.URI != niURI(x.Digest.Bytes) {
			return nil, fault.New(fault.BadPackage, "package %s: the guest payload %s is not named by its SHA-256", p.Role, x.Component)
		}
		return x.Digest.Bytes, nil
	}
	return nil, nil
}

// niURI is the name of the bytes with a SHA-256 (RFC 6920).
func niURI(sum []byte) string { return "ni:///sha-256;" + base64.RawURLEncoding.EncodeToString(sum) }

// layerURI is what a device boots a deployment's vm with; "" for nothing but its image.
func layerURI(d *store.Deployment) string {
	if d.Instance != string(usecase.VM) {
		return ""
	}
	c, err := agentconfig.Parse(d.Config)
	if err != nil || len(c.Layer) == 0 {
		return ""
	}
	return niURI(c.Layer)
}

// rebooting refuses an update that would change what a guest is booted with. Another payload makes another launch measurement, and
// so other sealing keys: the instance could not take over what the present one holds.
func rebooting(d *store.Deployment, newer *store.Package) error {
	if newer == nil || d.Sharing != "" || d.Instance != string(usecase.VM) || usecase.Mode(d.Mode).Bundled() {
		return nil
	}
	brings, err := payloadIn(newer)
	if err != nil {
		return err
	}
	if layerURI(d) == "" && brings == nil {
		return nil
	}
	return fault.New(fault.NotRunnable, "the TA of %s is a guest payload: the guest is booted and measured with it, so it cannot be updated in place", d.ID).
		WithHint("remove the deployment and deploy the newer package")
}
