// SPDX-License-Identifier: Apache-2.0

package cca

import (
	"slices"
	"testing"
	"time"

	"sealift/evidence"
)

// A realm token goes with no other platform token, and what is wrong has its own name.
func TestHardwareNamesTheBinding(t *testing.T) {
	p := newPlatform(t)
	q := p.pki.machine(t, now.Add(-time.Hour), now.Add(time.Hour))
	a, err := Parse(p.mint(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Parse(q.mint(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	spliced := *a
	spliced.realm = b.realm
	tok := Token{Platform: a.token.Platform, Realm: b.token.Realm}
	anchor := evidence.Anchor{Cert: p.pki.Root, Hardware: evidence.CCA}
	for name, c := range map[string]struct {
		data    []byte
		profile string
		chain   [][]byte
		at      time.Time
		anchors []evidence.Anchor
		want    []string
	}{
		"whole":                 {data: p.mint(t, nil), chain: p.chain},
		"with its profile":      {data: p.mint(t, nil), profile: ProfilePlatform, chain: p.chain},
		"with another profile":  {data: p.mint(t, nil), profile: ProfileLegacy, chain: p.chain, want: []string{"CCA token"}},
		"spliced":               {data: reassemble(&spliced, &tok), chain: p.chain, want: []string{"nonce of the platform token"}},
		"another's certificate": {data: p.mint(t, nil), chain: q.chain, want: []string{"signature of the platform token"}},
		"too late": {data: p.mint(t, nil), chain: p.chain, at: now.Add(2 * time.Hour),
			want: []string{"validity of the certificate chain"}},
		"no anchor":       {data: p.mint(t, nil), chain: p.chain, anchors: []evidence.Anchor{}, want: []string{"root of the CPAK"}},
		"no certificate":  {data: p.mint(t, nil), want: []string{"root of the CPAK"}},
		"bad certificate": {data: p.mint(t, nil), chain: [][]byte{{1}}, want: []string{"certificate of the CPAK"}},
		"nothing":         {chain: p.chain, want: []string{"CCA token"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := evidence.HardwareEvidence{Data: c.data, MediaType: MediaType, Collateral: c.chain}
			if c.profile != "" {
				e.MediaType = MediaTypeOf(c.profile)
			}
			in := evidence.HardwareInput{Anchors: []evidence.Anchor{anchor}, Now: now}
			if c.anchors != nil {
				in.Anchors = c.anchors
			}
			if !c.at.IsZero() {
				in.Now = c.at
			}
			_, mismatches := NewHardware().VerifyHardware(e, in)
			var got []string
			for _, m := range mismatches {
				got = append(got, m.Claim)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("named %q, want %q", got, c.want)
			}
		})
	}
}
