// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"

	"sealift/cose"
)

// MaxCollateral bounds collateral in any of its forms. Real ones have about 20 kB.
const MaxCollateral = 1 << 20

// formatVersion is the first element of the CBOR form.
const formatVersion = "sealift-intel-collateral-v1"

// Collateral is what Intel says of a platform and its quoting enclave, for one TEE. It is not verified:
// [Collateral.Verify] does that. The two documents are kept as the exact bytes that Intel signed.
type Collateral struct {
	TCBInfo             []byte              // JSON: the member "tcbInfo" alone
	TCBInfoSignature    [signatureSize]byte // r and s
	TCBInfoChain        [][]byte            // DER: TCB signing certificate, root
	QEIdentity          []byte              // JSON: the member "enclaveIdentity" alone
	QEIdentitySignature [signatureSize]byte
	QEIdentityChain     [][]byte // DER: TCB signing certificate, root
	RootCRL             []byte   // DER, by the root
	PCKCRL              []byte   // DER, by the CA of the PCK
	PCKCRLChain         [][]byte // DER: Platform or Processor CA, root
}

// wireCollateral is the CBOR form. Certificates, which the three chains share, stand there once.
type wireCollateral struct {
	_                                          struct{} `cbor:",toarray"`
	Format                                     string
	TCBInfo, TCBInfoSignature                  []byte
	QEIdentity, QEIdentitySignature            []byte
	RootCRL, PCKCRL                            []byte
	Certificates                               [][]byte // in the order of their first use
	TCBInfoChain, QEIdentityChain, PCKCRLChain []uint   // positions in Certificates
}

// Marshal returns the collateral in deterministic CBOR: an array of the format's name, TCB info and its signature, QE
// identity and its signature, both CRLs, the distinct certificates, and the three chains as positions among them. This is
// the form to keep and to carry.
func (c *Collateral) Marshal() []byte {
	w := wireCollateral{Format: formatVersion, TCBInfo: c.TCBInfo, TCBInfoSignature: c.TCBInfoSignature[:], QEIdentity: c.QEIdentity,
		QEIdentitySignature: c.QEIdentitySignature[:], RootCRL: c.RootCRL, PCKCRL: c.PCKCRL}
	positions := func(chain [][]byte) []uint {
		out := make([]uint, len(chain))
		for i, der := range chain {
			at := 0
			for at < len(w.Certificates) && !bytes.Equal(w.Certificates[at], der) {
				at++
			}
			if at == len(w.Certificates) {
				w.Certificates = append(w.Certificates, der)
			}
			out[i] = uint(at)
		}
		return out
	}
	w.TCBInfoChain = positions(c.TCBInfoChain)
	w.QEIdentityChain = positions(c.QEIdentityChain)
	w.PCKCRLChain = positions(c.PCKCRLChain)
	return cose.MustMarshal(w)
}

// ParseCollateral reads collateral in one of two forms and verifies nothing: that of [Collateral.Marshal], and a JSON
// object of strings with the members tcb_info, tcb_info_signature, tcb_info_issuer_chain, qe_identity,
// qe_identity_signature, qe_identity_issuer_chain, root_ca_crl, pck_crl and pck_crl_issuer_chain (chains in PEM, CRLs and
// signatures in hexadecimal), as dcap-qvl and PCCS clients keep them.
func ParseCollateral(data []byte) (*Collateral, error) {
	switch {
	case len(data) == 0 || len(data) > MaxCollateral:
		return nil, malformed("collateral of %d bytes, at most %d", len(data), MaxCollateral)
	case data[0] == '{':
		return parseCollateralJSON(data)
	}
	var w wireCollateral
	if err := cose.Unmarshal(data, &w); err != nil {
		return nil, fmt.Errorf("%w: collateral: %w", ErrMalformed, err)
	}
	c := &Collateral{TCBInfo: w.TCBInfo, QEIdentity: w.QEIdentity, RootCRL: w.RootCRL, PCKCRL: w.PCKCRL}
	var bad bool
	chain := func(positions []uint) [][]byte {
		out := make([][]byte, 0, 2)
		for _, at := range positions {
			if bad = bad || at >= uint(len(w.Certificates)) || len(positions) != 2; !bad {
				out = append(out, w.Certificates[at])
			}
		}
		return out
	}
	c.TCBInfoChain, c.QEIdentityChain, c.PCKCRLChain = chain(w.TCBInfoChain), chain(w.QEIdentityChain), chain(w.PCKCRLChain)
	if bad || copy(c.TCBInfoSignature[:], w.TCBInfoSignature) != signatureSize ||
		copy(c.QEIdentitySignature[:], w.QEIdentitySignature) != signatureSize || !bytes.Equal(c.Marshal(), data) {
		return nil, malformed("collateral: want %q in deterministic encoding, with chains of two certificates", formatVersion)
	}
	return c, nil
}

// IsCollateral reports whether data begins as the CBOR form does, by which it is told from a certificate beside it.
func IsCollateral(data []byte) bool {
	const arrayOf11, textUpTo255 = 0x8b, 0x78
	return bytes.HasPrefix(data, append([]byte{arrayOf11, textUpTo255, byte(len(formatVersion))}, formatVersion...))
}

