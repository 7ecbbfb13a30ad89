// SPDX-License-Identifier: Apache-2.0

package corim_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"sealift/appraisal"
	"sealift/appraisal/corim"
	"sealift/cose"
	"sealift/cose/wire"
	"sealift/evidence"
	"sealift/internal/sharedtest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tagged is an item with a tag.
func tagged(tag uint64, v any) cose.RawMessage {
	return append(wire.AppendTag(nil, tag), cose.MustMarshal(v)...)
}

type m = map[int]any

var (
	implID = bytes.Repeat([]byte{7}, 32)
	digest = bytes.Repeat([]byte{8}, 32)
	signer = bytes.Repeat([]byte{9}, 32)
)

// component is a measurement as the PSA profile has it.
func component(label string) m {
	return m{0: tagged(601, m{1: label, 4: "1.2", 5: signer}), 1: m{2: []any{[]any{1, digest}}}}
}

// manifest is a corim-map with one CoMID that holds these triples.
func manifest(triples m) m {
	comid := cose.MustMarshal(m{1: m{0: "tag"}, 4: triples})
	return m{0: "id", 1: []any{tagged(506, comid)}, 3: []string{"http://arm.com/psa/iot/1"}, 4: m{0: tagged(1, 1700000000), 1: tagged(1, 1800000000)}}
}

func psa() m {
	return manifest(m{0: []any{[]any{m{0: m{0: tagged(600, implID), 1: "ACME", 2: "RoadRunner"}}, []any{component("BL"), component("PRoT")}}},
		3: []any{}})
}

func realm() m {
	registers := map[string]any{"rim": []any{[]any{"sha-256", digest}}, "rem0": []any{[]any{7, append(digest, digest[:16]...)}}}
	return manifest(m{0: []any{[]any{m{0: m{1: "ACME"}, 1: tagged(560, digest)}, []any{m{1: m{14: registers}}}}}})
}

func platform() m {
	return manifest(m{0: []any{[]any{m{0: m{0: tagged(560, implID)}}, []any{
		m{0: "cca.software-component", 1: m{2: []any{[]any{"sha-256", digest}, []any{"md5", digest}}, 11: "RMM", 0: m{0: "3.1"}, 1: tagged(552, 3)}},
		m{0: tagged(602, "cfg v1"), 1: m{4: tagged(560, []byte{1, 2, 3})}}}}}})
}

func names(c *corim.Manifest) (out []string) {
	for i := range c.References {
		out = append(out, c.References[i].Name)
	}
	return out
}

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		m       m
		names   []string
		ignored string
	}{
		"PSA":          {psa(), []string{"BL", "PRoT"}, "attestation keys"},
		"CCA realm":    {realm(), []string{"REM0", "RIM"}, "instance"},
		"CCA platform": {platform(), []string{"RMM", "platform configuration cfg v1"}, "md5"},
	} {
		for wrapper, data := range map[string][]byte{"501": tagged(501, c.m), "500": tagged(500, tagged(501, c.m))} {
			got, err := corim.Parse(data)
			must(t, err)
			if !slices.Equal(names(got), c.names) || !strings.Contains(strings.Join(got.Ignored, "; "), c.ignored) {
				t.Errorf("%s in %s: %v, ignored %v", name, wrapper, names(got), got.Ignored)
			}
			if got.ID != "id" || len(got.Profiles) != 1 || got.NotBefore.Unix() != 1700000000 || got.NotAfter.Unix() != 1800000000 || got.Signed {
				t.Errorf("%s in %s: %+v", name, wrapper, got)
			}
		}
	}
	got, err := corim.Parse(tagged(501, psa()))
	must(t, err)
	r := got.References[0]
	if !bytes.Equal(r.ImplementationID, implID) || r.Vendor != "ACME" || r.Version != "1.2" || !bytes.Equal(r.SignerID, signer) ||
		!bytes.Equal(r.Digests[0].Bytes, digest) {
		t.Errorf("%+v", r)
	}
}

