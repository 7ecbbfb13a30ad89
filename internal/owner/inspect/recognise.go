// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"crypto/x509"
	"fmt"

	"sealift/teep"
)

// recognise tells what an item is by its form, with the shape that names its parts. The kind is "" if it is none of
// those that this package knows. More telling forms come first.
func recognise(it *Item) (kind string, s shape) {
	switch {
	case it.tagged(61):
		return recogniseCWT(it)
	case (it.tagged(399) || it.tagged(907)) && it.Items[0].is(Map):
		return kindCCA, ccaToken
	case coseKind(it) != "":
		return coseKind(it), coseMessage
	case isEnvelope(it):
		return kindEnvelope, suitEnvelope
	case isManifest(it):
		return kindManifest, suitManifest
	case isReport(it):
		return kindReport, suitReport
	case isTEEP(it):
		n, _ := it.Items[0].int()
		return kindTEEP + " " + teep.MessageType(n).String(), teepMessage
	case isKDFContext(it):
		return "COSE_KDF_Context", kdfContext
	case isPolicy(it):
		return kindPolicy, policy
	case isKey(it):
		return kindKey, coseKey
	case isReference(it):
		return kindReference, reference
	case isCMWTag(it):
		return kindCMWTag, func(a *annotator, it *Item) { maybe(a, it.Items[0]) }
	case it.Type == Array && isRecord(it):
		return kindRecord, record
	case isCollection(it):
		return kindCMW, collection
	case isMeasured(it):
		return kindMeasured, measured
	case isResult(it):
		return kindResult, claims
	case isClaims(it):
		return kindClaims, claims
	}
	return "", nil
}

func recogniseCWT(it *Item) (string, shape) {
	inner := it.Items[0]
	kind, s := recognise(inner)
	if kind == "" {
		return "CWT", nil
	}
	return "CWT, " + kind, func(a *annotator, it *Item) { a.apply(named(kind, s), it.Items[0]) }
}

// certificates remarks whose certificates they are.
func certificates(_ *annotator, it *Item) {
	list := it.Items
	if it.Type == Bytes {
		list = []*Item{it}
	}
	for _, c := range list {
		if c.Type == Bytes {
			c.Remark = certificateName(c.content)
		}
	}
}

func certificateName(der []byte) string {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return "no readable certificate"
	}
	return fmt.Sprintf("certificate of %s, issued by %s", cert.Subject, cert.Issuer)
}
