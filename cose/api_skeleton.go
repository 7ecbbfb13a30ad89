// SPDX-License-Identifier: Apache-2.0

// Package cose adds to COSE what Sealift needs. (Declarations first; bodies follow.)
package cose

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"errors"
	"io"

	"github.com/fxamacker/cbor/v2"
)

type RawMessage = cbor.RawMessage

func Unmarshal(data []byte, v any) error { panic("skeleton") }
func Marshal(v any) ([]byte, error)      { panic("skeleton") }
func MustMarshal(v any) []byte           { panic("skeleton") }

type Algorithm int64

const (
	AlgESP256           Algorithm = -9
	AlgEd25519          Algorithm = -19
	AlgES256            Algorithm = -7
	AlgEdDSA            Algorithm = -8
	AlgHMAC256          Algorithm = 5
	AlgSHA256           Algorithm = -16
	AlgA128KW           Algorithm = -3
	AlgECDHESA128KW     Algorithm = -29
	AlgA128GCM          Algorithm = 1
	AlgA128CTR          Algorithm = -65534
	AlgChaCha20Poly1305 Algorithm = 24
)

var (
	ErrMalformed    = errors.New("cose: malformed")
	ErrNoKey        = errors.New("cose: no key fits")
	ErrBadSignature = errors.New("cose: bad signature")
	ErrUnsupported  = errors.New("cose: unsupported")
	ErrCrit         = errors.New("cose: critical header not understood")
)

type Key struct{ _ int }

func NewKey(pub crypto.PublicKey) (*Key, error)           { panic("skeleton") }
func ParseKey(data []byte) (*Key, error)                  { panic("skeleton") }
func (k *Key) Marshal() []byte                            { panic("skeleton") }
func (k *Key) Public() crypto.PublicKey                   { panic("skeleton") }
func (k *Key) ECDSA() (*ecdsa.PublicKey, bool)            { panic("skeleton") }
func (k *Key) ECDH() (*ecdh.PublicKey, error)             { panic("skeleton") }
func (k *Key) Thumbprint() [32]byte                       { panic("skeleton") }
func (k *Key) KID() []byte                                { panic("skeleton") }
func (k *Key) Equal(o *Key) bool                          { panic("skeleton") }
func (k *Key) MarshalCBOR() ([]byte, error)               { panic("skeleton") }
func (k *Key) UnmarshalCBOR(data []byte) error            { panic("skeleton") }
func (k *Key) MarshalText() ([]byte, error)               { panic("skeleton") }
func (k *Key) UnmarshalText(text []byte) error            { panic("skeleton") }
func ThumbprintOf(pub crypto.PublicKey) ([32]byte, error) { panic("skeleton") }

type Signer interface {
	Algorithm() Algorithm
	Key() *Key
	Sign(rand io.Reader, tbs []byte) ([]byte, error)
}

func NewSigner(priv crypto.Signer) (Signer, error)                           { panic("skeleton") }
func GenerateKey(alg Algorithm, rand io.Reader) (crypto.Signer, error)       { panic("skeleton") }
func ParsePrivatePEM(data []byte) (crypto.Signer, error)                     { panic("skeleton") }
func MarshalPrivatePEM(priv crypto.Signer) ([]byte, error)                   { panic("skeleton") }
func Sign1(rand io.Reader, s Signer, payload []byte) ([]byte, error)         { panic("skeleton") }
func Sign1Detached(rand io.Reader, s Signer, payload []byte) ([]byte, error) { panic("skeleton") }
func SignMulti(rand io.Reader, ss []Signer, payload []byte) ([]byte, error)  { panic("skeleton") }

type Headers struct {
	ContentType any
	X5Chain     [][]byte
}

func Sign1With(rand io.Reader, s Signer, h Headers, payload []byte) ([]byte, error) {
	panic("skeleton")
}

type Message struct{ _ int }

func Parse(data []byte) (*Message, error)  { panic("skeleton") }
func (m *Message) KIDs() [][]byte          { panic("skeleton") }
func (m *Message) Algorithms() []Algorithm { panic("skeleton") }
func (m *Message) PayloadInsecure() []byte { panic("skeleton") }
func (m *Message) X5Chain() [][]byte       { panic("skeleton") }

// Tagged reports whether the COSE tag was on the wire (manifests demand it).
func (m *Message) Tagged() bool { panic("skeleton") }

type Verified struct {
	Payload   []byte
	Key       *Key
	Algorithm Algorithm
}
type VerifyOptions struct {
	Legacy     bool
	Detached   []byte
	RequireKID bool
	// AnyKID ignores kids and goes by alg alone.
	AnyKID bool
}

func (m *Message) Verify(keys []*Key, o VerifyOptions) (*Verified, error) { panic("skeleton") }

// Mac0 authenticates payload with HMAC 256/256 (tag 17); detached leaves the payload off the wire.
func Mac0(key, kid, payload []byte, detached bool) ([]byte, error) { panic("skeleton") }

// VerifyMac0 checks a COSE_Mac0 (tag 17) with any of the symmetric keys and returns the payload.
func VerifyMac0(data []byte, keys [][]byte, detached []byte) ([]byte, error) { panic("skeleton") }

type Recipient struct {
	Key *Key
	KEK []byte
	KID []byte
}

const ContextSUITPayload = "SUIT Payload Encryption"

type ContentCipher interface {
	Seal(dst io.Writer, src io.Reader) (n int64, err error)
	Open(dst io.Writer, src io.Reader) (n int64, err error)
}
type Recipients interface {
	ECDH(kid []byte) []*ecdh.PrivateKey
	KEK(kid []byte) [][]byte
}

const MaxGCMPayload = 16 << 20

func NewEncrypter(rand io.Reader, alg Algorithm, r Recipient, context string) (info []byte, enc ContentCipher, err error) {
	panic("skeleton")
}
func OpenInfo(info []byte, keys Recipients, context string) (ContentCipher, error) {
	panic("skeleton")
}
