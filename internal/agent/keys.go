// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"sealift/cose"
)

// identity holds the Agent's own keys. They are made in the TEE at the first start and live as long as the sealed state; Evidence
// binds both to the measurement.
type identity struct {
	signer cose.Signer      // signs TEEP messages: the Agent's cipher suite
	enc    *ecdh.PrivateKey // opens bundles
	encPub *cose.Key
}

// newState makes the keys of a new instance.
func newState(rand io.Reader, alg cose.Algorithm) (*state, error) {
	signing, err := newSigningKey(rand, alg)
	if err != nil {
		return nil, err
	}
	enc, err := newECDH(rand)
	if err != nil {
		return nil, err
	}
	return &state{Version: stateVersion, SigningKey: signing, EncKey: enc}, nil
}

// newSigningKey makes the Agent's own key for one of the two cipher suites (teep-protocol section 8.1).
func newSigningKey(rand io.Reader, alg cose.Algorithm) ([]byte, error) {
	if alg == 0 {
		alg = cose.AlgESP256
	}
	key, err := cose.GenerateKey(alg, rand)
	if err != nil {
		return nil, fmt.Errorf("agent: make a key: %w", err)
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

func newECDSA(rand io.Reader) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, fmt.Errorf("agent: make a key: %w", err)
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

func newECDH(rand io.Reader) ([]byte, error) {
	key, err := ecdh.P256().GenerateKey(rand)
	if err != nil {
		return nil, fmt.Errorf("agent: make a key: %w", err)
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

// newTAKeys makes the keys of one TA.
func newTAKeys(rand io.Reader) (*taState, error) {
	enc, err := newECDH(rand)
	if err != nil {
		return nil, err
	}
	tls, err := newECDSA(rand)
	return &taState{EncKey: enc, TLSKey: tls}, err
}

func (s *state) identity() (*identity, error) {
	key, err := parseKey[crypto.Signer](s.SigningKey)
	if err != nil {
		return nil, err
	}
	signer, err := cose.NewSigner(key)
	if err != nil {
		return nil, fmt.Errorf("agent: signing key: %w", err)
	}
	enc, encPub, err := parseECDH(s.EncKey)
	return &identity{signer: signer, enc: enc, encPub: encPub}, err
}

// keys parses a TA's keys.
func (t *taState) keys() (enc *ecdh.PrivateKey, tls *ecdsa.PrivateKey, err error) {
	enc, _, err1 := parseECDH(t.EncKey)
	tls, err2 := parseKey[*ecdsa.PrivateKey](t.TLSKey)
	return enc, tls, errors.Join(err1, err2)
}

// parseECDH reads a P-256 key for ECDH. PKCS #8 does not tell ECDH from ECDSA on P-256, and the parser answers with the latter.
func parseECDH(der []byte) (*ecdh.PrivateKey, *cose.Key, error) {
	parsed, err := parseKey[*ecdsa.PrivateKey](der)
	if err != nil {
		return nil, nil, err
	}
	key, err := parsed.ECDH()
	if err != nil {
		return nil, nil, fmt.Errorf("agent: sealed key: %w", err)
	}
	pub, err := cose.NewKey(key.PublicKey())
	return key, pub, err
}

func parseKey[K crypto.Signer](der []byte) (K, error) {
	var zero K
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return zero, fmt.Errorf("agent: sealed key: %w", err)
	}
	k, ok := key.(K)
	if !ok {
		return zero, fmt.Errorf("agent: sealed key is a %T", key)
	}
	return k, nil
}

// recipients are the keys that one manifest's payloads may be opened with.
type recipients []*ecdh.PrivateKey

// ECDH implements cose.Recipients: those whose thumbprint is kid, or all when there is no kid.
func (r recipients) ECDH(kid []byte) []*ecdh.PrivateKey {
	if len(kid) == 0 {
		return r
	}
	for _, key := range r {
		if t, err := cose.ThumbprintOf(key.PublicKey()); err == nil && string(t[:]) == string(kid) {
			return []*ecdh.PrivateKey{key}
		}
	}
	return nil
}

// KEK implements cose.Recipients. There are no shared keys.
func (r recipients) KEK([]byte) [][]byte { return nil }
