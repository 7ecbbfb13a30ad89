// SPDX-License-Identifier: Apache-2.0

package moc_test

import (
	"encoding/hex"
	"slices"
	"testing"

	"sealift/internal/fault"
	"sealift/internal/moc/load"
	"sealift/internal/moc/mocapi"
	"sealift/suit"
	"sealift/usecase"
)

var pdManifest = suit.NewComponentID("manifest", "app", "pd")

// live makes a package with PD that its owner delivers itself, and its announcement.
func (w *world) live(sequence uint64) ([]byte, mocapi.LivePackage) {
	w.t.Helper()
	envelope, err := load.Manifest(w.signer, "app", "pd", suit.NewComponentID("pd", "app", "rows"), sequence, []byte("ciphertext"))
	must(w.t, err)
	e, err := suit.ParseEnvelope(envelope)
	must(w.t, err)
	digest, err := e.DigestInsecure()
	must(w.t, err)
	return envelope, mocapi.LivePackage{Role: "pd", Sequence: sequence, ManifestDigest: "sha256:" + hex.EncodeToString(digest.Bytes)}
}

// TestDelivery follows a deployment whose owner delivers PD itself: the M/OC is told what will come, waits for it, and notes it done when the
// Agent lists it; when the TEE has lost it, it waits again. Nothing of it is here, and no TAM can send it. All of that survives restarts.
func TestDelivery(t *testing.T) {
	w := newWorld(t)
	w.announce()
	request := w.request()
	request.Delivery = "pigeon"
	_, err := w.owner.CreateDeployment(w.ctx, request)
	wantCode(t, err, fault.BadRequest)
	request.Delivery = usecase.DeliveryChannel
	d, err := w.owner.CreateDeployment(w.ctx, request)
	must(t, err)
	a, err := load.NewAgent(w.pki, d.Config)
	must(t, err)
	w.announce(mocapi.InstanceStatus{ID: d.ID, Running: true})
	w.session(a)
	envelope, announced := w.live(2)
	release := func(appraisal string, p ...mocapi.LivePackage) error {
		_, err := w.owner.Release(w.ctx, d.ID, mocapi.ReleaseRequest{Appraisal: appraisal, Packages: []mocapi.PackageRef{}, Live: p})
		return err
	}
	wantCode(t, release("a0", announced), fault.ReleaseBeforeAppraisal)
	ap := w.appraised(d.ID, a)
	stored := w.push("pd", 2, suit.NewComponentID("pd", "app", "rows"), "ciphertext")
	_, err = w.owner.Release(w.ctx, d.ID, mocapi.ReleaseRequest{Appraisal: ap.ID, Packages: []mocapi.PackageRef{stored}})
	wantCode(t, err, fault.BadPackage)
	other, long := announced, announced
	other.Role, long.ManifestDigest = "bundle", announced.ManifestDigest+"00"
	for _, bad := range [][]mocapi.LivePackage{nil, {other}, {long}, {announced, announced}} {
		wantCode(t, release(ap.ID, bad...), fault.BadPackage)
	}

	is := func(state mocapi.State, trace ...string) {
		t.Helper()
		w.restart()
		d := w.get(d.ID)
		if d.State != state || !slices.Equal(steps(d), trace) || d.Delivery != usecase.DeliveryChannel {
			t.Fatalf("state %s, trace %v, delivery %s", d.State, steps(d), d.Delivery)
		}
	}
	before := []string{"admit", "ta-to-instance", "attest"}
	is(mocapi.StateAwaitingAppraisal, before...)
	must(t, release(ap.ID, announced))
	w.session(a)
	is(mocapi.StateAwaitingDelivery, before...)
	must(t, a.Deliver(envelope))
	w.session(a)
	done := append(before, "pd-to-ta")
	is(mocapi.StateRunning, done...)

	a.Lose(pdManifest)
	w.session(a)
	is(mocapi.StateAwaitingDelivery, done...)
	if _, lower := w.live(1); true {
		wantCode(t, release(ap.ID, lower), fault.Conflict)
	}
	envelope, announced = w.live(3)
	must(t, release(ap.ID, announced))
	w.session(a)
	is(mocapi.StateAwaitingDelivery, done...)
	must(t, a.Deliver(envelope))
	w.session(a)
	is(mocapi.StateRunning, done...)
	if n := len(a.Installs); n != 3 { // the TA, and PD twice by its owner
		t.Errorf("%d installations: %v", n, a.Installs)
	}
}

// TestSealedTakesNothingLive: a deployment of the other delivery takes no announcement.
func TestSealedTakesNothingLive(t *testing.T) {
	w := newWorld(t)
	d, a := w.deploy()
	w.session(a)
	ap := w.appraised(d.ID, a)
	_, announced := w.live(2)
	pd := w.push("pd", 2, suit.NewComponentID("pd", "app", "rows"), "ciphertext")
	for _, packages := range [][]mocapi.PackageRef{{}, {pd}} {
		_, err := w.owner.Release(w.ctx, d.ID, mocapi.ReleaseRequest{Appraisal: ap.ID, Packages: packages, Live: []mocapi.LivePackage{announced}})
		wantCode(t, err, fault.BadPackage)
	}
	if got := w.get(d.ID); got.State != mocapi.StateAwaitingAppraisal || got.Delivery != usecase.DeliverySealed {
		t.Errorf("state %s, delivery %s", got.State, got.Delivery)
	}
}
