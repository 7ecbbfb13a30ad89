// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/evidence"
	"sealift/internal/sharedtest"
)

func TestWorst(t *testing.T) {
	for _, c := range []struct{ a, b, want TCBStatus }{
		{UpToDate, UpToDate, UpToDate},
		{UpToDate, SWHardeningNeeded, SWHardeningNeeded},
		{SWHardeningNeeded, ConfigurationNeeded, ConfigurationAndSWHardeningNeeded},
		{ConfigurationAndSWHardeningNeeded, OutOfDate, OutOfDateConfigurationNeeded},
		{SWHardeningNeeded, OutOfDate, OutOfDate},
		{ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded},
		{OutOfDateConfigurationNeeded, UpToDate, OutOfDateConfigurationNeeded},
		{ConfigurationNeeded, TDRelaunchAdvised, TDRelaunchAdvisedConfigurationNeeded},
		{SWHardeningNeeded, TDRelaunchAdvised, TDRelaunchAdvised},
		{OutOfDate, TDRelaunchAdvised, OutOfDate},
		{Revoked, UpToDate, Revoked},
		{Revoked, OutOfDateConfigurationNeeded, Revoked},
		{UpToDate, "", Revoked},
		{UpToDate, "Fine", Revoked},
	} {
		if got := Worst(c.a, c.b); got != c.want || got != Worst(c.b, c.a) {
			t.Errorf("%s and %s give %s, want %s", c.a, c.b, got, c.want)
		}
	}
	order := AllTCBStatuses()
	for i, a := range order {
		for _, b := range order[:i+1] {
			if got := Worst(a, b); slices.Index(order, got) < i || Worst(got, a) != got {
				t.Errorf("%s and %s give %s, which is better", a, b, got)
			}
		}
	}
}

// TestConvergence gives platform, module and QE every status and wants the worst, with the advisories of all.
func TestConvergence(t *testing.T) {
	p := platform(t, nil)
	old := now.AddDate(-1, 0, 0)
	for _, platformStatus := range AllTCBStatuses() {
		for _, part := range []string{"module", "QE"} {
			for _, other := range []TCBStatus{UpToDate, OutOfDate, Revoked} {
				if flags[platformStatus]&relaunch != 0 {
					continue
				}
				proof, err := verify(t, p, TDX, collateral(t, p, TDX, func(s *CollateralSpec) {
					s.TCBInfo.Levels[0].Status, s.TCBInfo.Levels[0].Advisories = platformStatus, []string{"INTEL-SA-00002", "INTEL-SA-00001"}
					l := &s.QEIdentity.Levels[0]
					if part == "module" {
						l = &s.TCBInfo.ModuleIdentities[0].Levels[0]
					}
					l.Status, l.Advisories, l.Date = other, []string{"INTEL-SA-00003", "INTEL-SA-00001"}, old
				}))
				if err != nil {
					t.Fatal(err)
				}
				r := proof.TCB
				if r.Status != Worst(platformStatus, other) || r.Platform.Status != platformStatus || !r.Date.Equal(old) ||
					fmt.Sprint(r.Advisories) != "[INTEL-SA-00001 INTEL-SA-00002 INTEL-SA-00003]" {
					t.Errorf("platform %s, %s %s: %+v", platformStatus, part, other, r)
				}
			}
		}
	}
}

// TestLevels wants the first level that the platform reaches, by every single component.
func TestLevels(t *testing.T) {
	p := platform(t, nil)
	for _, tee := range []TEE{SGX, TDX} {
		for name, raise := range map[string]func(*TCB){
			"first component": func(l *TCB) { l.SGX[0].SVN++ }, "last component": func(l *TCB) { l.SGX[15].SVN++ },
			"PCESVN":          func(l *TCB) { *l.PCESVN++ },
			"a TDX component": func(l *TCB) { l.TDX[2].SVN++ }, "last TDX component": func(l *TCB) { l.TDX[15].SVN++ },
			"TDX module": func(l *TCB) { l.TDX[0].SVN++; l.TDX[1].SVN++ },
		} {
			if strings.Contains(name, "TDX") && tee == SGX {
				continue
			}
			proof, err := verify(t, p, tee, collateral(t, p, tee, func(s *CollateralSpec) { twoLevels(s, raise) }))
			if err != nil {
				t.Fatal(err)
			}
			want := OutOfDate
			if name == "TDX module" {
				want = UpToDate // its own identity judges it
			}
			if proof.TCB.Status != want || proof.TCB.EvaluationNumber != 1 {
				t.Errorf("%v, %s: %+v", tee, name, proof.TCB)
			}
		}
	}
}

// twoLevels puts a level before the one that is there, which is OutOfDate then; the new one demands more.
func twoLevels(s *CollateralSpec, raise func(*TCB)) {
	better := s.TCBInfo.Levels[0]
	pceSVN := *better.TCB.PCESVN
	better.TCB = TCB{SGX: slices.Clone(better.TCB.SGX), TDX: slices.Clone(better.TCB.TDX), PCESVN: &pceSVN}
	raise(&better.TCB)
	s.TCBInfo.Levels[0].Status = OutOfDate
	s.TCBInfo.Levels = append([]Level{better}, s.TCBInfo.Levels...)
}

