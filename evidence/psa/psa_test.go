// SPDX-License-Identifier: Apache-2.0

package psa_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path"
	"reflect"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/evidence/psa"
	"sealift/internal/sharedtest"
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	return sharedtest.Read(t, "evidence", path.Join("psa", name))
}

func publicPEM(t testing.TB, name string) *cose.Key {
	t.Helper()
	block, _ := pem.Decode(sample(t, name))
	if block == nil {
		t.Fatalf("%s is no PEM", name)
	}
	var pub any
	var err error
	if strings.Contains(block.Type, "PRIVATE") {
		var key *ecdsa.PrivateKey
		if key, err = x509.ParseECPrivateKey(block.Bytes); err == nil {
			pub = &key.PublicKey
		}
	} else {
		pub, err = x509.ParsePKIXPublicKey(block.Bytes)
	}
	if err != nil {
		t.Fatal(err)
	}
	key, err := cose.NewKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Every row of the manifest about a PSA token is in this table: what it must do, and under which key.
var samples = map[string]struct {
	err     error  // of Parse
	says    string // part of the error's text
	profile string
	seed    int
}{
	"tfm_psa-2_0_0_sign1.bin":             {profile: psa.ProfileArm2, seed: 32},
	"tfm_psa-iot-1_sign1.bin":             {profile: psa.ProfileLegacy, seed: 32},
	"tfm_psa-2_0_0_mac0.bin":              {err: psa.ErrMac0},
	"tfm_psa-iot-1_mac0.bin":              {err: psa.ErrMac0},
	"iatverifier_iat.cbor":                {err: psa.ErrProfile, says: "http://example.com"},
	"iatverifier_iat-hmac.cbor":           {err: psa.ErrMac0},
	"iatverifier_missing-sw-comps.cbor":   {err: psa.ErrMalformed},
	"iatverifier_no-sw-measurements.cbor": {err: psa.ErrMalformed},
}

func TestRealSamples(t *testing.T) {
	own, other := publicPEM(t, "tfm_public.pem"), publicPEM(t, "iatverifier_key.pem")
	seen := 0
	for _, row := range sharedtest.Manifest(t, "evidence") {
		dir, name := path.Split(row["file"])
		if dir != "psa/" || strings.HasSuffix(name, ".pem") || strings.HasSuffix(name, ".key") || strings.HasSuffix(name, ".diag") {
			continue
		}
		seen++
		t.Run(name, func(t *testing.T) {
			want, listed := samples[name]
			if !listed {
				t.Fatal("a sample without an expectation")
			}
			msg, err := psa.Parse(sample(t, name))
			if want.err != nil {
				if !errors.Is(err, want.err) || !strings.Contains(err.Error(), want.says) {
					t.Fatalf("got %v, want %v with %q", err, want.err, want.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := msg.Verify(other); !errors.Is(err, psa.ErrSignature) {
				t.Errorf("under another key: got %v", err)
			}
			if _, err := msg.Verify(); !errors.Is(err, psa.ErrNoKey) {
				t.Errorf("without a key: got %v", err)
			}
			v, err := msg.Verify(other, own)
			if err != nil {
				t.Fatal(err)
			}
			checkSample(t, v, want.profile, own)
		})
	}
	if seen != len(samples) {
		t.Errorf("%d samples in the manifest, %d expected", seen, len(samples))
	}
}

// checkSample compares with what the manifest and the .diag file say of the TF-M tokens.
func checkSample(t *testing.T, v *psa.Verified, profile string, key *cose.Key) {
	t.Helper()
	tok := v.Token
	if tok.Profile != profile || !v.Key.Equal(key) || v.Algorithm != cose.AlgES256 {
		t.Errorf("profile %s, key %x, alg %d", tok.Profile, v.Key.KID(), v.Algorithm)
	}
	if tok.ClientID != 3002 || tok.Lifecycle != psa.LifecycleSecured || len(tok.BootSeed) != 32 || len(tok.Nonce) != 64 {
		t.Errorf("client %d, lifecycle %s, seed %x, nonce %x", tok.ClientID, tok.Lifecycle, tok.BootSeed, tok.Nonce)
	}
	spe, ok := tok.Component("SPE")
	if !ok || spe.Version == "" || len(spe.Value) != 32 || len(tok.Components) != 2 {
		t.Errorf("components: %+v", tok.Components)
	}
	if tok.CertReference != "0604565272829-10010" || tok.VerificationService != "www.trustedfirmware.org" {
		t.Errorf("reference %q, service %q", tok.CertReference, tok.VerificationService)
	}
}

func TestSampleFlippedBits(t *testing.T) {
	data, key := sample(t, "tfm_psa-2_0_0_sign1.bin"), publicPEM(t, "tfm_public.pem")
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1
		msg, err := psa.Parse(changed)
		if err != nil {
			continue
		}
		if _, err := msg.Verify(key); !errors.Is(err, psa.ErrSignature) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
}

func newIAK(t testing.TB) (crypto.Signer, *cose.Key) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := cose.NewKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key, pub
}

func token(profile string) psa.Token {
	fill := func(n int, b byte) []byte { return bytes.Repeat([]byte{b}, n) }
	return psa.Token{
		Profile: profile, Nonce: fill(64, 1), InstanceID: fill(33, 1), ImplementationID: fill(32, 2), ClientID: -7,
		Lifecycle: 0x3001, BootSeed: fill(32, 3), CertReference: "1234567890123-12345", VerificationService: "v",
		Components: []psa.Component{{Type: "AGENT", Value: fill(32, 4), Version: "1", SignerID: fill(32, 5), Description: "sha-256"},
			{Value: fill(48, 6), SignerID: fill(64, 7)}},
	}
}

func TestMintRoundTrip(t *testing.T) {
	iak, pub := newIAK(t)
	for _, profile := range []string{psa.ProfileTFM, psa.ProfileArm2, psa.ProfileLegacy} {
		want := token(profile)
		data, err := psa.Mint(rand.Reader, iak, want)
		if err != nil {
			t.Fatal(err)
		}
		msg, err := psa.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		v, err := msg.Verify(pub)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(*v.Token, want) {
			t.Errorf("%s: got %+v, want %+v", profile, *v.Token, want)
		}
		for n := range data {
			if _, err := psa.Parse(data[:n]); err == nil {
				t.Fatalf("%s: truncated to %d bytes and accepted", profile, n)
			}
		}
		if _, err := psa.Parse(append(bytes.Clone(data), 0)); err == nil {
			t.Error("a trailing byte was accepted")
		}
	}
}

func TestMintRefuses(t *testing.T) {
	iak, _ := newIAK(t)
	for name, change := range map[string]func(*psa.Token){
		"nonce":          func(k *psa.Token) { k.Nonce = k.Nonce[:63] },
		"instance":       func(k *psa.Token) { k.InstanceID = k.InstanceID[1:] },
		"instance type":  func(k *psa.Token) { k.InstanceID = append([]byte{2}, k.InstanceID[1:]...) },
		"implementation": func(k *psa.Token) { k.ImplementationID = nil },
		"lifecycle":      func(k *psa.Token) { k.Lifecycle = 0x7000 },
		"client":         func(k *psa.Token) { k.ClientID = 0 },
		"seed":           func(k *psa.Token) { k.BootSeed = k.BootSeed[:7] },
		"certificate":    func(k *psa.Token) { k.CertReference = "1" },
		"no components":  func(k *psa.Token) { k.Components = nil },
		"measurement":    func(k *psa.Token) { k.Components[0].Value = nil },
		"signer":         func(k *psa.Token) { k.Components[0].SignerID = []byte{1} },
		"no software":    func(k *psa.Token) { k.NoSoftware = true },
		"profile":        func(k *psa.Token) { k.Profile = "x" },
	} {
		k := token(psa.ProfileTFM)
		change(&k)
		if _, err := psa.Mint(rand.Reader, iak, k); err == nil {
			t.Errorf("%s: minted", name)
		}
	}
	ed, err := cose.GenerateKey(cose.AlgEd25519, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := psa.Mint(rand.Reader, ed, token(psa.ProfileTFM)); err == nil {
		t.Error("minted with Ed25519")
	}
}

// sign1 signs any payload as a token.
func sign1(t testing.TB, payload any) []byte {
	t.Helper()
	iak, _ := newIAK(t)
	s, err := cose.NewSigner(iak)
	if err != nil {
		t.Fatal(err)
	}
	data, err := cose.Sign1(rand.Reader, s, cose.MustMarshal(payload))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseRefuses(t *testing.T) {
	fill := func(n int) []byte { return bytes.Repeat([]byte{1}, n) }
	good := func() map[any]any {
		return map[any]any{10: fill(32), 256: fill(33), 265: psa.ProfileTFM, 2394: 1, 2395: 0x3000, 2396: fill(32),
			2399: []any{map[any]any{2: fill(32), 5: fill(32)}}}
	}
	if _, err := psa.Parse(sign1(t, good())); err != nil {
		t.Fatal(err)
	}
	type change func(map[any]any)
	set := func(k, v any) change { return func(m map[any]any) { m[k] = v } }
	remove := func(k any) change { return func(m map[any]any) { delete(m, k) } }
	for i, c := range []struct {
		name   string
		change change
		err    error
	}{
		{"unknown profile", set(265, "tag:psacertified.org,2024:x"), psa.ErrProfile},
		{"legacy profile under the new label", set(265, psa.ProfileLegacy), psa.ErrProfile},
		{"two profiles", set(-75000, psa.ProfileLegacy), psa.ErrMalformed},
		{"a legacy claim beside the new ones", set(-75008, fill(32)), psa.ErrMalformed},
		{"nonce as text", set(10, "x"), psa.ErrMalformed},
		{"nonce as null", set(10, nil), psa.ErrMalformed},
		{"nonce as list", set(10, []any{fill(32)}), psa.ErrMalformed},
		{"no nonce", remove(10), psa.ErrMalformed},
		{"no instance", remove(256), psa.ErrMalformed},
		{"no client", remove(2394), psa.ErrMalformed},
		{"client too large", set(2394, int64(1)<<40), psa.ErrMalformed},
		{"no lifecycle", remove(2395), psa.ErrMalformed},
		{"lifecycle negative", set(2395, -1), psa.ErrMalformed},
		{"lifecycle too large", set(2395, 0x13000), psa.ErrMalformed},
		{"lifecycle undefined", set(2395, 0x3100), psa.ErrMalformed},
		{"no implementation", remove(2396), psa.ErrMalformed},
		{"no components", remove(2399), psa.ErrMalformed},
		{"components empty", set(2399, []any{}), psa.ErrMalformed},
		{"component without signer", set(2399, []any{map[any]any{2: fill(32)}}), psa.ErrMalformed},
		{"component without measurement", set(2399, []any{map[any]any{5: fill(32)}}), psa.ErrMalformed},
		{"boot seed too long", set(268, fill(33)), psa.ErrMalformed},
		{"client 0", set(2394, 0), psa.ErrMalformed},
		{"an unknown label", set(4711, 1), nil},
		{"a text label", set("x", 1), nil},
		{"a label of another kind", set(true, 1), psa.ErrMalformed},
	} {
		m := good()
		c.change(m)
		if _, err := psa.Parse(sign1(t, m)); !errors.Is(err, c.err) {
			t.Errorf("%d %s: got %v, want %v", i, c.name, err, c.err)
		}
	}
}

func TestParseRefusesWrappers(t *testing.T) {
	iak, pub := newIAK(t)
	data, err := psa.Mint(rand.Reader, iak, token(psa.ProfileTFM))
	if err != nil {
		t.Fatal(err)
	}
	cwt := append([]byte{0xd8, 61}, data...)
	for name, bad := range map[string][]byte{"CWT tag": cwt, "no tag": data[1:], "empty": nil, "large": make([]byte, 1<<17)} {
		if _, err := psa.Parse(bad); !errors.Is(err, psa.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	ed, err := cose.GenerateKey(cose.AlgEd25519, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := cose.NewSigner(ed)
	other, _ := cose.Sign1(rand.Reader, s, []byte{0xa0})
	if _, err := psa.Parse(other); !errors.Is(err, psa.ErrAlgorithm) {
		t.Errorf("Ed25519: got %v", err)
	}
	edKey, _ := cose.NewKey(ed.Public())
	msg, _ := psa.Parse(data)
	if _, err := msg.Verify(edKey); !errors.Is(err, psa.ErrSignature) {
		t.Errorf("under an Ed25519 key: got %v", err)
	}
	if _, err := msg.Verify(edKey, pub); err != nil {
		t.Errorf("under the right key among others: %v", err)
	}
}

func TestLifecycle(t *testing.T) {
	for l, want := range map[psa.Lifecycle]string{0x3000: "secured (0x3000)", 0x40ff: "non-PSA-RoT debug (0x40ff)", 0x00ab: "unknown (0x00ab)"} {
		if got := l.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if !psa.Lifecycle(0x30aa).Secured() || psa.Lifecycle(0x4000).Secured() || psa.Lifecycle(0x3100).Secured() {
		t.Error("Secured is wrong")
	}
}

func TestComponentTwice(t *testing.T) {
	k := token(psa.ProfileTFM)
	k.Components[1].Type = "AGENT"
	if _, ok := k.Component("AGENT"); ok {
		t.Error("of two components with one name, one was chosen")
	}
}

func FuzzParse(f *testing.F) {
	iak, pub := newIAK(f)
	for _, profile := range []string{psa.ProfileTFM, psa.ProfileArm2, psa.ProfileLegacy} {
		data, err := psa.Mint(rand.Reader, iak, token(profile))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		msg, err := psa.Parse(data)
		if err != nil {
			return
		}
		// What is read can be written again and then says the same.
		again, err := psa.Mint(rand.Reader, iak, *msg.TokenInsecure())
		if err != nil {
			t.Fatalf("read, and not writable: %v", err)
		}
		second, err := psa.Parse(again)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(second.TokenInsecure(), msg.TokenInsecure()) {
			t.Fatalf("got %+v, want %+v", second.TokenInsecure(), msg.TokenInsecure())
		}
		if _, err := second.Verify(pub); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	data, key := sample(b, "tfm_psa-2_0_0_sign1.bin"), publicPEM(b, "tfm_public.pem")
	b.ReportAllocs()
	for b.Loop() {
		msg, err := psa.Parse(data)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := msg.Verify(key); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleLifecycle() {
	fmt.Println(psa.LifecycleSecured)
	// Output: secured (0x3000)
}

// TestManifest checks every row for PSA: tokens here as far as that they have an expectation in TestRealSamples, which checks them;
// keys and the listing of claims by what belongs together.
func TestManifest(t *testing.T) {
	keys := map[string]*cose.Key{}
	checked := 0
	for _, row := range sharedtest.Manifest(t, "evidence") {
		dir, name := path.Split(row["file"])
		if dir != "psa/" {
			continue
		}
		checked++
		_, token := samples[name]
		switch {
		case token:
		case strings.HasSuffix(name, ".pem"):
			keys[name] = publicPEM(t, name)
		case name == "iatverifier_hmac.key":
			if _, err := psa.Parse(sample(t, "iatverifier_iat-hmac.cbor")); len(sample(t, name)) != 32 || !errors.Is(err, psa.ErrMac0) {
				t.Errorf("%s: the token that it is for: %v", name, err)
			}
		case name == "tfm_psa-2_0_0_claims.diag":
			checkListing(t, string(sample(t, name)))
		default:
			t.Errorf("%s: a row without a check", name)
		}
	}
	if len(keys) != 4 || !keys["tfm_key.pem"].Equal(keys["tfm_public.pem"]) || keys["iatverifier_key.pem"].Equal(keys["iatverifier_key-alt.pem"]) {
		t.Errorf("%d keys, or not those that belong together", len(keys))
	}
	t.Logf("%d rows for PSA checked, none skipped", checked)
	if checked != 14 {
		t.Errorf("%d rows checked, want 14", checked)
	}
}

// checkListing compares the claims in diagnostic notation with the token's.
func checkListing(t *testing.T, listing string) {
	t.Helper()
	msg, err := psa.Parse(sample(t, "tfm_psa-2_0_0_sign1.bin"))
	if err != nil {
		t.Fatal(err)
	}
	tok := msg.TokenInsecure()
	values := [][]byte{tok.Nonce, tok.BootSeed, tok.InstanceID, tok.ImplementationID}
	for _, c := range tok.Components {
		values = append(values, c.SignerID)
	}
	for _, v := range values {
		if !strings.Contains(listing, fmt.Sprintf("h'%X'", v)) {
			t.Errorf("the listing has no %X", v)
		}
	}
}
