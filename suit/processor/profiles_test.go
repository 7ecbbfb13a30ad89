// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"testing"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/report"
)

// profile is one row of suit-mti: digest, authentication, key exchange, content encryption.
type profile struct {
	name    string
	auth    cose.Algorithm
	curve   ecdh.Curve // of the ES-DH recipient
	kek     int        // bytes of the KEK, without a curve
	content cose.Algorithm
}

var profiles = []profile{
	{"suit-sha256-hmac-a128kw-a128ctr", cose.AlgHMAC256, nil, 16, cose.AlgA128CTR},
	{"suit-sha256-esp256-ecdh-a128ctr", cose.AlgESP256, ecdh.P256(), 0, cose.AlgA128CTR},
	{"suit-sha256-ed25519-ecdh-a128ctr", cose.AlgEd25519, ecdh.P256(), 0, cose.AlgA128CTR},
	{"suit-sha256-ed25519-ecdh-a128ctr over X25519", cose.AlgEd25519, ecdh.X25519(), 0, cose.AlgA128CTR},
	{"suit-sha256-esp256-ecdh-a128gcm", cose.AlgESP256, ecdh.P256(), 0, cose.AlgA128GCM},
	{"suit-sha256-ed25519-ecdh-chacha-poly", cose.AlgEd25519, ecdh.X25519(), 0, cose.AlgChaCha20Poly1305},
	// The key wrap and the cipher of the profile whose signature is not verified here.
	{"suit-sha256-hsslms-a256kw-a256ctr without HSS-LMS", cose.AlgESP256, nil, 32, cose.AlgA256CTR},
	// Not in suit-mti: A128KW with the other contents.
	{"a128kw-a128gcm", cose.AlgHMAC256, nil, 16, cose.AlgA128GCM},
	{"a128kw-chacha-poly", cose.AlgHMAC256, nil, 16, cose.AlgChaCha20Poly1305},
}

