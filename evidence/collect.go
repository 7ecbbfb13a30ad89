// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"crypto/sha256"
	"fmt"

	"sealift/cose"
)

// HardwareEvidence is what the hardware returns for a binding.
type HardwareEvidence struct {
	Data       []byte   // what it signed
	MediaType  string   // of Data
	Collateral [][]byte // certificates in DER, leaf first; or what else the hardware's verifier documents
	Quote      []byte   // of the TEE's TPM, by the key that the claims name: tpm.Quote; empty where there is none
}

// Collect makes an Agent's Evidence: it completes the claims with the thumbprint of the Agent's key and the digest of
// the configuration, asks the hardware to sign the binding over them, and returns the bundle's bytes. hw is the name
// that the hardware gives itself ("emu:trustzone"); c.Nonce is the challenge.
func Collect(c Claims, hw string, agentKey *cose.Key, config []byte, sign func(b [64]byte) (HardwareEvidence, error)) ([]byte, error) {
	c.AgentKID = agentKey.KID()
	c.ConfigDigest = sha256.Sum256(config)
	if err := c.Validate(); err != nil {
		return nil, err
	}
	record := c.Marshal()
	e, err := sign(Binding(hw, c.Nonce, agentKey.Thumbprint(), sha256.Sum256(record)))
	if err != nil {
		return nil, fmt.Errorf("ask the hardware for Evidence: %w", err)
	}
	b := Bundle{Hardware: e.Data, HardwareType: e.MediaType, Collateral: e.Collateral, Claims: record, Config: config, Quote: e.Quote}
	return b.Marshal(), nil
}
