// SPDX-License-Identifier: Apache-2.0

package crl

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/internal/sharedtest"
)

var (
	now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	day = 24 * time.Hour
)

// authority is a certificate with its key.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func issue(t testing.TB, cn string, serial int64, ca bool, parent *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn}, NotBefore: now.Add(-365 * day),
		NotAfter: now.Add(365 * day), IsCA: ca, BasicConstraintsValid: true}
	if ca {
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	if parent == nil {
		parent = &authority{cert: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) list(t testing.TB, change func(*x509.RevocationList), serials ...int64) *x509.RevocationList {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: now.Add(-day), NextUpdate: now.Add(day)}
	for _, s := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: now.Add(-2 * day)})
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	list, err := Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

type chain struct{ root, ca, leaf *authority }

func newChain(t testing.TB) chain {
	root := issue(t, "root", 1, true, nil)
	ca := issue(t, "ca", 2, true, root)
	return chain{root, ca, issue(t, "leaf", 3, false, ca)}
}

func (c chain) certs() []*x509.Certificate {
	return []*x509.Certificate{c.leaf.cert, c.ca.cert, c.root.cert}
}

func TestCheck(t *testing.T) {
	c, other := newChain(t), newChain(t)
	critical := func(l *x509.RevocationList) {
		l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
	}
	criticalEntry := func(l *x509.RevocationList) {
		l.RevokedCertificateEntries[0].ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}
	}
	old := func(l *x509.RevocationList) { l.ThisUpdate, l.NextUpdate = now.Add(-3*day), now.Add(-day) }
	future := func(l *x509.RevocationList) { l.ThisUpdate, l.NextUpdate = now.Add(day), now.Add(2*day) }
	later := func(l *x509.RevocationList) { l.RevokedCertificateEntries[0].RevocationTime = now.Add(time.Hour) }
	type lists = []*x509.RevocationList
	rootList, caList := c.root.list(t, nil, 9), c.ca.list(t, nil, 9)
	for name, x := range map[string]struct {
		lists     lists
		want      []error
		unchecked []string
	}{
		"none":                    {nil, nil, []string{"CN=leaf", "CN=ca"}},
		"both, nothing revoked":   {lists{rootList, caList}, nil, nil},
		"only the root's":         {lists{rootList}, nil, []string{"CN=leaf"}},
		"leaf revoked":            {lists{rootList, c.ca.list(t, nil, 8, 3)}, []error{ErrRevoked}, nil},
		"ca revoked":              {lists{c.root.list(t, nil, 2), caList}, []error{ErrRevoked}, nil},
		"both revoked":            {lists{c.root.list(t, nil, 2), c.ca.list(t, nil, 3)}, []error{ErrRevoked, ErrRevoked}, nil},
		"same number, another ca": {lists{c.root.list(t, nil, 3), caList}, nil, nil},
		"out of date":             {lists{rootList, c.ca.list(t, old)}, []error{ErrStale}, nil},
		"out of date, revoked":    {lists{rootList, c.ca.list(t, old, 3)}, []error{ErrRevoked, ErrStale}, nil},
		"out of date and current": {lists{rootList, c.ca.list(t, old, 8), caList}, nil, nil},
		"current and out of date": {lists{rootList, caList, c.ca.list(t, old, 8)}, nil, nil},
		"revoked in the old one":  {lists{rootList, caList, c.ca.list(t, old, 3)}, []error{ErrRevoked}, nil},
		"not yet in force":        {lists{rootList, c.ca.list(t, future)}, []error{ErrStale}, nil},
		"future and current":      {lists{rootList, c.ca.list(t, future), caList}, nil, nil},
		"current and future":      {lists{rootList, caList, c.ca.list(t, future)}, nil, nil},
		"revoked in the future's": {lists{rootList, caList, c.ca.list(t, future, 3)}, []error{ErrRevoked}, nil},
		"revoked later":           {lists{rootList, c.ca.list(t, later, 3)}, nil, nil},
		"of another of that name": {lists{rootList, other.ca.list(t, nil, 3)}, nil, []string{"CN=leaf"}},
		"with a critical scope":   {lists{rootList, c.ca.list(t, critical, 3)}, nil, []string{"CN=leaf"}},
		"indirect":                {lists{rootList, c.ca.list(t, criticalEntry, 3)}, nil, []string{"CN=leaf"}},
	} {
		t.Run(name, func(t *testing.T) {
			var checker Checker
			for _, temperature := range []string{"cold", "warm"} {
				r, err := checker.Check(c.certs(), x.lists, now)
				if got := sentinels(err); !slices.Equal(got, x.want) {
					t.Errorf("%s: got %v, want %v", temperature, err, x.want)
				}
				var subjects []string
				for _, u := range r.Unchecked {
					subjects = append(subjects, u.Subject)
				}
				if !slices.Equal(subjects, x.unchecked) {
					t.Errorf("%s: unchecked %v, want %v", temperature, r.Unchecked, x.unchecked)
				}
				if x.want == nil && x.unchecked == nil && !r.Until.Equal(rootList.NextUpdate) {
					t.Errorf("%s: until %v (%s)", temperature, r.Until, r.UntilWhat)
				}
			}
		})
	}
}

