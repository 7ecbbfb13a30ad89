// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"sealift/cose"
	"sealift/suit"
	"sealift/teep"
)

const kindTEEP = "TEEP message"

// isTEEP tells a TEEP message: [type, {options}, ...] (teep-protocol section 4).
func isTEEP(it *Item) bool {
	if it.Type != Array || len(it.Items) < 2 || len(it.Items) > 5 || it.Items[1].Type != Map {
		return false
	}
	n, ok := it.Items[0].int()
	return ok && n >= 0 && n < 24
}

func teepMessage(a *annotator, it *Item) {
	n, _ := it.Items[0].int()
	it.Items[0].Note = teep.MessageType(n).String()
	it.Items[1].Note = "options"
	labels(teepOptions)(a, it.Items[1])
	suite := named("cipher suite", each(tuple(words(coseTags), enum(cose.Algorithm.String))))
	switch teep.MessageType(n) {
	case teep.TypeQueryRequest:
		tuple(nil, nil, named("supported-teep-cipher-suites", each(suite)),
			named("supported-suit-cose-profiles", each(each(enum(cose.Algorithm.String)))),
			named("data-item-requested", enum(func(n int64) string { return teep.DataItem(n).String() })))(a, it)
	case teep.TypeError:
		tuple(nil, nil, named("err-code", errCode))(a, it)
	}
}

func errCode(_ *annotator, it *Item) {
	if n, ok := it.int(); ok {
		it.Remark = teep.ErrCode(n).String()
	}
}

var teepOptions map[int64]field

func init() {
	id := named("", nil)
	teepOptions = map[int64]field{
		1: {"supported-teep-cipher-suites", each(each(tuple(words(coseTags), enum(cose.Algorithm.String))))},
		2: {"challenge", nil}, 3: {"versions", nil}, 4: {"supported-suit-cose-profiles", each(each(enum(cose.Algorithm.String)))},
		6: {"selected-version", nil}, 7: {"attestation-payload", maybe}, 8: {"tc-list", each(properties)}, 9: {"ext-list", nil},
		10: {"manifest-list", each(wrapped(named(kindEnvelope, suitEnvelope)))}, 11: {"msg", nil}, 12: {"err-msg", nil},
		13: {"attestation-payload-format", nil},
		14: {"requested-tc-list", each(labels(map[int64]field{
			16: {"component-id", id}, 17: {"tc-manifest-sequence-number", nil}, 18: {"have-binary", nil},
		}))},
		15: {"unneeded-manifest-list", nil}, 16: {"component-id", nil}, 17: {"tc-manifest-sequence-number", nil}, 18: {"have-binary", nil},
		19: {"suit-reports", each(maybe)}, 20: {"token", nil},
		21: {"supported-freshness-mechanisms", each(words(map[int64]string{0: "nonce", 1: "timestamp"}))},
		22: {"err-lang", nil}, 23: {"err-code", errCode},
	}
}

// isEnvelope tells an envelope, tagged or not.
func isEnvelope(it *Item) bool {
	if it.tagged(suit.TagEnvelope) {
		it = it.Items[0]
	}
	return it.get(2).is(Bytes) && it.get(3).is(Bytes)
}

func isManifest(it *Item) bool {
	if it.tagged(suit.TagManifest) {
		return true
	}
	return it.get(1).is(Integer) && it.get(2).is(Integer) && it.get(3).is(Bytes)
}

func isReport(it *Item) bool {
	if it.Type == Bytes {
		inner, rest, err := read(it.content)
		return err == nil && rest == 0 && inner.Type == Map && isReport(inner)
	}
	return it.get(99).is(Array) && it.get(4) != nil
}
