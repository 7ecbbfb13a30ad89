// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"sealift/cose"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/archive"
	"sealift/internal/owner/manifest"
	"sealift/suit"
	"sealift/usecase"
)

// Release is what [Owner.Release] did.
type Release struct {
	Deployment  string    `json:"deployment"`
	ID          string    `json:"id"`
	Appraisal   string    `json:"appraisal"`
	Delivery    string    `json:"delivery"`     // usecase.DeliverySealed or usecase.DeliveryChannel
	Package     string    `json:"package"`      // digest of the pushed package; empty where it was delivered to the TEE itself
	Sequence    uint64    `json:"sequence"`     // of its manifest
	EncryptedTo string    `json:"encrypted_to"` // "ta" or "agent"
	Key         string    `json:"key"`          // thumbprint of the key, hex
	Emulated    bool      `json:"emulated"`
	Time        time.Time `json:"time"`
}

// Release encrypts PD, and in a bundled mode what travels with it, to the key that the appraised Evidence vouches for, signs a manifest over
// the ciphertext, pushes both and releases them; with delivery channel it takes both to the TEE itself, through TLS that ends there. It takes
// nothing but a positive appraisal, and that of the Agent which the M/OC names now.
func (o *Owner) Release(ctx context.Context, a *Appraised) (*Release, error) {
	if a == nil || !a.positive {
		return nil, errNotAppraised("there is no positive appraisal")
	}
	d, err := o.find(a.Deployment)
	if err != nil {
		return nil, err
	}
	s, err := o.connect(d.Context)
	if err != nil {
		return nil, err
	}
	if err := o.stillAppraised(ctx, s, d, a); err != nil {
		return nil, err
	}
	to, role, kinds, err := a.recipient(d)
	if err != nil {
		return nil, err
	}
	dir, remove, err := o.workFolder()
	if err != nil {
		return nil, err
	}
	defer remove()
	artifact, sequence, err := o.sealPackage(d, a, role, kinds, sealer{rand: o.Rand, to: to, dir: dir})
	if err != nil {
		return nil, err
	}
	out := &Release{Deployment: d.ID, Appraisal: a.state.Appraisal, Delivery: usecase.DeliverySealed, Sequence: sequence,
		EncryptedTo: keyHolder(role), Key: hex.EncodeToString(to.KID()), Emulated: a.state.Emulated, Time: o.Now().UTC()}
	if d.Delivery == usecase.DeliveryChannel {
		out.Delivery = d.Delivery
		if err := o.releaseLive(ctx, s, d, a, role, artifact, out); err != nil {
			return nil, err
		}
		return out, nil
	}
	ref, err := o.push(ctx, s, repository(d.Account, d.Package.Name, role), artifact)
	if err != nil {
		return nil, err
	}
	posted, err := o.postRelease(ctx, s, d.ID, mocapi.ReleaseRequest{Appraisal: a.state.Appraisal, Packages: []mocapi.PackageRef{ref}})
	if err != nil {
		return nil, err
	}
	out.ID, out.Package = posted.ID, ref.Digest
	o.tell("release", "owner", fmt.Sprintf("released %s, encrypted to the attested %s's key %.16s%s", kindsText(kinds), out.EncryptedTo,
		out.Key, mark(out.Emulated)))
	return out, o.change(d.ID, func(d *deployment) error {
		d.Released = append(d.Released, released{ID: posted.ID, Appraisal: a.state.Appraisal, Digest: ref.Digest, Sequence: sequence, Time: out.Time})
		return nil
	})
}

// stillAppraised asks the M/OC whether the Agent that was appraised is the one that it has now. It could lie; what is released then is
// encrypted to a key that only the appraised one holds. While an update is going on, d becomes what the update makes of it.
func (o *Owner) stillAppraised(ctx context.Context, s *session, d *deployment, a *Appraised) error {
	now, err := persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.Deployment(ctx, d.ID, 0, 0) })
	switch {
	case err != nil:
		return err
	case now.State == mocapi.StateFailed:
		return problemOf(now)
	}
	o.tellSteps(now) // the M/OC has noted the appraisal by now, and it comes before the release
	if now.AgentKey != nil && !now.AgentKey.Equal(a.state.AgentKey) {
		return errNotAppraised("another Agent answers for this deployment than the one that was appraised")
	}
	return o.ahead(d, now)
}

