// SPDX-License-Identifier: Apache-2.0

package emuroot

import (
	"crypto"
	"crypto/sha256"
	"fmt"
	"io"

	"sealift/evidence"
	"sealift/evidence/psa"
)

// Device is an emulated device: what a vendor puts into one when it is made.
type Device struct {
	IAK        crypto.Signer
	Chain      [][]byte // certificates of the IAK, leaf first, without the root
	InstanceID [33]byte // also the ueid in the Agent's claims
	SignerID   [32]byte // of every measurement
	Hardware   evidence.Hardware
}

// NewDevice makes a device called name.
func (p *PKI) NewDevice(rand io.Reader, name string) (*Device, error) {
	iak, chain, err := p.IssueIAK(rand, name)
	if err != nil {
		return nil, err
	}
	id, err := psa.InstanceID(iak.Public())
	if err != nil {
		return nil, err
	}
	return &Device{IAK: iak, Chain: chain, InstanceID: id, SignerID: p.SignerID(), Hardware: p.Hardware}, nil
}

// ImplementationID names the emulated hardware assembly; all devices of one architecture share it.
func ImplementationID(hw evidence.Hardware) [32]byte {
	return sha256.Sum256([]byte("sealift " + hw.BindingName(true)))
}

// Token returns the content of the token that the device signs over a binding for an instance with these measurements.
func (d *Device) Token(b [64]byte, agent, config [32]byte) psa.Token {
	impl := ImplementationID(d.Hardware)
	component := func(name string, value [32]byte) psa.Component {
		return psa.Component{Type: name, Value: value[:], SignerID: d.SignerID[:], Description: "sha-256"}
	}
	return psa.Token{
		Profile: psa.ProfileTFM, Nonce: b[:], InstanceID: d.InstanceID[:], ImplementationID: impl[:], ClientID: 1,
		Lifecycle:  psa.LifecycleSecured,
		Components: []psa.Component{component(evidence.MeasurementAgent, agent), component(evidence.MeasurementConfig, config)},
	}
}

// Evidence signs the token.
func (d *Device) Evidence(rand io.Reader, b [64]byte, agent, config [32]byte) (evidence.HardwareEvidence, error) {
	if d.Hardware != evidence.TrustZone {
		return evidence.HardwareEvidence{}, fmt.Errorf("emuroot: no Evidence format for emulated %s yet", d.Hardware)
	}
	token, err := psa.Mint(rand, d.IAK, d.Token(b, agent, config))
	if err != nil {
		return evidence.HardwareEvidence{}, err
	}
	return evidence.HardwareEvidence{Data: token, MediaType: evidence.MediaTypePSA, Collateral: d.Chain}, nil
}
