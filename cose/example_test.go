// SPDX-License-Identifier: Apache-2.0

package cose_test

import (
	"bytes"
	"crypto/rand"
	"fmt"

	"sealift/cose"
)

// A message is signed; its recipient learns the payload only together with the key that signed it.
func ExampleSign1() {
	priv, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		panic(err)
	}
	signer, err := cose.NewSigner(priv)
	if err != nil {
		panic(err)
	}
	data, err := cose.Sign1(rand.Reader, signer, []byte("hello"))
	if err != nil {
		panic(err)
	}

	m, err := cose.Parse(data)
	if err != nil {
		panic(err)
	}
	verified, err := m.Verify([]*cose.Key{signer.Key()}, cose.VerifyOptions{})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s, by the expected key: %t\n", verified.Payload, verified.Key.Equal(signer.Key()))
	// Output: hello, by the expected key: true
}

// A payload is encrypted under a key that both sides have. The ciphertext is detached from the structure that says how to open it.
func ExampleNewEncrypter() {
	kek := bytes.Repeat([]byte{7}, 16)
	info, seal, err := cose.NewEncrypter(rand.Reader, cose.AlgA128GCM, cose.Recipient{KEK: kek, KID: []byte("shared")}, cose.ContextSUITPayload)
	if err != nil {
		panic(err)
	}
	var ciphertext, plaintext bytes.Buffer
	if _, err := seal.Seal(&ciphertext, bytes.NewReader([]byte("the data"))); err != nil {
		panic(err)
	}

	ring := &cose.KeyRing{KEKs: []cose.NamedKEK{{KID: []byte("shared"), KEK: kek}}}
	open, err := cose.OpenInfo(info, ring, cose.ContextSUITPayload)
	if err != nil {
		panic(err)
	}
	if _, err := open.Open(&plaintext, &ciphertext); err != nil {
		panic(err)
	}
	fmt.Println(plaintext.String())
	// Output: the data
}
