// SPDX-License-Identifier: Apache-2.0

package teep_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/suit"
	"sealift/teep"
)

// What must not be emitted. Each case changes one thing of a message that may be.
func TestEncodeRefuses(t *testing.T) {
	q := func(change func(*teep.QueryRequest)) teep.Message { m := queryRequest(); change(m); return m }
	k := func(change func(*teep.QueryRequest)) teep.Message { m := tokenRequest(); change(m); return m }
	r := func(change func(*teep.QueryResponse)) teep.Message { m := queryResponse(); change(m); return m }
	u := func(change func(*teep.Update)) teep.Message { m := updateMessage(); change(m); return m }
	s := func(change func(*teep.Success)) teep.Message { m := success(); change(m); return m }
	e := func(change func(*teep.Error)) teep.Message { m := errorMessage(); change(m); return m }
	long := make([][]byte, 4097)
	for _, c := range []struct {
		option string
		m      teep.Message
	}{
		{"token", q(func(m *teep.QueryRequest) { m.Token = seq(8) })},
		{"token", k(func(m *teep.QueryRequest) { m.Token = nil })},
		{"token", k(func(m *teep.QueryRequest) { m.Token = seq(7) })},
		{"token", k(func(m *teep.QueryRequest) { m.Token = seq(65) })},
		{"token", k(func(m *teep.QueryRequest) { m.Token = []byte{} })},
		{"challenge", k(func(m *teep.QueryRequest) { m.Challenge = seq(8) })},
		{"challenge", q(func(m *teep.QueryRequest) { m.Challenge = seq(7) })},
		{"challenge", q(func(m *teep.QueryRequest) { m.Challenge = seq(513) })},
		{"supported-freshness-mechanisms", k(func(m *teep.QueryRequest) { m.SupportedFreshness = []uint32{0} })},
		{"attestation-payload-format", q(func(m *teep.QueryRequest) { m.AttestationPayloadFormat = "a/b" })},
		{"attestation-payload-format", k(func(m *teep.QueryRequest) { m.AttestationPayloadFormat = strings.Repeat("x", 257) })},
		{"", q(func(m *teep.QueryRequest) { m.CipherSuites = nil })},
		{"", q(func(m *teep.QueryRequest) { m.SUITProfiles = []teep.SUITProfile{} })},
		{"supported-teep-cipher-suites", q(func(m *teep.QueryRequest) { m.CipherSuites = []teep.CipherSuite{{}} })},
		{"versions", q(func(m *teep.QueryRequest) { m.Versions = make([]uint32, 65) })},
		{"", q(func(m *teep.QueryRequest) { m.DataItems |= 16 })},
		{"", q(func(m *teep.QueryRequest) { m.Extensions = []teep.Option{{Label: 20, Value: []byte{1}}} })},
		{"", q(func(m *teep.QueryRequest) { m.Extensions = []teep.Option{{Label: 0, Value: nil}} })},
		{"", q(func(m *teep.QueryRequest) {
			m.Extensions = []teep.Option{{Label: 99, Value: []byte{1}}, {Label: 99, Value: []byte{1}}}
		})},
		{"", q(func(m *teep.QueryRequest) { m.Extensions = make([]teep.Option, 65) })},
		{"requested-tc-list", r(func(m *teep.QueryResponse) { m.RequestedTCList[0].SequenceNumber = nil })},
		{"requested-tc-list", r(func(m *teep.QueryResponse) { m.RequestedTCList[0].Component = make(suit.ComponentID, 65) })},
		{"tc-list", r(func(m *teep.QueryResponse) { m.TCList[0].Digest = &teep.Digest{} })},
		{"tc-list", r(func(m *teep.QueryResponse) { m.TCList[0].Params[0].Label = 3 })},
		{"tc-list", r(func(m *teep.QueryResponse) { m.TCList[0].Params[0].Value = []byte{0xff} })},
		{"tc-list", r(func(m *teep.QueryResponse) { m.TCList[0].Params = make([]teep.Parameter, 65) })},
		{"tc-list", r(func(m *teep.QueryResponse) { m.TCList[0].Component = suit.ComponentID{make([]byte, 1025)} })},
		{"suit-reports", r(func(m *teep.QueryResponse) { m.SUITReports = long })},
		{"manifest-list", u(func(m *teep.Update) { m.ManifestList = long })},
		{"unneeded-manifest-list", u(func(m *teep.Update) { m.UnneededManifestList = make([]teep.ComponentID, 4097) })},
		{"err-code", u(func(m *teep.Update) { m.ErrCode = new(teep.ErrCode(0)) })},
		{"err-msg", u(func(m *teep.Update) { m.ErrMsg = strings.Repeat("é", 65) })},
		{"err-msg", u(func(m *teep.Update) { m.ErrMsg = "\x1b[31m" })},
		{"err-lang", u(func(m *teep.Update) { m.ErrLang = strings.Repeat("x", 36) })},
		{"err-lang", u(func(m *teep.Update) { m.ErrLang = "en_GB" })},
		{"err-msg", s(func(m *teep.Success) { m.Msg = "\xff" })},
		{"err-code", e(func(m *teep.Error) { m.Code = 0 })},
		{"err-code", e(func(m *teep.Error) { m.Code, m.SupportedFreshness = teep.ErrCodeUnsupportedFreshness, nil })},
		{"err-code", e(func(m *teep.Error) { m.Code, m.Versions = teep.ErrCodeUnsupportedVersion, nil })},
		{"err-code", e(func(m *teep.Error) { m.CipherSuites = nil })},
		{"err-code", e(func(m *teep.Error) { m.Code, m.SUITProfiles = teep.ErrCodeUnsupportedSUITReport, nil })},
	} {
		if c.option == "err-msg" && c.m.Type() == teep.TypeSuccess {
			c.option = "msg"
		}
		_, err := teep.Encode(c.m)
		var rule *teep.RuleError
		if !errors.As(err, &rule) || !errors.Is(err, teep.ErrRule) || rule.Option != c.option || rule.Message != c.m.Type() {
			t.Errorf("%v, %q: got %v", c.m.Type(), c.option, err)
		}
	}
	if _, err := teep.Sign(nil, fixedSigner(t, cose.AlgEd25519, "a"), &teep.Error{}); !errors.Is(err, teep.ErrRule) {
		t.Error(err)
	}
	if _, err := teep.SignAll(nil, nil, &teep.Success{}); !errors.Is(err, cose.ErrUnsupported) {
		t.Error(err)
	}
}

