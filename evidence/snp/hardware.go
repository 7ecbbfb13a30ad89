// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"sealift/evidence"
	"sealift/evidence/crl"
	"sealift/evidence/tsm"
)

// MediaType is the type of a bare report of [ReportSize] bytes. Evidence normally travels in the kernel's wrapper
// ([tsm.MediaType]), which has room for the certificates.
const MediaType = "application/vnd.sealift.snp-report"

// Kinds of endorsements that [Hardware] asks for where Evidence brings no certificate: those of AMD's Key Distribution
// Service. The key of a VCEK is "PRODUCT/CHIP_ID/REPORTED_TCB", of a VLEK "PRODUCT/REPORTED_TCB"; CHIP_ID and
// REPORTED_TCB as in the report, in lower-case hexadecimal. The value is one certificate in DER.
const (
	KindVCEK = "amd/vcek"
	KindVLEK = "amd/vlek"
)

// Hardware verifies SNP reports for [evidence.Verify]. Anchors are AMD's roots: [Root.Anchor]. It remembers the
// certificate chains that it has verified.
//
// Measurement: "MEASUREMENT". The configuration is "HOST_DATA". Fields, under AMD's names: "VERSION", "GUEST_SVN",
// "POLICY" ([Policy]), "FAMILY_ID", "IMAGE_ID", "VMPL", "CURRENT_TCB", "REPORTED_TCB", "COMMITTED_TCB" and "LAUNCH_TCB"
// ([TCB]), "PLATFORM_INFO" (a number), "AUTHOR_KEY_EN", "MASK_CHIP_KEY", "SIGNING_KEY" ([Signer]), "ID_KEY_DIGEST",
// "AUTHOR_KEY_DIGEST", "REPORT_ID", "REPORT_ID_MA", "CHIP_ID", "CPUID" (family, model and stepping), "CURRENT_VERSION" and
// "COMMITTED_VERSION" ([Version]), "LAUNCH_MIT_VECTOR", "CURRENT_MIT_VECTOR" (version 5), and what the certificate says:
// "product" ([Product]), "csp". "revocation" tells whether AMD's revocation
// list was at hand: "checked", or "unchecked" and why.
type Hardware struct {
	lists crl.Checker

	mu    sync.Mutex
	known map[[32]byte]*chain // by the certificate's SHA-256
	roots map[anchorKey]*Root
}

// anchorKey tells anchors apart by their certificates, which nobody changes. A product line of AMD has three.
type anchorKey [3]*x509.Certificate

// NewHardware returns a Hardware that remembers nothing yet.
func NewHardware() *Hardware {
	return &Hardware{known: map[[32]byte]*chain{}, roots: map[anchorKey]*Root{}}
}

// Hardware implements [evidence.HardwareVerifier].
func (h *Hardware) Hardware() evidence.Hardware { return evidence.SEVSNP }

// MediaTypes implements [evidence.HardwareVerifier].
func (h *Hardware) MediaTypes() []string { return []string{tsm.MediaType, MediaType} }

// Reads implements [evidence.HardwareVerifier].
func (h *Hardware) Reads(e evidence.HardwareEvidence) bool {
	if !strings.HasPrefix(e.MediaType, tsm.MediaType) {
		return true
	}
	w, err := tsm.Parse(e.Data)
	return err == nil && w.Provider == tsm.ProviderSNP
}

// VerifyHardware implements [evidence.HardwareVerifier].
func (h *Hardware) VerifyHardware(e evidence.HardwareEvidence, in evidence.HardwareInput) (*evidence.Signed, []*evidence.Mismatch) {
	c := &check{h: h, in: in}
	data, certs, err := unwrap(e)
	if err == nil {
		c.report, err = Parse(data)
	}
	if err != nil {
		c.add(evidence.Mismatch{Code: evidence.CodeMalformed, Claim: "SNP report", Expected: "a report of AMD's firmware ABI, versions 2 to 5",
			Got: err.Error(), Source: "the format", Err: err, Hint: "the bytes were damaged on the way, or the device speaks another version"})
		return nil, c.all
	}
	c.data = data
	c.signed = signedOf(c.report)
	c.verify(certs)
	return c.signed, c.all
}

// unwrap returns the report and the certificates that came with it.
func unwrap(e evidence.HardwareEvidence) (report []byte, certs [][]byte, err error) {
	if !strings.HasPrefix(e.MediaType, tsm.MediaType) {
		return e.Data, e.Collateral, nil
	}
	w, err := tsm.Parse(e.Data)
	if err != nil {
		return nil, nil, err
	}
	if len(w.AuxBlob) == 0 {
		return w.OutBlob, e.Collateral, nil
	}
	table, err := ParseCertTable(w.AuxBlob)
	if err != nil {
		return nil, nil, err
	}
	if key := table.Endorsement(); key != nil {
		return w.OutBlob, [][]byte{key}, nil
	}
	return w.OutBlob, e.Collateral, nil
}

