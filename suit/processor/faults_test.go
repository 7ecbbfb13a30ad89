// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"context"
	"errors"
	"testing"

	"sealift/cose"
	"sealift/suit"
)

// TestSizeCounts: the right digest does not help a component whose length the manifest states otherwise.
func TestSizeCounts(t *testing.T) {
	params := suit.Params{suit.ParamContent: []byte("x"), suit.ParamDigest: suit.SHA256([]byte("x")), suit.ParamSize: 2}
	e := refused(t, newMemPlatform(), oneComponent(suit.Override(params), suit.Write(), suit.ImageMatch()), ownOptions())
	if e.Command != suit.CodeImageMatch {
		t.Error(e)
	}
}

// TestUnsetIdentity: a manifest that names no vendor does not fit a device that names none.
func TestUnsetIdentity(t *testing.T) {
	p := newMemPlatform()
	p.vendors, p.classes, p.devices = [][]byte{{}}, [][]byte{nil}, [][]byte{{}}
	for _, cond := range []suit.Command{suit.VendorIdentifier(), suit.ClassIdentifier(), suit.DeviceIdentifier()} {
		if e := refused(t, p, oneComponent(content("x"), cond, suit.Write()), ownOptions()); e.Command != cond.Code {
			t.Error(e)
		}
	}
}

// TestMatchIsForgotten: a ciphertext that was matched and then written anew counts as unchecked.
func TestMatchIsForgotten(t *testing.T) {
	p := ownDevice()
	info, ciphertext := encrypted(t, p, cose.AlgA128CTR, []byte("records"))
	p.web["http://x/enc"] = ciphertext
	b := encryptedBuilder(info, suit.SHA256(ciphertext), "http://x/enc")
	update(t, p, b, nil)
	other := append([]byte{ciphertext[0] ^ 1}, ciphertext[1:]...)
	b.Install = append(b.Install[:4:4], append(suit.Sequence{
		suit.Override(suit.Params{suit.ParamContent: other}), suit.Write(),
	}, b.Install[4:]...)...)
	if e := refused(t, p, b, ownOptions()); !errors.Is(e, ErrRule) {
		t.Error(e)
	}
}

// TestEncryptionInfoOnce: one transfer uses encryption-info up; the next stores the bytes as they are.
func TestEncryptionInfoOnce(t *testing.T) {
	p := ownDevice()
	info, ciphertext := encrypted(t, p, cose.AlgA128GCM, []byte("records"))
	params := suit.Params{suit.ParamContent: ciphertext, suit.ParamEncryptionInfo: info}
	update(t, p, oneComponent(suit.Override(params), suit.Write()), nil)
	if string(p.components["c"]) != "records" {
		t.Fatalf("decrypted to %q", p.components["c"])
	}
	update(t, p, oneComponent(suit.Override(params), suit.Write(), suit.Write()), nil)
	if string(p.components["c"]) != string(ciphertext) {
		t.Errorf("the second write left %q", p.components["c"])
	}
}

// TestUnlinkOnce: one manifest drops one reference, however often it says so.
func TestUnlinkOnce(t *testing.T) {
	p := newMemPlatform()
	b := oneComponent(content("x"), suit.Write())
	b.Uninstall = suit.Sequence{suit.Unlink(), suit.Unlink()}
	update(t, p, b, nil)
	p.references["c"] = 2
	out, err := New(p, ownOptions()).Uninstall(context.Background(), sign(t, b))
	if err != nil || len(out.Unlinked) != 0 || p.components["c"] == nil || p.references["c"] != 1 {
		t.Errorf("unlinked %v, %d references, %v", out.Unlinked, p.references["c"], err)
	}
}

// fetching is a manifest that fetches a dependency and processes it.
func fetching(digest suit.Digest, uri string, more ...suit.Command) *suit.Builder {
	b := &suit.Builder{Sequence: 1, ComponentID: suit.NewComponentID("root")}
	b.AddComponent(suit.NewComponentID("c"))
	dep := b.AddDependency(suit.NewComponentID("manifest", "app", "ta"))
	b.Install = append(suit.Sequence{
		suit.SetComponentIndex(dep), suit.Override(suit.Params{suit.ParamDigest: digest, suit.ParamURI: uri}), suit.Fetch(), suit.DependencyIntegrity(),
	}, more...)
	b.Validate = suit.Sequence{suit.SetComponentIndex(dep), suit.DependencyIntegrity(), suit.ProcessDependency()}
	return b
}

// TestDependencyIsAdmitted: what keeps a root manifest from running keeps a dependency from it too.
func TestDependencyIsAdmitted(t *testing.T) {
	p := ownDevice()
	old, unknown := taBuilder(4, []byte("old")), taBuilder(6, []byte("new"))
	unknown.Uninstall = append(unknown.Uninstall, suit.Command{Code: 99, Raw: []byte{0}})
	update(t, p, taBuilder(5, []byte("five")), nil)
	created := len(p.creates)
	for _, c := range []struct {
		b    *suit.Builder
		want error
	}{{old, ErrRollback}, {unknown, ErrNotSupported}} {
		envelope := sign(t, c.b)
		p.web["http://x/dep"] = envelope
		e := refused(t, p, fetching(manifestDigest(t, envelope), "http://x/dep", suit.ProcessDependency()), ownOptions())
		if !errors.Is(e, c.want) || len(p.creates) != created {
			t.Errorf("%v, wrote %v", e, p.creates)
		}
	}
}

// TestDependencyExchanged: a check does not cover an envelope that is fetched after it.
func TestDependencyExchanged(t *testing.T) {
	p := ownDevice()
	good, other := sign(t, taBuilder(1, []byte("good"))), sign(t, taBuilder(2, []byte("other")))
	p.web["http://x/good"], p.web["http://x/other"] = good, other
	again := suit.Override(suit.Params{suit.ParamURI: "http://x/other"})
	b := fetching(manifestDigest(t, good), "http://x/good", again, suit.Fetch(), suit.ProcessDependency())
	if e := refused(t, p, b, ownOptions()); !errors.Is(e, ErrDependency) || len(p.creates) != 0 {
		t.Errorf("%v, wrote %v", e, p.creates)
	}
	update(t, p, fetching(manifestDigest(t, good), "http://x/good", suit.ProcessDependency()), nil)
	if string(p.components["tee/app/ta"]) != "good" {
		t.Errorf("installed %q", p.components["tee/app/ta"])
	}
}

// TestDependencyFailureIsHard: a condition that fails inside a dependency is the failure of a directive of its dependent.
func TestDependencyFailureIsHard(t *testing.T) {
	p := ownDevice()
	failing := taBuilder(1, []byte("binary"))
	failing.Install = append(suit.Sequence{suit.Abort()}, failing.Install...)
	envelope := sign(t, failing)
	p.web["http://x/dep"] = envelope
	attempt := suit.TryEachOrNothing(suit.Sequence{suit.ProcessDependency()}, suit.Sequence{suit.Abort()})
	e := refused(t, p, fetching(manifestDigest(t, envelope), "http://x/dep", attempt), ownOptions())
	if e.Command != suit.CodeAbort || len(e.Manifest) != 1 || e.Section != suit.MemberInstall {
		t.Errorf("%+v", e)
	}
}
