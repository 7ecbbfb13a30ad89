// SPDX-License-Identifier: Apache-2.0

package cose

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"sealift/internal/sharedtest"
)

func fromHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The examples of RFC 3394 sections 4.1, 4.3 and 4.6.
func TestKeyWrapOfRFC3394(t *testing.T) {
	for _, c := range []struct{ kek, key, wrapped string }{
		{"000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff", "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5"},
		{"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "00112233445566778899aabbccddeeff", "64e8c3f9ce0f5ba263e9777905818a2a93c8191e7d6e8ae7"},
		{"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f", "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"},
	} {
		kek, key, want := fromHex(t, c.kek), fromHex(t, c.key), fromHex(t, c.wrapped)
		wrapped, err := wrapKey(kek, key)
		if err != nil || !bytes.Equal(wrapped, want) {
			t.Fatalf("%x, %v", wrapped, err)
		}
		back, err := unwrapKey(kek, wrapped)
		if err != nil || !bytes.Equal(back, key) {
			t.Fatalf("%x, %v", back, err)
		}
		for i := range wrapped {
			wrapped[i] ^= 1
			if _, err := unwrapKey(kek, wrapped); !errors.Is(err, ErrDecrypt) {
				t.Fatalf("byte %d altered: %v", i, err)
			}
			wrapped[i] ^= 1
		}
	}
	kek := make([]byte, 16)
	if _, err := wrapKey(kek, make([]byte, 15)); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	if _, err := wrapKey(kek[1:], make([]byte, 16)); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	if _, err := unwrapKey(kek[1:], make([]byte, 24)); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	for _, n := range []int{0, 8, 16, 25} {
		if _, err := unwrapKey(kek, make([]byte, n)); !errors.Is(err, ErrMalformed) {
			t.Error(n, err)
		}
	}
}

func TestKDFContext(t *testing.T) {
	protected := fromHex(t, "a101381c")
	const draft = "842283f6f6f683f6f6f683188044a101381c5753554954205061796c6f616420456e6372797074696f6e"
	if got := kdfContext(protected, ContextSUITPayload); hex.EncodeToString(got) != draft {
		t.Errorf("%x", got)
	}
	if got := kdfContext(protected, ""); hex.EncodeToString(got) != "842283f6f6f683f6f6f682188044a101381c" {
		t.Errorf("%x", got)
	}
	if want := sharedtest.Read(t, "vectors", "suit-firmware-encryption/a128kw_kdf_context.cbor"); !bytes.Equal(kdfContext(protected, ContextSUITPayload), want) {
		t.Errorf("vector says %x", want)
	}
}

func TestSignatureForms(t *testing.T) {
	for _, raw := range []string{
		"00000000000000000000000000000000000000000000000000000000000000010000000000000000000000000000000000000000000000000000000000000080",
		"ff000000000000000000000000000000000000000000000000000000000000017f00000000000000000000000000000000000000000000000000000000000080",
		"00ff00000000000000000000000000000000000000000000000000000000000100000000000000000000000000000000000000000000000000000000000000ff",
	} {
		back, err := rawFromDER(derFromRaw(fromHex(t, raw)))
		if err != nil || hex.EncodeToString(back) != raw {
			t.Errorf("%s became %x, %v", raw, back, err)
		}
	}
	for _, der := range []string{"", "30", "3000", "3003020101", "30060201010201", "3007020101020101", "300602010102010100", "30060301010201ff", "3026022101" + "00000000000000000000000000000000000000000000000000000000000000000201" + "01"} {
		if raw, err := rawFromDER(fromHex(t, der)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s became %x, %v", der, raw, err)
		}
	}
}

func TestAlgorithmNames(t *testing.T) {
	for alg, want := range map[Algorithm]string{AlgESP256: "ESP256", AlgEd25519: "Ed25519", -999: "COSE algorithm -999"} {
		if alg.String() != want {
			t.Errorf("%d is called %s", alg, alg)
		}
	}
}