// signedOf says what the report says; what only a certificate tells follows later.
func signedOf(r *Report) *evidence.Signed {
	s := &evidence.Signed{ReportData: r.ReportData[:], Config: r.HostData[:], ConfigField: "HOST_DATA",
		Measurements: []evidence.Measurement{{Name: "MEASUREMENT", Value: r.Measurement[:], Source: "MEASUREMENT of the SNP report"}},
		Fields: map[string]any{"VERSION": r.Version, "GUEST_SVN": r.GuestSVN, "POLICY": r.Policy, "FAMILY_ID": r.FamilyID[:],
			"IMAGE_ID": r.ImageID[:], "VMPL": r.VMPL, "PLATFORM_INFO": r.PlatformInfo, "SIGNING_KEY": r.Signer,
			"ID_KEY_DIGEST": r.IDKeyDigest[:], "AUTHOR_KEY_DIGEST": r.AuthorKeyDigest[:], "REPORT_ID": r.ReportID[:], "CHIP_ID": r.ChipID[:],
			"REPORT_ID_MA": r.ReportIDMA[:], "AUTHOR_KEY_EN": r.AuthorKeyEn, "MASK_CHIP_KEY": r.MaskChipKey,
			"CPUID": []byte{r.Family, r.Model, r.Stepping}, "CURRENT_VERSION": r.Current, "COMMITTED_VERSION": r.Committed}}
	if r.Version >= versionWithMits {
		s.Fields["LAUNCH_MIT_VECTOR"], s.Fields["CURRENT_MIT_VECTOR"] = r.LaunchMits, r.CurrentMits
	}
	if r.ChipID != [64]byte{} {
		id := InstanceID(r.ChipID)
		s.InstanceID = id[:]
	}
	return s
}

// InstanceID returns the identity of a device with that CHIP_ID (Turin: 8 bytes and zeros): 0x01 (RAND, RFC 9711 section
// 4.2.1.1) and the SHA-256 of it. Where a host masks CHIP_ID, a VCEK's certificate says which chip it is; a VLEK's does not,
// and the SHA-256 of that certificate's key stands for the device: all that the provider lent the key to look alike.
func InstanceID(chip [64]byte) (id [33]byte) {
	id[0] = 0x01
	sum := sha256.Sum256(chip[:])
	copy(id[1:], sum[:])
	return id
}

// instanceOf returns the instance ID of a report that masks CHIP_ID.
func (e *endorsement) instanceOf() [33]byte {
	if e.signer == VCEK {
		var chip [64]byte
		copy(chip[:], e.hwid)
		return InstanceID(chip)
	}
	id := [33]byte{0x01}
	sum := sha256.Sum256(e.cert.RawSubjectPublicKeyInfo)
	copy(id[1:], sum[:])
	return id
}

// check is the verification of one report. It collects all that it finds.
type check struct {
	h      *Hardware
	in     evidence.HardwareInput
	data   []byte
	report *Report
	signed *evidence.Signed
	all    []*evidence.Mismatch
}

func (c *check) add(m evidence.Mismatch) { c.all = append(c.all, &m) }

func (c *check) verify(certs [][]byte) {
	der := c.certificate(certs)
	if der == nil {
		c.add(evidence.Mismatch{Code: evidence.CodeCertificate, Claim: "certificate of the " + c.report.Signer.String(),
			Expected: "one in DER", Got: "none", Source: "the Evidence and the verifier's endorsements",
			Hint: "the host's certificate table has it, or AMD's key distribution service"})
		return
	}
	roots := c.h.rootsOf(c.in.Anchors)
	key := sha256.Sum256(der)
	known := c.h.remembered(key, roots, c.in.Now)
	if known == nil {
		if known = c.cold(der, roots); known == nil {
			return
		}
		if len(c.all) == 0 {
			c.h.remember(key, known)
		}
	} else {
		c.signatureAndFields(known.endorsement)
	}
	c.found(known)
	c.revocation(known)
}

// certificate returns the certificate of the signing key: the one that came with the Evidence, or one that is kept.
func (c *check) certificate(certs [][]byte) []byte {
	if len(certs) > 0 {
		return certs[0]
	}
	if c.in.Endorsements == nil {
		return nil
	}
	products := []Product{Milan, Genoa} // version 2 does not tell
	if p, known := c.report.product(); known {
		products = []Product{p}
	}
	for _, p := range products {
		kind, key := KindVCEK, EndorsementKey(p, c.report)
		if c.report.Signer == VLEK {
			kind = KindVLEK
		}
		if found := c.in.Endorsements.Find(kind, key); len(found) > 0 {
			return found[0]
		}
	}
	return nil
}

