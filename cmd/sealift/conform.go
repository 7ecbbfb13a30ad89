// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"sealift/cose"
	"sealift/internal/conform"
)

func newConformCmd(a *app) *cobra.Command {
	return newGroupCmd("conform", "hold somebody's TAM or Agent against the requirements of TEEP", newConformTAMCmd(a), newConformAgentCmd(a))
}

// errNotConformant is the end of a run that found failures.
var errNotConformant = errors.New("the peer does not keep all requirements")

func (a *app) printConformance(report *conform.Report, err error, verbose bool) error {
	if err != nil {
		code := exitFailure
		if errors.Is(err, conform.ErrPeer) {
			code = exitUnreachable
		}
		return &exitError{code: code, err: err}
	}
	if err := a.print(report, func(w io.Writer) { _ = report.Write(w, verbose) }); err != nil {
		return err
	}
	if !report.OK() {
		return &exitError{code: exitFailure, err: fmt.Errorf("%w: %d failed", errNotConformant, report.Failed)}
	}
	return nil
}

func readPublicKeys(paths []string) (keys []*cose.Key, err error) {
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, usageError("", "reading a public key: %w", err)
		}
		key, err := conform.ParsePublic(data)
		if err != nil {
			return nil, usageError("", "%s: %w", path, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// readSigner reads a private key; without a path it makes one, if there is an algorithm for it.
func readSigner(path string, alg cose.Algorithm) (cose.Signer, error) {
	if path == "" && alg != 0 {
		key, err := cose.GenerateKey(alg, rand.Reader)
		if err != nil {
			return nil, err
		}
		return cose.NewSigner(key)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, usageError("", "reading a private key: %w", err)
	}
	signer, err := conform.ParseSigner(data)
	if err != nil {
		return nil, usageError("", "%s: %w", path, err)
	}
	return signer, nil
}
