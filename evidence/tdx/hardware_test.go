// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/intel"
	"sealift/evidence/tsm"
)

// kept is a store of endorsements.
type kept map[string][][]byte

// Find implements evidence.Endorsements.
func (k kept) Find(kind, key string) [][]byte { return k[kind+" "+key] }

const keptKey = "intel/tdx-collateral b0c06f000000.platform"

// wrapped is a quote as Linux hands it out.
func wrapped(quote []byte, collateral ...[]byte) evidence.HardwareEvidence {
	w := tsm.Report{Provider: tsm.ProviderTDX, OutBlob: quote}
	return evidence.HardwareEvidence{Data: w.Marshal(), MediaType: tsm.MediaType, Collateral: collateral}
}

func input(pki *intel.PKI, store evidence.Endorsements) evidence.HardwareInput {
	return evidence.HardwareInput{Anchors: []evidence.Anchor{intel.VendorAnchor(evidence.TDX), pki.Anchor(evidence.TDX)},
		Endorsements: store, Now: now}
}

func TestVerifyHardware(t *testing.T) {
	pki := emulated()
	d := device(t, pki, nil)
	quote, with := mint(t, d, nil), collateral(t, pki, d, nil)
	h := NewHardware()
	for name, c := range map[string]struct {
		e     evidence.HardwareEvidence
		store kept
	}{
		"collateral in the Evidence":   {wrapped(quote, with...), nil},
		"collateral of the verifier":   {wrapped(quote), kept{keptKey: with}},
		"a bare quote":                 {evidence.HardwareEvidence{Data: quote, MediaType: MediaType}, kept{keptKey: with}},
		"other things in the Evidence": {wrapped(quote, []byte{0x30, 0x82}, nil), kept{keptKey: with}},
		"what does not verify beside":  {wrapped(quote, foreignCollateral(t)), kept{keptKey: with}},
		"no collateral":                {wrapped(quote), kept{}},
	} {
		if !h.Reads(c.e) {
			t.Errorf("%s: not read", name)
		}
		s, found := h.VerifyHardware(c.e, input(pki, c.store))
		if len(found) > 0 {
			t.Errorf("%s: %v", name, found)
			continue
		}
		id := d.InstanceID()
		if !s.Rooted || !s.Root.IsEmulated() || string(s.ReportData) != string(binding[:]) || string(s.InstanceID) != string(id[:]) ||
			s.ConfigField != "MRCONFIGID" || string(s.Config) != string(configID[:32]) || len(s.Measurements) != 1 {
			t.Errorf("%s: %+v", name, s)
		}
		status, until := s.Fields["tcb-status"], s.Until.Sub(now) < 31*24*time.Hour
		if name == "no collateral" {
			if status != nil || until {
				t.Errorf("%s: status %v, until %v", name, status, s.Until)
			}
		} else if status != "UpToDate" || !until || s.Fields["tcb-status-module"] != "UpToDate" ||
			s.Fields["TDATTRIBUTES"] != AttributeSEPTVEDisable {
			t.Errorf("%s: %v", name, s.Fields)
		}
	}
	for _, e := range []evidence.HardwareEvidence{{MediaType: tsm.MediaType},
		{MediaType: tsm.MediaType, Data: tsm.Report{Provider: tsm.ProviderSNP, OutBlob: quote}.Marshal()}} {
		if h.Reads(e) {
			t.Errorf("reads %+v", e)
		}
	}
}

// foreignCollateral is of another Intel.
func foreignCollateral(t *testing.T) []byte {
	return collateral(t, strangers(), device(t, strangers(), nil), nil)[0]
}

