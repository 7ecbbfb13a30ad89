// SPDX-License-Identifier: Apache-2.0

package evidence_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"sealift/evidence"
	"sealift/evidence/psa"
)

// issuer is a certificate with its key.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func issue(t *testing.T, cn string, serial int64, parent *issuer) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn}, NotBefore: now.AddDate(-1, 0, 0),
		NotAfter: now.AddDate(1, 0, 0), IsCA: serial < 10, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature}
	if template.IsCA {
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	if parent == nil {
		parent = &issuer{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, &key.PublicKey, parent.key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &issuer{cert, key}
}

func (i *issuer) list(t *testing.T, until time.Time, serials ...int64) *x509.RevocationList {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.AddDate(0, 0, -10), NextUpdate: until}
	for _, s := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: now.AddDate(0, 0, -20)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, i.cert, i.key)
	must(t, err)
	list, err := x509.ParseRevocationList(der)
	must(t, err)
	return list
}

// TestRevocation guards that a device whose certificate, or whose issuer's, is on a list of the verifier is refused, and
// that what the lists cannot tell is told. Certificates that do not belong to the chain must not stand between it and a list.
func TestRevocation(t *testing.T) {
	w := newWorld(t)
	root := issue(t, "root", 1, nil)
	ca := issue(t, "maker", 2, root)
	leaf, stranger := issue(t, "device", 33, ca), issue(t, "stranger", 3, nil)
	chain := [][]byte{leaf.cert.Raw, stranger.cert.Raw, ca.cert.Raw}
	w.hw = "trustzone"
	w.change = func(e *evidence.HardwareEvidence) { // a token of the maker's device instead
		msg, err := psa.Parse(e.Data)
		must(t, err)
		e.Data, err = psa.Mint(rand.Reader, leaf.key, *msg.TokenInsecure())
		must(t, err)
		e.Collateral = chain
	}
	bundle := w.bundle(t)
	soon, past, end := now.AddDate(0, 0, 5), now.AddDate(0, 0, -5), leaf.cert.NotAfter
	type lists = []*x509.RevocationList
	for name, c := range map[string]struct {
		lists lists
		codes []string
		field string
		until time.Time
	}{
		"no list":            {nil, nil, "unchecked: no", end},
		"clean lists":        {lists{root.list(t, now.AddDate(0, 0, 9)), ca.list(t, soon)}, nil, "checked", soon},
		"no list of the ca":  {lists{root.list(t, soon)}, nil, "unchecked: CN=device", soon},
		"another's list":     {lists{stranger.list(t, soon, 33, 2)}, nil, "unchecked: CN=device", end},
		"old lists":          {lists{root.list(t, past), ca.list(t, past)}, nil, "stale: ", end},
		"device revoked":     {lists{ca.list(t, soon, 33)}, []string{evidence.CodeRevoked}, "", time.Time{}},
		"in an old list":     {lists{ca.list(t, past, 33)}, []string{evidence.CodeRevoked}, "", time.Time{}},
		"maker revoked":      {lists{root.list(t, soon, 2)}, []string{evidence.CodeRevoked}, "", time.Time{}},
		"both":               {lists{root.list(t, soon, 2), ca.list(t, soon, 33)}, []string{evidence.CodeRevoked}, "", time.Time{}},
		"number of the root": {lists{root.list(t, soon, 1), ca.list(t, soon, 2)}, nil, "checked", soon},
	} {
		in := w.input()
		in.Anchors.Roots, in.CRLs = []evidence.Anchor{{Cert: root.cert}}, c.lists
		v, err := evidence.Verify(bundle, in)
		wantCodes(t, err, c.codes...)
		if v == nil {
			continue
		}
		if field := v.Fields[evidence.FieldRevocation].(string); !strings.HasPrefix(field, c.field) || !v.Until.Equal(c.until) {
			t.Errorf("%s: %q, until %v", name, field, v.Until)
		}
	}
}
