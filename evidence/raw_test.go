// SPDX-License-Identifier: Apache-2.0

package evidence_test

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"sealift/evidence"
)

// TestVerifyRecorded guards that a bundle that was kept verifies without the Agent's key, and that everything inside it has to fit
// together all the same.
func TestVerifyRecorded(t *testing.T) {
	w := newWorld(t)
	data := w.bundle(t)
	nonce := w.claims.Nonce
	for name, challenge := range map[string][]byte{"no challenge": nil, "all of it": nonce, "the owner's part": nonce[32:]} {
		v, err := evidence.VerifyRecorded(data, challenge, w.input())
		must(t, err)
		if !v.Authentic() || v.Claims == nil || !bytes.Equal(v.Claims.AgentKID, w.agentKey.KID()) || v.Compared != (challenge != nil) ||
			!v.Emulated || v.Digest != sha256.Sum256(data) || !bytes.Equal(v.Configuration, w.config) {
			t.Errorf("%s: %+v", name, v)
		}
	}
	_, err := evidence.VerifyRecorded(data, bytes.Repeat([]byte{1}, 64), w.input())
	wantCodes(t, err, evidence.CodeNonce)

	b, err := evidence.ParseBundle(data)
	must(t, err)
	changed := *b
	changed.Config = []byte("another")
	_, err = evidence.VerifyRecorded(changed.Marshal(), nil, w.input())
	wantCodes(t, err, evidence.CodeConfig)
	other := newWorld(t)
	mixed, err := evidence.ParseBundle(other.bundle(t))
	must(t, err)
	mixed.Claims = b.Claims
	in := w.input()
	in.Anchors = evidence.Anchors{Roots: []evidence.Anchor{w.pki.Anchor(), other.pki.Anchor()}}
	if _, err = evidence.VerifyRecorded(mixed.Marshal(), nil, in); err == nil {
		t.Error("the claims of another Agent")
	}
	in.Anchors.Roots = nil
	_, err = evidence.VerifyRecorded(data, nil, in)
	wantCodes(t, err, evidence.CodeRoot)
	_, err = evidence.VerifyRecorded([]byte{1}, nil, w.input())
	wantCodes(t, err, evidence.CodeMalformed)
}

// TestVerifyHardware guards hardware's Evidence by itself, and the comparison with the report data.
func TestVerifyHardware(t *testing.T) {
	w := newWorld(t)
	binding := [64]byte{1, 2, 3}
	e, err := w.sign(binding)
	must(t, err)
	for name, reportData := range map[string][]byte{"not compared": nil, "whole": binding[:], "zeros cut off": {1, 2, 3}} {
		v, err := evidence.VerifyHardware(e, reportData, w.input())
		must(t, err)
		if !v.Authentic() || v.Compared != (reportData != nil) || v.Claims != nil || len(v.Measurements) == 0 || v.Hardware != evidence.TrustZone {
			t.Errorf("%s: %+v", name, v)
		}
	}
	_, err = evidence.VerifyHardware(e, []byte{1, 2}, w.input())
	wantCodes(t, err, evidence.CodeNonce)
	_, err = evidence.VerifyHardware(e, bytes.Repeat([]byte{1}, 65), w.input())
	wantCodes(t, err, evidence.CodeNonce)
	e.MediaType = "text/plain"
	_, err = evidence.VerifyHardware(e, nil, w.input())
	wantCodes(t, err, evidence.CodeType)
	if (&evidence.VerifiedHardware{}).Authentic() || (*evidence.VerifiedHardware)(nil).Authentic() {
		t.Error("the zero value is authentic")
	}
}