// TestSigned guards that with keys only their signatures count, and without keys it is said that nothing was verified.
func TestSigned(t *testing.T) {
	key, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	must(t, err)
	s, err := cose.NewSigner(key)
	must(t, err)
	signed, err := cose.Sign1With(rand.Reader, s, cose.Headers{ContentType: "application/rim+cbor"}, tagged(501, psa()))
	must(t, err)
	other, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	must(t, err)
	stranger, err := cose.NewKey(other.Public())
	must(t, err)
	for _, data := range [][]byte{signed, tagged(500, tagged(502, cose.RawMessage(signed)))} {
		got, err := corim.Parse(data, s.Key())
		must(t, err)
		if !got.Signed || got.Signer == nil || len(got.References) != 2 {
			t.Errorf("%+v", got)
		}
		if _, err := corim.Parse(data, stranger); !errors.Is(err, corim.ErrSignature) {
			t.Errorf("by a stranger: %v", err)
		}
		got, err = corim.Parse(data)
		must(t, err)
		if got.Signer != nil || !strings.Contains(strings.Join(got.Ignored, ";"), "the signature") {
			t.Errorf("without a key: %+v", got)
		}
	}
	if _, err := corim.Parse(tagged(501, psa()), s.Key()); !errors.Is(err, corim.ErrSignature) {
		t.Errorf("without a signature: %v", err)
	}
	wrong, err := cose.Sign1(rand.Reader, s, tagged(501, psa()))
	must(t, err)
	if _, err := corim.Parse(wrong, s.Key()); !errors.Is(err, corim.ErrMalformed) {
		t.Errorf("signed as something else: %v", err)
	}
}

