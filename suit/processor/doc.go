// SPDX-License-Identifier: Apache-2.0

// Package processor runs SUIT manifests: it is the abstract machine of draft-ietf-suit-manifest section 6 with the
// dependencies of draft-ietf-suit-trust-domains and the payload encryption of draft-ietf-suit-firmware-encryption.
//
// A run takes one envelope through one procedure (update, invocation or uninstall):
//
//  1. The envelope is verified against the trust anchors; nothing of an inauthentic manifest is interpreted.
//  2. The manifest is admitted: its sequence number is not lower than the installed one, its signer may name each of its
//     components, and a static pre-scan of all its sections finds no command, parameter or index that this processor
//     does not support. A manifest is run in whole or not at all.
//  3. The sections of the procedure run in order, the shared sequence before each. A dependency is admitted the same way
//     when its dependent checks its integrity, and its sections run when the dependent says process-dependency.
//
// Everything a manifest can name goes through the [Platform], which stages changes; the caller commits them when the run
// succeeded. Payloads are streams from Platform.Fetch or Open through decryption and hashing into Platform.Create, and
// never whole in memory (AES-GCM, which must not release unauthenticated plaintext, is bounded by package cose).
//
// Each command is one entry of the table in handlers.go. Commands of draft-ietf-suit-update-management, which is not
// approved yet, are supported behind [Options].UpdateManagement, as far as the Platform has what they need; else the
// pre-scan refuses manifests that use them with reason command-unsupported or parameter-unsupported.
//
// Every run, also one that fails, ends with a SUIT Report. Items stand in it in order of execution: records where the
// manifest's reporting policy asks for them, and system-property-claims for each component as it is written.
package processor
