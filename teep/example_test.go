// SPDX-License-Identifier: Apache-2.0

package teep_test

import (
	"crypto/rand"
	"fmt"

	"sealift/cose"
	"sealift/teep"
)

// A TAM asks for attestation, signed; the Agent verifies the message before it reads it.
func ExampleVerify() {
	priv, err := cose.GenerateKey(cose.AlgEd25519, rand.Reader)
	if err != nil {
		panic(err)
	}
	tam, err := cose.NewSigner(priv)
	if err != nil {
		panic(err)
	}
	data, err := teep.Sign(rand.Reader, tam, &teep.QueryRequest{
		Challenge: make([]byte, 64), CipherSuites: teep.DefaultCipherSuites, SUITProfiles: teep.DefaultSUITProfiles,
		DataItems: teep.ItemAttestation,
	})
	if err != nil {
		panic(err)
	}

	v, err := teep.Verify(data, []*cose.Key{tam.Key()})
	if err != nil {
		panic(err)
	}
	switch m := v.Message.(type) {
	case *teep.QueryRequest:
		fmt.Println("a QueryRequest with a challenge of", len(m.Challenge), "bytes")
	default:
		fmt.Println("another message")
	}
	// Output: a QueryRequest with a challenge of 64 bytes
}
