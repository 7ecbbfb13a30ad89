// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/agentconfig"
	"sealift/internal/delivery"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/archive"
	"sealift/internal/owner/manifest"
	"sealift/suit"
	"sealift/usecase"
)

// releaseLive announces a sealed package to the M/OC, by what the Agent will list, and delivers it to the TEE. The announcement is kept
// here before anything leaves, so that an owner that is killed in between knows what may be there. ahead is the deployment as it will be.
func (o *Owner) releaseLive(ctx context.Context, s *session, ahead *deployment, a *Appraised, role string, artifact archive.Artifact, out *Release) error {
	envelope, err := artifact.Envelope()
	if err != nil {
		return err
	}
	parsed, err := suit.ParseEnvelope(envelope)
	if err != nil {
		return err
	}
	digest, err := parsed.DigestInsecure() // it was signed a moment ago
	if err != nil {
		return err
	}
	posted, err := o.postRelease(ctx, s, ahead.ID, mocapi.ReleaseRequest{Appraisal: a.state.Appraisal, Packages: []mocapi.PackageRef{},
		Live: []mocapi.LivePackage{{Role: role, ManifestDigest: digestText256(digest.Bytes), Sequence: out.Sequence}}})
	if err != nil {
		return err
	}
	out.ID = posted.ID
	note := released{ID: posted.ID, Appraisal: a.state.Appraisal, Sequence: out.Sequence, Time: out.Time}
	if err := o.change(ahead.ID, func(d *deployment) error { d.Released = append(d.Released, note); return nil }); err != nil {
		return err
	}
	to, err := a.endpoint(ahead, role)
	if err != nil {
		return err
	}
	to.appraised = a
	if to.deployment, err = o.find(ahead.ID); err != nil {
		return err
	}
	p := delivery.Package{Envelope: envelope, Open: o.payloads(artifact)}
	unsure := false // whether an attempt that was cut off has been taken
	_, err = persist(ctx, o, func() (struct{}, error) {
		err := o.deliver(ctx, s, to, p)
		unsure = unsure || fault.Is(err, fault.DeliveryInterrupted)
		return struct{}{}, err
	})
	if err != nil && !unsure { // refused, by this owner or by the TEE: nothing is there
		err = errors.Join(err, o.change(ahead.ID, func(d *deployment) error {
			d.Released = slices.DeleteFunc(d.Released, func(r released) bool { return r.ID == note.ID && r.Sequence == note.Sequence })
			return nil
		}))
	}
	if err != nil {
		return err
	}
	o.tell("release", "owner", fmt.Sprintf("delivered %s through TLS to the attested %s's key %.16s, inside the TEE%s",
		kindsText(ahead.Package.Mode.With(usecase.PD)), out.EncryptedTo, hex.EncodeToString(to.pinned.KID()), mark(out.Emulated)))
	if !ahead.Package.Mode.Sealed(usecase.TA) {
		return nil
	}
	// The TA came with it, and has keys that no appraisal has named yet: a call appraises it.
	return o.change(ahead.ID, func(d *deployment) error {
		if d.Appraised != nil {
			d.Appraised.TAs = nil
		}
		return nil
	})
}

// noticeTime is how long the M/OC has to hear of a delivery from the Agent, before the owner takes it for lost.
const noticeTime = 10 * time.Second

// AwaitReleased waits until a deployment runs whose PD was released under an appraisal. A TEE that restarts has lost what was delivered to it
// itself, and gets it again.
func (o *Owner) AwaitReleased(ctx context.Context, a *Appraised) (*mocapi.Deployment, error) {
	d, err := o.find(a.Deployment)
	if err != nil {
		return nil, err
	}
	for d.Delivery == usecase.DeliveryChannel {
		short, cancel := context.WithTimeout(ctx, noticeTime)
		dep, err := o.AwaitRunning(short, d.ID)
		late := short.Err() != nil && ctx.Err() == nil
		cancel()
		if err == nil || !late {
			return dep, err
		}
		if dep == nil || dep.State != mocapi.StateAwaitingDelivery {
			continue
		}
		o.tell("release", "owner", "the TEE does not have what was delivered: it was restarted; delivering again")
		if _, err := o.Release(ctx, a); err != nil {
			return nil, err
		}
	}
	return o.AwaitRunning(ctx, d.ID)
}

