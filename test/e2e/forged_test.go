// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"crypto/rand"
	"slices"
	"testing"

	"sealift/cose"
	"sealift/internal/moc/mocapi"
	"sealift/teep"
)

// stranger is a signer whom nobody knows.
func stranger(t *testing.T) cose.Signer {
	t.Helper()
	priv, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cose.NewSigner(priv)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sign1 makes a COSE_Sign1 by hand, with further members of the protected header, and with the kid if one is among them.
func sign1(t *testing.T, s cose.Signer, protected map[int]any, payload []byte) []byte {
	t.Helper()
	header := map[int]any{1: int(s.Algorithm())}
	kid := s.Key().KID()
	for k, v := range protected {
		if header[k] = v; k == 4 {
			kid = v.([]byte)
			delete(header, 4)
		}
	}
	encoded := cose.MustMarshal(header)
	signature, err := s.Sign(rand.Reader, cose.MustMarshal([]any{"Signature1", encoded, []byte{}, payload}))
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{0xd2}, cose.MustMarshal([]any{encoded, map[int]any{4: kid}, payload, signature})...)
}

// forged are well-formed messages that no Agent of this deployment has sent.
func forged(t *testing.T, d *mocapi.Deployment) map[string][]byte {
	t.Helper()
	s := stranger(t)
	encode := func(m teep.Message) []byte {
		data, err := teep.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	token := []byte("a token of mine")
	success := encode(&teep.Success{Token: token, Msg: "all is well"})
	agents := d.AgentKey.KID()
	good := sign1(t, s, nil, success)
	out := map[string][]byte{
		"Success by a stranger":           good,
		"Success under the Agent's kid":   sign1(t, s, map[int]any{4: agents}, success),
		"Error under the Agent's kid":     sign1(t, s, map[int]any{4: agents}, encode(&teep.Error{Token: token, Code: teep.ErrCodePermanent})),
		"QueryResponse by a stranger":     sign1(t, s, nil, encode(&teep.QueryResponse{Token: token})),
		"a TAM's message":                 sign1(t, s, nil, encode(&teep.QueryRequest{Token: token, CipherSuites: teep.DefaultCipherSuites, SUITProfiles: teep.DefaultSUITProfiles})),
		"unknown crit":                    sign1(t, s, map[int]any{2: []int{9999}, 9999: 1}, success),
		"empty crit":                      sign1(t, s, map[int]any{2: []int{}}, success),
		"crit of a label that is missing": sign1(t, s, map[int]any{2: []int{3}}, success),
		"alg of another kind of key":      sign1(t, s, map[int]any{1: int(cose.AlgEd25519)}, success),
		"alg that does not exist":         sign1(t, s, map[int]any{1: -70000}, success),
		"alg none":                        sign1(t, s, map[int]any{1: 0}, success),
		"no kid":                          sign1(t, s, map[int]any{4: []byte{}}, success),
		"no tag":                          good[1:],
		"tag of COSE_Mac0":                append([]byte{0xd1}, good[1:]...),
		"tag of COSE_Encrypt0":            append([]byte{0xd0}, good[1:]...),
		"tag of COSE_Sign":                append([]byte{0xd8, 98}, good[1:]...),
		"tag in a tag":                    append([]byte{0xd2}, good...),
		"trailing byte":                   append(slices.Clone(good), 0),
		"cut":                             good[:len(good)-1],
		"no signature at all":             success,
	}
	flipped := slices.Clone(good)
	flipped[len(flipped)-5] ^= 1
	out["one bit of the signature differs"] = flipped
	return out
}
