// SPDX-License-Identifier: Apache-2.0

package inspect

import "sealift/cose"

const (
	kindSign1    = "COSE_Sign1"
	kindSign     = "COSE_Sign"
	kindMac0     = "COSE_Mac0"
	kindMac      = "COSE_Mac"
	kindEncrypt0 = "COSE_Encrypt0"
	kindEncrypt  = "COSE_Encrypt"
	kindKey      = "COSE_Key"
)

var coseTags = map[int64]string{18: kindSign1, 98: kindSign, 17: kindMac0, 97: kindMac, 16: kindEncrypt0, 96: kindEncrypt}

// coseKind tells which COSE message an item is (RFC 9052 section 2), "" if none.
func coseKind(it *Item) string {
	if it.Type == Tag && it.small {
		if name := coseTags[it.number]; name != "" && it.Items[0].Type == Array {
			return name
		}
		return ""
	}
	if it.Type != Array || len(it.Items) < 3 || len(it.Items) > 5 || !it.Items[0].is(Bytes) || !it.Items[1].is(Map) {
		return ""
	}
	payload := it.Items[2]
	if payload.Type != Bytes && payload.Value != "null" {
		return ""
	}
	switch last := it.Items[len(it.Items)-1]; {
	case len(it.Items) == 4 && last.Type == Array && len(last.Items) > 0 && last.Items[0].is(Array):
		// COSE_Sign and COSE_Encrypt have one form; a recipient's algorithm wraps a key and does not sign.
		if protectedAlg(it.Items[0]) > 0 {
			return kindEncrypt
		}
		return kindSign
	case len(it.Items) == 4 && last.Type == Bytes && protectedAlg(it.Items[0]) > 0:
		return kindMac0
	case len(it.Items) == 4 && last.Type == Bytes:
		return kindSign1
	case len(it.Items) == 5 && last.Type == Array:
		return kindMac
	}
	return ""
}

// protectedAlg reads alg of a protected header. Algorithms that sign are negative, those that encrypt or authenticate
// content are positive or far below (AES-CTR).
func protectedAlg(it *Item) int64 {
	h, _, err := read(it.content)
	if err != nil {
		return 0
	}
	n, _ := h.get(1).int()
	if n <= -65500 && n > -65536 {
		return 1
	}
	return n
}

// coseMessage is any message of RFC 9052 sections 4 to 6.
func coseMessage(a *annotator, it *Item) {
	kind := coseKind(it)
	if kind == "" {
		return
	}
	body := it
	if it.Type == Tag {
		body = it.Items[0]
		body.Note = kind
	} else if it.Note == "" {
		it.Note = kind
	}
	a.found = append(a.found, found{kind, it})
	last := map[string]shape{
		kindSign1: named("signature", nil), kindMac0: named("tag", nil), kindMac: named("tag", nil),
		kindSign:    named("signatures", each(tuple(protected, unprotected, named("signature", nil)))),
		kindEncrypt: named("recipients", each(recipient)),
	}[kind]
	content := payloadItem
	if kind == kindEncrypt || kind == kindEncrypt0 {
		content = ciphertext
	}
	tuple(protected, unprotected, content, last, named("recipients", each(recipient)))(a, body)
}

func payloadItem(a *annotator, it *Item) {
	it.Note = "payload"
	if it.Type != Bytes {
		it.Note = "payload, detached"
		return
	}
	maybe(a, it)
}

func ciphertext(_ *annotator, it *Item) {
	if it.Note = "ciphertext"; it.Type != Bytes {
		it.Note = "ciphertext, detached"
	}
}

func recipient(a *annotator, it *Item) {
	it.Note = "recipient"
	tuple(protected, unprotected, named("encrypted key", nil))(a, it)
}

func protected(a *annotator, it *Item) {
	it.Note = "protected header"
	wrapped(headerFields)(a, it)
}

func unprotected(a *annotator, it *Item) { named("unprotected header", headerFields)(a, it) }

// headerFields names header parameters (RFC 9052 section 3.1, RFC 9360, RFC 9053 section 6.3).
func headerFields(a *annotator, it *Item) {
	labels(map[int64]field{
		1: {"alg", enum(cose.Algorithm.String)}, 2: {"crit", nil}, 3: {"content type", nil}, 4: {"kid", nil}, 5: {"IV", nil},
		6: {"Partial IV", nil}, 11: {"countersignature", nil}, 15: {"CWT claims", claims}, 16: {"typ", nil}, 32: {"x5bag", certificates},
		33: {"x5chain", certificates}, 34: {"x5t", nil}, 35: {"x5u", nil}, -1: {"ephemeral key", coseKey}, -2: {"static key", coseKey},
		-20: {"salt", nil}, -21: {"PartyU identity", nil}, -22: {"PartyU nonce", nil}, -24: {"PartyV identity", nil},
		258: {"CWT type", nil}, 394: {"receipts", nil},
	})(a, it)
}

var coseKeyLabels = map[int64]field{
	1: {"kty", words(map[int64]string{1: "OKP", 2: "EC2", 4: "Symmetric"})},
	2: {"kid", nil}, 3: {"alg", enum(cose.Algorithm.String)}, 4: {"key_ops", nil}, 5: {"Base IV", nil},
	-1: {"crv", words(map[int64]string{1: "P-256", 2: "P-384", 3: "P-521", 4: "X25519", 6: "Ed25519"})},
	-2: {"x", nil}, -3: {"y", nil}, -4: {"d, PRIVATE", secret},
}

// coseKey is COSE_Key (RFC 9052 section 7). Private members are never shown.
func coseKey(a *annotator, it *Item) {
	if n, _ := it.get(1).int(); n == 4 {
		labels(map[int64]field{1: coseKeyLabels[1], 2: coseKeyLabels[2], 3: coseKeyLabels[3], -1: {"k, SECRET", secret}})(a, it)
		return
	}
	labels(coseKeyLabels)(a, it)
}

func secret(_ *annotator, it *Item) {
	it.Value, it.content = "", nil
	it.Remark = "not shown"
}

// isKey tells a COSE_Key from other maps.
func isKey(it *Item) bool {
	kty, ok := it.get(1).int()
	if !ok || kty < 1 || kty > 6 {
		return false
	}
	if kty == 4 {
		return it.get(-1).is(Bytes)
	}
	_, ok = it.get(-1).int()
	return ok && it.get(-2).is(Bytes)
}

// kdfContext is COSE_KDF_Context (RFC 9053 section 5.2).
func kdfContext(a *annotator, it *Item) {
	party := tuple(named("identity", nil), named("nonce", nil), named("other", nil))
	tuple(named("algorithm", nil), named("PartyU", party), named("PartyV", party),
		named("public information", tuple(named("key length in bits", nil), protected, named("other", nil))),
		named("private information", nil))(a, it)
	if len(it.Items) > 0 {
		enum(cose.Algorithm.String)(a, it.Items[0])
	}
}

func isKDFContext(it *Item) bool {
	return it.Type == Array && len(it.Items) >= 4 && it.Items[0].is(Integer) && it.Items[1].is(Array) && len(it.Items[1].Items) == 3 &&
		it.Items[2].is(Array) && len(it.Items[2].Items) == 3 && it.Items[3].is(Array) && len(it.Items[3].Items) >= 2
}
