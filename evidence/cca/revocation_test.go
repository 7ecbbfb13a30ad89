// SPDX-License-Identifier: Apache-2.0

package cca

import (
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"

	"sealift/evidence"
)

// TestRevocation guards that a platform whose certificate is on a list of the verifier is refused, also with a chain that was
// verified before.
func TestRevocation(t *testing.T) {
	p := newPlatform(t)
	token := p.mint(t, nil)
	cert, err := x509.ParseCertificate(p.chain[0])
	if err != nil {
		t.Fatal(err)
	}
	list := func(serial *big.Int) []*x509.RevocationList {
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.AddDate(0, 0, -1),
			NextUpdate: now.AddDate(0, 0, 1), RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: serial, RevocationTime: now}}},
			p.pki.Root, p.pki.Key())
		if err != nil {
			t.Fatal(err)
		}
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		return []*x509.RevocationList{l}
	}
	h := NewHardware()
	for i, c := range []struct {
		lists []*x509.RevocationList
		field string
		code  string
	}{{nil, "unchecked: no revocation list", ""}, {list(big.NewInt(7)), "checked", ""}, {list(cert.SerialNumber), "revoked", evidence.CodeRevoked},
		{list(big.NewInt(7)), "checked", ""}} {
		s, found := h.VerifyHardware(evidence.HardwareEvidence{Data: token, MediaType: MediaType, Collateral: p.chain},
			evidence.HardwareInput{Anchors: []evidence.Anchor{{Cert: p.pki.Root}}, CRLs: c.lists, Now: now})
		if s == nil || s.Fields[evidence.FieldRevocation] != c.field || (len(found) > 0) != (c.code != "") || c.code != "" && found[0].Code != c.code {
			t.Errorf("%d: %+v, %v", i, s, found)
		}
	}
}
