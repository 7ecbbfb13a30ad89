// SPDX-License-Identifier: Apache-2.0

package teep_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/cose/wire"
	"sealift/internal/sharedtest"
	"sealift/teep"
)

// vectorKeys are the keys of the published examples, as anchors.
func vectorKeys(t testing.TB) []*cose.Key {
	t.Helper()
	var keys []*cose.Key
	for _, name := range []string{"tam_ed25519", "tam_prime256v1", "teep_agent_prime256v1"} {
		block, _ := pem.Decode(sharedtest.Read(t, "vectors", "keys/libteep_"+name+"_pub.pem"))
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		key, err := cose.NewKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

// unprotected are the vectors without COSE around them. The drafts' QueryRequest has a token beside a request for attestation,
// which only LooseToken would take, and that option acts behind a signature: Decode refuses it.
var unprotected = map[string]error{
	"teep-protocol/query_request.cbor":  teep.ErrRule,
	"teep-protocol/query_response.cbor": nil,
	"teep-protocol/update.cbor":         nil,
	"teep-protocol/teep_success.cbor":   nil,
	"libteep/query_request.cbor":        teep.ErrRule,
	"libteep/query_request_err1.cbor":   teep.ErrMalformed,
	"libteep/query_request_err3.cbor":   teep.ErrMalformed,
	"libteep/update.cbor":               nil,
	"libteep/teep_success.cbor":         nil,
	"libteep/ta_update.cbor":            teep.ErrMalformed,
}

func TestUnprotectedVectors(t *testing.T) {
	for path, want := range unprotected {
		data := sharedtest.Read(t, "vectors", path)
		m, err := teep.Decode(data)
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: got %v, want %v", path, err, want)
		}
		if err != nil {
			continue
		}
		// The examples are not in deterministic order; what they become is, and means the same.
		out, err := teep.Encode(m)
		if err != nil || !wire.Deterministic(out) || len(out) != len(data) {
			t.Errorf("%s: re-encoding: %x, %v", path, out, err)
		}
	}
}

// protected says what Verify must give, strictly and with all Options; a nil strict error implies a nil loose one.
var protected = map[string]struct{ strict, loose error }{
	"generated/teep/qr_multisign_attest.cbor":             {nil, nil},
	"generated/teep/qr_sign1_ed25519_token.cbor":          {nil, nil},
	"generated/teep/qresp_passport.cbor":                  {nil, nil},
	"generated/teep/qresp_evidence_fmt.cbor":              {nil, nil},
	"generated/teep/update_three_manifests.cbor":          {nil, nil},
	"generated/teep/update_unneeded_only_ed25519.cbor":    {nil, nil},
	"generated/teep/update_err_attestation_required.cbor": {nil, nil},
	"generated/teep/success_report.cbor":                  {nil, nil},
	"generated/teep/success_report_bad_nonce.cbor":        {nil, nil}, // the nonce is for the TAM to compare
	"generated/teep/error17_signed_report.cbor":           {nil, nil},
	"generated/teep/error5_suites.cbor":                   {nil, nil},
	"generated/teep/error5_missing_list.cbor":             {nil, nil},
	"generated/teep/neg_token_7.cbor":                     {teep.ErrRule, teep.ErrRule},
	"generated/teep/neg_token_65.cbor":                    {teep.ErrRule, teep.ErrRule},
	"generated/teep/neg_token_and_attest.cbor":            {teep.ErrRule, nil},
	"generated/teep/neg_type4.cbor":                       {teep.ErrUnknownType, teep.ErrUnknownType},
	"generated/teep/neg_trailing.cbor":                    {cose.ErrMalformed, cose.ErrMalformed},
	"generated/teep/neg_crit_unknown.cbor":                {cose.ErrCrit, cose.ErrCrit},
	"generated/teep/neg_alg_unprotected.cbor":             {cose.ErrMalformed, cose.ErrMalformed},
	"generated/teep/neg_untagged_sign1.cbor":              {nil, nil},
	"generated/teep/neg_raw_nocose.cbor":                  {cose.ErrMalformed, cose.ErrMalformed},
	"generated/teep/neg_errcode0.cbor":                    {teep.ErrRule, teep.ErrRule},
	"generated/teep/neg_emptylists.cbor":                  {teep.ErrRule, teep.ErrRule},
	"libteep/query_request_cose.cbor":                     {cose.ErrUnsupported, nil},
	"libteep/query_request_cosesign_md.cbor":              {cose.ErrUnsupported, nil},
	"libteep/query_request_es256.cbor":                    {cose.ErrNoKey, cose.ErrBadSignature}, // no kid
	"libteep/query_request_es384.cbor":                    {cose.ErrNoKey, cose.ErrUnsupported},  // no kid
	"libteep/query_request_err1_cose.cbor":                {cose.ErrNoKey, cose.ErrBadSignature}, // no kid, and by a key that was not published
	"libteep/query_request_err3_cose.cbor":                {cose.ErrNoKey, cose.ErrBadSignature}, // no kid, and by a key that was not published
	"libteep/update_cose.cbor":                            {cose.ErrUnsupported, nil},
	"tam-over-http/query_request.tam.es256.cose":          {cose.ErrUnsupported, nil},
	"tam-over-http/update.tam.esp256.cose":                {cose.ErrNoKey, nil}, // no kid
	"libteep/teep_success_cose.cbor":                      {cose.ErrUnsupported, nil},
}

func TestProtectedVectors(t *testing.T) {
	keys := vectorKeys(t)
	for path, want := range protected {
		data := sharedtest.Read(t, "vectors", path)
		verdicts := map[string]error{"strict": want.strict, "loose": want.loose}
		for mode, want := range verdicts {
			err := verify(data, keys, mode == "loose")
			if !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%s, %s: got %v, want %v", path, mode, err, want)
			}
		}
	}
}

