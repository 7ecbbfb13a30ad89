// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"context"
	"crypto/rand"
	"sync"
	"testing"

	"sealift/cose"
	"sealift/suit"
)

var (
	vendorID = suit.VendorID(suit.SealiftVendorDomain)
	classID  = suit.ClassID(vendorID, "trustzone/process")
	ownKey   = sync.OnceValue(func() cose.Signer {
		priv, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
		if err != nil {
			panic(err)
		}
		s, err := cose.NewSigner(priv)
		if err != nil {
			panic(err)
		}
		return s
	})
)

func ownDevice() *memPlatform {
	p := newMemPlatform()
	p.vendors, p.classes = [][]byte{vendorID[:]}, [][]byte{classID[:]}
	return p
}

func ownOptions() Options { return Options{Keys: []*cose.Key{ownKey().Key()}} }

func sign(t testing.TB, b *suit.Builder) []byte {
	t.Helper()
	envelope, err := b.Build(rand.Reader, ownKey())
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

// update builds, signs and runs; a nil change means that the run must succeed, and commits.
func update(t testing.TB, p *memPlatform, b *suit.Builder, change func(o *Options)) *Outcome {
	t.Helper()
	o := ownOptions()
	if change != nil {
		change(&o)
	}
	out, err := New(p, o).Update(context.Background(), sign(t, b))
	checkReport(t, out, err)
	if err != nil {
		t.Fatal(err)
	}
	p.commit(out)
	return out
}

// refused builds, signs and runs, and returns the error that there must be.
func refused(t testing.TB, p *memPlatform, b *suit.Builder, o Options) *Error {
	t.Helper()
	return refusedBytes(t, p, sign(t, b), o)
}

func identity() suit.Params {
	return suit.Params{suit.ParamVendorID: vendorID[:], suit.ParamClassID: classID[:]}
}

// taBuilder is the manifest of a TA as Sealift's owners write it.
func taBuilder(sequence uint64, binary []byte) *suit.Builder {
	params := identity()
	params[suit.ParamDigest] = suit.SHA256(binary)
	params[suit.ParamSize] = len(binary)
	return &suit.Builder{
		Sequence:    sequence,
		ComponentID: suit.NewComponentID("manifest", "app", "ta"),
		Components:  []suit.ComponentID{suit.NewComponentID("tee", "app", "ta")},
		Shared:      suit.Sequence{suit.Override(params), suit.VendorIdentifier(), suit.ClassIdentifier()},
		Install:     suit.Sequence{suit.Override(suit.Params{suit.ParamURI: "#ta"}), suit.Fetch(), suit.ImageMatch()},
		Validate:    suit.Sequence{suit.ImageMatch()},
		Invoke:      suit.Sequence{suit.Override(suit.Params{suit.ParamInvokeArgs: []byte{0xa0}}), suit.Invoke()},
		Uninstall:   suit.Sequence{suit.Unlink()},
		Payloads:    map[string][]byte{"#ta": binary},
	}
}

// encryptedBuilder fetches a ciphertext, checks it, and copies it decrypted.
func encryptedBuilder(info []byte, digest suit.Digest, uri string) *suit.Builder {
	b := &suit.Builder{Sequence: 1, ComponentID: suit.NewComponentID("manifest", "app", "pd")}
	enc := b.AddComponent(suit.NewComponentID("enc", "app", "f"))
	pd := b.AddComponent(suit.NewComponentID("pd", "app", "f"))
	b.Install = suit.Sequence{
		suit.SetComponentIndex(enc), suit.Override(suit.Params{suit.ParamDigest: digest, suit.ParamURI: uri}),
		suit.Fetch(), suit.ImageMatch(),
		suit.SetComponentIndex(pd), suit.Override(suit.Params{suit.ParamSource: enc, suit.ParamEncryptionInfo: info}),
		suit.Copy(),
		suit.SetComponentIndex(enc), suit.Unlink(),
	}
	b.Uninstall = suit.Sequence{suit.SetComponentIndex(pd), suit.Unlink()}
	return b
}

// pdBuilder adds to encryptedBuilder the dependency on the TA's manifest.
func pdBuilder(info []byte, ciphertext []byte, ta suit.Digest) *suit.Builder {
	b := encryptedBuilder(info, suit.SHA256(ciphertext), "#pd")
	b.Payloads = map[string][]byte{"#pd": ciphertext}
	dep := b.AddDependency(suit.NewComponentID("manifest", "app", "ta"))
	check := suit.Sequence{
		suit.SetComponentIndex(dep), suit.Override(suit.Params{suit.ParamDigest: ta}), suit.DependencyIntegrity(), suit.ProcessDependency(),
	}
	b.Validate = append(suit.Sequence(nil), check...)
	b.Install = append(check, b.Install...)
	return b
}