// TestNoJudgement wants an error where collateral has no judgement on this platform, naming why.
func TestNoJudgement(t *testing.T) {
	p := platform(t, nil)
	svn := uint16(100)
	for claim, c := range map[string]struct {
		sentinel error
		change   func(*CollateralSpec)
	}{
		"fmspc of the TCB info":     {ErrCollateral, func(s *CollateralSpec) { s.TCBInfo.FMSPC = make([]byte, 6) }},
		"pceId of the TCB info":     {ErrCollateral, func(s *CollateralSpec) { s.TCBInfo.PCEID = []byte{9, 9} }},
		"issuer of the PCK CRL":     {ErrCollateral, func(s *CollateralSpec) { s.CA = ProcessorCA }},
		"TCB of the platform":       {ErrTCB, func(s *CollateralSpec) { s.TCBInfo.Levels[0].TCB.PCESVN = &svn }},
		"TDX module":                {ErrTCB, func(s *CollateralSpec) { s.TCBInfo.ModuleIdentities[0].ID = "TDX_09" }},
		"version of the TDX module": {ErrTCB, func(s *CollateralSpec) { s.TCBInfo.ModuleIdentities[0].Levels[0].TCB.ISVSVN = &svn }},
		"MRSIGNERSEAM":              {ErrTCB, func(s *CollateralSpec) { s.TCBInfo.ModuleIdentities[0].MRSigner = ones(48) }},
		"SEAMATTRIBUTES":            {ErrTCB, func(s *CollateralSpec) { s.TCBInfo.ModuleIdentities[0].Attributes = ones(8) }},
		"MRSIGNER of the QE":        {ErrTCB, func(s *CollateralSpec) { s.QEIdentity.MRSigner = ones(32) }},
		"ISVPRODID of the QE":       {ErrTCB, func(s *CollateralSpec) { s.QEIdentity.ISVProdID = 7 }},
		"ISVSVN of the QE":          {ErrTCB, func(s *CollateralSpec) { s.QEIdentity.Levels[0].TCB.ISVSVN = &svn }},
		"ATTRIBUTES of the QE":      {ErrTCB, func(s *CollateralSpec) { s.QEIdentity.Attributes = ones(16) }},
		"MISCSELECT of the QE":      {ErrTCB, func(s *CollateralSpec) { s.QEIdentity.MiscSelect = ones(4) }},
	} {
		_, err := verify(t, p, TDX, collateral(t, p, TDX, c.change))
		found := evidence.Mismatches(err)
		if !errors.Is(err, c.sentinel) || len(found) != 1 || found[0].Claim != claim {
			t.Errorf("%s: %v", claim, err)
		}
	}
	if _, err := verify(t, p, TDX, collateral(t, p, SGX, nil)); !errors.Is(err, ErrCollateral) {
		t.Errorf("collateral of SGX for TDX: %v", err)
	}
	if _, err := verify(t, p, SGX, collateral(t, p, TDX, nil)); !errors.Is(err, ErrCollateral) {
		t.Errorf("collateral of TDX for SGX: %v", err)
	}
}

// TestDebugQE wants a quoting enclave that can be debugged refused: its identity demands that it cannot.
func TestDebugQE(t *testing.T) {
	p := platform(t, nil)
	good := collateral(t, p, SGX, nil)
	qe := QE(SGX)
	qe.Attributes[0] |= AttributeDebug
	if err := p.SetQE(randReader, SGX, qe); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t, p, SGX, good); !errors.Is(err, ErrTCB) || !strings.Contains(err.Error(), "ATTRIBUTES of the QE") {
		t.Errorf("%v", err)
	}
}

// TestOlderModule judges a module of the generation that has no identity of its own by the platform's level.
func TestOlderModule(t *testing.T) {
	defer func(before TDXPlatform) { tdx = before }(tdx)
	tdx.TEETCBSVN = [16]uint8{3, 0, 5}
	p := platform(t, nil)
	proof, err := verify(t, p, TDX, collateral(t, p, TDX, nil))
	if err != nil || proof.TCB.Module != nil || proof.TCB.Status != UpToDate {
		t.Errorf("%+v, %v", proof, err)
	}
	proof, err = verify(t, p, TDX, collateral(t, p, TDX, func(s *CollateralSpec) { twoLevels(s, func(l *TCB) { l.TDX[0].SVN++ }) }))
	if err != nil || proof.TCB.Status != OutOfDate {
		t.Errorf("%+v, %v", proof, err)
	}
	_, err = verify(t, p, TDX, collateral(t, p, TDX, func(s *CollateralSpec) { s.TCBInfo.Module.MRSigner = ones(48) }))
	if !errors.Is(err, ErrTCB) {
		t.Errorf("another signer of the module: %v", err)
	}
}