func verify(data []byte, keys []*cose.Key, loose bool) error {
	s, err := teep.Parse(data)
	if err != nil {
		return err
	}
	_, err = s.Verify(keys, teep.Options{Legacy: loose, LooseToken: loose, MissingKID: loose})
	return err
}

// No vector of TEEP messages is left out by accident.
func TestAllVectorsAreListed(t *testing.T) {
	elsewhere := []string{"suit.cbor", "eat_claims", "attestation_result", "evidence_cose"}
	for _, row := range sharedtest.Manifest(t, "vectors") {
		path := row["path"]
		dir, name, _ := strings.Cut(path, "/")
		if dir != "libteep" && dir != "teep-protocol" && !strings.HasPrefix(name, "teep/") {
			continue
		}
		_, one := unprotected[path]
		_, two := protected[path]
		skip := false
		for _, e := range elsewhere {
			skip = skip || strings.Contains(path, e)
		}
		if !one && !two && !skip {
			t.Errorf("%s is not tested", path)
		}
	}
}

func TestGeneratedContents(t *testing.T) {
	keys := vectorKeys(t)
	get := func(name string) teep.Message {
		v, err := teep.Verify(sharedtest.Read(t, "vectors", "generated/teep/"+name), keys)
		if err != nil {
			t.Fatal(name, err)
		}
		out, err := teep.Encode(v.Message)
		if err != nil {
			t.Fatal(name, err)
		}
		s, err := teep.Parse(sharedtest.Read(t, "vectors", "generated/teep/"+name))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := s.MessageInsecure(); err != nil || again.Type() != v.Message.Type() {
			t.Fatal(err)
		}
		m, err := cose.Parse(sharedtest.Read(t, "vectors", "generated/teep/"+name))
		if err != nil {
			t.Fatal(err)
		}
		if payload := m.PayloadInsecure(); wire.Deterministic(payload) && !bytes.Equal(out, payload) {
			t.Errorf("%s: re-encodes to other bytes:\n%x\n%x", name, out, payload)
		}
		return v.Message
	}
	q := get("qr_multisign_attest.cbor").(*teep.QueryRequest)
	if len(q.Challenge) != 32 || q.DataItems != teep.ItemAttestation|teep.ItemTrustedComponents || len(q.SUITProfiles) != 4 ||
		!q.SupportsFreshness(teep.FreshnessNonce) || q.SupportsFreshness(teep.FreshnessTimestamp) || !q.SupportsVersion() {
		t.Errorf("%+v", q)
	}
	r := get("qresp_passport.cbor").(*teep.QueryResponse)
	if len(r.TCList) != 1 || r.TCList[0].Digest == nil || len(r.RequestedTCList) != 1 || !*r.RequestedTCList[0].HaveBinary ||
		r.RequestedTCList[0].SequenceNumber == nil || len(r.UnneededManifestList) != 1 || !teep.IsAttestationResult(r.AttestationPayloadFormat) {
		t.Errorf("%+v", r)
	}
	if err := q.CheckResponse(r); err != nil {
		t.Error(err)
	}
	e := get("qresp_evidence_fmt.cbor").(*teep.QueryResponse)
	if teep.IsAttestationResult(e.AttestationPayloadFormat) {
		t.Error("Evidence taken for an Attestation Result")
	}
	u := get("update_err_attestation_required.cbor").(*teep.Update)
	if *u.ErrCode != teep.ErrCodeAttestationRequired || u.ErrLang != "en" || u.ErrMsg == "" {
		t.Errorf("%+v", u)
	}
	if u := get("update_three_manifests.cbor").(*teep.Update); len(u.ManifestList) != 3 {
		t.Errorf("%d manifests", len(u.ManifestList))
	}
	x := get("error17_signed_report.cbor").(*teep.Error)
	if x.Code != teep.ErrCodeManifestProcessingFailed || len(x.SUITReports) != 1 {
		t.Errorf("%+v", x)
	}
}