// EndorsementKey returns the key under which the certificate for a report is kept; see [KindVCEK].
func EndorsementKey(p Product, r *Report) string {
	level := hex.EncodeToString(r.ReportedTCB[:])
	if r.Signer == VLEK {
		return string(p) + "/" + level
	}
	return string(p) + "/" + hex.EncodeToString(r.ChipID[:]) + "/" + level
}

// cold verifies everything for a certificate that is not remembered. It returns the chain if one leads to a root.
func (c *check) cold(der []byte, roots []*Root) *chain {
	e, err := parseEndorsement(der)
	if err != nil {
		c.add(evidence.Mismatch{Code: evidence.CodeCertificate, Claim: "certificate of the " + c.report.Signer.String(),
			Expected: "a certificate of a VCEK or VLEK", Got: err.Error(), Source: "AMD publication 57230", Err: err})
		return nil
	}
	c.signatureAndFields(e)
	var failure error
	for _, root := range roots {
		if root.Product != e.product || root.issuer(e.signer) == nil {
			continue
		}
		found, err := e.verifyChain(root, c.in.Now)
		if err != nil {
			if failure == nil || errors.Is(err, ErrValidity) {
				failure = err
			}
			continue
		}
		if len(c.all) == 0 && e.product != Turin {
			if err := verifyLibrary(c.data, e, root, c.in.Now); err != nil {
				c.add(evidence.Mismatch{Code: evidence.CodeCertificate, Claim: "certificate of the " + e.signer.String(),
					Expected: "AMD's rules for certificates", Got: err.Error(), Source: "AMD publication 57230", Err: err})
			}
		}
		return found
	}
	c.noChain(e, failure)
	return nil
}

func (c *check) noChain(e *endorsement, failure error) {
	if errors.Is(failure, ErrValidity) {
		c.add(evidence.Mismatch{Code: evidence.CodeCertificate, Claim: "validity of the certificate chain", Expected: "valid at " +
			c.in.Now.UTC().Format(time.RFC3339), Got: failure.Error(), Source: "the verifier's clock", Err: failure})
		return
	}
	c.add(evidence.Mismatch{Code: evidence.CodeRoot, Claim: "root of the " + e.signer.String() + "'s certificate",
		Expected: fmt.Sprintf("a trusted root of %s", e.product), Got: fmt.Sprintf("issuer %q", e.cert.Issuer),
		Source: fmt.Sprintf("the verifier's %d trust anchors for SEV-SNP", len(c.in.Anchors)), Err: failure,
		Hint: "name this root as an anchor only if you know whose it is"})
}

// signatureAndFields compares the report with the certificate of the key that must have signed it.
func (c *check) signatureAndFields(e *endorsement) {
	if err := checkSignature(c.data, e.cert); err != nil {
		c.add(evidence.Mismatch{Code: evidence.CodeSignature, Claim: "signature of the SNP report", Expected: "a signature by the key of the " +
			e.signer.String() + "'s certificate", Got: "a signature that does not verify", Source: "the certificate with the Evidence", Err: err,
			Hint: "the report was changed on the way, or another chip made it"})
	}
	for _, d := range e.differences(c.report) {
		c.add(evidence.Mismatch{Code: evidence.CodeCertificate, Claim: d.Field, Expected: d.Want, Got: d.Got,
			Source: "the certificate of the " + e.signer.String(), Err: d, Hint: "the certificate is for another chip or another firmware level"})
	}
}

// found fills in what the certificate says.
func (c *check) found(k *chain) {
	s, r := c.signed, c.report
	s.Root, s.Rooted = k.root.anchor, true
	if r.MaskChipKey {
		id := k.instanceOf()
		s.InstanceID = id[:]
	}
	for name, raw := range map[string]RawTCB{"CURRENT_TCB": r.CurrentTCB, "REPORTED_TCB": r.ReportedTCB, "COMMITTED_TCB": r.CommittedTCB,
		"LAUNCH_TCB": r.LaunchTCB} {
		level, reserved := raw.decode(k.product)
		s.Fields[name] = level
		if reserved && name != "REPORTED_TCB" { // that one was compared with the certificate
			c.add(evidence.Mismatch{Code: evidence.CodeMalformed, Claim: name, Expected: "zeros where " + string(k.product) + " has no part",
				Got: hex.EncodeToString(raw[:]), Source: "AMD publication 56860 section 2.2"})
		}
	}
	s.Fields["product"], s.Fields["csp"] = k.product, k.csp
	s.Until, s.UntilWhat = k.notAfter, "the certificate chain of the "+k.signer.String()
}

