// SPDX-License-Identifier: Apache-2.0

package csv

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/emmansun/gmsm/sm3"

	"sealift/evidence"
)

// MediaType is the type of a report, bare or in its wrapper. No type is registered.
const MediaType = "application/vnd.sealift.csv-report"

// KindChain is the kind of endorsement that [Hardware] asks for where Evidence brings no certificates: those of HSK and
// CEK, 832 and 2084 bytes, in one piece as Hygon's server gives them. The key is the chip's serial number.
const KindChain = "hygon/hsk-cek"

// Hardware verifies CSV reports for [evidence.Verify]. Anchors are Hygon's roots ([evidence.Anchor.HRK]). The Evidence's
// collateral are the certificates of HSK and CEK. It remembers the chains that it has verified.
//
// Measurements: "MEASURE", and of a version 2 report "RTMR0" where it is not MEASURE and those of "RTMR1" to "RTMR4" that
// are not zero (a guest extends them as it runs, so a policy that expects none refuses a guest that did). The configuration
// is "VM_ID || VM_VERSION". Fields: "VERSION", "POLICY" ([Policy]), "USER_PUBKEY_DIGEST", "CHIP" (SHA-256 of the CEK's
// certificate), "BUILD" and "RTMR_VERSION" (version 2).
type Hardware struct {
	mu    sync.Mutex
	known map[[32]byte]*signers // by the SHA-256 of the certificates
	roots map[[32]byte]*Root    // by fingerprint; nil for what is no root
}

// signers is a verified chain from a root to a PEK.
type signers struct {
	root *Root
	chip [32]byte
}

// maxCached bounds the chains, and the roots, that a [Hardware] remembers.
const maxCached = 1024

// NewHardware returns a Hardware that remembers nothing yet.
func NewHardware() *Hardware {
	return &Hardware{known: map[[32]byte]*signers{}, roots: map[[32]byte]*Root{}}
}

// Hardware implements [evidence.HardwareVerifier].
func (h *Hardware) Hardware() evidence.Hardware { return evidence.CSV }

// MediaTypes implements [evidence.HardwareVerifier].
func (h *Hardware) MediaTypes() []string { return []string{MediaType} }

// Reads implements [evidence.HardwareVerifier].
func (h *Hardware) Reads(evidence.HardwareEvidence) bool { return true }

// VerifyHardware implements [evidence.HardwareVerifier].
func (h *Hardware) VerifyHardware(e evidence.HardwareEvidence, in evidence.HardwareInput) (*evidence.Signed, []*evidence.Mismatch) {
	c := &check{h: h, in: in}
	m, err := Parse(e.Data)
	if err != nil {
		c.add(evidence.Mismatch{Code: evidence.CodeMalformed, Claim: "CSV report", Expected: "a report of version 1 or 2", Got: err.Error(),
			Source: "the format", Err: err, Hint: "the bytes were damaged on the way, or the device speaks another version"})
		return nil, c.all
	}
	c.m, c.signed = m, signedOf(&m.report)
	c.signature()
	c.chain(e.Collateral)
	return c.signed, c.all
}

func signedOf(r *Report) *evidence.Signed {
	const source = "CSV report"
	s := &evidence.Signed{ReportData: r.ReportData[:], Config: slices.Concat(r.VMID[:], r.VMVersion[:]), ConfigField: "VM_ID || VM_VERSION",
		Measurements: []evidence.Measurement{{Name: "MEASURE", Value: r.Measure[:], Source: source}},
		Fields:       map[string]any{"VERSION": r.Version, "POLICY": r.Policy, "USER_PUBKEY_DIGEST": r.UserKeyDigest[:]}}
	if r.Version != 2 {
		return s
	}
	s.Register, s.RegisterHash = "RTMR3", sm3.New
	s.Fields["BUILD"], s.Fields["RTMR_VERSION"] = r.Build, r.RTMRVersion
	for i := range r.RTMR {
		if i == 0 && r.RTMR[0] != r.Measure || i > 0 && r.RTMR[i] != [32]byte{} {
			s.Measurements = append(s.Measurements, evidence.Measurement{Name: fmt.Sprintf("RTMR%d", i), Value: r.RTMR[i][:], Source: source})
		}
	}
	return s
}

// check is the verification of one report. It collects all that it finds.
type check struct {
	h      *Hardware
	in     evidence.HardwareInput
	m      *Message
	signed *evidence.Signed
	all    []*evidence.Mismatch
}

func (c *check) add(m evidence.Mismatch) { c.all = append(c.all, &m) }

func (c *check) signature() {
	if !c.m.pek.verify(c.m.signed, &c.m.signature) {
		c.add(evidence.Mismatch{Code: evidence.CodeSignature, Claim: "signature of the CSV report", Expected: "a signature by the PEK",
			Got: "a signature that does not verify", Source: "the PEK's certificate in the report", Err: ErrSignature,
			Hint: "the report was changed on the way, or another chip made it"})
	}
	if got := c.m.mac(); !hmac.Equal(got, c.m.signer.MAC[:]) {
		c.add(evidence.Mismatch{Code: evidence.CodeSignature, Claim: "MAC over the PEK's certificate and the serial number",
			Expected: hex.EncodeToString(got), Got: hex.EncodeToString(c.m.signer.MAC[:]), Source: "HMAC-SM3 with MNONCE", Err: ErrMAC,
			Hint: "the report was damaged on the way"})
	}
}

