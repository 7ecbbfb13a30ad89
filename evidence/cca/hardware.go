// SPDX-License-Identifier: Apache-2.0

package cca

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"mime"
	"strings"
	"sync"
	"time"

	"sealift/evidence"
	"sealift/evidence/crl"
	"sealift/evidence/tsm"
)

// MediaType is the type of a token: the collection of CBOR tag 399 or of tag 907. Its parameter "profile" names the
// platform token's profile and may be absent. The kernel's wrapper ([tsm.MediaType]) is read as well.
const MediaType = "application/eat-collection"

// MediaTypeOf returns the media type of a token with that profile of the platform token.
func MediaTypeOf(profile string) string {
	return mime.FormatMediaType(MediaType, map[string]string{"profile": profile})
}

// Hardware verifies CCA tokens for [evidence.Verify]. Anchors are roots of CPAK certificates ([evidence.Anchor.Cert]), with
// the certificates as the Evidence's collateral, or enrolled CPAKs ([evidence.Anchor.Public], or [evidence.Anchor.Key] for
// one on P-256). It asks for no endorsements. It remembers the certificates that it has verified.
//
// Measurements: "RIM", those of "REM0" to "REM3" that are not zero (a realm extends them as it runs, so a policy that
// expects none refuses a realm that did), and each firmware component of the platform under its type ("RMM", "TF-A"). The
// configuration is the first half of "RPV"; the second half must be zero.
//
// Fields: "profile", "lifecycle" ([Lifecycle]), "implementation-id", "instance-id", "platform-config", "REM0" to "REM3",
// "wrapper" ([Wrapper]), "platform-hash-algorithm", "realm-hash-algorithm", "verification-service", for each firmware component
// "components.TYPE" ([Component]; a policy names its parts, "components.RMM.Version"), and, with certificates, [evidence.FieldRevocation].
type Hardware struct {
	lists crl.Checker

	mu    sync.Mutex
	known map[[32]byte]*cpak // by the SHA-256 of the certificates and of the anchor
}

// cpak is a verified certificate chain.
type cpak struct {
	key                 *ecdsa.PublicKey
	chain               []*x509.Certificate // as verified: leaf first, root last
	notBefore, notAfter time.Time
}

// maxCached bounds the chains that a [Hardware] remembers.
const maxCached = 1024

// configSize is the length of the configuration's digest in front of the personalization value.
const configSize = sha256.Size

// NewHardware returns a Hardware that remembers nothing yet.
func NewHardware() *Hardware { return &Hardware{known: map[[32]byte]*cpak{}} }

// Hardware implements [evidence.HardwareVerifier].
func (h *Hardware) Hardware() evidence.Hardware { return evidence.CCA }

// MediaTypes implements [evidence.HardwareVerifier].
func (h *Hardware) MediaTypes() []string { return []string{MediaType, tsm.MediaType} }

// Reads implements [evidence.HardwareVerifier].
func (h *Hardware) Reads(e evidence.HardwareEvidence) bool {
	if !strings.HasPrefix(e.MediaType, tsm.MediaType) {
		return true
	}
	w, err := tsm.Parse(e.Data)
	return err == nil && w.Provider == tsm.ProviderCCA
}

// VerifyHardware implements [evidence.HardwareVerifier].
func (h *Hardware) VerifyHardware(e evidence.HardwareEvidence, in evidence.HardwareInput) (*evidence.Signed, []*evidence.Mismatch) {
	c := &check{h: h, in: in}
	m, err := parseEvidence(e)
	if err != nil {
		c.add(evidence.Mismatch{Code: evidence.CodeMalformed, Claim: "CCA token", Expected: "a platform and a realm token in one collection",
			Got: err.Error(), Source: "the format", Err: err, Hint: "the bytes were damaged on the way, or the device speaks another version"})
		return nil, c.all
	}
	c.m, c.signed = m, signedOf(&m.token)
	c.platform(e.Collateral)
	c.realm()
	return c.signed, c.all
}

