// SPDX-License-Identifier: Apache-2.0

package inspect

import "sealift/evidence"

const (
	kindClaims    = "EAT claims"
	kindResult    = "Attestation Result (EAR claims)"
	kindRecord    = "CMW record"
	kindCMW       = "CMW collection"
	kindCMWTag    = "CMW tag"
	kindCCA       = "CCA token"
	kindMeasured  = "measured component"
	kindReference = "SUIT reference"
)

// claimLabels are the CWT, EAT and PSA claims (RFC 8392 section 4, RFC 9711 section 10, RFC 9783).
var claimLabels map[int64]field

func init() {
	components := each(labels(map[int64]field{
		1: {"measurement-type", nil}, 2: {"measurement-value", nil}, 3: {"reserved", nil}, 4: {"version", nil}, 5: {"signer-id", nil},
		6: {"measurement-desc", nil},
	}))
	claimLabels = map[int64]field{
		1: {"iss", nil}, 2: {"sub", nil}, 3: {"aud", nil}, 4: {"exp", date}, 5: {"nbf", date}, 6: {"iat", date}, 7: {"cti", nil},
		8:  {"cnf", labels(map[int64]field{1: {"COSE_Key", coseKey}, 2: {"encrypted COSE_Key", nil}, 3: {"kid", nil}, 5: {"ckt", nil}})},
		10: {"eat_nonce", nil}, 256: {"ueid", ueid}, 257: {"sueids", nil}, 258: {"oemid", nil}, 259: {"hwmodel", nil}, 260: {"hwversion", nil},
		261: {"uptime", nil}, 262: {"oemboot", nil},
		263: {"dbgstat", words(map[int64]string{0: "enabled", 1: "disabled", 2: "disabled since boot", 3: "disabled permanently", 4: "disabled fully and permanently"})},
		264: {"location", labels(map[int64]field{1: {"latitude", nil}, 2: {"longitude", nil}, 3: {"altitude", nil}, 4: {"accuracy", nil},
			5: {"altitude-accuracy", nil}, 6: {"heading", nil}, 7: {"speed", nil}, 8: {"timestamp", date}, 9: {"age", nil}})},
		265: {"eat_profile", nil}, 266: {"submods", values(submodule)}, 267: {"bootcount", nil}, 268: {"bootseed", nil}, 269: {"dloas", nil},
		270: {"swname", nil}, 271: {"swversion", nil}, 272: {"manifests", each(contents)}, 273: {"measurements", each(contents)},
		274: {"measres", nil}, 275: {"intuse", words(map[int64]string{1: "generic", 2: "registration", 3: "provisioning", 4: "CSR", 5: "proof of possession"})},
		1000: {"ear_status", tier}, 1001: {"ear_trustworthiness_vector", vector}, 1002: {"ear_raw_evidence", maybe}, 1003: {"ear_appraisal_policy_ids", nil},
		1004:  {"ear_verifier_id", labels(map[int64]field{0: {"developer", nil}, 1: {"build", nil}})},
		65000: {"ear_teep_claims", claims},

		2394: {"psa-client-id", nil}, 2395: {"psa-security-lifecycle", nil}, 2396: {"psa-implementation-id", nil}, 2397: {"psa-boot-seed", nil},
		2398: {"psa-certification-reference", nil}, 2399: {"psa-software-components", components}, 2400: {"psa-verification-service-indicator", nil},
		2401: {"cca-platform-config", nil}, 2402: {"cca-platform-hash-algo-id", nil}, 2403: {"psa-no-software-measurements", nil},
		44235: {"cca-realm-personalization-value", nil}, 44236: {"cca-realm-hash-algo-id", nil}, 44237: {"cca-realm-public-key", maybe},
		44238: {"cca-realm-initial-measurement", nil}, 44239: {"cca-realm-extensible-measurements", nil}, 44240: {"cca-realm-public-key-hash-algo-id", nil},
		44241:  {"cca-realm-public-key-type", nil},
		-75000: {"psa-profile-id", nil}, -75001: {"psa-client-id", nil}, -75002: {"psa-security-lifecycle", nil}, -75003: {"psa-implementation-id", nil},
		-75004: {"psa-boot-seed", nil}, -75005: {"psa-hardware-version", nil}, -75006: {"psa-software-components", components},
		-75007: {"psa-no-software-measurements", nil}, -75008: {"psa-nonce", nil}, -75009: {"psa-instance-id", nil}, -75010: {"psa-verification-service-indicator", nil},
	}
}

// claims is a claims-set.
func claims(a *annotator, it *Item) { labels(claimLabels)(a, it) }

func isClaims(it *Item) bool {
	if it.Type != Map {
		return false
	}
	known, marks := 0, false
	for _, e := range it.Entries {
		if n, ok := e.Key.int(); ok && claimLabels[n].name != "" {
			known++
			marks = marks || n >= 10 || n < 0
		}
	}
	return marks && 2*known >= len(it.Entries)
}

func isResult(it *Item) bool {
	if it.get(1004) != nil || it.get(1000) != nil {
		return true
	}
	subs := it.get(266)
	if !subs.is(Map) {
		return false
	}
	for _, e := range subs.Entries {
		if e.Value.get(1000) != nil {
			return true
		}
	}
	return false
}

// submodule is a claims-set, or a token of its own (RFC 9711 section 4.2.18).
func submodule(a *annotator, it *Item) {
	if it.Type == Map {
		claims(a, it)
		return
	}
	maybe(a, it)
	if it.Type == Array && len(it.Items) == 2 {
		maybe(a, it.Items[1])
	}
}