func digestText256(sum []byte) string { return "sha256:" + hex.EncodeToString(sum) }

// endpoint is where a delivery ends, inside the TEE.
type endpoint struct {
	name       string    // that the relay is asked for
	pinned     *cose.Key // that stands in the appraised Evidence
	ta         bool      // it is the TA's
	appraised  *Appraised
	deployment *deployment // as it is, with the release that is being delivered
}

// endpoint returns where the package of a role is delivered: to the TA where PD is a package of its own, else to the Agent.
func (a *Appraised) endpoint(ahead *deployment, role string) (*endpoint, error) {
	if role == manifest.RoleBundle {
		return &endpoint{name: delivery.Suffix, pinned: a.state.AgentKey}, nil
	}
	ta, ok := a.state.packed(&ahead.Package)
	if !ok || len(ta.Component) < 3 {
		return nil, errNotAppraised("the appraised Evidence does not name the TA")
	}
	name := string(ta.Component[2])
	if len(ta.Component) > 3 { // the version that waits for its PD
		name += "+" + agentconfig.CandidateSegment
	}
	return &endpoint{name: name + delivery.Suffix, pinned: ta.TLSKey, ta: true}, nil
}

// payloads opens the payloads of a sealed package by the names that its manifest gives them, and tells how far they are.
func (o *Owner) payloads(a archive.Artifact) func(uri string) (io.ReadCloser, int64, error) {
	byName, size := map[string]archive.Blob{}, int64(0)
	for _, b := range a.Layers[1:] {
		if sum, err := hex.DecodeString(strings.TrimPrefix(b.Digest, "sha256:")); err == nil {
			byName[manifest.URI(suit.Digest{Alg: suit.AlgSHA256, Bytes: sum})] = b
			size += b.Size
		}
	}
	var sent *progress
	return func(uri string) (io.ReadCloser, int64, error) {
		b, ok := byName[uri]
		if !ok {
			return nil, 0, fmt.Errorf("%w: %q", delivery.ErrNotOffered, uri)
		}
		if sent == nil || sent.done.Load() >= size { // a delivery that is repeated
			sent = &progress{report: o.Progress, what: "sending package " + a.Role, total: size}
		}
		r, err := b.Open()
		return counted{r, sent}, b.Size, err
	}
}

// deliver runs one session: TLS to the pinned key, the Evidence of the session, the package. The error says whether it may be tried again.
func (o *Owner) deliver(ctx context.Context, s *session, to *endpoint, p delivery.Package) error {
	d := to.deployment
	dep, err := s.api.Deployment(ctx, d.ID, 0, 0)
	if err != nil {
		return err
	}
	switch dep.State {
	case mocapi.StateRemoving, mocapi.StateRemoved:
		return fault.New(fault.DeploymentRemoved, "the deployment %s is %s", dep.ID, dep.State)
	case mocapi.StateFailed:
		return problemOf(dep)
	}
	raw, err := dialRelay(ctx, dep, d.Package.Name, to.name)
	if fault.Is(err, fault.NotFound) { // the device has just been started: what was appraised is there
		return fault.New(fault.Unavailable, "%w", err)
	}
	if err != nil {
		return err
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	key, err := o.Home.KeyByPublic(d.Package.Owner)
	if err != nil {
		return err
	}
	config, err := clientTLS(key, to.pinned)
	if err != nil {
		return err
	}
	config.NextProtos, config.CurvePreferences = []string{delivery.ALPN}, delivery.Curves
	begun := o.Now()
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return deliveryError(ctx, d, err)
	}
	outcome, err := delivery.Deliver(conn, func(bundle, challenge []byte) error {
		return o.appraiseSession(ctx, s, to, dep, &fresh{bundle: bundle, input: evidence.Input{Challenge: challenge, Issued: begun}})
	}, p)
	if err != nil {
		return deliveryError(ctx, d, err)
	}
	switch outcome.Code {
	case delivery.Installed:
		return nil
	case delivery.Refused:
		return fault.New(fault.ManifestRefused, "the Agent refused the delivery: %s", printableText(outcome.Text))
	case delivery.RolledBack:
		return fault.New(fault.RollbackRefused, "the Agent refused the delivery: %s", printableText(outcome.Text))
	case delivery.Failed:
		return fault.New(fault.Unavailable, "the Agent could not take the delivery: %s", printableText(outcome.Text))
	}
	return fault.New(fault.AgentError, "the Agent answers %.40q: %s", outcome.Code, printableText(outcome.Text))
}

