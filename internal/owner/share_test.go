// SPDX-License-Identifier: Apache-2.0

package owner_test

import (
	"strings"
	"testing"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/internal/fault"
	"sealift/internal/owner"
	"sealift/usecase"
)

// TestSharing: whoever asks for sharing accepts TAs of its own beside the packed one, and nothing else; and finds its wish in the measured
// configuration.
func TestSharing(t *testing.T) {
	_, stranger := newKey(t, cose.AlgESP256)
	for name, c := range map[string]struct {
		plant   func(*world)
		refused string // part of the finding
	}{
		"one's own TA": {func(w *world) { w.moc.beside = w.packed.Description.Owner }, ""},
		"no other TA":  {func(*world) {}, ""},
		"a stranger's TA": {func(w *world) { w.moc.beside = stranger },
			"TA tee/other/ta: expected signed by"},
		"an instance that is not shared": {func(w *world) {
			w.moc.changeConf = func(c *agentconfig.Config) { c.Owners[0].App = "stats" }
		}, "for all its applications"},
		"an instance of somebody else": {func(w *world) {
			w.moc.changeConf = func(c *agentconfig.Config) { c.Owners[0].Key = stranger }
		}, "for all its applications"},
	} {
		w := newWorld(t, usecase.ModeTAPD)
		c.plant(w)
		_, err := w.owner.Deploy(t.Context(), owner.DeployRequest{Package: w.pkg, Sharing: true, Wait: true})
		if c.refused == "" && err != nil || c.refused != "" && (!fault.Is(err, fault.AppraisalRefused) || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: %v", name, err)
		}
		if (len(w.moc.releases) > 0) != (c.refused == "") {
			t.Errorf("%s: %d releases", name, len(w.moc.releases))
		}
	}
}

// TestShareWith: what cannot share an instance is refused before anything leaves the machine.
func TestShareWith(t *testing.T) {
	for name, c := range map[string]struct {
		sharing bool
		with    string
		code    string
		part    string
	}{
		"two TAs of one name": {true, "stats", fault.Conflict, "has an application \"stats\" already: deployment d-1"},
		"not shared":          {false, "stats", fault.Conflict, "for that application alone"},
		"unknown":             {true, "nothing", fault.NotFound, "nothing"},
	} {
		w := newWorld(t, usecase.ModeTAPD)
		if _, err := w.owner.Deploy(t.Context(), owner.DeployRequest{Package: w.pkg, Sharing: c.sharing}); err != nil {
			t.Fatal(err)
		}
		w.pack(t, usecase.ModeTAPD)
		sent := w.moc.wire.Len()
		_, err := w.owner.Deploy(t.Context(), owner.DeployRequest{Package: w.pkg, ShareWith: c.with})
		if !fault.Is(err, c.code) || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%s: %v", name, err)
		}
		if text := w.moc.wire.String()[sent:]; w.moc.created != 1 || strings.Contains(text, "/v2/") {
			t.Errorf("%s: %d deployments were made; sent %q", name, w.moc.created, text)
		}
	}
}

// TestElsewhere: an M/OC that puts a deployment into an instance that serves others, unasked, is told so.
func TestElsewhere(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	w.moc.tee = "d-0"
	_, err := w.owner.Deploy(t.Context(), owner.DeployRequest{Package: w.pkg, Wait: true})
	if f := fault.From(err); f == nil || f.Exit != fault.ExitDrift || !strings.Contains(f.Message, "d-0") {
		t.Error(err)
	}
	w = newWorld(t, usecase.ModeTAPD)
	w.moc.tee = "d-0"
	w.moc.changeConf = func(c *agentconfig.Config) { c.Deployment = "d-0" }
	if _, err = w.owner.Deploy(t.Context(), owner.DeployRequest{Package: w.pkg, Sharing: true, Wait: true}); err != nil {
		t.Error(err)
	}
}