// contents is an entry of manifests or measurements: a content format and what it says.
func contents(a *annotator, it *Item) {
	tuple(named("content format", nil), maybe)(a, it)
	if len(it.Items) == 2 && it.Items[1].is(Map) {
		labels(nil, nil, maybe)(a, it.Items[1])
	}
}

func ueid(_ *annotator, it *Item) {
	if it.Type == Bytes && len(it.content) > 0 {
		it.Remark = map[byte]string{1: "RAND", 2: "EUI", 3: "IMEI"}[it.content[0]]
	}
}

func tier(_ *annotator, it *Item) {
	if n, ok := it.int(); ok {
		it.Remark = tierOf(n)
	}
}

// tierOf gives the tier of a trustworthiness claim (AR4SI section 2.3.2).
func tierOf(n int64) string {
	switch {
	case n >= -1 && n <= 1:
		return "none"
	case n >= -32 && n < 32:
		return "affirming"
	case n >= -96 && n < 96:
		return "warning"
	case n >= -128 && n < 128:
		return "contraindicated"
	}
	return ""
}

func vector(a *annotator, it *Item) {
	fields := map[int64]field{}
	for i, name := range []string{
		"instance-identity", "configuration", "executables", "file-system", "hardware", "runtime-opaque", "storage-opaque", "sourced-data",
	} {
		fields[int64(i)] = field{name, tier}
	}
	labels(fields)(a, it)
}

// isRecord tells a CMW record: [type, value, ?ind] (RFC 9999 section 3.1).
func isRecord(it *Item) bool {
	if it.Type != Array || len(it.Items) < 2 || len(it.Items) > 3 || it.Items[1].Type != Bytes {
		return false
	}
	if len(it.Items) == 3 && it.Items[2].Type != Integer {
		return false
	}
	n, isInt := it.Items[0].int()
	return isInt && n >= 0 && n < 65536 || it.Items[0].Type == Text
}

func record(a *annotator, it *Item) {
	indicator := enum(func(n int64) string {
		var parts string
		for i, name := range []string{"reference values", "endorsements", "Evidence", "Attestation Results", "appraisal policy"} {
			if n&(1<<i) != 0 {
				parts += map[bool]string{true: ", "}[parts != ""] + name
			}
		}
		return parts
	})
	tuple(named("type", nil), maybeNamed("value"), named("conceptual message", indicator))(a, it)
}

func maybeNamed(note string) shape {
	return func(a *annotator, it *Item) {
		it.Note = note
		maybe(a, it)
	}
}

func isCollection(it *Item) bool {
	if it.getText("__cmwc_t") != nil {
		return true
	}
	if it.Type != Map || len(it.Entries) == 0 {
		return false
	}
	for _, e := range it.Entries {
		if !isRecord(e.Value) && !isCMWTag(e.Value) {
			return false
		}
	}
	return true
}

// The tags that TN() makes of content formats 0 to 65535: one in 256 is left out.
const (
	firstCMWTag = 1668546817
	lastCMWTag  = firstCMWTag + 65535 + 65535/255
)

// isCMWTag tells a tag that TN() makes of a content format (RFC 9277 section 4.3).
func isCMWTag(it *Item) bool {
	return it.Type == Tag && it.small && it.number >= firstCMWTag && it.number <= lastCMWTag && it.Items[0].Type == Bytes
}

func collection(a *annotator, it *Item) {
	if it.getText("__cmwc_t") != nil && it.getText("__cmwc_t").Value == evidence.Profile {
		it.Remark = "Evidence of Sealift"
	}
	for _, e := range it.Entries {
		switch {
		case e.Key.Value == "__cmwc_t":
			e.Key.Note = "type of the collection"
		case isRecord(e.Value):
			record(a, e.Value)
		case isCMWTag(e.Value):
			maybe(a, e.Value.Items[0])
		case isCollection(e.Value):
			collection(a, e.Value)
		}
	}
}

// ccaToken is the collection of a platform and a realm token: tag 399 of its draft, or a CMW in tag 907.
func ccaToken(a *annotator, it *Item) {
	part := func(a *annotator, it *Item) {
		if isRecord(it) {
			record(a, it)
			return
		}
		maybe(a, it)
	}
	labels(map[int64]field{44234: {"cca-platform-token", part}, 44241: {"cca-realm-delegated-token", part}})(a, it.Items[0])
}

func isMeasured(it *Item) bool {
	id := it.get(1)
	return id.is(Array) && len(id.Items) > 0 && id.Items[0].is(Text) && (it.get(2).is(Array) || it.get(5).is(Bytes))
}

// measured is a measured-component (draft-ietf-rats-eat-measured-component).
func measured(a *annotator, it *Item) {
	labels(map[int64]field{
		1: {"id", tuple(named("name", nil), named("version", nil))},
		2: {"measurement", tuple(named("algorithm", nil), named("digest", nil))},
		3: {"authorities", nil}, 4: {"flags", nil}, 5: {"raw measurement", nil}, 6: {"digested measurements", nil},
	})(a, it)
	// Versions stand in a byte string in some of the published examples.
	if id := it.get(1); id.is(Array) && len(id.Items) > 1 && id.Items[1].is(Bytes) {
		structured(a, id.Items[1])
	}
}

func isReference(it *Item) bool {
	return it.Type == Array && len(it.Items) == 2 && it.Items[0].is(Text) && it.Items[1].is(Array) && len(it.Items[1].Items) == 2 &&
		it.Items[1].Items[0].is(Integer) && it.Items[1].Items[1].is(Bytes)
}
