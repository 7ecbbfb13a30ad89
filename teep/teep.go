// SPDX-License-Identifier: Apache-2.0

// Package teep holds the messages of the Trusted Execution Environment Provisioning Protocol (draft-ietf-teep-protocol-26)
// and their protection. Package teephttp carries them.
//
// A message is a CBOR array of a type, a map of options and, in some, further elements; it travels as the payload of a
// COSE_Sign1, or of a COSE_Sign where the TAM does not know yet which algorithm its Agent has. Encode and Decode are the
// inner layer. Sign and SignAll protect; Verify undoes both, in the order of section 4.1.2: COSE and its headers, the
// signature with a key that the caller trusts for the sender's role, and only then the content. What was not verified can be
// had only through names that end in Insecure.
//
// Decode is strict. It refuses unknown types, other shapes, sizes outside the protocol's bounds, empty lists, options that
// another message has, and violations of section 4, such as a token beside a request for attestation. Options that nobody
// has defined are kept and ignored, as the protocol demands. Encode refuses to emit what Decode would refuse, and in places
// more: an Error without the list that its code calls for is tolerated from a peer, and not made.
//
// Encodings are deterministic. What Decode accepts and Encode writes again decodes equal, and is the same bytes where the
// input was deterministic (and set no reserved bits in data-item-requested).
package teep

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"sealift/cose"
)

// The reasons why this package refuses a message; errors of package cose come through as they are.
var (
	// ErrMalformed: the bytes have not the shape of a message.
	ErrMalformed = errors.New("teep: malformed message")
	// ErrUnknownType: the message is of a type that does not exist.
	ErrUnknownType = errors.New("teep: unknown message type")
	// ErrRule: an option or a combination of options breaks a rule of the protocol; the error is a *RuleError.
	ErrRule = errors.New("teep: protocol rule violated")
)

// RuleError says which rule a message breaks.
type RuleError struct {
	Message MessageType
	Option  string // the option's name, empty where the rule is about the whole message
	Problem string
	Source  string // document and section that state the rule
}

// Error names message, option, problem and source.
func (e *RuleError) Error() string {
	option := ""
	if e.Option != "" {
		option = " " + e.Option + ":"
	}
	return fmt.Sprintf("%v: %v:%s %s (%s)", ErrRule, e.Message, option, e.Problem, e.Source)
}

// Unwrap makes it an ErrRule.
func (*RuleError) Unwrap() error { return ErrRule }

// ContentError says that a message bears a valid signature of a known key, and its content is refused all the same. An
// Agent answers it with an Error message; for anything else that fails, there is nobody to answer to.
type ContentError struct {
	Key       *cose.Key
	Algorithm cose.Algorithm
	Type      MessageType // 0 where not even that could be read
	Token     []byte      // to be repeated in the answer; nil where there is none, or none of a valid size
	Err       error       // ErrMalformed, ErrUnknownType or a *RuleError
}

// Error gives the cause.
func (e *ContentError) Error() string { return "authentic, but unacceptable: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *ContentError) Unwrap() error { return e.Err }

// Options loosen the strict reading for peers that follow the drafts' examples.
type Options struct {
	// Legacy takes signatures with ES256 (-7) and EdDSA (-8).
	Legacy bool
	// LooseToken takes a QueryRequest that has a token although attestation is requested, as the draft's own example does.
	LooseToken bool
	// MissingKID takes signatures without kid; the keys that fit their algorithm are tried.
	MissingKID bool
	// Roots, if not nil, makes certificates in the x5chain header count beside the raw keys: a message whose chain leads to
	// one of them is verified with the key of its first certificate. What the certified sender may do is the caller's to say.
	Roots *x509.CertPool
	// Now is when certificates have to be valid; zero means the present.
	Now time.Time
}

// Sign encodes m and protects it with a COSE_Sign1. A nil rand asks for a deterministic signature, see cose.NewSigner.
func Sign(rand io.Reader, s cose.Signer, m Message) ([]byte, error) {
	payload, err := Encode(m)
	if err != nil {
		return nil, err
	}
	return cose.Sign1(rand, s, payload)
}

// SignAll encodes m and protects it with a COSE_Sign that has one signature of each signer: for the first QueryRequest, when
// the TAM does not know which suite the Agent has (teep-protocol section 8.1).
func SignAll(rand io.Reader, ss []cose.Signer, m Message) ([]byte, error) {
	payload, err := Encode(m)
	if err != nil {
		return nil, err
	}
	return cose.SignMulti(rand, ss, payload)
}

// VerifiedMessage is a message with the key that signed it.
type VerifiedMessage struct {
	Message   Message
	Key       *cose.Key
	Algorithm cose.Algorithm
	// Certificate is that of Key where the message was verified through its chain, nil where Key is a raw key.
	Certificate *x509.Certificate
}

// Verify checks a protected message with the keys that the caller trusts for the sender's role, strictly, and decodes it.
// Every signature must name its key by kid. Errors are those of cose.Message.Verify or a *ContentError.
func Verify(data []byte, keys []*cose.Key) (*VerifiedMessage, error) {
	s, err := Parse(data)
	if err != nil {
		return nil, err
	}
	return s.Verify(keys, Options{})
}

// PeekKIDs gives the kids in a protected message without verifying anything: a hint for which keys to fetch.
func PeekKIDs(data []byte) ([][]byte, error) {
	s, err := Parse(data)
	if err != nil {
		return nil, err
	}
	return s.KIDs(), nil
}

// Signed is a protected message that was not verified.
type Signed struct{ m *cose.Message }

// Parse reads the COSE layer of a message. It takes the tagged form and the untagged one.
func Parse(data []byte) (*Signed, error) {
	m, err := cose.Parse(data)
	if err != nil {
		return nil, err
	}
	if m.Detached() {
		return nil, fmt.Errorf("%w: no payload", ErrMalformed)
	}
	return &Signed{m}, nil
}

// KIDs gives the kid of each signature, nil where it has none.
func (s *Signed) KIDs() [][]byte { return s.m.KIDs() }

// Algorithms gives the algorithm of each signature: the suite that the sender chose.
func (s *Signed) Algorithms() []cose.Algorithm { return s.m.Algorithms() }

// MessageInsecure decodes the message without knowing whose it is. A TAM needs it where the key of a new Agent has to be
// taken from the Evidence inside; it then verifies with that key, and appraises the Evidence, before it believes anything.
func (s *Signed) MessageInsecure() (Message, error) { return Decode(s.m.PayloadInsecure()) }

// Verify checks the signatures with keys, or with the sender's certificate (Options.Roots), and decodes the message.
func (s *Signed) Verify(keys []*cose.Key, o Options) (*VerifiedMessage, error) {
	leaf, cert, err := s.certified(keys, o)
	if err != nil {
		return nil, fmt.Errorf("verifying a TEEP message: %w", err)
	}
	options := cose.VerifyOptions{Legacy: o.Legacy, RequireKID: !o.MissingKID}
	if leaf != nil {
		keys, options.RequireKID = []*cose.Key{leaf}, false // the chain names the key
	}
	v, err := s.m.Verify(keys, options)
	if err != nil {
		return nil, fmt.Errorf("verifying a TEEP message: %w", err)
	}
	m, err := decode(v.Payload, o)
	if err != nil {
		t, token := peek(v.Payload)
		return nil, &ContentError{v.Key, v.Algorithm, t, token, err}
	}
	return &VerifiedMessage{m, v.Key, v.Algorithm, cert}, nil
}