// TestRelaunch checks TDs that were launched before their platform was updated.
func TestRelaunch(t *testing.T) {
	defer func(before TDXPlatform) { tdx = before }(tdx)
	p := platform(t, nil)
	launched := tdx.TEETCBSVN
	current := launched
	current[0], current[2] = current[0]+1, current[2]+1
	for name, c := range map[string]struct {
		now    [16]uint8
		status TCBStatus // of the level of now
		want   TCBStatus
	}{
		"updated":                    {current, UpToDate, TDRelaunchAdvised},
		"updated, to be hardened":    {current, SWHardeningNeeded, TDRelaunchAdvised},
		"updated, to be configured":  {current, ConfigurationNeeded, TDRelaunchAdvisedConfigurationNeeded},
		"updated and out of date":    {current, OutOfDate, OutOfDate},
		"updated and revoked":        {current, Revoked, OutOfDate},
		"not updated":                {launched, UpToDate, OutOfDate},
		"updated to what is unknown": {[16]uint8{9, 9}, UpToDate, OutOfDate},
	} {
		tdx.TEETCBSVN, tdx.TEETCBSVN2 = launched, &c.now
		proof, err := verify(t, p, TDX, collateral(t, p, TDX, func(s *CollateralSpec) {
			twoLevels(s, func(l *TCB) { l.TDX[2].SVN++ })
			s.TCBInfo.Levels[0].Status = c.status
			higher := enclaveLevel(uint16(current[0]), now)
			s.TCBInfo.ModuleIdentities[0].Levels[0].Status = OutOfDate
			s.TCBInfo.ModuleIdentities[0].Levels = append([]Level{higher}, s.TCBInfo.ModuleIdentities[0].Levels...)
		}))
		if err != nil || proof.TCB.Status != c.want || proof.TCB.Platform.Status != OutOfDate {
			t.Errorf("%s: %+v, %v", name, proof, err)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	l := newLRU(2)
	key := func(b byte) [32]byte { return [32]byte{b} }
	l.put(key(1), "a")
	l.put(key(2), "b")
	l.get(key(1))
	l.put(key(3), "c")
	l.put(key(3), "d")
	if l.get(key(2)) != nil || l.get(key(1)) != "a" || l.get(key(3)) != "d" || len(l.items) != 2 || l.order.Len() != 2 {
		t.Errorf("%v", l.items)
	}
	if _, err := NewCache(1).Chain(signature(t), []*x509.Certificate{emulated().Root}, now.AddDate(30, 0, 0)); !errors.Is(err, ErrTime) {
		t.Errorf("an expired chain: %v", err)
	}
	var none *Cache
	if _, err := none.Chain(signature(t), nil, time.Time{}); !errors.Is(err, ErrNoRoot) {
		t.Errorf("%v", err)
	}
}

func signature(t *testing.T) *SignatureData {
	t.Helper()
	s, err := platform(t, nil).Sign(randReader, SGX, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRealTDX15 judges a real TD on TDX module 1.5 by real TCB info for its platform. No QE identity and revocation lists of
// that time are at hand, so only this part of the collateral can be evaluated; its signature is checked.
func TestRealTDX15(t *testing.T) {
	quote := sharedtest.Read(t, "evidence", "tdx/v5_google.quote.bin")
	const body, length = 48 + 6, 648
	s, err := ParseSignatureV4(quote[body+length+4:])
	if err != nil {
		t.Fatal(err)
	}
	chain, err := NewCache(1).Chain(s, []*x509.Certificate{VendorRoot()}, now)
	if err != nil {
		t.Fatal(err)
	}
	real, err := ParseCollateral(sharedtest.Read(t, "evidence", "tdx/phala_tdx_quote.collateral.json"))
	if err != nil {
		t.Fatal(err)
	}
	var data []byte
	var signature [signatureSize]byte
	p := &partReader{}
	p.document(&data, &signature, sharedtest.Read(t, "evidence", "tdx/google_sample_tcbinfo_response_v5"), "tcbInfo")
	v := &VerifiedCollateral{root: VendorRoot()}
	if err := join(p.err, v.document(data, &signature, real.TCBInfoChain, nil, "TCB info")); err != nil {
		t.Fatal(err)
	}
	if v.info, err = parseTCBInfo(data); err != nil {
		t.Fatal(err)
	}
	now2 := [16]uint8(quote[body+584:])
	td := &TDXPlatform{TEETCBSVN: [16]uint8(quote[body:]), TEETCBSVN2: &now2}
	platform, module, err := v.evaluatePlatform(chain.PCK, td)
	if err := join(err, v.checkPlatform(chain.PCK)); err != nil {
		t.Fatal(err)
	}
	date := time.Date(2024, 11, 13, 0, 0, 0, 0, time.UTC)
	if platform.Status != UpToDate || module.Status != UpToDate || !platform.Date.Equal(date) || !module.Date.Equal(date) {
		t.Errorf("platform %+v, module %+v", platform, module)
	}
	td.TEETCBSVN[0] = 1
	if _, module, err = v.evaluatePlatform(chain.PCK, td); err == nil && module.Status == UpToDate {
		t.Errorf("an older module: %+v", module)
	}
}
