// SPDX-License-Identifier: Apache-2.0

package teep

import (
	"slices"
	"strconv"
	"strings"

	"sealift/cose"
)

// This file holds every number and name of teep-protocol that may still move before it becomes an RFC.

// MediaType is the media type of TEEP messages (teep-protocol section 10.1).
const MediaType = "application/teep+cbor"

// EATProfile is the profile of Attestation Results for TEEP (teep-protocol section 5). The RFC number is still a placeholder.
const EATProfile = "urn:ietf:rfc:rfcXXXX"

// ProtocolVersion is the only version there is (teep-protocol section 4.2).
const ProtocolVersion uint32 = 0

// MessageType is the first element of a message.
type MessageType uint

// The message types (teep-protocol section 10.2). 4 is reserved.
const (
	TypeQueryRequest  MessageType = 1
	TypeQueryResponse MessageType = 2
	TypeUpdate        MessageType = 3
	TypeSuccess       MessageType = 5
	TypeError         MessageType = 6
)

// String gives the name in the protocol's text.
func (t MessageType) String() string {
	switch t {
	case TypeQueryRequest:
		return "QueryRequest"
	case TypeQueryResponse:
		return "QueryResponse"
	case TypeUpdate:
		return "Update"
	case TypeSuccess:
		return "Success"
	case TypeError:
		return "Error"
	}
	return "message type " + strconv.FormatUint(uint64(t), 10)
}

// Option labels (teep-protocol section 6). 0 and 5 are unassigned.
const (
	labelCipherSuites    = 1
	labelChallenge       = 2
	labelVersions        = 3
	labelSUITProfiles    = 4
	labelSelectedVersion = 6
	labelPayload         = 7
	labelTCList          = 8
	labelExtList         = 9
	labelManifestList    = 10
	labelMsg             = 11
	labelErrMsg          = 12
	labelPayloadFormat   = 13
	labelRequestedTCList = 14
	labelUnneeded        = 15
	labelComponentID     = 16
	labelSequenceNumber  = 17
	labelHaveBinary      = 18
	labelSUITReports     = 19
	labelToken           = 20
	labelFreshness       = 21
	labelErrLang         = 22
	labelErrCode         = 23
)

var labelNames = [...]string{
	labelCipherSuites: "supported-teep-cipher-suites", labelChallenge: "challenge", labelVersions: "versions",
	labelSUITProfiles: "supported-suit-cose-profiles", labelSelectedVersion: "selected-version",
	labelPayload: "attestation-payload", labelTCList: "tc-list", labelExtList: "ext-list",
	labelManifestList: "manifest-list", labelMsg: "msg", labelErrMsg: "err-msg",
	labelPayloadFormat: "attestation-payload-format", labelRequestedTCList: "requested-tc-list",
	labelUnneeded: "unneeded-manifest-list", labelComponentID: "component-id",
	labelSequenceNumber: "tc-manifest-sequence-number", labelHaveBinary: "have-binary", labelSUITReports: "suit-reports",
	labelToken: "token", labelFreshness: "supported-freshness-mechanisms", labelErrLang: "err-lang", labelErrCode: "err-code",
}

// labelName gives the name of an option; unassigned ones have none.
func labelName(label uint64) string {
	if label < uint64(len(labelNames)) {
		return labelNames[label]
	}
	return ""
}

// DataItem is the bitmap of what a TAM asks for (teep-protocol section 4.2).
type DataItem uint64

// The data items.
const (
	ItemAttestation       DataItem = 1 << 0
	ItemTrustedComponents DataItem = 1 << 1
	ItemExtensions        DataItem = 1 << 2
	ItemSUITReports       DataItem = 1 << 3

	knownItems = ItemAttestation | ItemTrustedComponents | ItemExtensions | ItemSUITReports
)

// Has reports whether all bits of item are set.
func (d DataItem) Has(item DataItem) bool { return d&item == item }

// String lists the names of the bits.
func (d DataItem) String() string {
	var names []string
	for i, name := range []string{"attestation", "trusted-components", "extensions", "suit-reports"} {
		if d&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "+")
}

// Freshness mechanisms (teep-protocol section 9). A peer that lists none supports the nonce.
const (
	FreshnessNonce     uint32 = 0
	FreshnessTimestamp uint32 = 1
)

// ErrCode says what went wrong (teep-protocol section 4.6).
type ErrCode uint