func TestRefused(t *testing.T) {
	triple := func(environment, measurements any) m { return manifest(m{0: []any{[]any{environment, measurements}}}) }
	for name, data := range map[string][]byte{
		"empty":               {},
		"no tag":              cose.MustMarshal(psa()),
		"another tag":         tagged(399, psa()),
		"no id":               tagged(501, m{1: []any{tagged(506, []byte{0xa0})}}),
		"no tags":             tagged(501, m{0: "id"}),
		"CoMID is no map":     tagged(501, m{0: "id", 1: []any{tagged(506, []byte{0x01})}}),
		"no triples":          tagged(501, m{0: "id", 1: []any{tagged(506, cose.MustMarshal(m{1: m{0: "x"}}))}}),
		"triple of three":     tagged(501, manifest(m{0: []any{[]any{m{}, []any{}, 1}}})),
		"no measurement":      tagged(501, triple(m{0: m{1: "x"}}, []any{})),
		"digest of a number":  tagged(501, triple(m{}, []any{m{1: m{2: []any{[]any{1, 2}}}}})),
		"digest too short":    tagged(501, triple(m{}, []any{m{1: m{2: []any{[]any{1, []byte{1}}}}}})),
		"validity is no time": tagged(501, m{0: "id", 1: []any{tagged(506, []byte{0xa0})}, 4: m{1: "now"}}),
	} {
		if _, err := corim.Parse(data); !errors.Is(err, corim.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := tagged(500, tagged(501, psa()))
	for i := range good {
		if _, err := corim.Parse(good[:i]); !errors.Is(err, corim.ErrMalformed) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
}

// TestTemplate guards that what the template of an OP-TEE demonstrator says comes out of its CBOR form.
func TestTemplate(t *testing.T) {
	var template struct {
		Triples struct {
			References []struct {
				Environment struct {
					Class struct {
						ID            struct{ Value string }
						Vendor, Model string
					}
				}
				Measurements []struct {
					Key struct {
						Value struct {
							Label    string
							SignerID string `json:"signer-id"`
						}
					}
					Value struct{ Digests []string }
				}
			} `json:"reference-values"`
		}
	}
	must(t, json.Unmarshal(sharedtest.Read(t, "evidence", "optee/opteera_comid-psa-refval.json"), &template))
	binary := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		must(t, err)
		return b
	}
	ref := template.Triples.References[0]
	one := ref.Measurements[0]
	_, sum, _ := strings.Cut(one.Value.Digests[0], ";")
	class := ref.Environment.Class
	data := tagged(500, tagged(501, manifest(m{0: []any{[]any{m{0: m{0: tagged(600, binary(class.ID.Value)), 1: class.Vendor, 2: class.Model}},
		[]any{m{0: tagged(601, m{1: one.Key.Value.Label, 5: binary(one.Key.Value.SignerID)}), 1: m{2: []any{[]any{1, binary(sum)}}}}}}}})))
	got, err := corim.Parse(data)
	must(t, err)
	if r := got.References[0]; r.Name != "PRoT" || r.Vendor != "ACME" || !bytes.Equal(r.Digests[0].Bytes, binary(sum)) || len(got.Ignored) != 0 {
		t.Errorf("%+v", got)
	}
}

// TestApply guards what of a manifest gets into a policy.
func TestApply(t *testing.T) {
	policy := func(hw evidence.Hardware, names ...string) *appraisal.Policy {
		p := &appraisal.Policy{Version: appraisal.PolicyVersion, Name: "p", Accept: appraisal.TierAffirming, Hardware: []evidence.Hardware{hw},
			Anchors: []appraisal.AnchorRef{{Fingerprint: appraisal.Hex32{1}}}}
		for _, n := range names {
			p.ReferenceValues = append(p.ReferenceValues, appraisal.ReferenceValue{Name: n, Digests: []appraisal.Digest{appraisal.SHA256Digest([32]byte{})}})
		}
		return p
	}
	for name, c := range map[string]struct {
		m      m
		policy *appraisal.Policy
		class  []byte
		values []string
		rules  []string
		err    error
	}{
		"PSA":            {psa(), policy(evidence.TrustZone), nil, []string{"BL", "PRoT"}, []string{"implementation-id"}, nil},
		"CCA platform":   {platform(), policy(evidence.CCA, "RIM"), nil, []string{"RIM", "RMM"}, []string{"platform-config", "implementation-id"}, nil},
		"CCA realm":      {realm(), policy(evidence.CCA), nil, []string{"REM0", "RIM"}, nil, nil},
		"another class":  {psa(), policy(evidence.TrustZone), digest, nil, nil, corim.ErrNothing},
		"the same class": {psa(), policy(evidence.TrustZone), implID, []string{"BL", "PRoT"}, []string{"implementation-id"}, nil},
		"two classes": {manifest(m{0: []any{[]any{m{0: m{0: tagged(600, implID)}}, []any{component("A")}},
			[]any{m{0: m{0: tagged(600, digest)}}, []any{component("B")}}}}), policy(evidence.TrustZone), nil, nil, nil, corim.ErrClasses},
		"no launch": {platform(), policy(evidence.CCA), nil, []string{"RMM"}, []string{"platform-config", "implementation-id"}, appraisal.ErrPolicy},
	} {
		got, err := corim.Parse(tagged(501, c.m))
		must(t, err)
		_, err = got.Apply(c.policy, corim.Selection{Hardware: c.policy.Hardware[0], ImplementationID: c.class, Source: "vendor.cbor"})
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
		var values, rules []string
		for _, v := range c.policy.ReferenceValues {
			values = append(values, v.Name)
			if len(values) > 1 && (v.NotAfter == nil || !strings.Contains(v.Source, "vendor.cbor")) {
				t.Errorf("%s: %+v", name, v)
			}
		}
		for _, r := range c.policy.Rules {
			rules = append(rules, r.Field)
		}
		if !slices.Equal(values, c.values) || !slices.Equal(rules, c.rules) {
			t.Errorf("%s: %v %v", name, values, rules)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []m{psa(), realm(), platform()} {
		f.Add([]byte(tagged(501, seed)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := corim.Parse(data)
		if err != nil {
			return
		}
		for _, r := range got.References {
			if len(r.Digests) == 0 && r.Raw == nil {
				t.Fatal("a reference value without a value")
			}
		}
	})
}
