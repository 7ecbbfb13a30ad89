// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"sealift/evidence"
)

// TestRevocation guards that a report whose intermediate is on AMD's list is refused, also with a certificate that was
// verified before, and that the field tells what the lists cannot.
func TestRevocation(t *testing.T) {
	pki, other := pkis[Milan](), strangers()
	list := func(p *PKI, until time.Time, serials ...*big.Int) *x509.RevocationList {
		template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.AddDate(0, 0, -10), NextUpdate: until,
			SignatureAlgorithm: x509.SHA384WithRSAPSS}
		for _, s := range serials {
			template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
				x509.RevocationListEntry{SerialNumber: s, RevocationTime: now.AddDate(0, 0, -20)})
		}
		der, err := x509.CreateRevocationList(rand.Reader, template, p.Root.ARK, p.ark)
		if err != nil {
			t.Fatal(err)
		}
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	soon, past := now.AddDate(0, 0, 5), now.AddDate(0, 0, -5)
	ask, asvk := pki.Root.ASK.SerialNumber, pki.Root.ASVK.SerialNumber
	vcek, vlek := device(t, pki, DeviceSpec{}), device(t, pki, DeviceSpec{Signer: VLEK})
	h := NewHardware()
	for name, c := range map[string]struct {
		device *Device
		lists  []*x509.RevocationList
		field  string // nothing: revoked
		until  time.Time
	}{
		"no list":                    {vcek, nil, "unchecked: no", time.Time{}},
		"clean":                      {vcek, []*x509.RevocationList{list(pki, soon)}, "checked", soon},
		"ASK revoked":                {vcek, []*x509.RevocationList{list(pki, soon, ask)}, "", time.Time{}},
		"ASK revoked, in an old one": {vcek, []*x509.RevocationList{list(pki, past, ask)}, "", time.Time{}},
		"ASVK revoked, for a VCEK":   {vcek, []*x509.RevocationList{list(pki, soon, asvk)}, "checked", soon},
		"ASVK revoked, for a VLEK":   {vlek, []*x509.RevocationList{list(pki, soon, asvk)}, "", time.Time{}},
		"ASK revoked, for a VLEK":    {vlek, []*x509.RevocationList{list(pki, soon, ask)}, "checked", soon},
		"old":                        {vcek, []*x509.RevocationList{list(pki, past)}, "stale: ", time.Time{}},
		"another AMD's":              {vcek, []*x509.RevocationList{list(other, soon, ask)}, "unchecked: ", time.Time{}},
	} {
		s, found := h.VerifyHardware(evidence.HardwareEvidence{Data: mint(t, c.device, nil), MediaType: MediaType, Collateral: [][]byte{c.device.Cert}},
			evidence.HardwareInput{Anchors: []evidence.Anchor{pki.Root.Anchor()}, CRLs: c.lists, Now: now})
		if c.field == "" {
			if len(found) != 1 || found[0].Code != evidence.CodeRevoked {
				t.Errorf("%s: %v", name, found)
			}
			continue
		}
		if field, _ := s.Fields[evidence.FieldRevocation].(string); len(found) > 0 || !strings.HasPrefix(field, c.field) {
			t.Errorf("%s: %q, %v", name, field, found)
		}
		if !c.until.IsZero() && !s.Until.Equal(c.until) {
			t.Errorf("%s: until %v", name, s.Until)
		}
	}
}
