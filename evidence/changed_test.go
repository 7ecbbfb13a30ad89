// SPDX-License-Identifier: Apache-2.0

package evidence_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"testing"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/evidence/psa"
)

// Every field of the claims record changed after the hardware signed it: refused, and named.
func TestChangedClaims(t *testing.T) {
	w := newWorld(t)
	b, err := evidence.ParseBundle(w.bundle(t))
	must(t, err)
	for name, c := range map[string]struct {
		change func(*evidence.Claims)
		want   []string
	}{
		"nonce":      {func(c *evidence.Claims) { c.Nonce[63] ^= 1 }, []string{evidence.CodeNonce, evidence.CodeBinding}},
		"ueid":       {func(c *evidence.Claims) { c.UEID[32] ^= 1 }, []string{evidence.CodeBinding, evidence.CodeInstance}},
		"oemid":      {func(c *evidence.Claims) { c.OEMID[0] ^= 1 }, []string{evidence.CodeBinding}},
		"hwmodel":    {func(c *evidence.Claims) { c.HWModel[0] ^= 1 }, []string{evidence.CodeBinding}},
		"hwversion":  {func(c *evidence.Claims) { c.HWVersion = "2" }, []string{evidence.CodeBinding}},
		"cnf":        {func(c *evidence.Claims) { c.AgentKID[0] ^= 1 }, []string{evidence.CodeAgentKey, evidence.CodeBinding}},
		"enc key":    {func(c *evidence.Claims) { c.AgentEncKey = newKey(t, cose.AlgESP256) }, []string{evidence.CodeBinding}},
		"config":     {func(c *evidence.Claims) { c.ConfigDigest[0] ^= 1 }, []string{evidence.CodeBinding, evidence.CodeConfig}},
		"no TA":      {func(c *evidence.Claims) { c.TAs = nil }, []string{evidence.CodeBinding}},
		"TA name":    {func(c *evidence.Claims) { c.TAs[0].Component[1] = []byte("x") }, []string{evidence.CodeBinding}},
		"TA digest":  {func(c *evidence.Claims) { c.TAs[0].Digest.Bytes[0] ^= 1 }, []string{evidence.CodeBinding}},
		"TA number":  {func(c *evidence.Claims) { c.TAs[0].Sequence++ }, []string{evidence.CodeBinding}},
		"TA signer":  {func(c *evidence.Claims) { c.TAs[0].Signer[0] ^= 1 }, []string{evidence.CodeBinding}},
		"TA enc key": {func(c *evidence.Claims) { c.TAs[0].EncKey = newKey(t, cose.AlgESP256) }, []string{evidence.CodeBinding}},
		"TA TLS key": {func(c *evidence.Claims) { c.TAs[0].TLSKey = newKey(t, cose.AlgESP256) }, []string{evidence.CodeBinding}},
		"manifest":   {func(c *evidence.Claims) { c.Manifests[0].Digest.Bytes[0] ^= 1 }, []string{evidence.CodeBinding}},
	} {
		claims, err := evidence.ParseClaims(b.Claims)
		must(t, err)
		c.change(claims)
		changed := *b
		changed.Claims = claims.Marshal()
		_, err = evidence.Verify(changed.Marshal(), w.input())
		t.Run(name, func(t *testing.T) { wantCodes(t, err, c.want...) })
	}
}

