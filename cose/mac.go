// SPDX-License-Identifier: Apache-2.0

package cose

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"sealift/cose/wire"
)

// Mac0 makes a tagged COSE_Mac0 (RFC 9052 section 6.2) with HMAC 256/256. kid may be nil. With detached the payload is
// authenticated and left out.
func Mac0(key, kid, payload []byte, detached bool) ([]byte, error) {
	if len(key) == 0 {
		return nil, fmt.Errorf("%w: empty MAC key", ErrNoKey)
	}
	w := headerWriter{alg: AlgHMAC256, kid: kid}
	protected, err := w.protected()
	if err != nil {
		return nil, err
	}
	b := wire.AppendArray(wire.AppendTag(nil, tagMac0), 4)
	b = w.appendUnprotected(wire.AppendBytes(b, protected))
	b = appendPayload(b, payload, detached)
	return wire.AppendBytes(b, mac(key, protected, payload)), nil
}

// VerifyMac0 verifies a tagged COSE_Mac0 with any of keys and returns its payload, which is detached where the message does
// not hold it (then detached must not be nil). A MAC does not say who of those that have the key made it.
func VerifyMac0(data []byte, keys [][]byte, detached []byte) ([]byte, error) {
	m, err := parseMac0(data)
	if err != nil {
		return nil, fmt.Errorf("reading a COSE_Mac0: %w", err)
	}
	payload, err := m.pickPayload(detached)
	if err != nil {
		return nil, err
	}
	tried := false
	for _, key := range keys {
		if len(key) == 0 {
			continue
		}
		tried = true
		if hmac.Equal(mac(key, m.body.protected, payload), m.signatures[0].value) {
			return payload, nil
		}
	}
	if !tried {
		return nil, fmt.Errorf("%w: no MAC key", ErrNoKey)
	}
	return nil, fmt.Errorf("%w: MAC by none of the keys", ErrBadSignature)
}

// parseMac0 reads a COSE_Mac0 into the same form as a COSE_Sign1, whose shape it has.
func parseMac0(data []byte) (*Message, error) {
	if len(data) > maxMessageSize {
		return nil, malformedf("message of %d bytes", len(data))
	}
	r := wire.NewReader(data)
	if tag := r.Tag(); r.Err() == nil && tag != tagMac0 {
		return nil, malformedf("tag %d", tag)
	}
	m, err := parse(r)
	if err != nil {
		return nil, err
	}
	if m.multi || m.tagged {
		return nil, malformedf("not a COSE_Mac0")
	}
	if alg := m.body.alg; alg != AlgHMAC256 {
		return nil, fmt.Errorf("%w: %v for a MAC", ErrUnsupported, alg)
	}
	return m, nil
}

func mac(key, protected, payload []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(toBeSignedHead(contextMac0, protected, nil, nil, len(payload)))
	h.Write(payload)
	return h.Sum(nil)
}