// TestOlderCollateralDoesNotWin wants the judgement with the highest evaluation number, whoever brings it.
func TestOlderCollateralDoesNotWin(t *testing.T) {
	pki := emulated()
	d := device(t, pki, nil)
	older := collateral(t, pki, d, nil)[0]
	newer := collateral(t, pki, d, func(s *intel.CollateralSpec) {
		s.TCBInfo.EvaluationNumber, s.TCBInfo.Levels[0].Status = 2, intel.OutOfDate
	})[0]
	newest := collateral(t, pki, d, func(s *intel.CollateralSpec) { // knows no level as low as this platform's
		s.TCBInfo.EvaluationNumber, s.TCBInfo.Levels[0].TCB.SGX[0].SVN = 3, 200
	})[0]
	if _, found := NewHardware().VerifyHardware(wrapped(mint(t, d, nil), newer), input(pki, kept{keptKey: {newest}})); len(found) != 1 ||
		!errors.Is(found[0], intel.ErrTCB) {
		t.Errorf("%v", found)
	}
	for _, c := range [][2][]byte{{older, newer}, {newer, older}} {
		s, found := NewHardware().VerifyHardware(wrapped(mint(t, d, nil), c[0]), input(pki, kept{keptKey: {c[1]}}))
		if len(found) > 0 || s.Fields["tcb-status"] != "OutOfDate" || s.Fields["tcb-evaluation-data-number"] != uint32(2) {
			t.Errorf("%v, %v", s.Fields, found)
		}
	}
}

// TestVerifyHardwareReportsAll wants everything that is wrong in one report.
func TestVerifyHardwareReportsAll(t *testing.T) {
	pki := emulated()
	d := device(t, pki, func(s *intel.PlatformSpec) { s.NotAfter = now.Add(-time.Hour) })
	quote := mint(t, d, func(r *Report) { r.MRConfigID[47] = 1 })
	quote[700] ^= 1 // signature
	expired := collateral(t, pki, d, func(s *intel.CollateralSpec) { s.QEIdentity.NextUpdate = now.Add(-time.Minute) })
	s, found := NewHardware().VerifyHardware(wrapped(quote, append(expired, append(smallLog(), 1))...), input(pki, nil))
	if s == nil || !s.Rooted {
		t.Fatalf("%+v", s)
	}
	var got []string
	for _, m := range found {
		got = append(got, m.Code+" "+m.Claim)
	}
	for _, want := range []string{"evidence.certificate validity of certificate Intel SGX PCK Certificate",
		"evidence.signature signature of the quote",
		"evidence.certificate validity of QE identity", "evidence.malformed event log", "evidence.config MRCONFIGID"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
	stranger := input(strangers(), nil)
	if s, found := NewHardware().VerifyHardware(wrapped(quote), stranger); s.Rooted || len(found) < 2 || found[0].Code != evidence.CodeRoot {
		t.Errorf("under no root: %v", found)
	}
	for _, bad := range []evidence.HardwareEvidence{{MediaType: MediaType}, {MediaType: tsm.MediaType, Data: quote}, wrapped(quote[:100])} {
		if s, found := NewHardware().VerifyHardware(bad, stranger); s != nil || len(found) != 1 || found[0].Code != evidence.CodeMalformed {
			t.Errorf("%v", found)
		}
	}
}

func TestEventLogWithEvidence(t *testing.T) {
	pki := emulated()
	d := device(t, pki, nil)
	l, err := ParseEventLog(smallLog())
	if err != nil {
		t.Fatal(err)
	}
	for _, alter := range []int{-1, 2} {
		quote := mint(t, d, func(r *Report) {
			r.RTMR = l.Replay()
			if alter >= 0 {
				r.RTMR[alter][0] ^= 1
			}
		})
		s, found := NewHardware().VerifyHardware(wrapped(quote, smallLog()), input(pki, nil))
		if alter < 0 && (len(found) > 0 || s.Fields["event-log"] != 4 || len(s.Measurements) != 5) {
			t.Errorf("%v, %+v", found, s)
		}
		if alter >= 0 && (len(found) != 1 || found[0].Claim != fmt.Sprintf("RTMR%d", alter)) {
			t.Errorf("%v", found)
		}
	}
}

// TestBundle takes Evidence of an Agent through evidence.Verify.
func TestBundle(t *testing.T) {
	pki := emulated()
	d := device(t, pki, nil)
	with, config, id := collateral(t, pki, d, nil), []byte("configuration"), d.InstanceID()
	agent := newKey(t)
	claims := evidence.Claims{Nonce: evidence.MixChallenge([32]byte{1}, [32]byte{2}), UEID: id[:], OEMID: []byte{1, 2, 3},
		HWModel: make([]byte, 32), HWVersion: "1", AgentEncKey: newKey(t)}
	sign := func(b [64]byte) (evidence.HardwareEvidence, error) {
		quote := mint(t, d, func(r *Report) { r.ReportData, r.MRConfigID = b, ConfigID(sha256.Sum256(config)) })
		return wrapped(quote, with...), nil
	}
	bundle, err := evidence.Collect(claims, evidence.TDX.BindingName(true), agent, config, sign)
	if err != nil {
		t.Fatal(err)
	}
	in := evidence.Input{Challenge: claims.Nonce, AgentKey: agent, Now: now, Verifiers: []evidence.HardwareVerifier{NewHardware()},
		Anchors: evidence.Anchors{Roots: []evidence.Anchor{intel.VendorAnchor(evidence.TDX), pki.Anchor(evidence.TDX)}}}
	v, err := evidence.Verify(bundle, in)
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := v.Measurement("MRTD"); !v.Emulated || v.Hardware != evidence.TDX || v.Fields["tcb-status"] != "UpToDate" || !ok ||
		string(m.Value) != string(mrtd[:]) {
		t.Errorf("%+v", v)
	}
	in.Anchors.Roots = in.Anchors.Roots[:1]
	if _, err := evidence.Verify(bundle, in); err == nil || evidence.Mismatches(err)[0].Code != evidence.CodeRoot {
		t.Errorf("under Intel's root: %v", err)
	}
}

func newKey(t *testing.T) *cose.Key {
	t.Helper()
	private, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := cose.NewKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestConcurrent(t *testing.T) {
	pki := emulated()
	d := device(t, pki, nil)
	quote, with := mint(t, d, nil), collateral(t, pki, d, nil)
	h := NewHardware()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			in := input(pki, kept{keptKey: with})
			if i%2 == 1 {
				in.Anchors = in.Anchors[:1] // Intel's alone: what the others made it remember must not help
			}
			for range 5 {
				if _, found := h.VerifyHardware(wrapped(quote), in); (len(found) == 0) != (i%2 == 0) {
					t.Errorf("%d: %v", i, found)
				}
			}
		})
	}
	wg.Wait()
}

