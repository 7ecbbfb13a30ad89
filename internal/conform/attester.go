// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/agentconfig"
	"sealift/teep"
)

// Attester makes the Evidence of the Agent that the kit plays.
type Attester interface {
	// Evidence is fresh for challenge and bound to the Agent's signing key. options go into the QueryResponse as they are.
	Evidence(challenge []byte, key *cose.Key) (payload []byte, format string, options []teep.Option, err error)
}

// Emulated is an Attester with EMULATED hardware under a vendor root of its own, as Sealift's emulator has. The TAM's Verifier must
// have been told to trust this root.
type Emulated struct {
	Device *emuroot.Device
	Root   [32]byte // fingerprint of the vendor root; only a device tells it to its M/OC
	Image  [32]byte // digest of the Agent's program
	Config []byte   // measured configuration; for a Sealift TAM that of the deployment
}

// Evidence implements Attester.
func (e *Emulated) Evidence(challenge []byte, key *cose.Key) ([]byte, string, []teep.Option, error) {
	priv, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", nil, err
	}
	enc, err := cose.NewKey(priv.PublicKey())
	if err != nil {
		return nil, "", nil, err
	}
	hw := e.Device.Hardware.BindingName(true)
	c := evidence.Claims{Nonce: challenge, UEID: e.Device.InstanceID[:], OEMID: bytes.Repeat([]byte{0x5a}, 16), HWModel: []byte(hw),
		HWVersion: "1", AgentEncKey: enc}
	bundle, err := evidence.Collect(c, hw, key, e.Config, func(b [64]byte) (evidence.HardwareEvidence, error) {
		return e.Device.Evidence(rand.Reader, emuroot.Request{Binding: b, Launch: e.Image[:], Config: sha256.Sum256(e.Config)})
	})
	if err != nil {
		return nil, "", nil, fmt.Errorf("making Evidence: %w", err)
	}
	return bundle, evidence.MediaType, []teep.Option{{Label: agentconfig.AgentKeyOption, Value: key.Marshal()}}, nil
}

// SelfSigned is an Attester without any hardware: an EAT in a COSE_Sign1 of a key made on the spot, with the Agent's key in cnf
// (RFC 8747). It serves TAMs whose Verifier is a mock.
type SelfSigned struct{}

// selfSignedFormat is not the TEEP profile, so that nobody takes this for an Attestation Result.
const selfSignedFormat = `application/eat+cwt; eat_profile="urn:ietf:rfc:rfc9711"`

// Evidence implements Attester.
func (SelfSigned) Evidence(challenge []byte, key *cose.Key) ([]byte, string, []teep.Option, error) {
	priv, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		return nil, "", nil, err
	}
	attester, err := cose.NewSigner(priv)
	if err != nil {
		return nil, "", nil, err
	}
	claims := map[int64]any{
		8:   map[int64]any{1: withAlg(key)},
		10:  challenge,
		256: append([]byte{1}, key.KID()[:16]...),
		265: "urn:ietf:rfc:rfc9711",
	}
	eat, err := cose.Sign1(rand.Reader, attester, cose.MustMarshal(claims))
	return eat, selfSignedFormat, nil, err
}

// withAlg gives the COSE_Key with its alg, which some peers demand.
func withAlg(key *cose.Key) any {
	var members map[int64]any
	if err := cose.Unmarshal(key.Marshal(), &members); err != nil {
		return key
	}
	members[3] = int64(key.SignatureAlgorithm())
	return members
}
