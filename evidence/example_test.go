// SPDX-License-Identifier: Apache-2.0

package evidence_test

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
)

// An emulated device signs for an Agent; a verifier that knows its root gets claims, and one that expected another challenge gets the reason.
func ExampleVerify() {
	now := time.Now()
	pki, err := emuroot.New(rand.Reader, evidence.TrustZone, now)
	if err != nil {
		panic(err)
	}
	device, err := pki.NewDevice(rand.Reader, "one")
	if err != nil {
		panic(err)
	}
	key := func() *cose.Key {
		priv, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
		if err != nil {
			panic(err)
		}
		k, err := cose.NewKey(priv.Public())
		if err != nil {
			panic(err)
		}
		return k
	}
	agentKey, config, model := key(), []byte("configuration"), emuroot.ImplementationID(evidence.TrustZone)
	challenge := evidence.MixChallenge([32]byte{1}, [32]byte{2}) // of the TAM, of the owner
	claims := evidence.Claims{Nonce: challenge, UEID: device.InstanceID[:], OEMID: []byte{1, 2, 3}, HWModel: model[:], HWVersion: "1", AgentEncKey: key()}
	agent := sha256.Sum256([]byte("the Agent"))
	bundle, err := evidence.Collect(claims, "emu:trustzone", agentKey, config, func(b [64]byte) (evidence.HardwareEvidence, error) {
		return device.Evidence(rand.Reader, emuroot.Request{Binding: b, Launch: agent[:], Config: sha256.Sum256(config)})
	})
	if err != nil {
		panic(err)
	}

	in := evidence.Input{Challenge: challenge, AgentKey: agentKey, Now: now,
		Anchors: evidence.Anchors{Roots: []evidence.Anchor{pki.Anchor()}}}
	v, err := evidence.Verify(bundle, in)
	if err != nil {
		panic(err)
	}
	fmt.Println(v.Hardware, "emulated:", v.Emulated)

	in.Challenge = evidence.MixChallenge([32]byte{1}, [32]byte{3})
	_, err = evidence.Verify(bundle, in)
	fmt.Println("refused:", len(evidence.Mismatches(err)) > 0)
	// Output:
	// trustzone emulated: true
	// refused: true
}