// The error codes. A code that is not listed here is to be treated as an unknown error.
const (
	ErrCodePermanent                ErrCode = 1
	ErrCodeUnsupportedExtension     ErrCode = 2
	ErrCodeUnsupportedFreshness     ErrCode = 3
	ErrCodeUnsupportedVersion       ErrCode = 4
	ErrCodeUnsupportedCipherSuites  ErrCode = 5
	ErrCodeBadCertificate           ErrCode = 6
	ErrCodeAttestationRequired      ErrCode = 7
	ErrCodeUnsupportedSUITReport    ErrCode = 8
	ErrCodeCertificateExpired       ErrCode = 9
	ErrCodeTemporary                ErrCode = 10
	ErrCodeManifestProcessingFailed ErrCode = 17
)

var errCodeNames = map[ErrCode]string{
	ErrCodePermanent:                "ERR_PERMANENT_ERROR",
	ErrCodeUnsupportedExtension:     "ERR_UNSUPPORTED_EXTENSION",
	ErrCodeUnsupportedFreshness:     "ERR_UNSUPPORTED_FRESHNESS_MECHANISMS",
	ErrCodeUnsupportedVersion:       "ERR_UNSUPPORTED_MSG_VERSION",
	ErrCodeUnsupportedCipherSuites:  "ERR_UNSUPPORTED_CIPHER_SUITES",
	ErrCodeBadCertificate:           "ERR_BAD_CERTIFICATE",
	ErrCodeAttestationRequired:      "ERR_ATTESTATION_REQUIRED",
	ErrCodeUnsupportedSUITReport:    "ERR_UNSUPPORTED_SUIT_REPORT",
	ErrCodeCertificateExpired:       "ERR_CERTIFICATE_EXPIRED",
	ErrCodeTemporary:                "ERR_TEMPORARY_ERROR",
	ErrCodeManifestProcessingFailed: "ERR_MANIFEST_PROCESSING_FAILED",
}

// String gives the registered name.
func (c ErrCode) String() string {
	if name, ok := errCodeNames[c]; ok {
		return name
	}
	return "unknown error " + strconv.FormatUint(uint64(c), 10)
}

// Known reports whether the code has a meaning.
func (c ErrCode) Known() bool { return errCodeNames[c] != "" }

// coseSign1 is the only COSE structure that the defined suites use, named by its CBOR tag.
const coseSign1 = 18

// Operation is one step of a cipher suite: a COSE structure, named by its CBOR tag, with an algorithm.
type Operation struct {
	COSE int64
	Alg  cose.Algorithm
}

// CipherSuite is what is done to a message, in order (teep-protocol section 8.1).
type CipherSuite []Operation

// SuiteOf is the suite that signs once with alg.
func SuiteOf(alg cose.Algorithm) CipherSuite { return CipherSuite{{coseSign1, alg}} }

// Equal reports whether both suites do the same.
func (s CipherSuite) Equal(o CipherSuite) bool { return slices.Equal(s, o) }

// DefaultCipherSuites are the two suites that are mandatory for a TAM, the preferred one first. Not to be changed.
var DefaultCipherSuites = []CipherSuite{SuiteOf(cose.AlgESP256), SuiteOf(cose.AlgEd25519)}

// SUITProfile is a set of algorithms for manifests and their payloads (suit-mti, teep-protocol section 8.2).
type SUITProfile struct {
	Digest, Auth, KeyExchange, Encryption cose.Algorithm
}

// The profiles that teep-protocol names.
var (
	ProfileESP256A128CTR  = SUITProfile{cose.AlgSHA256, cose.AlgESP256, cose.AlgECDHESA128KW, cose.AlgA128CTR}
	ProfileEd25519A128CTR = SUITProfile{cose.AlgSHA256, cose.AlgEd25519, cose.AlgECDHESA128KW, cose.AlgA128CTR}
	ProfileESP256A128GCM  = SUITProfile{cose.AlgSHA256, cose.AlgESP256, cose.AlgECDHESA128KW, cose.AlgA128GCM}
	ProfileEd25519ChaCha  = SUITProfile{cose.AlgSHA256, cose.AlgEd25519, cose.AlgECDHESA128KW, cose.AlgChaCha20Poly1305}
)

// DefaultSUITProfiles are the four profiles that are mandatory for a TAM, the preferred one first. Not to be changed.
var DefaultSUITProfiles = []SUITProfile{ProfileESP256A128CTR, ProfileEd25519A128CTR, ProfileESP256A128GCM, ProfileEd25519ChaCha}
