// SPDX-License-Identifier: Apache-2.0

package report

import (
	"errors"
	"fmt"
	"io"

	"sealift/cose"
)

// Why a protected report is not opened.
var (
	ErrTooDeep     = errors.New("report: more layers of protection than a report has")
	ErrUnprotected = errors.New("report: not authenticated")
)

// maxLayers bounds how deep a report may be wrapped: signed, encrypted and signed again.
const maxLayers = 3

// Protection says how a report travels (suit-report section 5): authenticated by Signer or MACKey, and, with Recipient,
// encrypted. The zero value is a plain report, for channels that are authentic and confidential themselves.
type Protection struct {
	Signer cose.Signer
	// MACKey authenticates by HMAC 256/256 instead of a signature.
	MACKey []byte
	// Recipient is who may read the report; nil leaves it readable. Algorithm is the content's and has to authenticate.
	Recipient *cose.Recipient
	Algorithm cose.Algorithm
}

// Protect encodes the report, encrypts it if there is a recipient, and signs the result: COSE_Sign1 around COSE_Encrypt
// around the report (TEEP wants the encryption with key agreement, for which suit-report's CDDL has no other place).
func (r *Report) Protect(rand io.Reader, p Protection) ([]byte, error) {
	data, err := r.Marshal()
	if err != nil {
		return nil, err
	}
	if p.Recipient != nil {
		if !authenticates(p.Algorithm) {
			return nil, fmt.Errorf("report: %w: %v does not authenticate", cose.ErrUnsupported, p.Algorithm)
		}
		// The plaintext is bstr .cbor SUIT_Report.
		data, err = cose.Encrypt(rand, p.Algorithm, *p.Recipient, cose.ContextSUITReport, cose.MustMarshal(data))
		if err != nil {
			return nil, fmt.Errorf("report: %w", err)
		}
	}
	switch {
	case p.Signer != nil && p.MACKey != nil:
		return nil, fmt.Errorf("report: %w: both signature and MAC", cose.ErrUnsupported)
	case p.Signer != nil:
		return cose.Sign1(rand, p.Signer, data)
	case p.MACKey != nil:
		return cose.Mac0(p.MACKey, nil, data, false)
	}
	return data, nil
}

func authenticates(alg cose.Algorithm) bool {
	return alg == cose.AlgA128GCM || alg == cose.AlgA256GCM || alg == cose.AlgChaCha20Poly1305
}

// Keys open reports.
type Keys struct {
	Signers    []*cose.Key     // of COSE_Sign1
	MAC        [][]byte        // of COSE_Mac0
	Recipients cose.Recipients // of COSE_Encrypt; nil: none
	Content    [][]byte        // of COSE_Encrypt0
	// Plain accepts a report that nothing authenticates, because the channel did.
	Plain bool
	// Legacy accepts the polymorphic algorithms -7 and -8.
	Legacy bool
}

// Opened is a report and how it was protected.
type Opened struct {
	*Report
	Signer    *cose.Key // of the outermost signature; nil if there was none
	MAC       bool
	Encrypted bool
}

// Open takes a report out of its layers, in whatever order they are, at most three: COSE_Sign1, COSE_Mac0, COSE_Encrypt and
// COSE_Encrypt0, or none. Each layer has to hold; a report that no signature or MAC covers is ErrUnprotected, unless Plain.
func Open(data []byte, keys Keys) (*Opened, error) {
	o := &Opened{}
	for layers := 0; ; layers++ {
		data = unwrapped(data)
		if len(data) == 0 {
			return nil, ErrMalformed
		}
		if data[0]>>5 == majorMap {
			break
		}
		if layers == maxLayers {
			return nil, ErrTooDeep
		}
		var err error
		if data, err = o.layer(data, keys); err != nil {
			return nil, fmt.Errorf("opening a report: %w", err)
		}
	}
	if o.Signer == nil && !o.MAC && !keys.Plain {
		return nil, ErrUnprotected
	}
	var err error
	o.Report, err = Parse(data)
	return o, err
}

const (
	majorBytes = 2
	majorArray = 4
	majorMap   = 5
)

// unwrapped takes data out of a byte string, as the plaintext of an encrypted report stands in one.
func unwrapped(data []byte) []byte {
	var inner []byte
	if len(data) > 0 && data[0]>>5 == majorBytes && cose.Unmarshal(data, &inner) == nil {
		return inner
	}
	return data
}

// layer opens one layer. An untagged array is a COSE_Sign1 or a COSE_Mac0, which its algorithm tells apart.
func (o *Opened) layer(data []byte, keys Keys) ([]byte, error) {
	switch {
	case data[0] == 0xd2:
		return o.signed(data, keys)
	case data[0] == 0xd1:
		return o.authenticated(data, keys)
	case data[0] == 0xd0:
		o.Encrypted = true
		return cose.Decrypt0(data, keys.Content)
	case len(data) > 1 && data[0] == 0xd8 && data[1] == 96:
		o.Encrypted = true
		if keys.Recipients == nil {
			return nil, cose.ErrNoKey
		}
		return cose.Decrypt(data, keys.Recipients, cose.ContextSUITReport)
	case data[0]>>5 == majorArray:
		if m, err := cose.Parse(data); err == nil && !m.Multi() && m.Algorithms()[0] == cose.AlgHMAC256 {
			return o.authenticated(append([]byte{0xd1}, data...), keys)
		}
		return o.signed(data, keys)
	}
	return nil, ErrMalformed
}

func (o *Opened) signed(data []byte, keys Keys) ([]byte, error) {
	m, err := cose.Parse(data)
	if err != nil {
		return nil, err
	}
	if m.Multi() {
		return nil, fmt.Errorf("%w: COSE_Sign", ErrMalformed)
	}
	v, err := m.Verify(keys.Signers, cose.VerifyOptions{Legacy: keys.Legacy})
	if err != nil {
		return nil, err
	}
	if o.Signer == nil {
		o.Signer = v.Key
	}
	return v.Payload, nil
}

func (o *Opened) authenticated(data []byte, keys Keys) ([]byte, error) {
	o.MAC = true
	return cose.VerifyMac0(data, keys.MAC, nil)
}
