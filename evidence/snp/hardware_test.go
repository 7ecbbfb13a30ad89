// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"slices"
	"testing"
	"time"

	"sealift/evidence"
	"sealift/evidence/tsm"
)

// kept is a store of endorsements that knows one.
type kept struct {
	kind, key string
	value     []byte
}

func (k kept) Find(kind, key string) [][]byte {
	if kind != k.kind || key != k.key {
		return nil
	}
	return [][]byte{k.value}
}

func verifyHardware(h *Hardware, e evidence.HardwareEvidence, in evidence.HardwareInput) (*evidence.Signed, []string) {
	if in.Now.IsZero() {
		in.Now = now
	}
	s, mismatches := h.VerifyHardware(e, in)
	var out []string
	for _, m := range mismatches {
		out = append(out, m.Code+" "+m.Claim)
	}
	return s, out
}

// The certificate comes in the kernel's wrapper, beside a bare report, or from the verifier's own store.
func TestWhereTheCertificateComesFrom(t *testing.T) {
	pki := pkis[Milan]()
	for name, spec := range map[string]DeviceSpec{"VCEK": {}, "VLEK": {Signer: VLEK}} {
		d := device(t, pki, spec)
		report := mint(t, d, nil)
		table := &CertTable{VCEK: d.Cert}
		kind := KindVCEK
		if spec.Signer == VLEK {
			table, kind = &CertTable{VLEK: d.Cert}, KindVLEK
		}
		r, err := Parse(report)
		if err != nil {
			t.Fatal(err)
		}
		store := kept{kind, EndorsementKey(Milan, r), d.Cert}
		wrap := func(aux []byte) evidence.HardwareEvidence {
			return evidence.HardwareEvidence{MediaType: tsm.MediaType,
				Data: tsm.Report{Provider: tsm.ProviderSNP, OutBlob: report, AuxBlob: aux}.Marshal()}
		}
		bare := evidence.HardwareEvidence{MediaType: MediaType, Data: report}
		for where, c := range map[string]struct {
			e    evidence.HardwareEvidence
			in   evidence.HardwareInput
			want []string
		}{
			"in the wrapper":          {e: wrap(table.Marshal())},
			"beside the report":       {e: evidence.HardwareEvidence{MediaType: MediaType, Data: report, Collateral: [][]byte{d.Cert}}},
			"in the store":            {e: bare, in: evidence.HardwareInput{Endorsements: store}},
			"in the store, wrapped":   {e: wrap(nil), in: evidence.HardwareInput{Endorsements: store}},
			"nowhere":                 {e: bare, want: []string{evidence.CodeCertificate + " certificate of the " + name}},
			"in the store, another's": {e: bare, in: evidence.HardwareInput{Endorsements: kept{kind, "Milan/00", d.Cert}}, want: []string{evidence.CodeCertificate + " certificate of the " + name}},
		} {
			c.in.Anchors = []evidence.Anchor{pki.Root.Anchor()}
			if s, got := verifyHardware(NewHardware(), c.e, c.in); !slices.Equal(got, c.want) || s == nil || s.Rooted != (c.want == nil) {
				t.Errorf("%s %s: %v", name, where, got)
			}
		}
	}
}

// What was remembered under one root does not count under another, and not at another time.
func TestRememberedChain(t *testing.T) {
	pki, h := pkis[Milan](), NewHardware()
	d := device(t, pki, DeviceSpec{NotAfter: now.Add(time.Hour)})
	e := evidence.HardwareEvidence{MediaType: MediaType, Data: mint(t, d, nil), Collateral: [][]byte{d.Cert}}
	own := evidence.HardwareInput{Anchors: []evidence.Anchor{pki.Root.Anchor()}}
	for range 2 {
		if s, got := verifyHardware(h, e, own); got != nil || !s.Rooted || s.Until != d.notAfter(t) {
			t.Fatalf("under its own root: %v", got)
		}
	}
	if s, got := verifyHardware(h, e, evidence.HardwareInput{Anchors: []evidence.Anchor{strangers().Root.Anchor()}}); s.Rooted || len(got) != 1 {
		t.Errorf("under another root: %v", got)
	}
	own.Now = now.Add(2 * time.Hour)
	if _, got := verifyHardware(h, e, own); !slices.Equal(got, []string{evidence.CodeCertificate + " validity of the certificate chain"}) {
		t.Errorf("after its end: %v", got)
	}
}

