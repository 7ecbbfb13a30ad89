// SPDX-License-Identifier: Apache-2.0

// Package optee reads, verifies and makes Evidence of OP-TEE's attestation pseudo trusted application (PTA): the one
// with UUID 39800861-182a-4720-9b67-2bcd622bc0b5, a service of the OP-TEE core. It stands beside package psa, which is
// for TrustZone devices that make PSA tokens.
//
// The PTA has four commands. Command 0 gives the device's public key: RSA, exponent 65537, made at first use and kept in
// secure storage. No certificate vouches for it, so a verifier has to know each device's key: it is enrolled. The other
// three take a nonce and answer with a SHA-256 digest and a signature, RSASSA-PSS with SHA-256 and a salt of 32 bytes, over
// SHA-256(nonce || digest):
//
//	1  TA-HEADER   the digest in the signed header of an installed TA's file, by UUID
//	2  TA-MEMORY   code and constants, in memory, of the TA that calls
//	3  TEE-MEMORY  code and constants, in memory, of the OP-TEE core
//
// There is no standard for how this travels; the media type [MediaType] is this project's own. It carries a CBOR array:
// a label, the fingerprint of the key, the binding, the digest of the configuration, and the output of one to three
// commands. The nonces do not travel. The verifier computes each one ([Nonce]):
//
//	SHA-256(deterministic CBOR ["sealift-optee-pta-v1", command, binding, SHA-256 of the configuration])
//
// # What that proves, and what it does not
//
// Anybody on the device, the normal world included, may call commands 1 and 3 with a nonce of his choice. Only in
// command 2 did the measured code itself choose the nonce. So Evidence without TA-MEMORY is refused ([ErrUnbound]): a
// binding that anybody could have chosen binds nothing.
//
// The PTA measures no configuration. The TA hands it in through the nonce, and so the configuration is what the measured
// TA says that it runs with. That is as strong as the TA's code, and weaker than a field that hardware fixed at launch
// (HOST_DATA, CONFIGID): whoever takes over the TA while it runs can name any configuration, where a hardware's field
// would still show the old one. The same holds for the binding, on every hardware.
//
// The PTA signs neither the command nor the TA's UUID. The command stands in the nonce, which stops a relabelled output,
// and does not stop who calls command 1 with the nonce of command 2: he gets the digest of a header under the name of
// TA-MEMORY. It equals no reference value for TA-MEMORY unless someone with a TA signing key made a header for that very
// purpose, as OP-TEE checks such a digest against the file only when it loads it. Reference values for one command must
// not be used for another.
package optee

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"sealift/cose"
)

// MediaType is the media type of the Evidence, private to this project.
const MediaType = "application/vnd.sealift.optee-pta"

// label stands first in the Evidence and in the nonces.
const label = "sealift-optee-pta-v1"

// Errors of this package; an error of [Verify] may join several.
var (
	ErrMalformed   = errors.New("optee: malformed Evidence")
	ErrKey         = errors.New("optee: unfit device key")
	ErrNotEnrolled = errors.New("optee: the device's key is not enrolled")
	ErrSignature   = errors.New("optee: signature of the attestation PTA does not verify")
	ErrUnbound     = errors.New("optee: no output of TA-MEMORY, the only one whose nonce the measured code chose")
)

// Command is a command of the PTA that gives a signed digest. The values are the PTA's.
type Command uint32

// Commands. Command 0 gives the public key and signs nothing.
const (
	TAHeader  Command = 1
	TAMemory  Command = 2
	TEEMemory Command = 3
)

// String names the command, as measurements do.
func (c Command) String() string {
	switch c {
	case TAHeader:
		return "TA-HEADER"
	case TAMemory:
		return "TA-MEMORY"
	case TEEMemory:
		return "TEE-MEMORY"
	}
	return fmt.Sprintf("command %d", uint32(c))
}

// Nonce returns the nonce to give to the PTA: it holds the binding and the SHA-256 of the configuration. Its fixed length
// leaves no doubt where it ends in what the PTA hashes.
func Nonce(c Command, binding [64]byte, config [sha256.Size]byte) [sha256.Size]byte {
	return sha256.Sum256(cose.MustMarshal([]any{label, uint32(c), binding[:], config[:]}))
}