// TestStaysBounded fills the caches beyond their bound.
func TestStaysBounded(t *testing.T) {
	pki := emulated()
	cache := intel.NewCache(2)
	for i := range 5 {
		d := device(t, pki, func(s *intel.PlatformSpec) { s.PPID[0] = byte(i) })
		q, err := Parse(mint(t, d, nil))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := cache.Verify(q.signed, q.signature, q.report.platform(), intel.Input{Roots: []*x509.Certificate{pki.Root}, Now: now,
				Collateral: collateral(t, pki, d, nil)}); err != nil {
				t.Error(err)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	d := device(f, strangers(), nil)
	f.Add(mint(f, d, nil))
	f.Add(mint(f, d, func(r *Report) { r.Extended = true }))
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := Parse(data)
		if err != nil {
			return
		}
		out := q.Marshal()
		if !strings.HasPrefix(string(data), string(out)) || strings.Trim(string(data[len(out):]), "\x00") != "" {
			t.Error("a quote does not encode to what it was read from")
		}
		_, _ = Verify(data, nil, now, strangers().Root)
	})
}

func BenchmarkVerify(b *testing.B) {
	pki := emulated()
	d := device(b, pki, nil)
	quote, with := mint(b, d, nil), collateral(b, pki, d, nil)
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Verify(quote, with, now, pki.Root); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("warm", func(b *testing.B) {
		b.ReportAllocs()
		v := NewVerifier(pki.Root)
		for b.Loop() {
			if _, err := v.Verify(quote, with, now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("real, warm", func(b *testing.B) {
		b.ReportAllocs()
		quote, with := shared(b, "phala_tdx_quote.bin"), [][]byte{shared(b, "phala_tdx_quote.collateral.json")}
		v := NewVerifier(intel.VendorRoot())
		for b.Loop() {
			if _, err := v.Verify(quote, with, realTime); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := library(b, quote, with[0], pki.Root, now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("P-384 alone", benchmarkP384)
	b.Run("mint", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			mint(b, d, nil)
		}
	})
}

// benchmarkP384 measures the machine: other figures are given beside this one.
func benchmarkP384(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha512.Sum384(nil)
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
			b.Fatal("a signature does not verify")
		}
	}
}