func (d *Device) notAfter(t *testing.T) time.Time {
	t.Helper()
	c, err := x509.ParseCertificate(d.Cert)
	if err != nil {
		t.Fatal(err)
	}
	return c.NotAfter
}

// AMD's list revokes an intermediate, or not, or is too old to tell.
func TestRevokedIntermediate(t *testing.T) {
	pki := pkis[Milan]()
	d := device(t, pki, DeviceSpec{})
	e := evidence.HardwareEvidence{MediaType: MediaType, Data: mint(t, d, nil), Collateral: [][]byte{d.Cert}}
	list := func(until time.Time, serials ...*big.Int) *x509.RevocationList {
		t.Helper()
		l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-time.Hour), NextUpdate: until, SignatureAlgorithm: x509.SHA384WithRSAPSS}
		for _, n := range serials {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: now.Add(-time.Hour)})
		}
		issuer := *pki.Root.ARK
		issuer.KeyUsage |= x509.KeyUsageCRLSign // as AMD's has
		issuer.SubjectKeyId = []byte{1}
		der, err := x509.CreateRevocationList(rand.Reader, l, &issuer, pki.ark)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	s, got := verifyHardware(NewHardware(), e, evidence.HardwareInput{Anchors: []evidence.Anchor{pki.Root.Anchor()},
		CRLs: []*x509.RevocationList{list(now.Add(time.Hour), pki.Root.ASK.SerialNumber)}})
	t.Log(got, s.Fields["revocation"])
	if len(got) != 1 || got[0][:len(evidence.CodeRevoked)] != evidence.CodeRevoked {
		t.Errorf("revoked: %v", got)
	}
	s, got = verifyHardware(NewHardware(), e, evidence.HardwareInput{Anchors: []evidence.Anchor{pki.Root.Anchor()},
		CRLs: []*x509.RevocationList{list(now.Add(time.Hour), big.NewInt(99))}})
	if got != nil || s.Fields["revocation"] != "checked" {
		t.Errorf("not revoked: %v, %v", got, s.Fields["revocation"])
	}
}

// A host that masks CHIP_ID hides nothing that the VCEK's certificate says.
func TestMaskedChip(t *testing.T) {
	pki := pkis[Milan]()
	d := device(t, pki, DeviceSpec{})
	report := mint(t, d, func(r *Report) { r.MaskChipKey, r.ChipID = true, [64]byte{} })
	in := evidence.HardwareInput{Anchors: []evidence.Anchor{pki.Root.Anchor()}}
	s, got := verifyHardware(NewHardware(), evidence.HardwareEvidence{MediaType: MediaType, Data: report, Collateral: [][]byte{d.Cert}}, in)
	if id := InstanceID(d.Chip); got != nil || !bytes.Equal(s.InstanceID, id[:]) {
		t.Errorf("instance %x: %v", s.InstanceID, got)
	}
}

func TestCertTable(t *testing.T) {
	table := CertTable{VCEK: []byte("vcek"), VLEK: []byte("vlek")}
	got, err := ParseCertTable(append(table.Marshal(), make([]byte, 4096)...))
	if err != nil || string(got.VCEK) != "vcek" || string(got.VLEK) != "vlek" || string(got.Endorsement()) != "vlek" {
		t.Errorf("%+v, %v", got, err)
	}
	data := table.Marshal()
	for name, change := range map[string]func([]byte) []byte{
		"empty":              func([]byte) []byte { return nil },
		"without an end":     func(b []byte) []byte { return b[:48] },
		"offset in the head": func(b []byte) []byte { b[16] = 4; return b },
		"beyond the end":     func(b []byte) []byte { b[20] = 0xff; return b },
		"wrapping around":    func(b []byte) []byte { copy(b[16:], "\xff\xff\xff\xff\x10\x00\x00\x00"); return b },
		"two of a kind":      func(b []byte) []byte { copy(b[24:40], b[:16]); return b },
		"only entries":       func([]byte) []byte { return bytes.Repeat([]byte{1}, 4096) },
	} {
		if _, err := ParseCertTable(change(bytes.Clone(data))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseCertTable(f *testing.F) {
	table := CertTable{VCEK: []byte("vcek"), VLEK: []byte("vlek")}
	f.Add(table.Marshal())
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseCertTable(data)
		if err != nil {
			return
		}
		again, err := ParseCertTable(got.Marshal())
		if err != nil || !bytes.Equal(again.VCEK, got.VCEK) || !bytes.Equal(again.VLEK, got.VLEK) {
			t.Errorf("%v, %+v, %+v", err, got, again)
		}
	})
}
