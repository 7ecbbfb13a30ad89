// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto/x509"
	"encoding/hex"
)

// IdentifyEndorsement says for which reports the certificate of a VCEK or VLEK is: the kind and key under which
// [evidence.Endorsements] keep it. It verifies nothing.
func IdentifyEndorsement(der []byte) (kind, key string, cert *x509.Certificate, err error) {
	e, err := parseEndorsement(der)
	if err != nil {
		return "", "", nil, err
	}
	raw := e.tcb.Raw(e.product)
	level := hex.EncodeToString(raw[:])
	if e.signer == VLEK {
		return KindVLEK, string(e.product) + "/" + level, e.cert, nil
	}
	var chip [64]byte // a report's field; Turin fills 8 bytes of it
	copy(chip[:], e.hwid)
	return KindVCEK, string(e.product) + "/" + hex.EncodeToString(chip[:]) + "/" + level, e.cert, nil
}

// TCB returns the level's parts as that product lays them out.
func (r RawTCB) TCB(p Product) TCB {
	t, _ := r.decode(p)
	return t
}