// printableText quotes what a TEE says in an error: it is not trusted with a terminal.
func printableText(s string) string { q := fmt.Sprintf("%q", s); return q[1 : len(q)-1] }

// deliveryError gives an error of a session its code.
func deliveryError(ctx context.Context, d *deployment, err error) error {
	known, coded := errors.AsType[*fault.Error](err)
	switch {
	case coded:
		return known
	case ctx.Err() != nil:
		return fault.New(fault.DeliveryInterrupted, "the delivery took longer than the time that was given")
	case errors.Is(err, errOtherKey):
		return &fault.Error{Code: fault.AgentChanged, Exit: fault.ExitAttestation, Message: err.Error() + "; nothing was delivered",
			Hint: "the TEE was made anew, or somebody stands between; sealift verify " + d.ID}
	case refusedByPeer(err):
		return fault.New(fault.Forbidden, "the TEE refused this owner: %w", err).WithHint("what is delivered is taken from the key in its measured configuration")
	case errors.Is(err, delivery.ErrMalformed), errors.Is(err, delivery.ErrTooLarge):
		return fault.New(fault.AgentError, "%w", err)
	}
	return fault.New(fault.DeliveryInterrupted, "the delivery was cut off: %w", err).WithHint("sealift release %s delivers again", d.ID)
}

// appraiseSession judges the Evidence of a session as [Owner.Verify] judges any: by the policy of the appraisal that the release rests on. It
// is over a challenge that only the ends of this session can compute, so it was made now, by the TEE at its other end; and it has to
// name the key at which the session ends.
func (o *Owner) appraiseSession(ctx context.Context, s *session, to *endpoint, dep *mocapi.Deployment, f *fresh) error {
	state := &to.appraised.state
	policy, err := o.policy(state.Policy, s.name)
	if err != nil {
		return err
	}
	f.input.AgentKey, f.input.Now, f.input.MaxAge = state.AgentKey, o.Now(), DefaultEvidenceTime
	f.input.ChallengeSource = "the keys of this TLS session"
	if err := o.anchor(&f.input); err != nil {
		return err
	}
	result, verified, _ := o.judge(ctx, s, to.deployment, dep, f, policy)
	if !result.OK() {
		o.tell("release", "owner", fmt.Sprintf("refused the Evidence of the session by policy %q%s", policy.Name, mark(result.Emulated)))
		return &Refused{Deployment: to.deployment.ID, Result: result}
	}
	if !to.ta {
		return nil
	}
	for _, ta := range verified.Claims.TAs {
		if ta.TLSKey.Equal(to.pinned) {
			return nil
		}
	}
	return errOtherKey
}

// anchor adds what this owner trusts in hardware to the input of a verification.
func (o *Owner) anchor(in *evidence.Input) error {
	anchors, err := o.Home.Anchors()
	if err != nil {
		return err
	}
	in.Anchors = evidence.Anchors{Roots: anchors}
	in.Verifiers, in.Endorsements, in.CRLs = o.Verifiers, o.Endorsements, o.CRLs
	return nil
}
