// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"encoding/base64"
	"encoding/hex"
	"strings"

	"sealift/internal/moc/mocapi"
	"sealift/internal/payload"
	"sealift/internal/store"
	"sealift/suit"
)

// Bounds of what a Broker says of transfers.
const (
	maxTransfers = 64
	maxPayload   = 1024 // bytes of a payload's name
)

// nameTransfers says which component each payload is for: the deployment's own manifests tell. What is in none of them is not told
// on; a Broker could write anything there.
func nameTransfers(d *store.Deployment, list []mocapi.Transfer) (out []mocapi.Transfer) {
	if len(list) == 0 {
		return nil
	}
	names := map[string]string{}
	for _, p := range d.Wanted {
		if p == nil {
			continue
		}
		envelope, err := suit.ParseEnvelope(p.Envelope)
		if err != nil {
			continue
		}
		m, err := envelope.ManifestInsecure() // it was verified when the package came
		if err != nil {
			continue
		}
		for _, x := range payload.Of(m) {
			names[payloadName(x.URI)] = x.Target.String()
		}
	}
	for _, t := range list[:min(len(list), maxTransfers)] {
		if name, known := names[payloadName(t.Payload)]; known && t.Bytes >= 0 && t.Bytes <= t.Total {
			out = append(out, mocapi.Transfer{Payload: payloadName(t.Payload), Component: name, Bytes: t.Bytes, Total: t.Total})
		}
	}
	return out
}

// payloadName is how a payload is called: "sha256:<hex>" where its URI says that, else the URI.
func payloadName(uri string) string {
	value, ok := strings.CutPrefix(uri, "ni:///sha-256;")
	sum, err := base64.RawURLEncoding.DecodeString(value)
	if ok && err == nil {
		return "sha256:" + hex.EncodeToString(sum)
	}
	return uri
}
