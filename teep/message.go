// SPDX-License-Identifier: Apache-2.0

package teep

import (
	"sealift/cose"
	"sealift/suit"
)

// ComponentID names a Trusted Component or a manifest (SUIT_Component_Identifier).
type ComponentID = suit.ComponentID

// ParseComponentID reads the form that ComponentID.String writes.
func ParseComponentID(s string) (ComponentID, error) { return suit.ParseComponentID(s) }

// Digest is a SUIT_Digest.
type Digest = suit.Digest

// Message is one of *QueryRequest, *QueryResponse, *Update, *Success and *Error. In all of them a nil slice, a nil pointer
// and an empty string mean that the option is absent.
type Message interface {
	// Type is the message's number on the wire.
	Type() MessageType
	// TokenBytes is the token, nil where there is none.
	TokenBytes() []byte

	read(d *decoder, label uint64) bool // reads one option; false: this message has no such option
	readTail(d *decoder)                // reads what follows the options
	tail() int                          // how many elements follow the options
	write(w *encoder)                   // writes the options
	writeTail(b []byte) []byte          // writes what follows the options
	check(c *checker)                   // the rules of section 4
	extensions() *[]Option
}

// Option is an option that this package does not know. It is kept, so that it survives re-encoding, and means nothing.
type Option struct {
	Label uint64
	Value cose.RawMessage
}

// QueryRequest opens a session: the TAM asks an Agent for what it is and has (teep-protocol section 4.2).
type QueryRequest struct {
	Token                    []byte   // 8 to 64 bytes; present if and only if attestation is not requested
	Challenge                []byte   // 8 to 512 bytes, only with attestation
	Versions                 []uint32 // nil means version 0
	SupportedFreshness       []uint32 // only with attestation; nil means the nonce
	AttestationPayload       []byte   // of the TAM itself
	AttestationPayloadFormat string   // media type; absent means an Attestation Result of the TEEP profile
	SUITReports              [][]byte
	CipherSuites             []CipherSuite
	SUITProfiles             []SUITProfile
	DataItems                DataItem
	Extensions               []Option
}

// QueryResponse answers a QueryRequest (teep-protocol section 4.3).
type QueryResponse struct {
	Token                    []byte // the request's, if it had one
	SelectedVersion          *uint32
	AttestationPayload       []byte
	AttestationPayloadFormat string
	TCList                   []SystemProperty // installed Trusted Components
	ExtList                  []uint32
	RequestedTCList          []RequestedTC
	UnneededManifestList     []ComponentID // the manifests' own identifiers
	SUITReports              [][]byte
	Extensions               []Option
}

// RequestedTC is a Trusted Component that the Agent wants (teep-protocol section 4.3.2).
type RequestedTC struct {
	Component      ComponentID
	SequenceNumber *uint64 // the lowest acceptable one
	HaveBinary     *bool   // true: the manifest suffices; needs SequenceNumber
}

// Update brings manifests, and says which ones to remove (teep-protocol section 4.4).
type Update struct {
	Token                    []byte
	ManifestList             [][]byte // SUIT envelopes, in the order to process them
	UnneededManifestList     []ComponentID
	AttestationPayload       []byte
	AttestationPayloadFormat string
	ErrCode                  *ErrCode // the TAM's verdict about the QueryResponse
	ErrMsg                   string
	ErrLang                  string
	Extensions               []Option
}

// Success ends a session that went well (teep-protocol section 4.5).
type Success struct {
	Token       []byte
	Msg         string
	SUITReports [][]byte
	Extensions  []Option
}

// Error reports a failure of the Agent (teep-protocol section 4.6). Some codes need the list that lets the TAM do better:
// 3 SupportedFreshness, 4 Versions, 5 CipherSuites, 8 SUITProfiles.
type Error struct {
	Token              []byte
	Code               ErrCode
	Msg                string
	Lang               string
	CipherSuites       []CipherSuite
	Versions           []uint32
	SUITProfiles       []SUITProfile
	Challenge          []byte
	SupportedFreshness []uint32
	SUITReports        [][]byte
	Extensions         []Option
}

// Type implements Message.
func (*QueryRequest) Type() MessageType { return TypeQueryRequest }

// Type implements Message.
func (*QueryResponse) Type() MessageType { return TypeQueryResponse }

// Type implements Message.
func (*Update) Type() MessageType { return TypeUpdate }

// Type implements Message.
func (*Success) Type() MessageType { return TypeSuccess }

// Type implements Message.
func (*Error) Type() MessageType { return TypeError }

// TokenBytes implements Message.
func (m *QueryRequest) TokenBytes() []byte { return m.Token }

// TokenBytes implements Message.
func (m *QueryResponse) TokenBytes() []byte { return m.Token }

// TokenBytes implements Message.
func (m *Update) TokenBytes() []byte { return m.Token }

// TokenBytes implements Message.
func (m *Success) TokenBytes() []byte { return m.Token }

// TokenBytes implements Message.
func (m *Error) TokenBytes() []byte { return m.Token }

func (m *QueryRequest) extensions() *[]Option  { return &m.Extensions }
func (m *QueryResponse) extensions() *[]Option { return &m.Extensions }
func (m *Update) extensions() *[]Option        { return &m.Extensions }
func (m *Success) extensions() *[]Option       { return &m.Extensions }
func (m *Error) extensions() *[]Option         { return &m.Extensions }

// The elements behind the options: three in a QueryRequest, the code in an Error.
func (m *QueryRequest) tail() int { return 3 }
func (*QueryResponse) tail() int  { return 0 }
func (*Update) tail() int         { return 0 }
func (*Success) tail() int        { return 0 }
func (*Error) tail() int          { return 1 }

// newMessage gives an empty message of type t, or nil.
func newMessage(t MessageType) Message {
	switch t {
	case TypeQueryRequest:
		return &QueryRequest{}
	case TypeQueryResponse:
		return &QueryResponse{}
	case TypeUpdate:
		return &Update{}
	case TypeSuccess:
		return &Success{}
	case TypeError:
		return &Error{}
	}
	return nil
}