// chain checks the certificates from a root to the PEK.
func (c *check) chain(certs [][]byte) {
	source := "the certificates with the Evidence"
	if len(certs) == 0 && c.in.Endorsements != nil {
		if found := c.in.Endorsements.Find(KindChain, c.m.report.SerialInsecure); len(found) > 0 {
			certs, source = found[:1], "the verifier's endorsements"
		}
	}
	if len(certs) == 0 {
		c.certificate("certificates of HSK and CEK", "those of this chip", "none", "the Evidence and the verifier's endorsements", nil)
		return
	}
	key := sha256.Sum256(append(bytes.Join(certs, nil), c.m.pek.raw...))
	roots := c.roots()
	if s := c.h.remembered(key, roots); s != nil {
		c.rooted(s)
		return
	}
	hsk, cek, err := parseChain(certs)
	if err != nil {
		c.certificate("certificates of HSK and CEK", "832 and 2084 bytes, of Hygon's format", err.Error(), source, err)
		return
	}
	before := len(c.all)
	if err := c.m.pek.issued(cek); err != nil {
		c.certificate("certificate of the PEK", "signed by the CEK", err.Error(), source, err)
	}
	if err := cek.issued(hsk); err != nil || cek.issuer != hsk.keyID {
		c.certificate("certificate of the CEK", fmt.Sprintf("signed by the HSK %x", hsk.keyID), fmt.Sprintf("issuer %x", cek.issuer), source, ErrChain)
	}
	root, err := findRoot(hsk, roots)
	if err != nil {
		c.add(evidence.Mismatch{Code: evidence.CodeRoot, Claim: "root of the HSK's certificate", Expected: c.rootNames(roots), Got: err.Error(),
			Source: "the verifier's trust anchors", Err: err, Hint: "name this root as an anchor only if you know whose it is"})
		return
	}
	s := &signers{root: root, chip: sha256.Sum256(cek.raw)}
	c.rooted(s)
	if len(c.all) == before {
		c.h.remember(key, s)
	}
}

func (c *check) certificate(claim, expected, got, source string, err error) {
	c.add(evidence.Mismatch{Code: evidence.CodeCertificate, Claim: claim, Expected: expected, Got: got, Source: source, Err: err,
		Hint: "Hygon's server has the certificates of a chip by its serial number"})
}

func (c *check) rootNames(roots []*Root) string {
	if len(roots) == 0 {
		return "no trust anchor is configured for this hardware"
	}
	var names []string
	for _, r := range roots {
		names = append(names, fmt.Sprintf("%s (%x)", r.Name(), r.Fingerprint()))
	}
	return strings.Join(names, ", ")
}

func (c *check) rooted(s *signers) {
	for _, a := range c.in.Anchors {
		if a.HRK != nil && a.Fingerprint() == s.root.Fingerprint() {
			c.signed.Root, c.signed.Rooted = a, true
		}
	}
	id := InstanceID(s.chip)
	c.signed.InstanceID, c.signed.Fields["CHIP"] = id[:], s.chip[:]
}

// InstanceID returns the identity of the device whose CEK certificate has that SHA-256: 0x01 (RAND, RFC 9711 section
// 4.2.1.1) and the digest. The serial number would not do, since no signature covers it.
func InstanceID(chip [32]byte) (id [33]byte) {
	id[0] = 0x01
	copy(id[1:], chip[:])
	return id
}

// roots returns the anchors that are roots of Hygon's format.
func (c *check) roots() []*Root {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	var out []*Root
	for _, a := range c.in.Anchors {
		if a.HRK == nil {
			continue
		}
		key := a.Fingerprint()
		r, known := c.h.roots[key]
		if !known {
			if len(c.h.roots) >= maxCached {
				clear(c.h.roots)
			}
			r, _ = ParseRoot(a.HRK)
			c.h.roots[key] = r
		}
		if r != nil {
			out = append(out, r)
		}
	}
	return out
}

func (h *Hardware) remembered(key [32]byte, roots []*Root) *signers {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.known[key]
	if s == nil {
		return nil
	}
	for _, r := range roots {
		if r.Fingerprint() == s.root.Fingerprint() {
			return s
		}
	}
	return nil
}

func (h *Hardware) remember(key [32]byte, s *signers) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.known) >= maxCached {
		clear(h.known)
	}
	h.known[key] = s
}

// Anchor returns the root as a trust anchor.
func (r *Root) Anchor() evidence.Anchor {
	return evidence.Anchor{HRK: r.Raw(), Name: r.Name(), Hardware: evidence.CSV, Emulated: r.Emulated()}
}

var _ evidence.HardwareVerifier = (*Hardware)(nil)
