// SPDX-License-Identifier: Apache-2.0

package teep_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"sealift/cose"
	"sealift/teep"
)

// authority issues certificates for the tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	der  []byte
}

func newAuthority(t *testing.T, issuer *authority, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	a.der = a.issue(t, issuer, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
	}, key.Public())
	if a.cert, err = x509.ParseCertificate(a.der); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue signs template under issuer, or under a itself.
func (a *authority) issue(t *testing.T, issuer *authority, template *x509.Certificate, pub crypto.PublicKey) []byte {
	t.Helper()
	template.SerialNumber = big.NewInt(1)
	parent, key := template, a.key
	if issuer != nil {
		parent, key = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestCertificates(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	root, other := newAuthority(t, nil, "root"), newAuthority(t, nil, "other")
	sub := newAuthority(t, root, "sub")
	s, raw := fixedSigner(t, cose.AlgESP256, "certified"), fixedSigner(t, cose.AlgESP256, "raw")
	ed := fixedSigner(t, cose.AlgEd25519, "certified")
	leaf := func(issuer *authority, s cose.Signer, from, to time.Time, usage x509.KeyUsage) []byte {
		template := &x509.Certificate{Subject: pkix.Name{CommonName: "tam"}, NotBefore: from, NotAfter: to, KeyUsage: usage}
		return issuer.issue(t, issuer, template, s.Key().Public())
	}
	const hour = time.Hour
	good := leaf(sub, s, now.Add(-hour), now.Add(hour), x509.KeyUsageDigitalSignature)
	roots := x509.NewCertPool()
	roots.AddCert(root.cert)
	for _, c := range []struct {
		name   string
		signer cose.Signer
		chain  [][]byte
		roots  *x509.CertPool
		want   error
		cert   bool
	}{
		{"chain to the root", s, [][]byte{good, sub.der}, roots, nil, true},
		{"Ed25519", ed, [][]byte{leaf(sub, ed, now.Add(-hour), now.Add(hour), 0), sub.der}, roots, nil, true},
		{"no roots", s, [][]byte{good, sub.der}, nil, cose.ErrNoKey, false},
		{"raw key with a useless chain", raw, [][]byte{{1}}, roots, nil, false},
		{"raw key without chain", raw, nil, roots, nil, false},
		{"no chain", s, nil, roots, cose.ErrNoKey, false},
		{"intermediate is missing", s, [][]byte{good}, roots, teep.ErrBadCertificate, false},
		{"another root", s, [][]byte{leaf(other, s, now.Add(-hour), now.Add(hour), 0)}, roots, teep.ErrBadCertificate, false},
		{"no certificate", s, [][]byte{{1, 2, 3}}, roots, teep.ErrBadCertificate, false},
		{"not for signatures", s, [][]byte{leaf(root, s, now.Add(-hour), now.Add(hour), x509.KeyUsageKeyAgreement)}, roots, teep.ErrBadCertificate, false},
		{"expired", s, [][]byte{leaf(root, s, now.Add(-2*hour), now.Add(-hour), 0)}, roots, teep.ErrCertificateExpired, false},
		{"not valid yet", s, [][]byte{leaf(root, s, now.Add(hour), now.Add(2*hour), 0)}, roots, teep.ErrCertificateExpired, false},
		{"expired, and of another root", s, [][]byte{leaf(other, s, now.Add(-2*hour), now.Add(-hour), 0)}, roots, teep.ErrBadCertificate, false},
		{"another's certificate", ed, [][]byte{good, sub.der}, roots, cose.ErrNoKey, false},
	} {
		data, err := teep.SignCertified(nil, c.signer, c.chain, success())
		if err != nil {
			t.Fatal(err)
		}
		signed, err := teep.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		v, err := signed.Verify([]*cose.Key{raw.Key()}, teep.Options{Roots: c.roots, Now: now})
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		} else if err == nil && (!v.Key.Equal(c.signer.Key()) || (v.Certificate != nil) != c.cert) {
			t.Errorf("%s: got %+v", c.name, v)
		}
	}
}

// TestCertificatesOfSeveralSigners: in a COSE_Sign the chain of one signer suffices, and its key must be one of the signers'.
func TestCertificatesOfSeveralSigners(t *testing.T) {
	root := newAuthority(t, nil, "root")
	roots := x509.NewCertPool()
	roots.AddCert(root.cert)
	s, ed := fixedSigner(t, cose.AlgESP256, "a"), fixedSigner(t, cose.AlgEd25519, "a")
	now := time.Unix(1_800_000_000, 0)
	chain := func(k *cose.Key) [][]byte {
		template := &x509.Certificate{Subject: pkix.Name{CommonName: "tam"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
		return [][]byte{root.issue(t, root, template, k.Public())}
	}
	for name, c := range map[string]struct {
		chains map[cose.Algorithm][][]byte
		want   error
	}{
		"both":           {map[cose.Algorithm][][]byte{cose.AlgESP256: chain(s.Key()), cose.AlgEd25519: chain(ed.Key())}, nil},
		"the second":     {map[cose.Algorithm][][]byte{cose.AlgEd25519: chain(ed.Key())}, nil},
		"of a bystander": {map[cose.Algorithm][][]byte{cose.AlgEd25519: chain(fixedSigner(t, cose.AlgEd25519, "b").Key())}, cose.ErrNoKey},
		"none":           {nil, cose.ErrNoKey},
	} {
		data, err := teep.SignAllCertified(nil, []cose.Signer{s, ed}, c.chains, queryRequest())
		if err != nil {
			t.Fatal(err)
		}
		signed, err := teep.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := signed.Verify(nil, teep.Options{Roots: roots, Now: now}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestProfiles: what the compatibility profile takes, the strict one refuses.
func TestProfiles(t *testing.T) {
	s := fixedSigner(t, cose.AlgESP256, "a")
	loose := unhex(t, "85 01 a1"+token8+suites+profiles+"01")
	data, err := cose.Sign1(nil, s, loose)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := teep.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for profile, ok := range map[teep.Profile]bool{teep.ProfileStrict: false, teep.ProfileDrafts: true} {
		o, err := profile.Options()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := signed.Verify([]*cose.Key{s.Key()}, o); (err == nil) != ok {
			t.Errorf("%q: %v", profile, err)
		}
	}
	if _, err := teep.Profile("lax").Options(); err == nil {
		t.Error("an unknown profile")
	}
}