// postRelease posts a release. Where an earlier answer was lost, the M/OC may refuse the repetition because it has the release already.
func (o *Owner) postRelease(ctx context.Context, s *session, id string, r mocapi.ReleaseRequest) (*mocapi.Release, error) {
	unsure := false
	return persist(ctx, o, func() (*mocapi.Release, error) {
		posted, err := s.api.Release(ctx, id, r)
		if unsure && fault.Is(err, fault.Conflict) {
			if now, getErr := s.api.Deployment(ctx, id, 0, 0); getErr == nil && now.Released {
				return &mocapi.Release{Appraisal: r.Appraisal, Packages: r.Packages, Time: o.Now().UTC()}, nil
			}
		}
		unsure = unsure || (err != nil && !neverArrived(err))
		return posted, err
	})
}

func errNotAppraised(why string) error {
	return fault.New(fault.ReleaseBeforeAppraisal, "PD is not released: %s", why).WithHint("sealift verify appraises the Evidence; release after it says yes")
}

// keyHolder says whose key opens a package with PD.
func keyHolder(role string) string {
	if role == manifest.RoleBundle {
		return "agent"
	}
	return "ta"
}

// recipient returns the attested key that the release is encrypted to, the release's role, and which kinds of components it carries.
func (a *Appraised) recipient(d *deployment) (to *cose.Key, role string, kinds []usecase.Payload, err error) {
	mode := d.Package.Mode
	kinds = mode.With(usecase.PD)
	if mode.Sealed(usecase.TA) {
		return a.state.AgentEncKey, manifest.RoleBundle, kinds, nil
	}
	ta, ok := a.state.packed(&d.Package)
	if !ok {
		return nil, "", nil, errNotAppraised("the appraised Evidence does not name the TA")
	}
	if mode.Bundled() { // what goes on to the REE is not encrypted to a key of the TA
		return a.state.AgentEncKey, manifest.RoleBundle, kinds, nil
	}
	return ta.EncKey, manifest.RolePD, kinds, nil
}

// covers reports whether a release can rest on the appraisal: where the TA does not come with the PD, it has to name the TA.
func (a *Appraised) covers(d *deployment) bool {
	_, _, _, err := a.recipient(d)
	return err == nil
}

// sealPackage encrypts the components and makes the signed package of them.
func (o *Owner) sealPackage(d *deployment, a *Appraised, role string, kinds []usecase.Payload, s sealer) (archive.Artifact, uint64, error) {
	key, err := o.Home.KeyByPublic(d.Package.Owner)
	if err != nil {
		return archive.Artifact{}, 0, err
	}
	shape := manifest.Sealed{App: d.Package.Name, Role: role, Cells: a.cells()}
	var payloads []archive.Blob
	for _, c := range d.Package.Components {
		if !slices.Contains(kinds, c.Kind) {
			continue
		}
		out, err := s.component(c)
		if err != nil {
			return archive.Artifact{}, 0, err
		}
		shape.Items = append(shape.Items, out.item)
		payloads = append(payloads, out.blob)
	}
	if !d.Package.Mode.Sealed(usecase.TA) {
		if shape.DependsOn, err = taManifest(&d.Package); err != nil {
			return archive.Artifact{}, 0, err
		}
	}
	if shape.Sequence, err = o.Home.NextSequence(d.Package.Name); err != nil {
		return archive.Artifact{}, 0, err
	}
	b, err := shape.Build()
	if err != nil {
		return archive.Artifact{}, 0, err
	}
	envelope, _, err := o.sign(b, key)
	if err != nil {
		return archive.Artifact{}, 0, fmt.Errorf("the manifest of the release: %w", err)
	}
	artifact, err := archive.NewArtifact(role, envelope, payloads)
	return artifact, shape.Sequence, err
}

// taManifest names the packed manifest that brings the TA, on which PD depends.
func taManifest(d *archive.Description) (*manifest.Dependency, error) {
	role := roleOf(d.Mode.With(usecase.TA))
	p, ok := d.Package(role)
	sum, err := hex.DecodeString(p.ManifestSHA256)
	if !ok || err != nil || len(sum) != 32 {
		return nil, fmt.Errorf("%w: it has no package with the TA", archive.ErrFormat)
	}
	return &manifest.Dependency{ID: manifest.ID(d.Name, role), Digest: suit.Digest{Alg: suit.AlgSHA256, Bytes: sum}}, nil
}

func kindsText(kinds []usecase.Payload) string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	return strings.Join(names, "+")
}