// revocation checks the chain above the signing key against AMD's lists. The keys of chips themselves are on none: they all
// have the serial number 0.
func (c *check) revocation(k *chain) {
	above := []*x509.Certificate{k.root.issuer(k.signer), k.root.ARK}
	c.all = append(c.all, c.in.CheckRevocation(&c.h.lists, above, c.signed)...)
}

// rootsOf returns the anchors that are AMD's roots, in this package's form.
func (h *Hardware) rootsOf(anchors []evidence.Anchor) []*Root {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*Root
	for _, a := range anchors {
		if a.Cert == nil || len(a.Intermediates) == 0 || len(a.Intermediates) > 2 {
			continue
		}
		key := anchorKey{a.Cert}
		copy(key[1:], a.Intermediates)
		root, known := h.roots[key]
		if !known {
			if len(h.roots) >= maxCached {
				clear(h.roots)
			}
			root = rootOf(a)
			h.roots[key] = root
		}
		if root != nil {
			out = append(out, root)
		}
	}
	return out
}

// rootOf returns nil for an anchor that is no root of AMD's form.
func rootOf(a evidence.Anchor) *Root {
	r := &Root{anchor: a}
	for _, c := range append([]*x509.Certificate{a.Cert}, a.Intermediates...) {
		if r.add(c) != nil {
			return nil
		}
	}
	if r.ARK != a.Cert || r.check() != nil {
		return nil
	}
	return r
}

func (h *Hardware) remembered(key [32]byte, roots []*Root, now time.Time) *chain {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.known[key]
	if c == nil || now.Before(c.notBefore) || now.After(c.notAfter) {
		return nil
	}
	for _, r := range roots {
		if r == c.root {
			return c
		}
	}
	return nil
}

func (h *Hardware) remember(key [32]byte, c *chain) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.known) >= maxCached {
		clear(h.known)
	}
	h.known[key] = c
}

// Anchor returns the root with its intermediates as a trust anchor.
func (r *Root) Anchor() evidence.Anchor {
	a := evidence.Anchor{Cert: r.ARK, Name: r.ARK.Subject.CommonName, Hardware: evidence.SEVSNP, Emulated: r.Emulated()}
	for _, c := range []*x509.Certificate{r.ASK, r.ASVK} {
		if c != nil {
			a.Intermediates = append(a.Intermediates, c)
		}
	}
	return a
}

// VendorAnchors returns AMD's roots of the three products as trust anchors.
func VendorAnchors() ([]evidence.Anchor, error) {
	roots, err := VendorRoots()
	if err != nil {
		return nil, err
	}
	var out []evidence.Anchor
	for _, r := range roots {
		out = append(out, r.Anchor())
	}
	return out, nil
}

var _ evidence.HardwareVerifier = (*Hardware)(nil)

// Difference is a field of a report that is not what the certificate of the signing key says. It is an [ErrMismatch].
type Difference struct{ Field, Want, Got string }

// Error gives both values.
func (d *Difference) Error() string {
	return fmt.Sprintf("%v: %s is %s, the certificate is for %s", ErrMismatch, d.Field, d.Got, d.Want)
}

// Unwrap returns ErrMismatch.
func (d *Difference) Unwrap() error { return ErrMismatch }

// differences compares kind of key, product, firmware level and chip.
func (e *endorsement) differences(r *Report) (all []*Difference) {
	differ := func(field string, want, got any) {
		all = append(all, &Difference{field, fmt.Sprint(want), fmt.Sprint(got)})
	}
	if r.Signer != e.signer {
		differ("SIGNING_KEY", e.signer, r.Signer)
	}
	product, known := r.product()
	if r.Version >= versionWithCPU && (!known || product != e.product) {
		differ("CPUID_FAM_ID and CPUID_MOD_ID", e.product, fmt.Sprintf("0x%x, 0x%x", r.Family, r.Model))
	}
	tcb, reserved := r.ReportedTCB.decode(e.product)
	if tcb != e.tcb || reserved {
		differ("REPORTED_TCB", e.tcb, tcb)
	}
	if e.signer == VCEK && !r.MaskChipKey {
		want := make([]byte, len(r.ChipID))
		copy(want, e.hwid)
		if !bytes.Equal(want, r.ChipID[:]) {
			differ("CHIP_ID", hex.EncodeToString(e.hwid), hex.EncodeToString(r.ChipID[:]))
		}
	}
	if r.MaskChipKey && r.ChipID != [64]byte{} {
		differ("CHIP_ID", "zero, as it is masked", hex.EncodeToString(r.ChipID[:]))
	}
	return all
}