// parseEvidence unwraps and reads the token. A media type with another parameter than the token's profile is refused.
func parseEvidence(e evidence.HardwareEvidence) (*Message, error) {
	base, params, err := mime.ParseMediaType(e.MediaType)
	if err != nil {
		return nil, fmt.Errorf("%w: media type: %w", ErrMalformed, err)
	}
	data := e.Data
	if base == tsm.MediaType {
		w, err := tsm.Parse(e.Data)
		if err != nil {
			return nil, err
		}
		data = w.OutBlob
	}
	m, err := Parse(data)
	if err != nil {
		return nil, err
	}
	for name, value := range params {
		if name != "profile" || value != m.token.Platform.Profile {
			return nil, fmt.Errorf("%w: the media type says %s=%q, the token's profile is %q", ErrProfile, name, value, m.token.Platform.Profile)
		}
	}
	return m, nil
}

func signedOf(t *Token) *evidence.Signed {
	p, r := &t.Platform, &t.Realm
	s := &evidence.Signed{ReportData: r.Challenge, InstanceID: p.InstanceID, ConfigField: "RPV",
		Fields: map[string]any{"profile": p.Profile, "lifecycle": p.Lifecycle, "implementation-id": p.ImplementationID,
			"instance-id": p.InstanceID, "platform-config": p.Config, "wrapper": t.Wrapper,
			"platform-hash-algorithm": p.HashAlg, "realm-hash-algorithm": r.HashAlg, "verification-service": p.VerificationService}}
	if zero(r.Personalization[configSize:]) {
		s.Config = r.Personalization[:configSize]
	}
	if newHash, known := registerHashes[r.HashAlg]; known {
		s.Register, s.RegisterHash = "REM0", newHash
	}
	for _, c := range p.Components {
		s.Fields["components."+c.Type] = c
	}
	for i, rem := range r.Extensible {
		s.Fields[fmt.Sprintf("REM%d", i)] = rem
	}
	for _, m := range t.Measurements() {
		if m.Name == "RPV" || strings.HasPrefix(m.Name, "REM") && m.Source == realmToken && zero(m.Value) {
			continue
		}
		s.Measurements = append(s.Measurements, m)
	}
	return s
}

// registerHashes are the functions by which a realm's measurements are extended.
var registerHashes = map[string]func() hash.Hash{"sha-256": sha256.New, "sha-512": sha512.New}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// check is the verification of one token. It collects all that it finds.
type check struct {
	h      *Hardware
	in     evidence.HardwareInput
	m      *Message
	signed *evidence.Signed
	all    []*evidence.Mismatch
}

func (c *check) add(m evidence.Mismatch) { c.all = append(c.all, &m) }

// realm checks the realm token's signature and that the platform vouches for its key.
func (c *check) realm() {
	if !c.m.realm.verify(c.m.rak) {
		c.add(evidence.Mismatch{Code: evidence.CodeSignature, Claim: "signature of the realm token", Expected: "a signature by the RAK in it",
			Got: "a signature that does not verify", Source: "the realm token", Err: ErrRealmSignature,
			Hint: "the token was changed on the way, or another realm made it"})
	}
	got := c.m.token.Platform.Nonce
	want, err := nonceFor(&c.m.token.Realm)
	switch {
	case err != nil:
		c.add(evidence.Mismatch{Code: evidence.CodeMalformed, Claim: "hash algorithm of the RAK", Expected: "sha-256, sha-384 or sha-512",
			Got: c.m.token.Realm.PublicKeyHash, Source: "the format", Err: err})
	case hex.EncodeToString(want) != hex.EncodeToString(got):
		c.add(evidence.Mismatch{Code: evidence.CodeSignature, Claim: "nonce of the platform token", Expected: hex.EncodeToString(want),
			Got: hex.EncodeToString(got), Source: "the hash of the realm token's RAK", Err: ErrBinding,
			Hint: "the two tokens are not of one realm on one platform"})
	}
}

// platform finds the CPAK and checks the platform token's signature with it.
func (c *check) platform(chain [][]byte) {
	source := "the enrolled key"
	key, err := c.enrolled()
	if len(chain) > 0 {
		key, err = c.certified(chain)
		source = "the CPAK's certificate"
	}
	if err != nil {
		c.refuse(err)
	}
	if key == nil {
		return
	}
	c.signed.Root.Emulated = c.signed.Root.IsEmulated() || isDevelopment(key)
	if !c.m.platform.verify(key) {
		c.add(evidence.Mismatch{Code: evidence.CodeSignature, Claim: "signature of the platform token", Expected: "a signature by the CPAK",
			Got: "a signature that does not verify", Source: source, Err: ErrPlatformSignature,
			Hint: "the token was changed on the way, or another platform made it"})
	}
}

