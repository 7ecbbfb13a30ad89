// SPDX-License-Identifier: Apache-2.0

// Package cose signs, verifies, encrypts and decrypts COSE messages (RFC 9052) for TEEP, SUIT and RATS.
//
// It covers what those protocols use and general COSE libraries lack: the fully specified algorithms ESP256 and Ed25519
// (RFC 9864), enforcement of crit (RFC 9052 section 3.1), COSE_Sign with several signers, keys named by their thumbprint
// (RFC 9679), COSE_Encrypt with ECDH-ES+A128KW (P-256 or X25519) or AES key wrap as suit-firmware-encryption profiles it, and
// COSE_Encrypt0 under a key that both sides have.
//
// # Signatures
//
// A Signer holds a private key; Sign1, Sign1Detached, Sign1With and SignMulti make messages. Parse reads a message into a
// Message, which is unverified: it tells what the headers claim, and its payload only through PayloadInsecure. Verify turns
// it into a Verified, which names the key that made the signature. A kid is a hint and nothing more: it selects the keys to
// try, it never decides. alg counts only in the protected header, and must agree with the type of the key.
//
// Verification always runs over the bytes as received. An empty protected header is emitted as a byte string of length 0;
// on input one that holds an empty map occurs as well, and signers differ on which of the two they sign, so both are tried,
// the received form first.
//
// # Encryption
//
// NewEncrypter makes a fresh content key and gives two things: the COSE_Encrypt structure without ciphertext (SUIT's
// encryption-info), and a ContentCipher that turns plaintext into the detached ciphertext. OpenInfo is the reverse. AES-CTR
// streams payloads of any size but authenticates nothing: the caller checks a digest, as suit-firmware-encryption demands.
// AES-GCM authenticates, so nothing may be released before the last byte was read; its payloads are bounded and buffered.
//
// HSS-LMS (-46) is not offered: no maintained Go implementation verifies it, and this package writes no signature scheme
// of its own. A message signed with it is ErrUnsupported, which names the algorithm; so the profile
// suit-sha256-hsslms-a256kw-a256ctr is the only one of suit-mti that cannot be used, though its key wrap and its cipher can.
//
// # CBOR
//
// Unmarshal and Marshal are the strict and the deterministic mode for all of Sealift's libraries. Messages themselves are
// read by package cose/wire.
package cose

import "errors"

// The reasons why this package refuses something. Errors wrap exactly one of these.
var (
	// ErrMalformed: the bytes are not what RFC 9052 or this package's bounds allow.
	ErrMalformed = errors.New("cose: malformed")
	// ErrNoKey: no key at hand fits what the message asks for.
	ErrNoKey = errors.New("cose: no key fits")
	// ErrBadSignature: a key fits, and the signature or MAC is not its own.
	ErrBadSignature = errors.New("cose: signature is invalid")
	// ErrUnsupported: an algorithm, key type or structure this package does not handle, or that was not allowed.
	ErrUnsupported = errors.New("cose: unsupported")
	// ErrCrit: the message demands that a header parameter be understood, and it is not.
	ErrCrit = errors.New("cose: critical header parameter not understood")
	// ErrKeyMismatch: the algorithm and the type of the key named by kid disagree.
	ErrKeyMismatch = errors.New("cose: algorithm and key disagree")
	// ErrDecrypt: a key fits, and it does not open the message.
	ErrDecrypt = errors.New("cose: decryption failed")
	// ErrTooLarge: a payload exceeds what can be authenticated before it is released.
	ErrTooLarge = errors.New("cose: payload too large")
	// ErrReused: a content key and IV would encrypt a second payload.
	ErrReused = errors.New("cose: content cipher used twice")
)
