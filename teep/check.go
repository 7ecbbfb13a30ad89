// SPDX-License-Identifier: Apache-2.0

package teep

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"sealift/cose/wire"
)

// Sizes in bytes: those of the protocol's CDDL, then those that keep a hostile message from costing much.
const (
	minToken, maxToken         = 8, 64
	minChallenge, maxChallenge = 8, 512
	maxText                    = 128
	maxLang                    = 35

	maxMessage    = 64 << 20
	maxFormat     = 256
	maxShortList  = 64   // versions, suites, profiles, mechanisms
	maxList       = 4096 // components, manifests, reports
	maxSegments   = 64
	maxSegment    = 1024
	maxOperations = 8
	maxDigest     = 64
	maxExtensions = 64
)

const (
	section4  = "teep-protocol section 4"
	section42 = "teep-protocol section 4.2"
	section43 = "teep-protocol section 4.3"
	section46 = "teep-protocol section 4.6"
	section81 = "teep-protocol section 8.1"
)

// checker holds one message against the rules of the protocol, the same ones whether it is about to be sent (emit) or was
// received, but for what only a sender can be blamed for.
type checker struct {
	typ   MessageType
	emit  bool
	loose bool // Options.LooseToken
	err   error
}

func (c *checker) fail(label uint64, source, format string, args ...any) {
	if c.err == nil {
		c.err = &RuleError{c.typ, labelName(label), fmt.Sprintf(format, args...), source}
	}
}

// message checks m.
func (c *checker) message(m Message) {
	c.size(labelToken, m.TokenBytes(), minToken, maxToken)
	m.check(c)
	ext := *m.extensions()
	if len(ext) > maxExtensions {
		c.fail(0, section4, "%d unknown options", len(ext))
	}
	if !c.emit {
		return
	}
	seen := map[uint64]bool{}
	for _, o := range ext {
		if labelName(o.Label) != "" || seen[o.Label] || wire.Valid(o.Value) != nil {
			c.fail(0, section4, "extension %d is taken, repeated or no CBOR", o.Label)
		}
		seen[o.Label] = true
	}
}

// size checks an optional byte string.
func (c *checker) size(label uint64, v []byte, low, high int) {
	if v != nil && (len(v) < low || len(v) > high) {
		c.fail(label, section4, "%d bytes, not %d to %d", len(v), low, high)
	}
}

// text checks an optional text: its size counts in bytes, and Net-Unicode (RFC 5198) has no control characters but the ends
// of lines.
func (c *checker) text(label uint64, s string, high int) {
	if len(s) > high {
		c.fail(label, section46, "%d bytes, not 1 to %d", len(s), high)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, isControl) {
		c.fail(label, section46, "not Net-Unicode")
	}
}

func isControl(r rune) bool {
	return (r < 0x20 && r != '\n' && r != '\r' && r != '\t') || (r >= 0x7f && r < 0xa0)
}

// lang checks an optional language tag for the characters that RFC 5646 has.
func (c *checker) lang(s string) {
	c.text(labelErrLang, s, maxLang)
	for _, ch := range s {
		if ch != '-' && (ch < '0' || ch > '9') && (ch|0x20 < 'a' || ch|0x20 > 'z') {
			c.fail(labelErrLang, section46, "no language tag")
			return
		}
	}
}

// count checks the length of an optional list, which must not be empty where it was received.
func count[T any](c *checker, label uint64, list []T, high int) {
	if list != nil && len(list) == 0 && !c.emit {
		c.fail(label, section4, "empty list")
	}
	if len(list) > high {
		c.fail(label, section4, "%d elements, more than %d", len(list), high)
	}
}

// payload checks the pair of attestation-payload and its format.
func (c *checker) payload(payload []byte, format string) {
	if format == "" {
		return
	}
	if payload == nil {
		c.fail(labelPayloadFormat, section42, "without attestation-payload")
	}
	c.text(labelPayloadFormat, format, maxFormat)
}

func (c *checker) suites(suites []CipherSuite) {
	count(c, labelCipherSuites, suites, maxShortList)
	for _, s := range suites {
		if len(s) == 0 || len(s) > maxOperations {
			c.fail(labelCipherSuites, section81, "suite of %d operations", len(s))
		}
	}
}

func (c *checker) components(label uint64, ids []ComponentID) {
	count(c, label, ids, maxList)
	for _, id := range ids {
		c.component(label, id)
	}
}

func (c *checker) component(label uint64, id ComponentID) {
	if len(id) > maxSegments {
		c.fail(label, section43, "component identifier of %d segments", len(id))
	}
	for _, segment := range id {
		if len(segment) > maxSegment {
			c.fail(label, section43, "component identifier with a segment of %d bytes", len(segment))
		}
	}
}