const (
	suites   = "81 81 82 12 28"
	profiles = "81 84 2f 28 381c 01"
	token8   = "14 48 0001020304050607"
)

// What must not be accepted, and what must in spite of its looks, by the bytes.
func TestDecode(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"QueryRequest", "85 01 a1" + token8 + suites + profiles + "02", nil},
		{"reserved bits", "85 01 a1" + token8 + suites + profiles + "18f2", nil},
		{"unknown options", "85 01 a3 05 00" + token8 + "18c8 f6" + suites + profiles + "02", nil},
		{"options in another order", "82 05 a2" + token8 + "0b 6161", nil},
		{"heads that are not the shortest", "82 1805 a1" + token8, nil},
		{"suite of an unknown kind", "85 01 a1" + token8 + "81 82 82 1860 01 82 12 28" + profiles + "02", nil},
		{"profile of unknown algorithms", "85 01 a1" + token8 + suites + "81 84 01 02 03 04 02", nil},
		{"QueryResponse without anything", "82 02 a0", nil},
		{"tc-list with an id alone", "82 02 a1 08 81 a1 00 81 4161", nil},
		{"Update without anything", "82 03 a0", nil},
		{"Error of an unknown code", "83 06 a0 1899", nil},
		{"Error without the list its code calls for", "83 06 a0 05", nil},
		{"challenge of 512 bytes", "85 01 a1 02 590200" + strings.Repeat("00", 512) + suites + profiles + "01", nil},
		{"message of 128 bytes", "82 05 a1 0b 7880" + strings.Repeat("61", 128), nil},

		{"type 0", "82 00 a0", teep.ErrUnknownType},
		{"type 4", "82 04 a0", teep.ErrUnknownType},
		{"type 7", "82 07 a0", teep.ErrUnknownType},
		{"type of 64 bits", "82 1bffffffffffffffff a0", teep.ErrUnknownType},
		{"type as text", "82 6135 a0", teep.ErrMalformed},
		{"negative type", "82 25 a0", teep.ErrMalformed},
		{"no array", "a0", teep.ErrMalformed},
		{"empty array", "80", teep.ErrMalformed},
		{"type alone", "81 05", teep.ErrMalformed},
		{"one element too many", "83 05 a0 00", teep.ErrMalformed},
		{"QueryRequest of three elements", "83 01 a1" + token8 + "02", teep.ErrMalformed},
		{"options as an array", "82 05 80", teep.ErrMalformed},
		{"options as null", "82 05 f6", teep.ErrMalformed},
		{"negative label", "82 05 a1 20 00", teep.ErrMalformed},
		{"text label", "82 05 a1 6161 00", teep.ErrMalformed},
		{"duplicate option", "82 05 a2" + token8 + token8, teep.ErrMalformed},
		{"duplicate option in two widths", "82 05 a2" + token8 + "1814 48 0001020304050607", teep.ErrMalformed},
		{"duplicate key inside an unknown option", "82 05 a1 1863 a2 0101 0101", teep.ErrMalformed},
		{"indefinite array", "9f 05 a0 ff", teep.ErrMalformed},
		{"indefinite map", "82 05 bf ff", teep.ErrMalformed},
		{"indefinite token", "82 05 a1 14 5f 48 0001020304050607 ff", teep.ErrMalformed},
		{"trailing byte", "82 05 a0 00", teep.ErrMalformed},
		{"cut short", "82 05 a1 14 48 00010203040506", teep.ErrMalformed},
		{"nothing", "", teep.ErrMalformed},
		{"nested too deep", "82 05 a1 1863" + strings.Repeat("81", 20) + "00", teep.ErrMalformed},
		{"tagged", "c6 82 05 a0", teep.ErrMalformed},
		{"token as text", "82 05 a1 14 68 6161616161616161", teep.ErrMalformed},
		{"token as null", "82 05 a1 14 f6", teep.ErrMalformed},
		{"token as an array of numbers", "82 05 a1 14 88 0001020304050607", teep.ErrMalformed},
		{"text that is not UTF-8", "82 05 a1 0b 61 ff", teep.ErrMalformed},
		{"version of 33 bits", "82 02 a1 06 1b0000000100000000", teep.ErrMalformed},
		{"suite that is no pair", "85 01 a1" + token8 + "81 81 81 12" + profiles + "02", teep.ErrMalformed},
		{"profile of three", "85 01 a1" + token8 + suites + "81 83 2f 28 01 02", teep.ErrMalformed},
		{"suites as null", "85 01 a1" + token8 + "f6" + profiles + "02", teep.ErrMalformed},
		{"data items negative", "85 01 a1" + token8 + suites + profiles + "20", teep.ErrMalformed},
		{"manifest not wrapped", "82 03 a1 0a 81 a0", teep.ErrMalformed},
		{"have-binary as a number", "82 02 a1 0e 81 a2 10 80 12 01", teep.ErrMalformed},
		{"error code negative", "83 06 a0 20", teep.ErrMalformed},

		{"token of 7 bytes", "82 05 a1 14 47 00010203040506", teep.ErrRule},
		{"token of no bytes", "82 05 a1 14 40", teep.ErrRule},
		{"token of 65 bytes", "82 05 a1 14 5841" + strings.Repeat("00", 65), teep.ErrRule},
		{"neither token nor attestation", "85 01 a0" + suites + profiles + "02", teep.ErrRule},
		{"token and attestation", "85 01 a1" + token8 + suites + profiles + "01", teep.ErrRule},
		{"challenge without attestation", "85 01 a2 02 48 0001020304050607" + token8 + suites + profiles + "02", teep.ErrRule},
		{"freshness without attestation", "85 01 a2" + token8 + "15 81 00" + suites + profiles + "02", teep.ErrRule},
		{"challenge of 513 bytes", "85 01 a1 02 590201" + strings.Repeat("00", 513) + suites + profiles + "01", teep.ErrRule},
		{"no suites", "85 01 a1" + token8 + "80" + profiles + "02", teep.ErrRule},
		{"suite without operations", "85 01 a1" + token8 + "81 80" + profiles + "02", teep.ErrRule},
		{"no profiles", "85 01 a1" + token8 + suites + "80 02", teep.ErrRule},
		{"no versions", "85 01 a2 03 80" + token8 + suites + profiles + "02", teep.ErrRule},
		{"no manifests", "82 03 a1 0a 80", teep.ErrRule},
		{"no unneeded manifests", "82 03 a1 0f 80", teep.ErrRule},
		{"no components", "82 02 a1 08 80", teep.ErrRule},
		{"no extensions", "82 02 a1 09 80", teep.ErrRule},
		{"no requested components", "82 02 a1 0e 80", teep.ErrRule},
		{"no reports", "82 05 a1 13 80", teep.ErrRule},
		{"have-binary without number", "82 02 a1 0e 81 a2 10 80 12 f5", teep.ErrRule},
		{"requested component without id", "82 02 a1 0e 81 a1 11 01", teep.ErrRule},
		{"requested component with more", "82 02 a1 0e 81 a2 10 80 13 01", teep.ErrRule},
		{"tc-list entry without id", "82 02 a1 08 81 a1 0e 01", teep.ErrRule},
		{"tc-list entry with an unwrapped digest", "82 02 a1 08 81 a2 00 80 03 82 2f 41ff", teep.ErrMalformed},
		{"tc-list entry with an empty digest", "82 02 a1 08 81 a2 00 80 03 43 822f40", teep.ErrRule},
		{"tc-list entry with a broken digest", "82 02 a1 08 81 a2 00 80 03 41 ff", teep.ErrRule},
		{"format without payload", "82 02 a1 0d 63 612f62", teep.ErrRule},
		{"empty format", "82 02 a2 07 40 0d 60", teep.ErrRule},
		{"empty message", "82 05 a1 0b 60", teep.ErrRule},
		{"message of 129 bytes", "82 05 a1 0b 7881" + strings.Repeat("61", 129), teep.ErrRule},
		{"message with an escape", "82 05 a1 0b 61 1b", teep.ErrRule},
		{"language of 36 bytes", "83 06 a1 16 7824" + strings.Repeat("61", 36) + "01", teep.ErrRule},
		{"error code 0", "83 06 a0 00", teep.ErrRule},
		{"error code 0 in an Update", "82 03 a1 17 00", teep.ErrRule},
		{"another message's option", "82 05 a1 0a 81 40", teep.ErrRule},
		{"65 unknown options", "82 05 b841" + manyOptions(65), teep.ErrRule},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := teep.Decode(unhex(t, c.in))
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("got %+v, %v; want %v", m, err, c.want)
			}
		})
	}
}