// refuse reports why no anchor vouches for the CPAK.
func (c *check) refuse(err error) {
	var invalid x509.CertificateInvalidError
	m := evidence.Mismatch{Code: evidence.CodeRoot, Claim: "root of the CPAK", Expected: "a CPAK that is enrolled, or whose root is trusted",
		Got: err.Error(), Source: fmt.Sprintf("the verifier's %d trust anchors for CCA", len(c.in.Anchors)), Err: err,
		Hint: "name this root or this key as an anchor only if you know whose it is"}
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		m.Code, m.Claim, m.Expected = evidence.CodeCertificate, "validity of the certificate chain", "valid at "+c.in.Now.UTC().Format(time.RFC3339)
		m.Source, m.Hint = "the verifier's clock", ""
	case errors.Is(err, ErrCertificate):
		m.Code, m.Claim, m.Expected, m.Source, m.Hint = evidence.CodeCertificate, "certificate of the CPAK", "an end entity's, with an ECDSA key",
			"the certificates in the Evidence", ""
	}
	c.add(m)
}

// enrolled returns the enrolled CPAK that verifies the platform token. Where there is one only, it is the one to blame.
func (c *check) enrolled() (*ecdsa.PublicKey, error) {
	var keys []*ecdsa.PublicKey
	for _, a := range c.in.Anchors {
		key, ok := a.Public.(*ecdsa.PublicKey)
		if a.Key != nil {
			key, ok = a.Key.ECDSA()
		}
		if !ok {
			continue
		}
		keys = append(keys, key)
		if c.m.platform.verify(key) {
			c.signed.Root, c.signed.Rooted = a, true
			c.all = append(c.all, c.in.CheckInstance(c.signed)...)
			return key, nil
		}
	}
	if len(keys) == 1 {
		return keys[0], nil
	}
	return nil, fmt.Errorf("%w: no certificate, and none of %d enrolled keys fits", ErrRoot, len(keys))
}

// certified returns the CPAK of the certificate, also where no anchor vouches for it.
func (c *check) certified(chain [][]byte) (*ecdsa.PublicKey, error) {
	h := sha256.New()
	for _, der := range chain {
		sum := sha256.Sum256(der)
		h.Write(sum[:])
	}
	digest := h.Sum(nil)
	var anchors []*Anchor
	for i := range c.in.Anchors {
		a := &c.in.Anchors[i]
		if a.Cert == nil {
			continue
		}
		if k := c.h.remembered(cacheKey(digest, a.Cert), c.in.Now); k != nil {
			c.rooted(*a, k)
			return k.key, nil
		}
		anchors = append(anchors, &Anchor{Cert: a.Cert, Name: a.Name, Emulated: a.Emulated})
	}
	key, anchor, verified, err := verifyChain(chain, c.in.Now, anchors)
	if err != nil || anchor == nil {
		return key, err
	}
	k := &cpak{key: key, chain: verified, notBefore: anchor.Cert.NotBefore, notAfter: anchor.Cert.NotAfter}
	for _, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
		}
		if cert.NotBefore.After(k.notBefore) {
			k.notBefore = cert.NotBefore
		}
		if cert.NotAfter.Before(k.notAfter) {
			k.notAfter = cert.NotAfter
		}
	}
	for _, a := range c.in.Anchors {
		if a.Cert == anchor.Cert {
			c.rooted(a, k)
		}
	}
	c.h.remember(cacheKey(digest, anchor.Cert), k)
	return key, nil
}

func (c *check) rooted(a evidence.Anchor, k *cpak) {
	c.signed.Root, c.signed.Rooted = a, true
	c.signed.Until, c.signed.UntilWhat = k.notAfter, "the certificate chain of the CPAK"
	c.all = append(c.all, c.in.CheckRevocation(&c.h.lists, k.chain, c.signed)...)
}

func cacheKey(chain []byte, root *x509.Certificate) [32]byte {
	sum := sha256.Sum256(root.Raw)
	return sha256.Sum256(append(sum[:], chain...))
}

func (h *Hardware) remembered(key [32]byte, now time.Time) *cpak {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.known[key]
	if k == nil || now.Before(k.notBefore) || now.After(k.notAfter) {
		return nil
	}
	return k
}

func (h *Hardware) remember(key [32]byte, k *cpak) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.known) >= maxCached {
		clear(h.known)
	}
	h.known[key] = k
}

var _ evidence.HardwareVerifier = (*Hardware)(nil)
