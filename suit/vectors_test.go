// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/internal/sharedtest"
)

// exampleKeys are the published anchors of the vectors' manifests.
func exampleKeys(t testing.TB) ([]*cose.Key, VerifyOptions) {
	t.Helper()
	var keys []*cose.Key
	for _, name := range []string{"suit_example_p256_priv.pem", "attestam_developer_priv.pem"} {
		priv, err := cose.ParsePrivatePEM(sharedtest.Read(t, "vectors", "keys/"+name))
		if err != nil {
			t.Fatal(err)
		}
		key, err := cose.NewKey(priv.Public())
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys, VerifyOptions{MACKeys: [][]byte{bytes.Repeat([]byte("a"), 32)}}
}

// vectorErrors are the manifests among the vectors that must not verify or parse, and how.
var vectorErrors = map[string]error{
	"suit-manifest/example0_0.suit.cbor":            ErrUnsigned,
	"suit-manifest/example1_0.suit.cbor":            ErrUnsigned,
	"suit-manifest/example3_0.suit.cbor":            ErrUnsigned,
	"suit-manifest/example5_0.suit.cbor":            ErrUnsigned,
	"dthaler-teep/38b08738.suit.cbor":               ErrUnsigned,
	"generated/suit/neg_no_auth.suit.cbor":          ErrUnsigned,
	"generated/suit/neg_untrusted_signer.suit.cbor": ErrUnauthorised,
	"generated/suit/neg_manifest_flip.suit.cbor":    ErrDigest,
	"generated/suit/neg_version2.suit.cbor":         ErrVersion,
	"tamproto/suit_manifest_exp1.suit.cbor":         ErrMalformed, // its digest has the form of an old draft
	"teep-device/suit-id-example0.suit.cbor":        ErrMalformed, // the rest have members or dependencies of old drafts
	"teep-device/suit-id-example1.suit.cbor":        ErrMalformed,
	"teep-device/suit-id-example3.suit.cbor":        ErrMalformed,
	"teep-device/suit-id-example4.suit.cbor":        ErrMalformed,
	"teep-device/suit-id-example5.suit.cbor":        ErrMalformed,
	"teep-device/suit-id-example7.suit.cbor":        ErrMalformed,
	"teep-device/teep-id-ex1.suit.cbor":             ErrMalformed,
	"teep-device/teep-id-ex3.suit.cbor":             ErrMalformed,
}

// TestVectors verifies and parses every manifest of the vectors.
func TestVectors(t *testing.T) {
	keys, options := exampleKeys(t)
	good, bad := 0, 0
	for _, row := range sharedtest.Manifest(t, "vectors") {
		path := row["path"]
		if !strings.HasSuffix(path, ".suit.cbor") {
			continue
		}
		data := sharedtest.Read(t, "vectors", path)
		m, err := verify(data, keys, options)
		want := vectorErrors[path]
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
			continue
		}
		if want != nil {
			bad++
			continue
		}
		good++
		if tag := strings.Contains(row["check outcome"], "tag107"); tag != m.Envelope.Tagged() {
			t.Errorf("%s: tagged %v", path, m.Envelope.Tagged())
		}
		checkRoundTrip(t, path, m.Manifest)
	}
	t.Logf("%d manifests verified and parsed, %d refused as they must be", good, bad)
}

func verify(data []byte, keys []*cose.Key, o VerifyOptions) (*Verified, error) {
	e, err := ParseEnvelope(data)
	if err != nil {
		return nil, err
	}
	return e.Verify(keys, o)
}

// checkRoundTrip: sequences and envelope encode to the bytes they came from, as the vectors are deterministic.
func checkRoundTrip(t *testing.T, path string, m *Manifest) {
	t.Helper()
	for _, label := range Sections {
		seq, ok := m.Section(label)
		if !ok {
			continue
		}
		data, err := seq.Marshal()
		if err != nil {
			t.Errorf("%s: %v: %v", path, label, err)
		} else if !bytes.Contains(m.Envelope.Bytes(), data) {
			t.Errorf("%s: %v changes in its own encoding: %x", path, label, data)
		}
	}
	data, err := m.Envelope.Encode(EncodeOptions{Tag: m.Envelope.Tagged()})
	if err != nil || !bytes.Equal(data, m.Envelope.Bytes()) {
		t.Errorf("%s: the envelope changes in its own encoding (%v)", path, err)
	}
}

// TestStrictAlgorithms: the polymorphic algorithms are an option.
func TestStrictAlgorithms(t *testing.T) {
	keys, options := exampleKeys(t)
	options.StrictAlgorithms = true
	for path, want := range map[string]error{
		"suit-manifest/example0_1.suit.cbor":       ErrUnauthorised, // ES256
		"libcsuit/exp0.suit.cbor":                  nil,             // ESP256
		"libcsuit/expAW.suit.cbor":                 nil,             // HMAC
		"generated/suit/two_auth_blocks.suit.cbor": nil,
	} {
		if _, err := verify(sharedtest.Read(t, "vectors", path), keys, options); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

// TestEveryBitCounts flips each bit of a signed envelope: nothing that still verifies may differ in the manifest.
func TestEveryBitCounts(t *testing.T) {
	keys, options := exampleKeys(t)
	data := sharedtest.Read(t, "vectors", "generated/suit/severed_install_present.suit.cbor")
	good, err := verify(data, keys, options)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 * len(data) {
		flipped := bytes.Clone(data)
		flipped[i/8] ^= 1 << (i % 8)
		m, err := verify(flipped, keys, options)
		if err == nil && (!m.Digest.Equal(good.Digest) || len(m.Install) != len(good.Install)) {
			t.Errorf("bit %d: another manifest verifies", i)
		}
	}
}
