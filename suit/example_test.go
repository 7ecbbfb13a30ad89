// SPDX-License-Identifier: Apache-2.0

package suit_test

import (
	"crypto/rand"
	"fmt"

	"sealift/cose"
	"sealift/suit"
)

// A manifest that installs one program, checked and carried inside the envelope, and how a recipient reads it.
func ExampleBuilder() {
	binary := []byte("\x7fELF...")
	vendor := suit.VendorID(suit.SealiftVendorDomain)
	class := suit.ClassID(vendor, "trustzone/process")

	b := &suit.Builder{Sequence: 1, ComponentID: suit.NewComponentID("manifest", "stats", "ta")}
	b.AddComponent(suit.NewComponentID("tee", "stats", "ta"))
	b.Shared = suit.Sequence{
		suit.Override(suit.Params{
			suit.ParamVendorID: vendor[:], suit.ParamClassID: class[:],
			suit.ParamDigest: suit.SHA256(binary), suit.ParamSize: len(binary),
		}),
		suit.VendorIdentifier(), suit.ClassIdentifier(),
	}
	b.Install = suit.Sequence{suit.Override(suit.Params{suit.ParamURI: "#ta"}), suit.Fetch(), suit.ImageMatch()}
	b.Validate = suit.Sequence{suit.ImageMatch()}
	b.Invoke = suit.Sequence{suit.Invoke()}
	b.Uninstall = suit.Sequence{suit.Unlink()}
	b.Payloads = map[string][]byte{"#ta": binary}

	priv, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		panic(err)
	}
	signer, err := cose.NewSigner(priv)
	if err != nil {
		panic(err)
	}
	envelope, err := b.Build(rand.Reader, signer)
	if err != nil {
		panic(err)
	}

	e, err := suit.ParseEnvelope(envelope)
	if err != nil {
		panic(err)
	}
	m, err := e.Verify([]*cose.Key{signer.Key()}, suit.VerifyOptions{})
	if err != nil {
		panic(err)
	}
	fmt.Println(m.ComponentID, m.Sequence, m.Components)
	for _, cmd := range m.Install {
		fmt.Println(cmd.Offset, cmd.Code)
	}
	// Output:
	// manifest/stats/ta 1 [tee/stats/ta]
	// 1 override-parameters
	// 8 fetch
	// 10 image-match
}