func sentinels(err error) (out []error) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	for _, e := range joined.Unwrap() {
		for _, s := range []error{ErrRevoked, ErrStale, ErrMalformed} {
			if errors.Is(e, s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// TestUnsigned wants lists not to count that the issuer did not sign, or may not sign.
func TestUnsigned(t *testing.T) {
	c := newChain(t)
	damaged := c.ca.list(t, nil, 3)
	damaged.Signature[len(damaged.Signature)-1] ^= 1
	unfit := *c.ca.cert
	unfit.KeyUsage = x509.KeyUsageCertSign
	for name, x := range map[string]struct {
		chain []*x509.Certificate
		list  *x509.RevocationList
	}{
		"damaged signature":         {c.certs(), damaged},
		"issuer may not sign lists": {[]*x509.Certificate{c.leaf.cert, &unfit, c.root.cert}, c.ca.list(t, nil, 3)},
	} {
		var checker Checker
		r, err := checker.Check(x.chain, []*x509.RevocationList{x.list}, now)
		if err != nil || len(r.Unchecked) != 2 || !strings.Contains(r.Unchecked[0].Why, "not signed") {
			t.Errorf("%s: got %+v, %v", name, r, err)
		}
	}
}

// TestNoEnd wants lists that say until when they are good.
func TestNoEnd(t *testing.T) {
	list := newChain(t).ca.list(t, nil, 3)
	algorithm := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}
	type body struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		Issuer     asn1.RawValue
		ThisUpdate time.Time
	}
	der, err := asn1.Marshal(struct {
		Body      body
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{body{1, algorithm, asn1.RawValue{FullBytes: list.RawIssuer}, now}, algorithm, asn1.BitString{Bytes: list.Signature}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x509.ParseRevocationList(der); err != nil {
		t.Fatalf("not even a list: %v", err)
	}
	if _, err := Parse(der); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

func TestParse(t *testing.T) {
	c := newChain(t)
	list := c.ca.list(t, nil, 3)
	if _, err := Parse(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list.Raw})); err != nil {
		t.Error(err)
	}
	if _, err := Parse(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: list.Raw})); !errors.Is(err, ErrMalformed) {
		t.Errorf("another PEM block: %v", err)
	}
	for n := range list.Raw {
		if _, err := Parse(list.Raw[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := Parse(make([]byte, MaxSize+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("too long: %v", err)
	}
}

// TestRealLists reads the vendor's lists among the samples.
func TestRealLists(t *testing.T) {
	for _, file := range []string{"sgx/automata_0825_platform_crl.der", "sgx/automata_1025_pck_crl.der", "sgx/intelqvl_rootCaCrl.der",
		"sgx/intelqvl_intermediateCaCrl.der", "tdx/google_rootcrl.der"} {
		list, err := Parse(sharedtest.Read(t, "evidence", file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		t.Logf("%s: %s, %d entries", file, name(list), len(list.RevokedCertificateEntries))
	}
}

// TestRealChain checks Intel's root and its list at a time at which it was in force, and later.
func TestRealChain(t *testing.T) {
	var collateral struct {
		RootCRL string `json:"root_ca_crl"`
		Chain   string `json:"pck_crl_issuer_chain"`
	}
	if err := json.Unmarshal(sharedtest.Read(t, "evidence", "sgx/phala_sgx.collateral.json"), &collateral); err != nil {
		t.Fatal(err)
	}
	der, err := hex.DecodeString(collateral.RootCRL)
	if err != nil {
		t.Fatal(err)
	}
	list, err := Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	var certs []*x509.Certificate
	for block, rest := pem.Decode([]byte(collateral.Chain)); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, cert)
	}
	var checker Checker
	r, err := checker.Check(certs, []*x509.RevocationList{list}, time.Date(2025, 6, 20, 0, 0, 0, 0, time.UTC))
	if err != nil || len(r.Unchecked) != 0 || len(certs) != 2 {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := checker.Check(certs, []*x509.RevocationList{list}, now); !errors.Is(err, ErrStale) {
		t.Errorf("today: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	c := newChain(f)
	f.Add(c.ca.list(f, nil, 3).Raw)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: c.root.list(f, nil).Raw}))
	certs := c.certs()
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("an error without the sentinel: %v", err)
			}
			return
		}
		var checker Checker
		_, _ = checker.Check(certs, []*x509.RevocationList{list}, now)
	})
}