func (m *QueryRequest) check(c *checker) {
	c.suites(m.CipherSuites)
	count(c, labelSUITProfiles, m.SUITProfiles, maxShortList)
	if c.emit && (len(m.CipherSuites) == 0 || len(m.SUITProfiles) == 0) {
		c.fail(0, section42, "without cipher suites or SUIT profiles")
	}
	if m.DataItems&^knownItems != 0 {
		c.fail(0, section42, "reserved bits in data-item-requested")
	}
	count(c, labelVersions, m.Versions, maxShortList)
	count(c, labelFreshness, m.SupportedFreshness, maxShortList)
	count(c, labelSUITReports, m.SUITReports, maxList)
	c.size(labelChallenge, m.Challenge, minChallenge, maxChallenge)
	c.payload(m.AttestationPayload, m.AttestationPayloadFormat)
	attest := m.DataItems.Has(ItemAttestation)
	switch {
	case attest && m.Token != nil && !c.loose:
		c.fail(labelToken, section42, "present although attestation is requested")
	case !attest && m.Token == nil:
		c.fail(labelToken, section42, "absent although attestation is not requested")
	case !attest && m.Challenge != nil:
		c.fail(labelChallenge, section42, "present although attestation is not requested")
	case !attest && m.SupportedFreshness != nil:
		c.fail(labelFreshness, section42, "present although attestation is not requested")
	}
}

func (m *QueryResponse) check(c *checker) {
	count(c, labelTCList, m.TCList, maxList)
	for _, p := range m.TCList {
		c.property(p)
	}
	count(c, labelExtList, m.ExtList, maxList)
	count(c, labelRequestedTCList, m.RequestedTCList, maxList)
	for _, tc := range m.RequestedTCList {
		c.component(labelRequestedTCList, tc.Component)
		if tc.HaveBinary != nil && *tc.HaveBinary && tc.SequenceNumber == nil {
			c.fail(labelRequestedTCList, section43, "have-binary without tc-manifest-sequence-number")
		}
	}
	c.components(labelUnneeded, m.UnneededManifestList)
	count(c, labelSUITReports, m.SUITReports, maxList)
	c.payload(m.AttestationPayload, m.AttestationPayloadFormat)
}

func (c *checker) property(p SystemProperty) {
	c.component(labelTCList, p.Component)
	if len(p.Params) > maxShortList {
		c.fail(labelTCList, section43, "%d parameters", len(p.Params))
	}
	if !c.emit {
		return
	}
	if p.Digest != nil && (len(p.Digest.Bytes) == 0 || len(p.Digest.Bytes) > maxDigest) {
		c.fail(labelTCList, section43, "digest of %d bytes", len(p.Digest.Bytes))
	}
	seen := map[int64]bool{claimComponentID: true, claimImageDigest: true}
	for _, param := range p.Params {
		if seen[param.Label] || wire.Valid(param.Value) != nil {
			c.fail(labelTCList, section43, "parameter %d is taken, repeated or no CBOR", param.Label)
		}
		seen[param.Label] = true
	}
}

func (m *Update) check(c *checker) {
	count(c, labelManifestList, m.ManifestList, maxList)
	c.components(labelUnneeded, m.UnneededManifestList)
	c.payload(m.AttestationPayload, m.AttestationPayloadFormat)
	if m.ErrCode != nil {
		c.errCode(*m.ErrCode)
	}
	c.text(labelErrMsg, m.ErrMsg, maxText)
	c.lang(m.ErrLang)
}

func (m *Success) check(c *checker) {
	c.text(labelMsg, m.Msg, maxText)
	count(c, labelSUITReports, m.SUITReports, maxList)
}

func (m *Error) check(c *checker) {
	c.errCode(m.Code)
	c.text(labelErrMsg, m.Msg, maxText)
	c.lang(m.Lang)
	c.suites(m.CipherSuites)
	count(c, labelVersions, m.Versions, maxShortList)
	count(c, labelSUITProfiles, m.SUITProfiles, maxShortList)
	count(c, labelFreshness, m.SupportedFreshness, maxShortList)
	count(c, labelSUITReports, m.SUITReports, maxList)
	c.size(labelChallenge, m.Challenge, minChallenge, maxChallenge)
	if !c.emit {
		return // a peer that forgets the list has still said what its trouble is
	}
	for code, missing := range map[ErrCode]bool{
		ErrCodeUnsupportedFreshness:    len(m.SupportedFreshness) == 0,
		ErrCodeUnsupportedVersion:      len(m.Versions) == 0,
		ErrCodeUnsupportedCipherSuites: len(m.CipherSuites) == 0,
		ErrCodeUnsupportedSUITReport:   len(m.SUITProfiles) == 0,
	} {
		if m.Code == code && missing {
			c.fail(labelErrCode, section46, "%v without the list of what is supported", code)
		}
	}
}

// errCode refuses 0, which must never be used.
func (c *checker) errCode(code ErrCode) {
	if code == 0 {
		c.fail(labelErrCode, section46, "0 is reserved")
	}
}

// Text makes any text fit for Msg and ErrMsg: at most 128 bytes, cut between characters, without control characters.
func Text(s string) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if isControl(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
