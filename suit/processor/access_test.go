// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"crypto/rand"
	"errors"
	"testing"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/report"
)

// TestAccess: who may do what to which component, over commands and parameters, however they reach the component.
func TestAccess(t *testing.T) {
	me := ownKey().Key()
	base := func() *suit.Builder {
		b := &suit.Builder{Sequence: 1, ComponentID: suit.NewComponentID("m")}
		b.AddComponent(suit.NewComponentID("mine", "a"))
		b.AddComponent(suit.NewComponentID("yours", "b"))
		b.Install = suit.Sequence{
			suit.SetComponentIndex(0), suit.Override(suit.Params{suit.ParamContent: []byte("x")}), suit.Write(),
		}
		return b
	}
	acl := ACL{
		{Signer: me, Components: []suit.ComponentID{suit.NewComponentID("mine")}},
		{Signer: me, Components: []suit.ComponentID{suit.NewComponentID("yours")}, Commands: []suit.CommandCode{suit.CodeImageMatch}, Params: []suit.Param{suit.ParamDigest}},
		{Signer: nil, Components: []suit.ComponentID{{}}},
	}
	options := ownOptions()
	options.Access, options.UpdateManagement = acl.Allow, true
	p := managed(ownDevice())
	run := func(b *suit.Builder) error {
		out, err := New(p, options).Update(t.Context(), sign(t, b))
		checkReport(t, out, err)
		return err
	}
	if err := run(base()); err != nil || len(p.creates) != 1 {
		t.Fatal(err)
	}
	digest := suit.Params{suit.ParamDigest: suit.SHA256([]byte("x"))}
	content := suit.Params{suit.ParamContent: []byte("y")}
	for name, more := range map[string]suit.Sequence{
		"command":                {suit.SetComponentIndex(1), suit.Unlink()},
		"parameter":              {suit.SetComponentIndex(1), suit.Override(content)},
		"set-parameters":         {suit.SetComponentIndex(1), suit.SetParameters(content)},
		"second of a list":       {suit.SetComponentIndex(0, 1), suit.Unlink()},
		"all":                    {suit.SetAllComponents(), suit.Unlink()},
		"in an alternative":      {suit.SetComponentIndex(1), suit.TryEach(suit.Sequence{suit.ImageMatch()}, suit.Sequence{suit.Write()})},
		"in a run-sequence":      {suit.SetComponentIndex(1), suit.RunSequence(suit.Unlink())},
		"index set inside":       {suit.SetComponentIndex(0), suit.RunSequence(suit.SetComponentIndex(1), suit.Unlink())},
		"override-multiple":      {suit.OverrideMultiple(map[int]suit.Params{0: content, 1: content})},
		"after it":               {suit.OverrideMultiple(map[int]suit.Params{0: content, 1: digest}), suit.Write()},
		"copy-params":            {suit.SetComponentIndex(1), suit.CopyParams(suit.CopySource{Index: 0, Params: []suit.Param{suit.ParamContent}})},
		"after an inner index":   {suit.SetComponentIndex(1), suit.RunSequence(suit.SetComponentIndex(0)), suit.Write()},
		"in the invoke section":  nil,
		"in the shared sequence": nil,
	} {
		b := base()
		switch name {
		case "in the invoke section":
			b.Invoke = suit.Sequence{suit.SetComponentIndex(1), suit.Invoke()}
		case "in the shared sequence":
			b.Shared = suit.Sequence{suit.SetComponentIndex(1), suit.Override(content)}
		}
		b.Install = append(b.Install, more...)
		before := len(p.creates)
		err := run(b)
		var e *Error
		if !errors.As(err, &e) || e.Reason != report.ReasonComponentUnauthorised || !errors.Is(err, ErrAccess) || len(p.creates) != before {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := base()
	b.Install = append(b.Install, suit.SetComponentIndex(1), suit.TryEachOrNothing(suit.Sequence{suit.Override(digest), suit.ImageMatch()}, suit.Sequence{suit.ImageMatch()}))
	if err := run(b); err != nil {
		t.Errorf("what is allowed: %v", err)
	}
}

// TestAccessOfSigners: one of several signers is enough, a stranger's rights are nobody's, and a MAC has its own.
func TestAccessOfSigners(t *testing.T) {
	priv, err := cose.GenerateKey(cose.AlgEd25519, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := cose.NewSigner(priv)
	if err != nil {
		t.Fatal(err)
	}
	b := taBuilder(1, []byte("binary"))
	o := ownOptions()
	o.Keys = append(o.Keys, other.Key())
	o.MACKeys = [][]byte{fuzzKey}
	grant := func(k *cose.Key) AccessFunc { return ACL{{Signer: k, Components: []suit.ComponentID{{}}}}.Allow }
	both, err := b.Build(rand.Reader, ownKey(), other)
	if err != nil {
		t.Fatal(err)
	}
	mac, err := b.BuildMAC(fuzzKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		envelope []byte
		access   AccessFunc
		ok       bool
	}{
		{"first signer", both, grant(ownKey().Key()), true},
		{"second signer", both, grant(other.Key()), true},
		{"the other signer only", sign(t, b), grant(other.Key()), false},
		{"a MAC with a signer's rights", mac, grant(other.Key()), false},
		{"a MAC with its own", mac, grant(nil), true},
		{"a signer with the MAC's", sign(t, b), grant(nil), false},
		{"no rules", both, ACL{}.Allow, false},
	} {
		o.Access = c.access
		if _, err := New(ownDevice(), o).Update(t.Context(), c.envelope); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
