// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"testing"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/internal/owner/manifest"
	"sealift/suit"
	"sealift/suit/report"
	"sealift/usecase"
)

// managed is the manifest of the TA with further commands before its installation.
func (w *world) managed(sequence uint64, content string, version suit.Version, first ...suit.Command) []byte {
	w.t.Helper()
	b := w.programBuilder(usecase.TA, sequence, content, anyone)
	b.SetVersion = version
	b.Install = append(append(suit.Sequence{}, first...), b.Install...)
	return w.sign(b, w.owner)
}

func versionIs(comparison suit.Comparison, version ...int64) suit.Command {
	m := suit.VersionMatch{Comparison: comparison, Version: version}
	return suit.Override(suit.Params{suit.ParamVersion: m.Encode()})
}

// TestVersionCondition: the version of a component is what the manifest says that installed it, also after a restart; the new one counts
// when it is installed.
func TestVersionCondition(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	atLeast := versionIs(suit.VersionGreaterEqual, 1, 2)
	w.fails(w.update(w.managed(1, "echo v1", suit.Version{1, 2}, atLeast, suit.VersionCondition())), report.ReasonConditionFailed, "version of tee/app/ta")
	w.succeeds(w.update(w.managed(1, "echo v1", suit.Version{1, 2})), 1)
	w.fails(w.update(w.managed(2, "echo v2", suit.Version{2}, versionIs(suit.VersionGreater, 1, 2), suit.VersionCondition())),
		report.ReasonConditionFailed, "version of tee/app/ta")
	w.reboot(true)
	w.succeeds(w.update(w.managed(2, "echo v2", suit.Version{2}, atLeast, suit.VersionCondition())), 1)
	w.succeeds(w.update(w.managed(3, "echo v3", nil, versionIs(suit.VersionEqual, 2), suit.VersionCondition())), 1)
	w.fails(w.update(w.managed(4, "echo v4", nil, versionIs(suit.VersionEqual, 2), suit.VersionCondition())), report.ReasonConditionFailed, "version of tee/app/ta")
	w.asks("?", "|echo v3|?")
}

// TestTimeIsNotKnown: use-before does not hold, whatever the date, and a manifest may have another way.
func TestTimeIsNotKnown(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	before := []suit.Command{suit.Override(suit.Params{suit.ParamUseBefore: uint64(1) << 62}), suit.UseBefore()}
	w.unchanged(func() {
		w.fails(w.update(w.managed(1, "echo v1", nil, before...)), report.ReasonConditionFailed, "use-before")
	})
	w.succeeds(w.update(w.managed(1, "echo v1", nil, suit.TryEach(before, suit.Sequence{suit.VendorIdentifier()}))), 1)
}

// TestParametersOfSeveral: override-multiple and copy-params set what the commands after them use, and image-not-match tells an update
// from a repetition.
func TestParametersOfSeveral(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	content := []byte("echo v1")
	d := w.offer(content)
	b := w.programBuilder(usecase.TA, 1, string(content), anyone)
	staged := b.AddComponent(suit.NewComponentID("enc", "app", "ta"))
	uri := suit.Params{suit.ParamURI: manifest.URI(d)}
	for _, section := range []*suit.Sequence{&b.Shared, &b.Validate, &b.Invoke, &b.Uninstall} {
		*section = append(suit.Sequence{suit.SetComponentIndex(0)}, *section...)
	}
	b.Install = suit.Sequence{
		suit.SetComponentIndex(0), suit.ImageNotMatch(),
		suit.OverrideMultiple(map[int]suit.Params{staged: uri}), // the last one stays current
		suit.SetComponentIndex(0), suit.CopyParams(suit.CopySource{Index: staged, Params: []suit.Param{suit.ParamURI}}),
		suit.Fetch(), suit.ImageMatch(),
		suit.SetComponentIndex(staged), suit.Unlink(), suit.SetComponentIndex(0),
	}
	w.succeeds(w.update(w.sign(b, w.owner)), 1)
	w.asks("?", "|echo v1|?")
	b.Sequence = 2
	w.fails(w.update(w.sign(b, w.owner)), report.ReasonConditionFailed, "")
}

