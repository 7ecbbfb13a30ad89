// SPDX-License-Identifier: Apache-2.0

package evidence_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/evidence"
	"sealift/suit"
)

// The vector was computed with an encoder written by hand for it: 85 76 <label> 6d <name> 58 40 <challenge> 58 20 ...
func TestBindingVector(t *testing.T) {
	challenge := make([]byte, 64)
	for i := range challenge {
		challenge[i] = byte(i)
	}
	ckt, ext := [32]byte(bytes.Repeat([]byte{0x11}, 32)), [32]byte(bytes.Repeat([]byte{0x22}, 32))
	b := evidence.Binding("emu:trustzone", challenge, ckt, ext)
	const want = "13392fe2521ee802751951128de1765a0e2ce7d2af8f755904f47db21d005ffb937aa7060fd7b0be24d05eee2c82face433bd253b306f91341541d74f54adb47"
	if got := hex.EncodeToString(b[:]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	seen := map[[64]byte]bool{b: true}
	for _, other := range [][64]byte{
		evidence.Binding("trustzone", challenge, ckt, ext), evidence.Binding("emu:trustzone", challenge[1:], ckt, ext),
		evidence.Binding("emu:trustzone", nil, ckt, ext), evidence.Binding("emu:trustzone", challenge, ext, ckt),
		evidence.Binding("emu:trustzone", challenge, ext, ext), evidence.Binding("emu:trustzone", challenge, ckt, ckt),
	} {
		if seen[other] {
			t.Error("two different inputs, one binding")
		}
		seen[other] = true
	}
}

func TestChallenge(t *testing.T) {
	tam, owner, err := evidence.SplitChallenge(evidence.MixChallenge(nonce(3), nonce(4)))
	if err != nil || tam != nonce(3) || owner != nonce(4) {
		t.Errorf("got %x %x %v", tam, owner, err)
	}
	for _, n := range []int{0, 32, 63, 65} {
		if _, _, err := evidence.SplitChallenge(make([]byte, n)); !errors.Is(err, evidence.ErrChallenge) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestHardwareNames(t *testing.T) {
	for _, hw := range evidence.AllHardware() {
		for _, emu := range []bool{true, false} {
			if h, e := evidence.ParseBindingName(hw.BindingName(emu)); h != hw || e != emu {
				t.Errorf("%s %v: got %s %v", hw, emu, h, e)
			}
		}
	}
}

func TestClaimsRoundTrip(t *testing.T) {
	c := newWorld(t).claims
	c.AgentKID = bytes.Repeat([]byte{1}, 32)
	c.ConfigDigest = nonce(3)
	got, err := evidence.ParseClaims(c.Marshal())
	must(t, err)
	if !bytes.Equal(got.Marshal(), c.Marshal()) || !reflect.DeepEqual(got.Manifests, c.Manifests) {
		t.Errorf("got %+v, want %+v", got, c)
	}
	c.TAs, c.Manifests = nil, nil
	got, err = evidence.ParseClaims(c.Marshal())
	must(t, err)
	if len(got.TAs)+len(got.Manifests) != 0 {
		t.Errorf("got %+v", got)
	}
	list, err := evidence.ParseTAs(evidence.MarshalTAs(newWorld(t).claims.TAs))
	must(t, err)
	if len(list) != 1 || list[0].Component.String() != "tee/stats/ta" {
		t.Errorf("got %+v", list)
	}
}

// Each rule of the record broken by its own writer.
func TestClaimsRules(t *testing.T) {
	ed := newKey(t, cose.AlgEd25519)
	for name, change := range map[string]func(*evidence.Claims){
		"nonce short":      func(c *evidence.Claims) { c.Nonce = c.Nonce[1:] },
		"no nonce":         func(c *evidence.Claims) { c.Nonce = nil },
		"ueid short":       func(c *evidence.Claims) { c.UEID = c.UEID[:6] },
		"ueid long":        func(c *evidence.Claims) { c.UEID = append(bytes.Clone(c.UEID), 1) },
		"oemid":            func(c *evidence.Claims) { c.OEMID = c.OEMID[:2] },
		"hwmodel":          func(c *evidence.Claims) { c.HWModel = nil },
		"hwmodel long":     func(c *evidence.Claims) { c.HWModel = append(bytes.Clone(c.HWModel), 1) },
		"hwversion":        func(c *evidence.Claims) { c.HWVersion = "" },
		"kid":              func(c *evidence.Claims) { c.AgentKID = c.AgentKID[1:] },
		"no enc key":       func(c *evidence.Claims) { c.AgentEncKey = nil },
		"enc key Ed25519":  func(c *evidence.Claims) { c.AgentEncKey = ed },
		"TA twice":         func(c *evidence.Claims) { c.TAs = append(c.TAs, c.TAs[0]) },
		"TA without name":  func(c *evidence.Claims) { c.TAs[0].Component = nil },
		"TA empty segment": func(c *evidence.Claims) { c.TAs[0].Component = suit.NewComponentID("tee", "") },
		"TA digest alg":    func(c *evidence.Claims) { c.TAs[0].Digest.Alg = 99 },
		"TA digest length": func(c *evidence.Claims) { c.TAs[0].Digest.Bytes = c.TAs[0].Digest.Bytes[1:] },
		"TA signer":        func(c *evidence.Claims) { c.TAs[0].Signer = nil },
		"TA enc key":       func(c *evidence.Claims) { c.TAs[0].EncKey = nil },
		"TA enc key kind":  func(c *evidence.Claims) { c.TAs[0].EncKey = ed },
		"TA TLS key":       func(c *evidence.Claims) { c.TAs[0].TLSKey = nil },
		"manifest URI":     func(c *evidence.Claims) { c.Manifests[0].URI = "" },
		"manifest digest":  func(c *evidence.Claims) { c.Manifests[0].Digest.Bytes = nil },
		"too many TAs":     func(c *evidence.Claims) { c.TAs = make([]evidence.TAClaim, 300) },
	} {
		c := newWorld(t).claims
		c.AgentKID = bytes.Repeat([]byte{1}, 32)
		change(&c)
		if err := c.Validate(); !errors.Is(err, evidence.ErrMalformed) {
			t.Errorf("%s: Validate: %v", name, err)
		}
		if _, err := evidence.ParseClaims(c.Marshal()); !errors.Is(err, evidence.ErrMalformed) {
			t.Errorf("%s: ParseClaims: %v", name, err)
		}
	}
}

// edit decodes CBOR, changes it and encodes it again, deterministically.
func edit(t *testing.T, data []byte, change func(map[any]any)) []byte {
	t.Helper()
	var m map[any]any
	must(t, cose.Unmarshal(data, &m))
	change(m)
	return cose.MustMarshal(m)
}

func TestClaimsStrict(t *testing.T) {
	c := newWorld(t).claims
	c.AgentKID = bytes.Repeat([]byte{1}, 32)
	good := c.Marshal()
	if !bytes.Equal(edit(t, good, func(map[any]any) {}), good) {
		t.Fatal("the test's own encoder differs")
	}
	for name, bad := range map[string][]byte{
		"unknown claim":  edit(t, good, func(m map[any]any) { m[int64(-70009)] = 1 }),
		"other profile":  edit(t, good, func(m map[any]any) { m[int64(265)] = "urn:ietf:rfc:rfcXXXX" }),
		"no profile":     edit(t, good, func(m map[any]any) { delete(m, int64(265)) }),
		"no TA list":     edit(t, good, func(m map[any]any) { delete(m, int64(-70003)) }),
		"hwversion of 2": edit(t, good, func(m map[any]any) { m[int64(260)] = []any{"1", "2"} }),
		"cnf with key":   edit(t, good, func(m map[any]any) { m[int64(8)] = map[any]any{3: bytes.Repeat([]byte{1}, 32), 9: 1} }),
		"manifests null": edit(t, good, func(m map[any]any) { m[int64(272)] = nil }),
		"manifest form":  edit(t, good, func(m map[any]any) { m[int64(272)] = []any{[]any{61, []byte{0xf6}}} }),
		"trailing":       append(bytes.Clone(good), 0),
		"empty":          nil,
		"huge":           make([]byte, 1<<19),
		"long form":      append([]byte{0xb8, good[0] & 0x1f}, good[1:]...),
	} {
		if _, err := evidence.ParseClaims(bad); !errors.Is(err, evidence.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBundleStrict(t *testing.T) {
	w := newWorld(t)
	good := w.bundle(t)
	b, err := evidence.ParseBundle(good)
	must(t, err)
	if !bytes.Equal(b.Marshal(), good) {
		t.Error("written again, it differs")
	}
	record := func(typ string, ind int) []any { return []any{typ, b.Claims, ind} }
	for name, bad := range map[string][]byte{
		"unknown record":  edit(t, good, func(m map[any]any) { m["more"] = record("x/y", 4) }),
		"no type":         edit(t, good, func(m map[any]any) { delete(m, "__cmwc_t") }),
		"other type":      edit(t, good, func(m map[any]any) { m["__cmwc_t"] = "tag:x" }),
		"no claims":       edit(t, good, func(m map[any]any) { delete(m, "claims") }),
		"claims type":     edit(t, good, func(m map[any]any) { m["claims"] = record("application/eat+cwt", 4) }),
		"claims as AR":    edit(t, good, func(m map[any]any) { m["claims"] = record("application/eat-ucs+cbor", 8) }),
		"record of two":   edit(t, good, func(m map[any]any) { m["claims"] = record("application/eat-ucs+cbor", 4)[:2] }),
		"no config":       edit(t, good, func(m map[any]any) { delete(m, "config") }),
		"hw without type": edit(t, good, func(m map[any]any) { m["hw"] = record("", 4) }),
		"chain malformed": edit(t, good, func(m map[any]any) {
			m["collateral"] = []any{"application/cose-x509; usage=chain", []byte{0xf6, 0}, 2}
		}),
		"chain of one in a list": edit(t, good, func(m map[any]any) {
			m["collateral"] = []any{"application/cose-x509; usage=chain", cose.MustMarshal([]any{[]byte{1}}), 2}
		}),
		"chain too long": edit(t, good, func(m map[any]any) {
			m["collateral"] = []any{"application/cose-x509; usage=chain", cose.MustMarshal(make([][]byte, 9)), 2}
		}),
		"collateral null": edit(t, good, func(m map[any]any) { m["collateral"] = nil }),
		"trailing":        append(bytes.Clone(good), 0),
		"long form":       append([]byte{0xb8, good[0] & 0x1f}, good[1:]...),
		"huge":            make([]byte, evidence.MaxBundle+1),
	} {
		if _, err := evidence.ParseBundle(bad); !errors.Is(err, evidence.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChainOfTwo(t *testing.T) {
	b := evidence.Bundle{Hardware: []byte{1}, HardwareType: "a/b", Collateral: [][]byte{{1}, {2}}, Claims: []byte{2}, Config: []byte{3}}
	got, err := evidence.ParseBundle(b.Marshal())
	must(t, err)
	if !reflect.DeepEqual(*got, b) {
		t.Errorf("got %+v", got)
	}
}

func TestMalformedParts(t *testing.T) {
	w := newWorld(t)
	b, err := evidence.ParseBundle(w.bundle(t))
	must(t, err)
	token, claims, chain := b.Hardware, b.Claims, b.Collateral
	for name, change := range map[string]func(){
		"token":  func() { b.Hardware = []byte{0xd2} },
		"claims": func() { b.Claims = []byte{0xa0} },
		"chain":  func() { b.Collateral = [][]byte{{1, 2, 3}} },
	} {
		b.Hardware, b.Claims, b.Collateral = token, claims, chain
		change()
		_, err := evidence.Verify(b.Marshal(), w.input())
		t.Run(name, func(t *testing.T) {
			if got := codes(err); len(got) == 0 || got[0] != evidence.CodeMalformed {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAnchorPEM(t *testing.T) {
	w := newWorld(t)
	data, err := w.pki.Anchor().PEM()
	must(t, err)
	a, err := evidence.ParseAnchorPEM(data)
	must(t, err)
	if a.Fingerprint() != w.pki.Fingerprint() || !a.IsEmulated() || !strings.Contains(a.String(), evidence.EmulatedMark) {
		t.Errorf("got %s", a)
	}
	key := evidence.Anchor{Key: w.agentKey}
	data2, err := key.PEM()
	must(t, err)
	back, err := evidence.ParseAnchorPEM(data2)
	must(t, err)
	if !back.Key.Equal(w.agentKey) || back.IsEmulated() {
		t.Errorf("got %s", back)
	}
	_, err = evidence.Anchor{}.PEM()
	for name, bad := range map[string][]byte{"empty": nil, "two": append(data, data2...),
		"other block": []byte("-----BEGIN X-----\nAA==\n-----END X-----\n"),
		"no DER":      []byte("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"),
		"no key":      []byte("-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n")} {
		if _, e := evidence.ParseAnchorPEM(bad); !errors.Is(e, evidence.ErrAnchor) {
			t.Errorf("%s: %v", name, e)
		}
	}
	if !errors.Is(err, evidence.ErrAnchor) {
		t.Errorf("empty anchor: %v", err)
	}
	set := evidence.Anchors{Roots: []evidence.Anchor{key, a}}
	if found, ok := set.Find(w.pki.Fingerprint()); !ok || found.Cert == nil {
		t.Error("the root is not found")
	}
}

func TestMismatchesOfOtherErrors(t *testing.T) {
	m := &evidence.Mismatch{Code: "x"}
	if got := evidence.Mismatches(fmt.Errorf("context: %w", errors.Join(m, m))); len(got) != 2 {
		t.Errorf("got %v", got)
	}
	if evidence.Mismatches(nil) != nil || evidence.Mismatches(errors.New("x")) != nil {
		t.Error("mismatches out of nothing")
	}
}

func FuzzParseClaims(f *testing.F) {
	c := newWorld(f).claims
	c.AgentKID = bytes.Repeat([]byte{1}, 32)
	f.Add(c.Marshal())
	c.Loads = []evidence.Load{loadOf("one"), loadOf("two")}
	f.Add(c.Marshal())
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := evidence.ParseClaims(data); err == nil && !bytes.Equal(c.Marshal(), data) {
			t.Fatal("written again, it differs")
		}
	})
}

func FuzzParseBundle(f *testing.F) {
	f.Add(newWorld(f).bundle(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := evidence.ParseBundle(data); err == nil && !bytes.Equal(b.Marshal(), data) {
			t.Fatal("written again, it differs")
		}
	})
}

func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	f.Add(w.bundle(f))
	in := w.input()
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := evidence.Verify(data, in)
		if (v == nil) == (err == nil) || err != nil && len(evidence.Mismatches(err)) == 0 {
			t.Fatalf("got %v and %v", v, err)
		}
	})
}

// An anchor's file says for which hardware it is, where it is for one; readers of PEM skip that line.
func TestAnchorHardwareLine(t *testing.T) {
	w := newWorld(t)
	a := w.pki.Anchor()
	data, err := a.PEM()
	must(t, err)
	if !bytes.HasPrefix(data, []byte("Hardware: trustzone\n-----BEGIN CERTIFICATE-----")) {
		t.Errorf("%.80s", data)
	}
	back, err := evidence.ParseAnchorPEM(data)
	if err != nil || back.Hardware != evidence.TrustZone || back.Fingerprint() != a.Fingerprint() {
		t.Errorf("%v, %v", back, err)
	}
	_, bare, _ := bytes.Cut(data, []byte("\n"))
	if back, err := evidence.ParseAnchorPEM(bare); err != nil || back.Hardware != "" {
		t.Errorf("without the line: %v, %v", back, err)
	}
	if _, err := evidence.ParseAnchorPEM(append([]byte("Hardware: abacus\n"), bare...)); !errors.Is(err, evidence.ErrAnchor) {
		t.Errorf("unknown hardware: %v", err)
	}
}
