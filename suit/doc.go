// SPDX-License-Identifier: Apache-2.0

// Package suit reads, checks and writes SUIT manifests: the signed instructions by which an author tells a device which
// components to fetch, verify, decrypt, install, start and remove.
//
// The mechanism has three layers, and each has a type of its own, so that the compiler keeps them apart:
//
//   - [Envelope] is the shell as it was received (draft-ietf-suit-manifest section 8.2). Parsing it decides nothing.
//   - [Verified] exists only after [Envelope.Verify]: the digest in the authentication wrapper equals the digest of the
//     manifest's bytes, and at least one authentication block over that digest was made by a key the caller trusts
//     (section 8.3). What is digested is always the bytes as received; nothing is ever encoded again for a check.
//   - [Manifest] is the content: components, dependencies and command sequences (section 8.4). Code that acts on a
//     manifest takes a *Verified; tools that only look use [Envelope.ManifestInsecure].
//
// Command sequences are lists of [Command] values. The same values are what a [Builder] takes, so an author writes
// suit.Fetch(), suit.ImageMatch() and so on, and reads the same back. Codes that this package does not know are kept
// with their raw argument: whether to run a manifest that has them is the decision of the processor (package
// sealift/suit/processor), which refuses it.
//
// Sources: draft-ietf-suit-manifest-37, draft-ietf-suit-trust-domains-12 (dependencies, uninstall, unlink),
// draft-ietf-suit-firmware-encryption-26 (parameter encryption-info), draft-ietf-suit-update-management-14 (codes
// only). The code points of all four stand in codes.go.
package suit