func manyOptions(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("18")
		b.WriteByte("0123456789abcdef"[(100+i)/16])
		b.WriteByte("0123456789abcdef"[(100+i)%16])
		b.WriteString("00")
	}
	return b.String()
}

func TestContentError(t *testing.T) {
	s := fixedSigner(t, cose.AlgESP256, "a")
	for in, want := range map[string]teep.ContentError{
		"82 03 a2 0a 80" + token8:                      {Type: teep.TypeUpdate, Token: seq(8), Err: teep.ErrRule},
		"82 03 a3 00 a0 0a 80" + token8:                {Type: teep.TypeUpdate, Token: seq(8), Err: teep.ErrRule},
		"82 03 a2 0a 80 14 41 00":                      {Type: teep.TypeUpdate, Err: teep.ErrRule},
		"82 03 a1 6161 00":                             {Type: teep.TypeUpdate, Err: teep.ErrMalformed},
		"82 04 a1" + token8:                            {Type: 4, Token: seq(8), Err: teep.ErrUnknownType},
		"85 01 a1" + token8 + suites + profiles + "01": {Type: teep.TypeQueryRequest, Token: seq(8), Err: teep.ErrRule},
		"00": {Err: teep.ErrMalformed},
	} {
		data, err := cose.Sign1(nil, s, unhex(t, in))
		if err != nil {
			t.Fatal(err)
		}
		_, err = teep.Verify(data, []*cose.Key{s.Key()})
		var content *teep.ContentError
		if !errors.As(err, &content) || !errors.Is(err, want.Err) {
			t.Errorf("%s: got %v", in, err)
			continue
		}
		if content.Type != want.Type || !bytes.Equal(content.Token, want.Token) || !content.Key.Equal(s.Key()) || content.Algorithm != cose.AlgESP256 {
			t.Errorf("%s: got %+v", in, content)
		}
	}
	// Without a valid signature there is nobody to answer to.
	data, err := cose.Sign1(nil, s, unhex(t, "82 04 a0"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = teep.Verify(data, []*cose.Key{fixedSigner(t, cose.AlgESP256, "b").Key()})
	var content *teep.ContentError
	if !errors.Is(err, cose.ErrNoKey) || errors.As(err, &content) {
		t.Error(err)
	}
	detached, err := cose.Sign1Detached(nil, s, unhex(t, "82 05 a0"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := teep.Verify(detached, []*cose.Key{s.Key()}); !errors.Is(err, teep.ErrMalformed) {
		t.Error(err)
	}
	if _, err := teep.PeekKIDs([]byte{0}); !errors.Is(err, cose.ErrMalformed) {
		t.Error(err)
	}
}

func TestExchange(t *testing.T) {
	q, k := queryRequest(), tokenRequest()
	for name, c := range map[string]struct {
		q  *teep.QueryRequest
		r  teep.QueryResponse
		ok bool
	}{
		"evidence":                {q, teep.QueryResponse{AttestationPayload: []byte{}}, true},
		"no evidence":             {q, teep.QueryResponse{}, false},
		"token though none given": {q, teep.QueryResponse{AttestationPayload: []byte{}, Token: seq(8)}, false},
		"token":                   {k, teep.QueryResponse{Token: seq(32)}, true},
		"no token":                {k, teep.QueryResponse{}, false},
		"another token":           {k, teep.QueryResponse{Token: seq(31)}, false},
		"version 0":               {k, teep.QueryResponse{Token: seq(32), SelectedVersion: new(uint32(0))}, true},
		"version 1":               {k, teep.QueryResponse{Token: seq(32), SelectedVersion: new(uint32(1))}, false},
	} {
		if err := c.q.CheckResponse(&c.r); (err == nil) != c.ok || (err != nil && !errors.Is(err, teep.ErrRule)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := teep.CheckToken(updateMessage(), &teep.Success{Token: seq(64)}); err != nil {
		t.Error(err)
	}
	if err := teep.CheckToken(updateMessage(), &teep.Success{}); !errors.Is(err, teep.ErrRule) {
		t.Error(err)
	}
	if (&teep.QueryRequest{Versions: []uint32{1}}).SupportsVersion() || !(&teep.QueryRequest{}).SupportsVersion() {
		t.Error("versions")
	}
	if !(&teep.QueryRequest{}).SupportsFreshness(teep.FreshnessNonce) || (&teep.QueryRequest{}).SupportsFreshness(teep.FreshnessTimestamp) {
		t.Error("freshness")
	}
	ed := []teep.CipherSuite{teep.SuiteOf(cose.AlgEd25519)}
	if s, ok := teep.SelectSuite(teep.DefaultCipherSuites, ed); !ok || !s.Equal(ed[0]) {
		t.Error("suites")
	}
	if _, ok := teep.SelectSuite([]teep.CipherSuite{teep.SuiteOf(cose.AlgES256), {}}, teep.DefaultCipherSuites); ok {
		t.Error("a suite that nobody offered")
	}
}

func TestIsAttestationResult(t *testing.T) {
	for format, want := range map[string]bool{
		"": true,
		`application/eat+cwt; eat_profile="urn:ietf:rfc:rfcXXXX"`: true,
		`application/eat+cwt; eat_profile=urn:ietf:rfc:rfcXXXX`:   true,
		`APPLICATION/EAT+CWT;EAT_PROFILE="urn:ietf:rfc:rfcXXXX"`:  true,
		`application/eat+cwt; eat_profile="urn:ietf:rfc:rfc9999"`: true, // named below
		`application/eat+cwt; eat_profile="URN:ietf:rfc:rfcXXXX"`: false,
		`application/eat+cwt`: false,
		`application/eat+jwt; eat_profile="urn:ietf:rfc:rfcXXXX"`:      false,
		`application/eat+cwt; eat_profile="tag:evidence.example,2026"`: false,
		`application/eat+cwt; eat_profile=urn:ietf:rfc:rfcXXXX; x=1`:   false,
		`application/cmw+cbor`: false,
		`not a media type;`:    false,
	} {
		if got := teep.IsAttestationResult(format, "urn:ietf:rfc:rfc9999"); got != want {
			t.Errorf("%q: got %v", format, got)
		}
	}
}

func TestEmittedFormat(t *testing.T) {
	if !teep.IsAttestationResult(teep.AttestationResultFormat) {
		t.Error(teep.AttestationResultFormat)
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                        "plain",
		"two\nlines":                   "two\nlines",
		"bell\a":                       "bell ",
		"\xffé":                        "?é",
		strings.Repeat("x", 200):       strings.Repeat("x", 128),
		"x" + strings.Repeat("é", 100): "x" + strings.Repeat("é", 63),
		strings.Repeat("é", 64):        strings.Repeat("é", 64),
	} {
		if got := teep.Text(in); got != want {
			t.Errorf("%q: got %q", in, got)
		}
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		teep.TypeUpdate.String(): "Update", teep.MessageType(4).String(): "message type 4",
		teep.ErrCodeTemporary.String(): "ERR_TEMPORARY_ERROR", teep.ErrCode(16).String(): "unknown error 16",
		(teep.ItemAttestation | teep.ItemSUITReports).String(): "attestation+suit-reports",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if teep.ErrCode(11).Known() || !teep.ErrCodePermanent.Known() {
		t.Error("known codes")
	}
}
