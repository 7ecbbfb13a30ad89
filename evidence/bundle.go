// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"fmt"

	"sealift/cose"
	"sealift/evidence/tpm"
)

// Media types of a bundle and its records.
const (
	MediaType       = "application/cmw+cbor"                                                 // the bundle: RFC 9999
	MediaTypePSA    = `application/eat+cwt; eat_profile="tag:psacertified.org,2023:psa#tfm"` // RFC 9783
	MediaTypePSAOld = "application/psa-attestation-token"                                    // the profiles before RFC 9783
	mediaTypeX509   = "application/cose-x509; usage=chain"                                   // RFC 9360 section 3
	mediaTypeOther  = "application/vnd.sealift.collateral+cbor"                              // what is not X.509, or not only
	mediaTypeClaims = "application/eat-ucs+cbor"                                             // RFC 9782
	mediaTypeConfig = "application/vnd.sealift.config+cbor"                                  // the measured configuration
	bundleType      = "tag:sealift.invalid,2026:teep-evidence-v1"                            // __cmwc_t
	MaxBundle       = 1 << 20                                                                // bytes of a bundle
	maxCollateral   = 16
)

// Conceptual message indicators, RFC 9999.
const (
	indEndorsements = 1 << 1
	indEvidence     = 1 << 2
)

// Bundle is what travels as attestation-payload: a CMW collection (RFC 9999) of four records, and a fifth where the TEE has a TPM.
type Bundle struct {
	Hardware     []byte   // what the hardware signed, for example a PSA token
	HardwareType string   // its media type
	Collateral   [][]byte // certificates in DER, leaf first, without the anchor; or what else belongs to this hardware
	Claims       []byte   // the claims record: [Claims.Marshal]
	Config       []byte   // the measured configuration itself, so that a Relying Party can read what was measured
	Quote        []byte   // what the TEE's TPM quoted: tpm.Quote; empty where there is none
}

type wireBundle struct {
	Type       string      `cbor:"__cmwc_t"`
	Hardware   wireRecord  `cbor:"hw"`
	Collateral *wireRecord `cbor:"collateral,omitempty"`
	Claims     wireRecord  `cbor:"claims"`
	Config     wireRecord  `cbor:"config"`
	Quote      *wireRecord `cbor:"tpm,omitempty"`
}

type wireRecord struct {
	_         struct{} `cbor:",toarray"`
	Type      string
	Value     []byte
	Indicator uint64
}

// Marshal returns the collection in deterministic CBOR.
func (b Bundle) Marshal() []byte {
	w := wireBundle{
		Type:     bundleType,
		Hardware: wireRecord{Type: b.HardwareType, Value: nonNil(b.Hardware), Indicator: indEvidence},
		Claims:   wireRecord{Type: mediaTypeClaims, Value: nonNil(b.Claims), Indicator: indEvidence},
		Config:   wireRecord{Type: mediaTypeConfig, Value: nonNil(b.Config), Indicator: indEvidence},
	}
	if len(b.Collateral) > 0 {
		w.Collateral = &wireRecord{Type: collateralType(b.Collateral), Value: marshalChain(b.Collateral), Indicator: indEndorsements}
	}
	if len(b.Quote) > 0 {
		w.Quote = &wireRecord{Type: tpm.MediaType, Value: b.Quote, Indicator: indEvidence}
	}
	return cose.MustMarshal(w)
}

// ParseBundle reads a bundle strictly: these records with their types and indicators and no other, in
// deterministic encoding. Nothing in the result is verified.
func ParseBundle(data []byte) (*Bundle, error) {
	if len(data) > MaxBundle {
		return nil, fmt.Errorf("%w: bundle: %d bytes, at most %d", ErrMalformed, len(data), MaxBundle)
	}
	var w wireBundle
	if err := cose.Unmarshal(data, &w); err != nil {
		return nil, fmt.Errorf("%w: bundle: %w", ErrMalformed, err)
	}
	if w.Type != bundleType {
		return nil, fmt.Errorf("%w: bundle: collection type is %q, want %q", ErrMalformed, w.Type, bundleType)
	}
	if w.Hardware.Type == "" || w.Claims.Type != mediaTypeClaims || w.Config.Type != mediaTypeConfig {
		return nil, fmt.Errorf("%w: bundle: a record is missing or has an unexpected type", ErrMalformed)
	}
	b := &Bundle{Hardware: w.Hardware.Value, HardwareType: w.Hardware.Type, Claims: w.Claims.Value, Config: w.Config.Value}
	if w.Collateral != nil {
		chain, err := parseChain(w.Collateral.Value)
		if err != nil {
			return nil, err
		}
		b.Collateral = chain
	}
	if w.Quote != nil {
		b.Quote = w.Quote.Value
	}
	if !bytes.Equal(b.Marshal(), data) {
		return nil, fmt.Errorf("%w: bundle: an unknown member, a wrong type or indicator, or not in deterministic encoding", ErrMalformed)
	}
	return b, nil
}

// collateralType tells a chain of X.509 certificates, each a DER SEQUENCE, from a list with anything else in it
// (certificates of Hygon's format, Intel's TCB information), which only the hardware's verifier can read.
func collateralType(items [][]byte) string {
	for _, item := range items {
		if len(item) == 0 || item[0] != 0x30 {
			return mediaTypeOther
		}
	}
	return mediaTypeX509
}

// marshalChain encodes COSE_X509 (RFC 9360 section 2): one certificate as a byte string, more as an array.
func marshalChain(chain [][]byte) []byte {
	if len(chain) == 1 {
		return cose.MustMarshal(nonNil(chain[0]))
	}
	return cose.MustMarshal(chain)
}

func parseChain(data []byte) ([][]byte, error) {
	var one []byte
	if err := cose.Unmarshal(data, &one); err == nil {
		return [][]byte{one}, nil
	}
	var chain [][]byte
	if err := cose.Unmarshal(data, &chain); err != nil {
		return nil, fmt.Errorf("%w: bundle: collateral: %w", ErrMalformed, err)
	}
	if len(chain) < 2 || len(chain) > maxCollateral {
		return nil, fmt.Errorf("%w: bundle: collateral: %d items, want 1 to %d", ErrMalformed, len(chain), maxCollateral)
	}
	return chain, nil
}
