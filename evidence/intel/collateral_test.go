// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/evidence"
	"sealift/internal/sharedtest"
)

func mustCollateral(t testing.TB, p *Platform, tee TEE, change func(*CollateralSpec)) *Collateral {
	t.Helper()
	c, err := ParseCollateral(collateral(t, p, tee, change))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCollateralParts damages each part of collateral and wants it named.
func TestCollateralParts(t *testing.T) {
	p := platform(t, nil)
	pki, other := emulated(), strangers()
	foreign, err := other.Collateral(rand.Reader, p.CollateralSpec(TDX, &tdx, now))
	if err != nil {
		t.Fatal(err)
	}
	sgx := mustCollateral(t, p, SGX, nil)
	for name, c := range map[string]struct {
		change   func(*Collateral)
		sentinel error
		claim    string
	}{
		"TCB info":                {func(c *Collateral) { c.TCBInfo[20] ^= 1 }, ErrSignature, "signature of the TCB info"},
		"a space in TCB info":     {func(c *Collateral) { c.TCBInfo = append(c.TCBInfo, ' ') }, ErrSignature, "signature of the TCB info"},
		"TCB info's signature":    {func(c *Collateral) { c.TCBInfoSignature[40] ^= 1 }, ErrSignature, "signature of the TCB info"},
		"QE identity":             {func(c *Collateral) { c.QEIdentity[20] ^= 1 }, ErrSignature, "signature of the QE identity"},
		"QE identity's signature": {func(c *Collateral) { c.QEIdentitySignature[0] ^= 1 }, ErrSignature, "signature of the QE identity"},
		"root CRL":                {func(c *Collateral) { c.RootCRL[len(c.RootCRL)-1] ^= 1 }, ErrSignature, "signature of the root CRL"},
		"PCK CRL":                 {func(c *Collateral) { c.PCKCRL[len(c.PCKCRL)-1] ^= 1 }, ErrSignature, "signature of the PCK CRL"},
		"PCK CRL by the root":     {func(c *Collateral) { c.PCKCRL = c.RootCRL }, ErrSignature, "signature of the PCK CRL"},
		"the other one's documents": {func(c *Collateral) { c.TCBInfo, c.QEIdentity = c.QEIdentity, c.TCBInfo },
			ErrSignature, "signature of the TCB info"},
		"a stranger's TCB info": {func(c *Collateral) { c.TCBInfo, c.TCBInfoSignature = foreign.TCBInfo, foreign.TCBInfoSignature },
			ErrSignature, "signature of the TCB info"},
		"a stranger's signer": {func(c *Collateral) { c.TCBInfoChain[0] = other.TCBSigning.Raw },
			ErrChain, "certificate Intel SGX TCB Signing"},
		"a stranger's chain":     {func(c *Collateral) { c.QEIdentityChain = foreign.QEIdentityChain }, ErrChain, "root certificate"},
		"a stranger's CRL":       {func(c *Collateral) { c.PCKCRL = foreign.PCKCRL }, ErrSignature, "signature of the PCK CRL"},
		"a stranger's CRL chain": {func(c *Collateral) { c.PCKCRLChain = foreign.PCKCRLChain }, ErrChain, "root certificate"},
		"signed by the CA": {func(c *Collateral) { c.TCBInfoChain[0] = pki.Platform.Raw },
			ErrCertificate, "certificate Intel SGX PCK Platform CA"},
		"CRL by the signer": {func(c *Collateral) { c.PCKCRLChain[0] = pki.TCBSigning.Raw },
			ErrCertificate, "certificate Intel SGX TCB Signing"},
		"CRL of the root as its": {func(c *Collateral) { c.RootCRL = c.PCKCRL }, ErrSignature, "signature of the root CRL"},
		"QE identity of SGX": {func(c *Collateral) { c.QEIdentity, c.QEIdentitySignature = sgx.QEIdentity, sgx.QEIdentitySignature },
			ErrCollateral, "id of the QE identity"},
		"no root CRL":    {func(c *Collateral) { c.RootCRL = nil }, ErrMalformed, ""},
		"no PCK CRL":     {func(c *Collateral) { c.PCKCRL = nil }, ErrMalformed, ""},
		"no chain":       {func(c *Collateral) { c.TCBInfoChain = nil }, ErrMalformed, ""},
		"no certificate": {func(c *Collateral) { c.TCBInfoChain[0] = []byte{1} }, ErrMalformed, ""},
	} {
		coll := mustCollateral(t, p, TDX, nil)
		c.change(coll)
		v, err := coll.Verify(pki.Root, now)
		if v != nil || !errors.Is(err, c.sentinel) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if found := evidence.Mismatches(err); c.claim != "" && (len(found) == 0 || found[0].Claim != c.claim) {
			t.Errorf("%s: %v, want claim %q", name, err, c.claim)
		}
	}
	if _, err := mustCollateral(t, p, TDX, nil).Verify(nil, now); !errors.Is(err, ErrNoRoot) {
		t.Errorf("without a root: %v", err)
	}
}

// TestCollateralTimes checks both bounds of each part, and that all that is out of its time is reported together.
func TestCollateralTimes(t *testing.T) {
	p := platform(t, nil)
	for what, change := range map[string]func(*CollateralSpec, time.Time, time.Time){
		"TCB info": func(s *CollateralSpec, from, to time.Time) { s.TCBInfo.IssueDate, s.TCBInfo.NextUpdate = from, to },
		"QE identity": func(s *CollateralSpec, from, to time.Time) {
			s.QEIdentity.IssueDate, s.QEIdentity.NextUpdate = from, to
		},
		"root CRL": func(s *CollateralSpec, from, to time.Time) { s.CRLFrom, s.CRLTo = from, to },
		"PCK CRL":  func(s *CollateralSpec, from, to time.Time) { s.CRLFrom, s.CRLTo = from, to },
	} {
		c := mustCollateral(t, p, TDX, func(s *CollateralSpec) { change(s, now.Add(-time.Minute), now.Add(time.Minute)) })
		for offset, ok := range map[time.Duration]bool{-time.Minute: true, time.Minute: true, 0: true,
			-61 * time.Second: false, 61 * time.Second: false} {
			v, err := c.Verify(emulated().Root, now.Add(offset))
			if (err == nil) != ok || !ok && !strings.Contains(err.Error(), "validity of "+what) {
				t.Errorf("%s at %v: %v", what, offset, err)
			}
			if ok && v.ValidAt(now.Add(time.Hour)) == nil {
				t.Errorf("%s: verified once and valid for ever", what)
			}
		}
	}
	_, err := mustCollateral(t, p, SGX, nil).Verify(emulated().Root, now.AddDate(1, 0, 0))
	if found := evidence.Mismatches(err); len(found) != 4 || found[0].Code != evidence.CodeCertificate {
		t.Errorf("%d mismatches: %v", len(found), err)
	}
}

// TestContent signs documents with contents that must be refused although the signature is right.
func TestContent(t *testing.T) {
	p := platform(t, nil)
	one := uint16(1)
	for name, change := range map[string]func(*CollateralSpec){
		"TCB info of version 2":       func(s *CollateralSpec) { s.TCBInfo.Version = 2 },
		"TCB info of another TEE":     func(s *CollateralSpec) { s.TCBInfo.ID = "SEV" },
		"another way to compare":      func(s *CollateralSpec) { s.TCBInfo.TCBType = 1 },
		"short FMSPC":                 func(s *CollateralSpec) { s.TCBInfo.FMSPC = s.TCBInfo.FMSPC[1:] },
		"short PCE ID":                func(s *CollateralSpec) { s.TCBInfo.PCEID = nil },
		"no levels":                   func(s *CollateralSpec) { s.TCBInfo.Levels = nil },
		"no TDX module":               func(s *CollateralSpec) { s.TCBInfo.Module = nil },
		"15 components":               func(s *CollateralSpec) { s.TCBInfo.Levels[0].TCB.SGX = s.TCBInfo.Levels[0].TCB.SGX[1:] },
		"15 TDX components":           func(s *CollateralSpec) { s.TCBInfo.Levels[0].TCB.TDX = s.TCBInfo.Levels[0].TCB.TDX[1:] },
		"no TDX components":           func(s *CollateralSpec) { s.TCBInfo.Levels[0].TCB.TDX = nil },
		"no PCESVN":                   func(s *CollateralSpec) { s.TCBInfo.Levels[0].TCB.PCESVN = nil },
		"a status of nobody":          func(s *CollateralSpec) { s.TCBInfo.Levels[0].Status = "Fine" },
		"no status":                   func(s *CollateralSpec) { s.TCBInfo.Levels[0].Status = "" },
		"a status of verifiers":       func(s *CollateralSpec) { s.TCBInfo.Levels[0].Status = TDRelaunchAdvised },
		"many levels":                 func(s *CollateralSpec) { s.TCBInfo.Levels = make([]Level, maxLevels+1) },
		"module without a signer":     func(s *CollateralSpec) { s.TCBInfo.Module.MRSigner = nil },
		"module without mask":         func(s *CollateralSpec) { s.TCBInfo.ModuleIdentities[0].AttributesMask = nil },
		"module without levels":       func(s *CollateralSpec) { s.TCBInfo.ModuleIdentities[0].Levels = nil },
		"module level without ISVSVN": func(s *CollateralSpec) { s.TCBInfo.ModuleIdentities[0].Levels[0].TCB.ISVSVN = nil },
		"QE identity of version 1":    func(s *CollateralSpec) { s.QEIdentity.Version = 1 },
		"identity of another enclave": func(s *CollateralSpec) { s.QEIdentity.ID = "QVE" },
		"QE without a signer":         func(s *CollateralSpec) { s.QEIdentity.MRSigner = nil },
		"QE without a mask":           func(s *CollateralSpec) { s.QEIdentity.AttributesMask = nil },
		"QE without MISCSELECT":       func(s *CollateralSpec) { s.QEIdentity.MiscSelect = nil },
		"QE without levels":           func(s *CollateralSpec) { s.QEIdentity.Levels = nil },
		"QE level without ISVSVN":     func(s *CollateralSpec) { s.QEIdentity.Levels = []Level{{TCB: TCB{PCESVN: &one}, Status: UpToDate}} },
	} {
		if _, err := mustCollateral(t, p, TDX, change).Verify(emulated().Root, now); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestForms reads the same collateral in all forms.
func TestForms(t *testing.T) {
	p := platform(t, nil)
	c := mustCollateral(t, p, TDX, nil)
	chain := func(certs [][]byte) (out []byte) {
		for _, der := range certs {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		return out
	}
	responses := PCSResponses{
		TCBInfo: fmt.Appendf(nil, `{"tcbInfo":%s,"signature":"%x"}`, c.TCBInfo, c.TCBInfoSignature), TCBInfoChain: chain(c.TCBInfoChain),
		QEIdentity:      fmt.Appendf(nil, `{"signature":"%X", "enclaveIdentity": %s}`, c.QEIdentitySignature, c.QEIdentity),
		QEIdentityChain: []byte(url.PathEscape(string(chain(c.QEIdentityChain)))),
		PCKCRL:          c.PCKCRL, PCKCRLChain: chain(c.PCKCRLChain), RootCRL: []byte(hex.EncodeToString(c.RootCRL) + "\n")}
	from, err := responses.Collateral()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(from.Marshal(), c.Marshal()) {
		t.Error("the service's answers give something else")
	}
	object, err := json.Marshal(map[string]string{"tcb_info": string(c.TCBInfo),
		"tcb_info_signature":    hex.EncodeToString(c.TCBInfoSignature[:]),
		"tcb_info_issuer_chain": string(chain(c.TCBInfoChain)), "qe_identity": string(c.QEIdentity),
		"qe_identity_signature": hex.EncodeToString(c.QEIdentitySignature[:]), "qe_identity_issuer_chain": string(chain(c.QEIdentityChain)),
		"root_ca_crl": hex.EncodeToString(c.RootCRL), "pck_crl": hex.EncodeToString(c.PCKCRL),
		"pck_crl_issuer_chain": string(chain(c.PCKCRLChain))})
	if err != nil {
		t.Fatal(err)
	}
	if from, err = ParseCollateral(object); err != nil || !bytes.Equal(from.Marshal(), c.Marshal()) {
		t.Errorf("the JSON form gives something else: %v", err)
	}
	good := c.Marshal()
	for n := range good {
		if _, err := ParseCollateral(good[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	for name, data := range map[string][]byte{
		"a byte behind": append(bytes.Clone(good), 0), "JSON behind": append(bytes.Clone(object), '{'), "too long": make([]byte, MaxCollateral+1),
		"another member": []byte(`{"a":"b"}`), "no strings": []byte(`{"tcb_info":1}`), "nothing": []byte(`{}`),
		"another format": bytes.Replace(good, []byte("-v1"), []byte("-v2"), 1),
	} {
		if _, err := ParseCollateral(data); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*PCSResponses){
		"no TCB info":           func(r *PCSResponses) { r.TCBInfo = nil },
		"the wrong document":    func(r *PCSResponses) { r.TCBInfo = r.QEIdentity },
		"a member too many":     func(r *PCSResponses) { r.TCBInfo = []byte(`{"tcbInfo":{},"signature":"","a":1}`) },
		"a short signature":     func(r *PCSResponses) { r.TCBInfo = []byte(`{"tcbInfo":{},"signature":"00"}`) },
		"a signature in base64": func(r *PCSResponses) { r.TCBInfo = []byte(`{"tcbInfo":{},"signature":"zz"}`) },
		"one certificate":       func(r *PCSResponses) { r.PCKCRLChain = chain(c.PCKCRLChain[:1]) },
		"bad escapes":           func(r *PCSResponses) { r.PCKCRLChain = []byte("%zz") },
		"no CRL":                func(r *PCSResponses) { r.RootCRL = []byte("not found") },
	} {
		bad := responses
		change(&bad)
		if _, err := bad.Collateral(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRealAnswers reads the stored answers of Intel's service that came without the rest.
func TestRealAnswers(t *testing.T) {
	real, err := ParseCollateral(sharedtest.Read(t, "evidence", "tdx/phala_tdx_quote.collateral.json"))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := x509.ParseCertificate(real.TCBInfoChain[0])
	if err != nil || signer.Subject.CommonName != cnTCBSigning || Emulated(signer) {
		t.Errorf("%v, %v", signer.Subject, err)
	}
	v, err := real.Verify(VendorRoot(), realTime)
	if err != nil {
		t.Fatal(err)
	}
	if v.TEE() != TDX || v.TCBInfo().EvaluationNumber != 17 || v.QEIdentity().ISVProdID != 2 || len(v.TCBInfo().ModuleIdentities) != 2 ||
		!v.Root().Equal(VendorRoot()) {
		t.Errorf("%+v", v.TCBInfo())
	}
}

func FuzzParseCollateral(f *testing.F) {
	p := platform(f, nil)
	f.Add(collateral(f, p, TDX, nil))
	f.Add(collateral(f, p, SGX, nil))
	f.Add([]byte(`{"tcb_info":"{}","tcb_info_signature":"00"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCollateral(data)
		if err != nil {
			return
		}
		if again, err := ParseCollateral(c.Marshal()); err != nil || !bytes.Equal(again.Marshal(), c.Marshal()) {
			t.Errorf("collateral does not survive: %v", err)
		}
		_, _ = c.Verify(emulated().Root, now)
	})
}

func FuzzTCBInfo(f *testing.F) {
	p := platform(f, nil)
	for _, tee := range []TEE{SGX, TDX} {
		c := mustCollateral(f, p, tee, nil)
		f.Add(c.TCBInfo, c.QEIdentity)
	}
	f.Fuzz(func(t *testing.T, info, qe []byte) {
		parsed, err := parseTCBInfo(info)
		identity, qeErr := parseQEIdentity(qe)
		if err != nil || qeErr != nil {
			return
		}
		v := &VerifiedCollateral{info: parsed, qe: identity}
		td := &tdx
		if v.TEE() == SGX {
			td = nil
		}
		_, _, _ = v.evaluatePlatform(&PCK{}, td)
		_, _ = identity.evaluate(&EnclaveReport{})
	})
}

// TestCacheAsksForTheRoot wants what was verified under one root refused under another, and collateral of one root refused
// for a platform of another.
func TestCacheAsksForTheRoot(t *testing.T) {
	p := platform(t, nil)
	data, cache := collateral(t, p, SGX, nil), NewCache(8)
	v, err := cache.Collateral(data, emulated().Root, now)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := cache.Collateral(data, emulated().Root, now); again != v || err != nil {
		t.Errorf("not remembered: %v", err)
	}
	for _, root := range []*x509.Certificate{strangers().Root, VendorRoot(), nil} {
		if v, err := cache.Collateral(data, root, now); v != nil || err == nil {
			t.Errorf("accepted under %v", root)
		}
	}
	foreign, err := strangers().NewPlatform(rand.Reader, PlatformSpec{FMSPC: p.PCK.FMSPC, PCESVN: 99})
	if err != nil {
		t.Fatal(err)
	}
	chain := &Chain{PCK: foreign.PCK, CA: strangers().Platform, Root: strangers().Root}
	if err := v.CheckRevocation(chain); !errors.Is(err, ErrCollateral) || evidence.Mismatches(err)[0].Claim != "root of the collateral" {
		t.Errorf("%v", err)
	}
}

// TestRestrictedList wants a list with a critical extension refused: it says nothing of most certificates.
func TestRestrictedList(t *testing.T) {
	p := platform(t, nil)
	c := mustCollateral(t, p, SGX, nil)
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-time.Hour),
		NextUpdate:      now.Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}},
		emulated().Platform, emulated().platform)
	if err != nil {
		t.Fatal(err)
	}
	c.PCKCRL = list
	if _, err := c.Verify(emulated().Root, now); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "critical extension") {
		t.Errorf("%v", err)
	}
}

// TestCandidatesAreBounded wants no more than a few pieces of collateral tried for one quote.
func TestCandidatesAreBounded(t *testing.T) {
	p := platform(t, nil)
	good, bad := collateral(t, p, SGX, nil), []byte("none")
	all := append(slices.Repeat([][]byte{bad}, maxCandidates-1), good)
	if proof, err := verify(t, p, SGX, all...); err != nil || proof.TCB == nil {
		t.Errorf("the last that is tried is good: %v", err)
	}
	if _, err := verify(t, p, SGX, append([][]byte{bad}, all...)...); !errors.Is(err, ErrMalformed) {
		t.Errorf("the first that is not tried is good: %v", err)
	}
}