type jsonCollateral struct {
	TCBInfo             string `json:"tcb_info"`
	TCBInfoSignature    string `json:"tcb_info_signature"`
	TCBInfoChain        string `json:"tcb_info_issuer_chain"`
	QEIdentity          string `json:"qe_identity"`
	QEIdentitySignature string `json:"qe_identity_signature"`
	QEIdentityChain     string `json:"qe_identity_issuer_chain"`
	RootCRL             string `json:"root_ca_crl"`
	PCKCRL              string `json:"pck_crl"`
	PCKCRLChain         string `json:"pck_crl_issuer_chain"`
}

func parseCollateralJSON(data []byte) (*Collateral, error) {
	var w jsonCollateral
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil || d.More() {
		return nil, malformed("collateral: no JSON object of the known members: %v", err)
	}
	c := &Collateral{TCBInfo: []byte(w.TCBInfo), QEIdentity: []byte(w.QEIdentity)}
	p := &partReader{}
	p.signature(&c.TCBInfoSignature, w.TCBInfoSignature, "TCB info")
	p.signature(&c.QEIdentitySignature, w.QEIdentitySignature, "QE identity")
	p.chain(&c.TCBInfoChain, w.TCBInfoChain, "TCB info")
	p.chain(&c.QEIdentityChain, w.QEIdentityChain, "QE identity")
	p.chain(&c.PCKCRLChain, w.PCKCRLChain, "PCK CRL")
	p.hex(&c.RootCRL, w.RootCRL, "root CRL")
	p.hex(&c.PCKCRL, w.PCKCRL, "PCK CRL")
	if p.err != nil {
		return nil, p.err
	}
	return c, nil
}

// PCSResponses are bodies and issuer chains of Intel's PCS or of a PCCS, as they came. Chains are the values of the
// response headers TCB-Info-Issuer-Chain, SGX-Enclave-Identity-Issuer-Chain and SGX-PCK-CRL-Issuer-Chain: PEM, also
// percent-encoded. CRLs are in DER; a PCCS's hexadecimal is read too.
type PCSResponses struct {
	TCBInfo, TCBInfoChain       []byte // {"tcbInfo":{...},"signature":"..."}
	QEIdentity, QEIdentityChain []byte // {"enclaveIdentity":{...},"signature":"..."}
	PCKCRL, PCKCRLChain         []byte
	RootCRL                     []byte
}

// Collateral puts the responses together. It verifies nothing.
func (r *PCSResponses) Collateral() (*Collateral, error) {
	c := &Collateral{}
	p := &partReader{}
	p.document(&c.TCBInfo, &c.TCBInfoSignature, r.TCBInfo, "tcbInfo")
	p.document(&c.QEIdentity, &c.QEIdentitySignature, r.QEIdentity, "enclaveIdentity")
	for _, part := range []struct {
		into *[][]byte
		from []byte
		what string
	}{
		{&c.TCBInfoChain, r.TCBInfoChain, "TCB info"},
		{&c.QEIdentityChain, r.QEIdentityChain, "QE identity"},
		{&c.PCKCRLChain, r.PCKCRLChain, "PCK CRL"},
	} {
		text, err := url.PathUnescape(string(part.from)) // PEM itself has no percent sign; its plus signs stay
		p.note(err, part.what)
		p.chain(part.into, text, part.what)
	}
	p.crl(&c.RootCRL, r.RootCRL, "root CRL")
	p.crl(&c.PCKCRL, r.PCKCRL, "PCK CRL")
	if p.err != nil {
		return nil, p.err
	}
	return c, nil
}

// partReader reads parts and keeps the first error.
type partReader struct{ err error }

func (p *partReader) note(err error, what string) {
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("%w: collateral: %s: %w", ErrMalformed, what, err)
	}
}

func (p *partReader) signature(into *[signatureSize]byte, text, what string) {
	raw, err := hex.DecodeString(text)
	if err == nil && len(raw) != signatureSize {
		err = fmt.Errorf("signature of %d bytes, want %d", len(raw), signatureSize)
	}
	p.note(err, what)
	copy(into[:], raw)
}

func (p *partReader) hex(into *[]byte, text, what string) {
	raw, err := hex.DecodeString(text)
	p.note(err, what)
	*into = raw
}

func (p *partReader) crl(into *[]byte, data []byte, what string) {
	const sequence = 0x30 // begins DER, and is the digit 0 where it is hexadecimal
	if len(data) > 1 && data[0] == sequence && data[1] >= 0x80 {
		*into = bytes.Clone(data)
		return
	}
	p.hex(into, string(bytes.TrimSpace(data)), what)
}

func (p *partReader) chain(into *[][]byte, text, what string) {
	certs, err := parsePEM([]byte(text), 2)
	p.note(err, what)
	*into = certs
}

// document splits a response into the signed member, byte by byte as it stands, and the signature.
func (p *partReader) document(into *[]byte, signature *[signatureSize]byte, body []byte, member string) {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(body, &parts); err != nil {
		p.note(err, member)
		return
	}
	var text string
	if len(parts) != 2 || parts[member] == nil || json.Unmarshal(parts["signature"], &text) != nil {
		p.note(fmt.Errorf("want the members %q and \"signature\"", member), member)
		return
	}
	*into = bytes.Clone(parts[member])
	p.signature(signature, text, member)
}
