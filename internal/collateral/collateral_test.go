// SPDX-License-Identifier: Apache-2.0

package collateral_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealift/evidence"
	"sealift/evidence/csv"
	"sealift/evidence/intel"
	"sealift/evidence/snp"
	"sealift/internal/collateral"
	"sealift/internal/sharedtest"
)

var _ evidence.Endorsements = (*collateral.Store)(nil)

// intelPlatform makes an emulated platform and its collateral, issued at now.
func intelPlatform(t *testing.T, now time.Time) (*intel.PKI, *intel.Platform, *intel.Collateral) {
	t.Helper()
	pki, err := intel.NewPKI(rand.Reader, now.AddDate(0, -2, 0))
	if err != nil {
		t.Fatal(err)
	}
	p, err := pki.NewPlatform(rand.Reader, intel.PlatformSpec{FMSPC: [6]byte{0xb0, 0xc0, 0x6f, 1}, PPID: [16]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	return pki, p, edition(t, pki, p, now)
}

func edition(t *testing.T, pki *intel.PKI, p *intel.Platform, now time.Time) *intel.Collateral {
	t.Helper()
	c, err := pki.Collateral(rand.Reader, p.CollateralSpec(intel.SGX, nil, now))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestIntel guards that collateral is kept under the key that verifiers ask for, the latest first, and what is forecast.
func TestIntel(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	pki, p, old := intelPlatform(t, now.AddDate(0, 0, -20))
	s := collateral.Open(filepath.Join(t.TempDir(), "store"))
	kind, key := intel.EndorsementKind(intel.SGX), p.PCK.EndorsementKey()
	if got := s.Find(kind, key); got != nil {
		t.Fatal("an empty store finds something")
	}
	if _, err := s.Add(old.Marshal(), ""); err != nil {
		t.Fatal(err)
	}
	expectState(t, s, now, collateral.StateEnding, "ends")
	expectState(t, s, now.AddDate(0, 0, 15), collateral.StateStale, "ended")
	expectState(t, s, now.AddDate(0, 0, -25), collateral.StateEarly, "early")
	fresh := edition(t, pki, p, now)
	item, err := s.Add(fresh.Marshal(), "")
	if err != nil || item.Kind != kind || item.Key != key {
		t.Fatalf("%+v %v", item, err)
	}
	if _, err := s.Add(fresh.Marshal(), ""); err != nil {
		t.Errorf("adding it again: %v", err)
	}
	found := s.Find(kind, key)
	if len(found) != 2 || !bytes.Equal(found[0], fresh.Marshal()) || !bytes.Equal(found[1], old.Marshal()) {
		t.Errorf("%d found, the latest first: %v", len(found), len(found) > 0 && bytes.Equal(found[0], fresh.Marshal()))
	}
	all, err := s.Status(now, 20*24*time.Hour)
	if err != nil || len(all) != 1 || all[0].State != collateral.StateOK {
		t.Errorf("the older edition is what counts: %+v %v", all, err)
	}
	if err := s.Remove(item.File); err != nil || len(s.Find(kind, key)) != 1 {
		t.Error("it was not removed", err)
	}
}

func expectState(t *testing.T, s *collateral.Store, at time.Time, state, what string) {
	t.Helper()
	all, err := s.Status(at, 30*24*time.Hour)
	if err != nil || len(all) != 1 || all[0].State != state || all[0].Why == "" {
		t.Errorf("%s: %+v %v", what, all, err)
	}
}

// TestSamples guards that real certificates and collateral are recognized, under the keys that their reports make verifiers
// ask for.
func TestSamples(t *testing.T) {
	s := collateral.Open(t.TempDir())
	for report, cert := range map[string]string{
		"snp/milan_v2_google.report.bin": "snp/milan_google.vcek.der",
		"snp/azure_v0.report.bin":        "snp/azure_v0.vcek.der",
	} {
		der := sharedtest.Read(t, "evidence", cert)
		if _, err := s.Add(der, ""); err != nil {
			t.Fatal(err)
		}
		r, err := snp.Parse(sharedtest.Read(t, "evidence", report))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Find(snp.KindVCEK, snp.EndorsementKey(snp.Milan, r)); len(got) != 1 || !bytes.Equal(got[0], der) {
			t.Errorf("%s: %d certificates are found", report, len(got))
		}
	}
	for file, kind := range map[string]string{
		"tdx/phala_tdx_quote.collateral.json": "intel/tdx-collateral", "sgx/phala_sgx.collateral.json": "intel/sgx-collateral",
		"tdx/google_rootcrl.der": collateral.KindCRL, "sgx/automata_0825_platform_crl.der": collateral.KindCRL,
	} {
		item, err := s.Add(sharedtest.Read(t, "evidence", file), "")
		if err != nil || item.Kind != kind || item.Until.IsZero() || item.Ends == "" {
			t.Errorf("%s: %+v %v", file, item, err)
		}
	}
	chain := sharedtest.Read(t, "evidence", "csv/csvrs_hsk_cek.cert")
	if _, err := s.Add(chain, ""); !errors.Is(err, collateral.ErrUnknown) {
		t.Errorf("Hygon's certificates without a serial number: %v", err)
	}
	if _, err := s.Add(chain, "NZAN1"); err != nil || len(s.Find(csv.KindChain, "NZAN1")) != 1 {
		t.Error(err)
	}
	if lists := s.RevocationLists(); len(lists) != 2 {
		t.Errorf("%d revocation lists", len(lists))
	}
	if items, err := s.List(); err != nil || len(items) != 7 {
		t.Errorf("%d items, %v", len(items), err)
	}
}

// TestHostile guards the store against keys and files that somebody else made.
func TestHostile(t *testing.T) {
	dir := t.TempDir()
	s := collateral.Open(filepath.Join(dir, "store"))
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"../secret", "..", "", "/", "a/../../secret", "a\x00b", strings.Repeat("a", 300)} {
		if got := s.Find("amd/vcek", key); got != nil {
			t.Errorf("%q finds something", key)
		}
		if err := s.Remove(key); !errors.Is(err, collateral.ErrKey) {
			t.Errorf("removing %q: %v", key, err)
		}
	}
	if _, err := s.Add([]byte("nonsense"), ""); !errors.Is(err, collateral.ErrUnknown) {
		t.Error(err)
	}
	// What lies under another key than its own is not found there, and is named.
	_, p, c := intelPlatform(t, time.Now())
	wrong := filepath.Join(dir, "store", "intel", "sgx-collateral", "000000000000.platform")
	if err := os.MkdirAll(wrong, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(wrong, "x.bin"), c.Marshal(), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.Find("intel/sgx-collateral", "000000000000.platform"); got != nil {
		t.Error("collateral of another platform is found")
	}
	all, err := s.Status(time.Now(), 0)
	if err != nil || len(all) != 1 || all[0].State != collateral.StateUseless || !strings.Contains(all[0].Why, p.PCK.EndorsementKey()) {
		t.Errorf("%+v %v", all, err)
	}
}

// services plays AMD's, Intel's and Hygon's services.
type services struct {
	t      *testing.T
	files  map[string][]byte
	chains map[string]http.Header
	asked  []string
}

func (s *services) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked = append(s.asked, r.URL.String())
	body, ok := s.files[r.URL.String()]
	if !ok {
		http.NotFound(w, r)
		return
	}
	for name, v := range s.chains[r.URL.String()] {
		w.Header()[name] = v
	}
	_, _ = w.Write(body)
}

func pemChain(certs ...[]byte) string {
	var out []byte
	for _, der := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return url.PathEscape(string(out))
}

// TestFetch guards the requests to the vendors' services, and that only what was asked for is kept.
func TestFetch(t *testing.T) {
	now := time.Now()
	_, p, c := intelPlatform(t, now)
	key := p.PCK.EndorsementKey()
	fmspc, _, _ := strings.Cut(key, ".")
	v := &services{t: t, files: map[string][]byte{}, chains: map[string]http.Header{}}
	wrap := func(name string, doc, sig []byte) []byte {
		return fmt.Appendf(nil, `{"%s":%s,"signature":"%x"}`, name, doc, sig)
	}
	tcb, qe := "/sgx/certification/v4/tcb?fmspc="+fmspc, "/sgx/certification/v4/qe/identity"
	pck := "/sgx/certification/v4/pckcrl?encoding=der&ca=platform"
	v.files[tcb] = wrap("tcbInfo", c.TCBInfo, c.TCBInfoSignature[:])
	v.files[qe] = wrap("enclaveIdentity", c.QEIdentity, c.QEIdentitySignature[:])
	v.files[pck], v.files["/sgx/certification/v4/rootcacrl"] = c.PCKCRL, c.RootCRL
	v.chains[tcb] = http.Header{"Tcb-Info-Issuer-Chain": {pemChain(c.TCBInfoChain...)}}
	v.chains[qe] = http.Header{"Sgx-Enclave-Identity-Issuer-Chain": {pemChain(c.QEIdentityChain...)}}
	v.chains[pck] = http.Header{"Sgx-Pck-Crl-Issuer-Chain": {pemChain(c.PCKCRLChain...)}}
	server := httptest.NewServer(v)
	defer server.Close()
	f := collateral.Fetcher{HTTP: server.Client(), Intel: server.URL, AMD: server.URL, Hygon: server.URL}
	s := collateral.Open(t.TempDir())
	items, err := f.Fetch(t.Context(), s, "intel/sgx-collateral", key)
	if err != nil || len(items) != 1 {
		t.Fatal(items, err, v.asked)
	}
	if got := s.Find("intel/sgx-collateral", key); len(got) != 1 || !bytes.Equal(got[0], c.Marshal()) {
		t.Error("what was fetched is not what verifiers get")
	}
	other := "00" + key[2:]
	v.files[strings.Replace(tcb, fmspc, other[:12], 1)], v.chains[strings.Replace(tcb, fmspc, other[:12], 1)] = v.files[tcb], v.chains[tcb]
	if _, err := f.Fetch(t.Context(), s, "intel/sgx-collateral", other); !errors.Is(err, collateral.ErrFetch) {
		t.Errorf("collateral of another platform: %v", err)
	}
	refusals(t, &f, s, v)
}

func refusals(t *testing.T, f *collateral.Fetcher, s *collateral.Store, v *services) {
	t.Helper()
	before, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	v.files["/hsk_cek?snumber=GONE"] = []byte("<html>try again later</html>")
	for _, c := range []struct {
		kind, key string
		want      error
	}{
		{"intel/sgx-collateral", "zz.platform", collateral.ErrKey},
		{"amd/vcek", "Milan/00", collateral.ErrKey},
		{"amd/vcek", "Milan/" + strings.Repeat("00", 64) + "/0000000000000000", collateral.ErrFetch},
		{"amd/vlek", "Milan/0000000000000000", collateral.ErrNoSource},
		{"hygon/hsk-cek", "GONE", collateral.ErrFetch},
		{"hygon/hsk-cek", "NONE", collateral.ErrFetch},
	} {
		if _, err := f.Fetch(t.Context(), s, c.kind, c.key); !errors.Is(err, c.want) {
			t.Errorf("%s %s: %v", c.kind, c.key, err)
		}
	}
	after, err := s.List()
	if err != nil || len(after) != len(before) {
		t.Errorf("a refused fetch has left something: %d, %d, %v", len(before), len(after), err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Fetch(ended, s, "hygon/hsk-cek", "NONE"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestFetchAMD guards the address that AMD's service is asked at: the parts of the level as decimal numbers.
func TestFetchAMD(t *testing.T) {
	der := sharedtest.Read(t, "evidence", "snp/milan_google.vcek.der")
	r, err := snp.Parse(sharedtest.Read(t, "evidence", "snp/milan_v2_google.report.bin"))
	if err != nil {
		t.Fatal(err)
	}
	tcb := r.ReportedTCB.TCB(snp.Milan)
	v := &services{t: t, files: map[string][]byte{
		fmt.Sprintf("/vcek/v1/Milan/%x?blSPL=%02d&teeSPL=%02d&snpSPL=%02d&ucodeSPL=%02d", r.ChipID, tcb.Bootloader, tcb.TEE, tcb.SNP,
			tcb.Microcode): der,
		"/vcek/v1/Milan/crl": sharedtest.Read(t, "evidence", "tdx/google_rootcrl.der"), // any list
	}}
	server := httptest.NewServer(v)
	defer server.Close()
	f := collateral.Fetcher{HTTP: server.Client(), AMD: server.URL}
	s := collateral.Open(t.TempDir())
	key := snp.EndorsementKey(snp.Milan, r)
	w := &collateral.Wanted{From: s}
	for range 2 {
		if w.Find(snp.KindVCEK, key) != nil {
			t.Fatal("an empty store finds a certificate")
		}
	}
	if len(w.Asked) != 1 {
		t.Fatalf("%+v", w.Asked)
	}
	if _, err := f.Fetch(t.Context(), s, w.Asked[0].Kind, w.Asked[0].Key); err != nil {
		t.Fatal(err, v.asked)
	}
	if got := w.Find(snp.KindVCEK, key); len(got) != 1 || !bytes.Equal(got[0], der) {
		t.Error("the certificate is not found")
	}
	if lists := w.RevocationLists(); len(lists) != 1 {
		t.Error(lists)
	}
}

// TestItemJSON guards the names that scripts read.
func TestItemJSON(t *testing.T) {
	data, err := json.Marshal(collateral.Forecast{State: collateral.StateOK, Kind: "k", Key: "y", What: "w"})
	if err != nil || string(data) != `{"state":"ok","kind":"k","key":"y","what":"w"}` {
		t.Errorf("%s %v", data, err)
	}
}

func FuzzIdentify(f *testing.F) {
	f.Add([]byte("{}"))
	f.Add(make([]byte, 2916))
	f.Fuzz(func(t *testing.T, data []byte) {
		item, err := collateral.Identify(data, "S1")
		if err == nil && (item.Kind == "" || item.Key == "") {
			t.Errorf("%+v", item)
		}
	})
}

// TestListsWithoutRestart guards that a revocation list counts from the moment at which it is in the folder, to the one at which
// it is taken out.
func TestListsWithoutRestart(t *testing.T) {
	s := collateral.Open(t.TempDir())
	var _ evidence.RevocationLists = s
	if got := s.RevocationLists(); len(got) != 0 {
		t.Errorf("%d lists in an empty store", len(got))
	}
	item, err := s.Add(sharedtest.Read(t, "evidence", "tdx/google_rootcrl.der"), "")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := s.RevocationLists(); len(got) != 1 {
			t.Errorf("%d lists, want the one that was added", len(got))
		}
	}
	if err := s.Remove(item.File); err != nil {
		t.Fatal(err)
	}
	if got := s.RevocationLists(); len(got) != 0 {
		t.Errorf("%d lists after it was removed", len(got))
	}
}
