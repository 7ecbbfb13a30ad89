// SPDX-License-Identifier: Apache-2.0

// Command veraison is an unmodified client of Veraison's challenge-response API (module github.com/veraison/apiclient), by
// which the tests hold `sealift verifier serve` against a peer's reading of it. It is a module of its own, so that what the
// client depends on stays out of the product.
//
//	veraison NEWSESSION-URL MEDIA-TYPE EVIDENCE-FILE NONCE-HEX
//
// prints the Attestation Result.
package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"slices"

	"github.com/veraison/apiclient/verification"
)

// builder hands out the Evidence of a file, after checking what the service says of itself.
type builder struct {
	kind  string
	data  []byte
	nonce []byte
}

func (b builder) BuildEvidence(nonce []byte, accept []string) ([]byte, string, error) {
	if !slices.Equal(nonce, b.nonce) {
		return nil, "", fmt.Errorf("the session has the nonce %x", nonce)
	}
	if !slices.Contains(accept, b.kind) {
		return nil, "", fmt.Errorf("%s is not among %q", b.kind, accept)
	}
	return b.data, b.kind, nil
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "veraison:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("want 4 arguments, got %d", len(args))
	}
	data, err := os.ReadFile(args[2])
	if err != nil {
		return err
	}
	nonce, err := hex.DecodeString(args[3])
	if err != nil {
		return err
	}
	cfg := verification.ChallengeResponseConfig{Nonce: nonce, NewSessionURI: args[0], DeleteSession: true,
		EvidenceBuilder: builder{args[1], data, nonce}}
	result, err := cfg.Run()
	if err != nil {
		return err
	}
	fmt.Println(string(result))
	return nil
}
