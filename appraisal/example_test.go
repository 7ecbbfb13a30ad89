// SPDX-License-Identifier: Apache-2.0

package appraisal_test

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"time"

	"sealift/appraisal"
	"sealift/evidence"
	"sealift/evidence/emuroot"
)

// A policy names the Agent and the roots that are accepted. An emulated root counts only where it is named.
func ExampleNewPolicy() {
	pki, err := emuroot.New(rand.Reader, evidence.TrustZone, time.Now())
	if err != nil {
		panic(err)
	}
	p, err := appraisal.NewPolicy(appraisal.NewPolicyInput{
		Name: "mine", Hardware: []evidence.Hardware{evidence.TrustZone}, Roots: []evidence.Anchor{pki.Anchor()},
		AgentDigest: sha256.Sum256([]byte("the Agent")), AgentSource: "my own build",
	})
	if err != nil {
		panic(err)
	}
	data, err := p.Marshal()
	if err != nil {
		panic(err)
	}
	again, err := appraisal.ParsePolicy(data)
	if err != nil {
		panic(err)
	}
	fmt.Println(again.Name, again.Accept, again.Anchors[0].Emulated, again.Hash() == p.Hash())
	// Output: mine affirming true true
}

// What is not authentic is refused, and the result says why.
func ExampleAppraiseBundle() {
	result, verified := appraisal.AppraiseBundle([]byte("not Evidence"), evidence.Input{Now: time.Now()}, &appraisal.Policy{Name: "mine"})
	fmt.Println(result.OK(), verified == nil, len(result.Failed()) > 0)
	// Output: false true true
}