// TestWhatAnInstanceCannotDo: a manifest with a command for which an instance lacks the means is refused in whole, before any of it runs, and
// wherever in it the command stands.
func TestWhatAnInstanceCannotDo(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	wait := suit.Params{suit.ParamWaitInfo: []byte{0xa1, 0x05, 0x01}} // {time: 1}
	for name, c := range map[string]struct {
		commands suit.Sequence
		reason   report.Reason
	}{
		"battery":       {suit.Sequence{suit.Override(suit.Params{suit.ParamMinimumBattery: uint64(1)}), suit.MinimumBattery()}, report.ReasonCommandUnsupported},
		"authorization": {suit.Sequence{suit.Override(suit.Params{suit.ParamUpdatePriority: int64(-1)}), suit.UpdateAuthorized()}, report.ReasonCommandUnsupported},
		"wait":          {suit.Sequence{suit.Override(wait), suit.Wait()}, report.ReasonCommandUnsupported},
		"metadata":      {suit.Sequence{suit.Override(suit.Params{suit.ParamComponentMetadata: []byte{0xa1, 0x05, 0x01}})}, report.ReasonParameterUnsupported},
		"swap":          {suit.Sequence{suit.Override(suit.Params{suit.ParamSource: 0}), suit.Swap()}, report.ReasonCommandUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.unchanged(func() {
				fetches := w.ree.fetches
				w.fails(w.update(w.managed(1, "echo v1", nil, c.commands...)), c.reason, "")
				b := w.programBuilder(usecase.TA, 1, "echo v1", anyone)
				b.Uninstall = append(c.commands, b.Uninstall...)
				w.fails(w.update(w.sign(b, w.owner)), c.reason, "")
				if w.ree.fetches != fetches {
					t.Error("something was fetched")
				}
			})
		})
	}
	w.t = t
}

// shared makes a deployment whose application has two owners: one for programs, and another who may only install data for them.
func shared(t *testing.T) (w *world, data cose.Signer) {
	t.Helper()
	data, _ = newSigner(t, cose.AlgESP256)
	return newWorld(t, func(c *agentconfig.Config) {
		c.Owners[0].Rights = []agentconfig.Right{{Kind: "tee"}, {Kind: "ree"}}
		c.Owners = append(c.Owners, agentconfig.Owner{Key: data.Key(), App: "app", Rights: []agentconfig.Right{
			{Kind: "pd"}, {Kind: "enc"},
			{Kind: "manifest", Params: []int64{int64(suit.ParamDigest), int64(suit.ParamVendorID), int64(suit.ParamClassID)}},
		}})
	}), data
}

// TestRightsOfOwners: each owner's manifests do what the measured configuration says, and nothing else.
func TestRightsOfOwners(t *testing.T) {
	w, data := shared(t)
	w.attest()
	ta := w.program(usecase.TA, 1, "echo v1", anyone)
	w.succeeds(w.update(ta), 1)
	rows := w.dataBuilder(1, "secret rows", w.claim().EncKey, ta)
	refused := func(what string, b *suit.Builder, by cose.Signer) {
		t.Helper()
		w.unchanged(func() { w.fails(w.update(w.sign(b, by)), report.ReasonComponentUnauthorised, "") })
		if t.Failed() {
			t.Fatal(what)
		}
	}
	refused("data of the owner of programs", rows, w.owner)
	refused("a program of the owner of data", w.programBuilder(usecase.TA, 2, "echo v2", anyone), data)

	// Listed, and nothing done to it: that would keep the TA installed.
	listed := w.programBuilder(usecase.TA, 1, "echo v1", anyone)
	listed.ComponentID, listed.Components = manifest.ID("app", "other"), []suit.ComponentID{suit.NewComponentID("enc", "app", "x"), taID}
	listed.Shared = append(suit.Sequence{suit.SetComponentIndex(0)}, listed.Shared...)
	listed.Install, listed.Validate, listed.Invoke, listed.Uninstall = nil, nil, nil, nil
	refused("a TA in the list of a data manifest", listed, data)

	param := w.dataBuilder(1, "secret rows", w.claim().EncKey, ta)
	dep := param.Dependencies[0].Index
	param.Install = append(suit.Sequence{suit.SetComponentIndex(dep), suit.Override(suit.Params{suit.ParamURI: "http://elsewhere.invalid"})}, param.Install...)
	refused("a parameter of a dependency that the right does not name", param, data)

	w.succeeds(w.update(w.sign(rows, data)), 1)
	w.asks("?", "rows=secret rows|echo v1|?")

	other := w.programBuilder(usecase.TA, 9, "echo v9", anyone)
	other.ComponentID = manifest.ID("app", manifest.RolePD)
	refused("a manifest in the place of another owner's", other, w.owner)
	w.reboot(false)
	w.asks("?", "rows=secret rows|echo v1|?")
}
