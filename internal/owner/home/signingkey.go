// SPDX-License-Identifier: Apache-2.0

package home

import (
	"crypto"
	"fmt"

	"sealift/cose"
)

// SigningKey is one of the owner's keys: it signs manifests and Attestation Results, and it is the owner's TLS client key.
type SigningKey struct {
	Name    string
	Private crypto.Signer
	Signer  cose.Signer
}

// Public returns the public half.
func (k *SigningKey) Public() *cose.Key { return k.Signer.Key() }

// Info describes the key without its secret.
func (k *SigningKey) Info() KeyInfo {
	return KeyInfo{Name: k.Name, Algorithm: algorithmName(k.Signer.Algorithm()), Public: k.Public(),
		Thumbprint: fmt.Sprintf("%x", k.Public().Thumbprint())}
}

// String names the key and nothing more, so that the secret cannot slip into a message.
func (k *SigningKey) String() string { return "key " + k.Name }

// GoString is String.
func (k *SigningKey) GoString() string { return k.String() }

func parseKey(name string, data []byte) (*SigningKey, error) {
	priv, err := cose.ParsePrivatePEM(data)
	if err != nil {
		return nil, err
	}
	signer, err := cose.NewSigner(priv)
	if err != nil {
		return nil, err
	}
	return &SigningKey{Name: name, Private: priv, Signer: signer}, nil
}

func algorithmName(alg cose.Algorithm) string {
	switch alg {
	case cose.AlgESP256:
		return "esp256"
	case cose.AlgEd25519:
		return "ed25519"
	}
	return fmt.Sprintf("cose(%d)", alg)
}