// Every field of the token that the hardware signs, changed before it is signed: what the verification can judge is
// named; the rest is for the appraisal (its tests change the same fields).
func TestChangedToken(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*psa.Token)
		want   []string
	}{
		"nonce":          {func(k *psa.Token) { k.Nonce[0] ^= 1 }, []string{evidence.CodeBinding}},
		"short nonce":    {func(k *psa.Token) { k.Nonce = k.Nonce[:32] }, []string{evidence.CodeBinding}},
		"instance":       {func(k *psa.Token) { k.InstanceID[5] ^= 1 }, []string{evidence.CodeInstance}},
		"config":         {func(k *psa.Token) { k.Components[1].Value[0] ^= 1 }, []string{evidence.CodeConfig, evidence.CodeConfig}},
		"no config":      {func(k *psa.Token) { k.Components = k.Components[:1] }, []string{evidence.CodeConfig}},
		"config twice":   {func(k *psa.Token) { k.Components = append(k.Components, k.Components[1]) }, []string{evidence.CodeConfig}},
		"agent":          {func(k *psa.Token) { k.Components[0].Value[0] ^= 1 }, nil},
		"lifecycle":      {func(k *psa.Token) { k.Lifecycle = psa.LifecycleNonPSADebug }, nil},
		"implementation": {func(k *psa.Token) { k.ImplementationID[0] ^= 1 }, nil},
	} {
		w := newWorld(t)
		sign := func(b [64]byte) (evidence.HardwareEvidence, error) {
			return w.device.Evidence(rand.Reader, emuroot.Request{Binding: b, Launch: w.agent[:], Config: sha256.Sum256(w.config),
				Change: func(content any) { c.change(content.(*psa.Token)) }})
		}
		data, err := evidence.Collect(w.claims, w.hw, w.agentKey, w.config, sign)
		must(t, err)
		_, err = evidence.Verify(data, w.input())
		t.Run(name, func(t *testing.T) { wantCodes(t, err, c.want...) })
	}
}

func TestSwappedParts(t *testing.T) {
	w := newWorld(t)
	b, err := evidence.ParseBundle(w.bundle(t))
	must(t, err)
	b.Config = []byte("another configuration")
	_, err = evidence.Verify(b.Marshal(), w.input())
	wantCodes(t, err, evidence.CodeConfig)

	b.Config = w.config
	b.HardwareType = "application/vnd.example.quote"
	_, err = evidence.Verify(b.Marshal(), w.input())
	wantCodes(t, err, evidence.CodeType)

	// The hardware's part of one Agent and the claims of another, on one device.
	other := *w
	other.agentKey = newKey(t, cose.AlgESP256)
	ob, err := evidence.ParseBundle(other.bundle(t))
	must(t, err)
	b, err = evidence.ParseBundle(w.bundle(t))
	must(t, err)
	b.Hardware = ob.Hardware
	_, err = evidence.Verify(b.Marshal(), w.input())
	wantCodes(t, err, evidence.CodeBinding)
}

// Cut anywhere, or with any bit wrong, a bundle is refused with a code.
func TestDamaged(t *testing.T) {
	w := newWorld(t)
	data, in := w.bundle(t), w.input()
	for n := range data {
		if _, err := evidence.Verify(data[:n], in); !slices.Contains(codes(err), evidence.CodeMalformed) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 0x01
		if v, err := evidence.Verify(changed, in); err == nil || v != nil || len(codes(err)) == 0 {
			// The one part that is nobody's claim: the unprotected header, where the kid is a hint.
			if b, _ := evidence.ParseBundle(changed); b == nil || !onlyUnprotected(t, data, changed) {
				t.Fatalf("byte %d changed: %v", i, err)
			}
		}
	}
}

// onlyUnprotected reports whether the two bundles differ in nothing that is signed: the token's signature still
// verifies, and all else is equal.
func onlyUnprotected(t *testing.T, x, y []byte) bool {
	t.Helper()
	a, err := evidence.ParseBundle(x)
	must(t, err)
	b, err := evidence.ParseBundle(y)
	must(t, err)
	ma, err := psa.Parse(a.Hardware)
	must(t, err)
	mb, err := psa.Parse(b.Hardware)
	must(t, err)
	same := bytes.Equal(a.Claims, b.Claims) && bytes.Equal(a.Config, b.Config) && bytes.Equal(a.Collateral[0], b.Collateral[0])
	return same && bytes.Equal(ma.TokenInsecure().Nonce, mb.TokenInsecure().Nonce)
}
