// SPDX-License-Identifier: Apache-2.0

package teep_test

import (
	"crypto/rand"
	"testing"

	"sealift/cose"
	"sealift/teep"
)

func BenchmarkEncode(b *testing.B) {
	m := queryResponse()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := teep.Encode(m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	data, err := teep.Encode(queryResponse())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := teep.Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkServerSession is all that a TAM does with messages in a session with a known Agent: it signs a QueryRequest in both
// suites, verifies the answer, signs an Update, and verifies the Success.
func BenchmarkServerSession(b *testing.B) {
	tam := []cose.Signer{fixedSigner(b, cose.AlgESP256, "tam"), fixedSigner(b, cose.AlgEd25519, "tam")}
	agent := fixedSigner(b, cose.AlgESP256, "agent")
	keys := []*cose.Key{agent.Key()}
	response, err := teep.Sign(rand.Reader, agent, queryResponse())
	if err != nil {
		b.Fatal(err)
	}
	done, err := teep.Sign(rand.Reader, agent, success())
	if err != nil {
		b.Fatal(err)
	}
	up := updateMessage()
	up.ManifestList = [][]byte{make([]byte, 1024)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := teep.SignAll(rand.Reader, tam, queryRequest()); err != nil {
			b.Fatal(err)
		}
		if _, err := teep.Verify(response, keys); err != nil {
			b.Fatal(err)
		}
		if _, err := teep.Sign(rand.Reader, tam[0], up); err != nil {
			b.Fatal(err)
		}
		if _, err := teep.Verify(done, keys); err != nil {
			b.Fatal(err)
		}
	}
}