func (p profile) recipient(t *testing.T, device *memPlatform) cose.Recipient {
	t.Helper()
	if p.curve == nil {
		kek := make([]byte, p.kek)
		rand.Read(kek)
		device.keys.kek = [][]byte{kek}
		return cose.Recipient{KEK: kek, KID: []byte("kek")}
	}
	priv, err := p.curve.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	device.keys.ecdh = []*ecdh.PrivateKey{priv}
	key, err := cose.NewKey(priv.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	return cose.Recipient{Key: key}
}

// TestProfiles takes a manifest and its payload through each profile of suit-mti, from encryption to the installed component:
// authenticated by signature or MAC, the payload fetched, checked, decrypted and checked again.
func TestProfiles(t *testing.T) {
	plain := bytes.Repeat([]byte("personalization data "), 1000)
	for _, p := range profiles {
		t.Run(p.name, func(t *testing.T) {
			device := ownDevice()
			info, cipher, err := cose.NewEncrypter(rand.Reader, p.content, p.recipient(t, device), cose.ContextSUITPayload)
			if err != nil {
				t.Fatal(err)
			}
			var ciphertext bytes.Buffer
			if _, err := cipher.Seal(&ciphertext, bytes.NewReader(plain)); err != nil {
				t.Fatal(err)
			}
			b := encryptedBuilder(info, suit.SHA256(ciphertext.Bytes()), "http://x/enc")
			b.Install = append(b.Install,
				suit.SetComponentIndex(1), suit.Override(suit.Params{suit.ParamDigest: suit.SHA256(plain)}), suit.ImageMatch())
			device.web["http://x/enc"] = ciphertext.Bytes()
			envelope, o := p.authenticate(t, b)
			out, err := New(device, o).Update(context.Background(), envelope)
			checkReport(t, out, err)
			if err != nil || !bytes.Equal(device.components["pd/app/f"], plain) {
				t.Fatal(err)
			}
			ciphertext.Bytes()[40] ^= 1
			if out, err := New(device, o).Update(context.Background(), envelope); err == nil {
				t.Errorf("a changed ciphertext was installed: %+v", out.Touched)
			}
			device.keys = memKeys{}
			ciphertext.Bytes()[40] ^= 1
			if _, err := New(device, o).Update(context.Background(), envelope); !errors.Is(err, cose.ErrNoKey) {
				t.Errorf("another device: %v", err)
			}
		})
	}
}

func (p profile) authenticate(t testing.TB, b *suit.Builder) ([]byte, Options) {
	t.Helper()
	if p.auth == cose.AlgHMAC256 {
		envelope, err := b.BuildMAC(fuzzKey, []byte("kid"))
		if err != nil {
			t.Fatal(err)
		}
		return envelope, Options{MACKeys: [][]byte{fuzzKey}, StrictAlgorithms: true}
	}
	priv, err := cose.GenerateKey(p.auth, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := cose.NewSigner(priv)
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := b.Build(rand.Reader, signer)
	if err != nil {
		t.Fatal(err)
	}
	return envelope, Options{Keys: []*cose.Key{signer.Key()}, StrictAlgorithms: true}
}

// TestHSSLMSProfile: a manifest that only HSS-LMS authenticates is refused, with the algorithm's name and its own reason.
func TestHSSLMSProfile(t *testing.T) {
	b := taBuilder(1, []byte("binary"))
	good := sign(t, b)
	var shell map[any]cose.RawMessage
	if err := cose.Unmarshal(suit.WithoutTag(good), &shell); err != nil {
		t.Fatal(err)
	}
	var wrapper []byte
	var blocks [][]byte
	if err := errors.Join(cose.Unmarshal(shell[int64(2)], &wrapper), cose.Unmarshal(wrapper, &blocks)); err != nil {
		t.Fatal(err)
	}
	blocks[1] = append([]byte{0xd2}, cose.MustMarshal([]any{cose.MustMarshal(map[int]int{1: -46}), map[int]int{}, nil, make([]byte, 100)})...)
	shell[int64(2)] = cose.MustMarshal(cose.MustMarshal(blocks))
	e := refusedBytes(t, ownDevice(), cose.MustMarshal(shell), ownOptions())
	if e.Reason != report.ReasonAlgUnsupported || !errors.Is(e, cose.ErrUnsupported) || !bytes.Contains([]byte(e.Error()), []byte("HSS-LMS")) {
		t.Error(e)
	}
}

// TestMACManifests: a MAC says only that one who has the key made the manifest, so the platform is asked with no signer.
func TestMACManifests(t *testing.T) {
	b := taBuilder(1, []byte("binary"))
	envelope, err := b.BuildMAC(fuzzKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	run := func(p *memPlatform, o Options) error {
		out, err := New(p, o).Update(context.Background(), envelope)
		checkReport(t, out, err)
		return err
	}
	asked := 0
	p := ownDevice()
	p.deny = func(signer *cose.Key, _ suit.ComponentID) error {
		if asked++; signer != nil {
			t.Error("a MAC has a signer")
		}
		return nil
	}
	if err := run(p, Options{MACKeys: [][]byte{fuzzKey}}); err != nil || asked != 2 || string(p.components["tee/app/ta"]) != "binary" {
		t.Error(err, asked)
	}
	for name, o := range map[string]Options{
		"no key": {}, "another key": {MACKeys: [][]byte{make([]byte, 32)}}, "only signatures": ownOptions(),
	} {
		if err := run(ownDevice(), o); !errors.Is(err, suit.ErrUnauthorised) {
			t.Error(name, err)
		}
	}
	deny := ownDevice()
	deny.deny = func(*cose.Key, suit.ComponentID) error { return errors.New("only signed manifests here") }
	if err := run(deny, Options{MACKeys: [][]byte{fuzzKey}}); err == nil {
		t.Error("the platform's refusal does not count")
	}
}
