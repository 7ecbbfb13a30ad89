// SPDX-License-Identifier: Apache-2.0

package teep

import (
	"bytes"
	"mime"
	"slices"
	"strings"
)

// tokenSource states that answers repeat the token of what they answer.
const tokenSource = "teep-protocol sections 4.3, 4.5, 4.6"

// CheckResponse holds a QueryResponse against the request it answers: the token, the version, and what was asked for. Lists of
// components and extensions that are asked for and have no element are absent, since the protocol has no empty lists. The
// nonces of SUIT reports are the caller's to compare.
func (m *QueryRequest) CheckResponse(r *QueryResponse) error {
	c := &checker{typ: TypeQueryResponse}
	c.sameToken(m.Token, r.Token)
	if m.DataItems.Has(ItemAttestation) && r.AttestationPayload == nil {
		c.fail(labelPayload, section43, "absent although attestation was requested")
	}
	offered, selected := m.Versions, ProtocolVersion
	if offered == nil {
		offered = []uint32{ProtocolVersion}
	}
	if r.SelectedVersion != nil {
		selected = *r.SelectedVersion
	}
	if !slices.Contains(offered, selected) {
		c.fail(labelSelectedVersion, section43, "version %d was not offered", selected)
	}
	return c.err
}

// CheckToken holds the token of a Success or Error against that of the message it answers.
func CheckToken(request, answer Message) error {
	c := &checker{typ: answer.Type()}
	c.sameToken(request.TokenBytes(), answer.TokenBytes())
	return c.err
}

func (c *checker) sameToken(want, got []byte) {
	if (want == nil) != (got == nil) || !bytes.Equal(want, got) {
		c.fail(labelToken, tokenSource, "not that of the request")
	}
}

// SupportsVersion reports whether the request offers the version that this package speaks.
func (m *QueryRequest) SupportsVersion() bool {
	return m.Versions == nil || slices.Contains(m.Versions, ProtocolVersion)
}

// SupportsFreshness reports whether the request offers the mechanism; one that lists none offers the nonce.
func (m *QueryRequest) SupportsFreshness(mechanism uint32) bool {
	if m.SupportedFreshness == nil {
		return mechanism == FreshnessNonce
	}
	return slices.Contains(m.SupportedFreshness, mechanism)
}

// SelectSuite gives the first of the offered suites that is one of ours (teep-protocol section 8.1).
func SelectSuite(offered, ours []CipherSuite) (CipherSuite, bool) {
	for _, s := range offered {
		if slices.ContainsFunc(ours, s.Equal) {
			return s, true
		}
	}
	return nil, false
}

// eatMediaType is the media type of EATs in CBOR (RFC 9782).
const eatMediaType = "application/eat+cwt"

// AttestationResultFormat is the attestation-payload-format of an Attestation Result of the TEEP profile, written as RFC 9782
// wants it. It may as well be left out.
const AttestationResultFormat = eatMediaType + `; eat_profile="` + EATProfile + `"`

// IsAttestationResult reports whether an attestation-payload of this format is an Attestation Result: the format is absent, or
// an EAT of the TEEP profile or one of the further profiles. Everything else is Evidence for a Verifier, also an unknown or
// malformed format (teep-protocol sections 4.3 and 7.1).
func IsAttestationResult(format string, further ...string) bool {
	if format == "" {
		return true
	}
	mediaType, profile, ok := parseFormat(format)
	return ok && mediaType == eatMediaType && (profile == EATProfile || slices.Contains(further, profile))
}

// parseFormat splits a media type and its eat_profile. The draft's own example leaves the profile unquoted, which is no valid
// parameter, because it has colons: that form is read too.
func parseFormat(format string) (mediaType, profile string, ok bool) {
	mediaType, params, err := mime.ParseMediaType(format)
	if err == nil {
		return mediaType, params["eat_profile"], true
	}
	head, rest, found := strings.Cut(format, ";")
	name, value, hasValue := strings.Cut(strings.TrimSpace(rest), "=")
	if !found || !hasValue || !strings.EqualFold(name, "eat_profile") || strings.ContainsAny(value, "\"; ,") {
		return "", "", false
	}
	return strings.ToLower(strings.TrimSpace(head)), value, true
}
