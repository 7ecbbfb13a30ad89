// SPDX-License-Identifier: Apache-2.0

package csv

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Sizes of reports, in bytes.
const (
	sizeV1      = 336 + signerSize  // as the firmware gives it, without padding
	sizeV2      = 1168 + signerSize // only inside the wrapper
	signerSize  = CEKSize + 64 + 32 + 32
	signedV1    = 180
	signedV2    = 1024
	paddedSize  = 4096
	wrappedSize = 16 + 4 + paddedSize
	registers   = 5
)

var magicExt = [16]byte([]byte("ATTESTATION_EXT\x00"))

// Report is the content of a report, unmasked.
type Report struct {
	Version       int      // 1 or 2
	UserKeyDigest [32]byte // of the session key with which the guest was started
	VMID          [16]byte // chosen by the owner
	VMVersion     [16]byte // chosen by the owner
	ReportData    [64]byte // what the guest gave: the binding
	MNonce        [16]byte // key of the MAC, chosen by the guest
	Measure       [32]byte // SM3 of the guest at launch
	Policy        Policy
	ANonce        uint32 // version 1: the mask
	Build         uint32 // version 2: of the firmware
	RTMRVersion   uint16
	RTMR          [registers][32]byte // version 2; register 0 is Measure
	// SerialInsecure is the chip's serial number, to look up certificates by. No signature covers it.
	SerialInsecure string
}

type wireHead struct {
	UserKeyDigest   [32]byte
	VMID, VMVersion [16]byte
	ReportData      [64]byte
	MNonce          [16]byte
	Measure         [32]byte
	Policy          uint32
	SigUsage        usage
	SigAlg          uint32
}

type wireV1 struct {
	wireHead
	ANonce    uint32
	Signature wireSignature
	Signer    wireSigner
}

type wireV2 struct {
	wireHead
	Build       uint32
	RTMRVersion uint16
	Reserved0   [14]byte
	RTMR        [registers][32]byte
	Reserved1   [656]byte
	Signature   wireSignature
	Signer      wireSigner
}

type wireSigner struct {
	PEK      [CEKSize]byte
	Serial   [64]byte
	Reserved [32]byte // of no known meaning; the MAC covers it
	MAC      [32]byte
}

// Message is a report that was read and not verified.
type Message struct {
	report    Report
	signed    []byte
	signature wireSignature
	signer    wireSigner // as it travels: masked in version 1
	pek       *certificate
}

// ReportInsecure returns what the report says, without any proof that a secure processor signed it.
func (m *Message) ReportInsecure() *Report { return &m.report }

// Parse reads a report strictly and verifies nothing. It takes version 1 bare, padded with zeros to a page, or in the
// wrapper of Hygon's tools (magic, flags, page), and version 2 in the wrapper.
func Parse(data []byte) (*Message, error) {
	page, version := data, 1
	if len(data) == wrappedSize {
		magic, flags := [16]byte(data[:16]), binary.LittleEndian.Uint32(data[16:])
		page = data[20:]
		switch {
		case magic == magicExt && flags == 1:
			version = 2
		case flags != 0 || magic != magicExt && magic != [16]byte{}:
			return nil, fmt.Errorf("%w: wrapper with magic %q and flags %d", ErrMalformed, magic, flags)
		}
	}
	size := sizeV1
	if version == 2 {
		size = sizeV2
	}
	if len(page) != size && len(page) != paddedSize || !zero(page[size:]) {
		return nil, fmt.Errorf("%w: %d bytes, want a report of %d, alone or padded with zeros", ErrMalformed, len(data), size)
	}
	if version == 2 {
		return parseV2(page[:size])
	}
	return parseV1(page[:size])
}

func parseV1(data []byte) (*Message, error) {
	var w wireV1
	mask := [4]byte(data[signedV1+8:])
	plain := bytes.Clone(data)
	xor(plain[:signedV1+8], mask)
	if _, err := binary.Decode(plain, binary.LittleEndian, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	m := &Message{signed: data[:signedV1], signature: w.Signature, signer: w.Signer}
	m.report = w.report(1)
	m.report.ANonce = w.ANonce
	return m, m.finish(&w.wireHead, mask)
}

func parseV2(data []byte) (*Message, error) {
	var w wireV2
	if _, err := binary.Decode(data, binary.LittleEndian, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !zero(w.Reserved0[:]) || !zero(w.Reserved1[:]) {
		return nil, fmt.Errorf("%w: a reserved field is not zero", ErrMalformed)
	}
	m := &Message{signed: data[:signedV2], signature: w.Signature, signer: w.Signer}
	m.report = w.report(2)
	m.report.Build, m.report.RTMRVersion, m.report.RTMR = w.Build, w.RTMRVersion, w.RTMR
	return m, m.finish(&w.wireHead, [4]byte{})
}

func (w *wireHead) report(version int) Report {
	return Report{Version: version, UserKeyDigest: w.UserKeyDigest, VMID: w.VMID, VMVersion: w.VMVersion, ReportData: w.ReportData,
		MNonce: w.MNonce, Measure: w.Measure, Policy: Policy(w.Policy)}
}

// finish checks the fields that no signature of version 1 covers, and reads the signer's block.
func (m *Message) finish(w *wireHead, mask [4]byte) error {
	if w.SigUsage != usagePEK || w.SigAlg != algSM2Sign {
		return fmt.Errorf("%w: signed with a %v and algorithm %d, want a PEK and SM2", ErrMalformed, w.SigUsage, w.SigAlg)
	}
	pek, serial := bytes.Clone(m.signer.PEK[:]), bytes.Clone(m.signer.Serial[:])
	xor(pek, mask)
	xor(serial, mask)
	text, rest, _ := bytes.Cut(serial, []byte{0})
	for _, c := range text {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("%w: serial number is no printable text", ErrMalformed)
		}
	}
	if !zero(rest) {
		return fmt.Errorf("%w: serial number is not padded with zeros", ErrMalformed)
	}
	m.report.SerialInsecure = string(text)
	var err error
	m.pek, err = parseCSV(pek, usagePEK)
	return err
}

func xor(data []byte, mask [4]byte) {
	for i := range data {
		data[i] ^= mask[i%4]
	}
}
