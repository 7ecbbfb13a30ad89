// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"sealift/evidence"
	"sealift/evidence/tsm"
	"sealift/internal/owner/exhibit"
	"sealift/internal/platform/attester"
)

// attested is what `doctor --attest --json` prints.
type attested struct {
	File     string            `json:"file"`
	Form     string            `json:"form"`
	By       string            `json:"by"` // the interface that was asked
	Hardware evidence.Hardware `json:"hardware"`
	Binding  string            `json:"binding"`              // what the hardware signed
	Beside   []string          `json:"collateral,omitempty"` // further files
}

// attest has the hardware around this program sign Evidence, and writes that to a file.
func (a *app) attest(ctx context.Context, path, binding string) error {
	return a.attestOn(ctx, attester.This(), path, binding)
}

func (a *app) attestOn(ctx context.Context, m attester.Machine, path, binding string) error {
	b := make([]byte, 64)
	if _, err := io.ReadFull(rand.Reader, b); err != nil {
		return err
	}
	if binding != "" {
		var err error
		if b, err = hex.DecodeString(binding); err != nil || len(b) != 64 {
			return usageError("", "--binding is not 64 bytes in hex")
		}
	}
	dev, p, err := attester.Open(ctx, m)
	if errors.Is(err, attester.ErrAbsent) {
		return &exitError{code: exitFailure, err: err, hint: "run it inside a confidential virtual machine or an enclave"}
	}
	if err != nil {
		return err
	}
	e, err := dev.Evidence(ctx, [64]byte(b), [32]byte{})
	if err != nil {
		return err
	}
	x, err := exhibit.Read(e.Token)
	if err != nil {
		return fmt.Errorf("%w: %s: what came is %w", attester.ErrDevice, dev.Name(), err)
	}
	if err := a.writeOutput(path, e.Token); err != nil {
		return err
	}
	out := attested{File: path, Form: x.Form, By: p.Name, Hardware: p.Hardware, Binding: hex.EncodeToString(b)}
	for i, item := range e.Chain { // a TD's event log
		file := fmt.Sprintf("%s.collateral-%d", path, i+1)
		if err := a.writeOutput(file, item); err != nil {
			return err
		}
		out.Beside = append(out.Beside, file)
	}
	return a.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s, %s by %s\n", path, x.Form, p.Hardware, p.Name)
		for _, file := range out.Beside {
			fmt.Fprintf(w, "%s belongs to it\n", file)
		}
		fmt.Fprintf(w, "to verify it: sealift verify %s --binding %s --policy POLICY\n", path, out.Binding)
		if x.Hardware.MediaType == tsm.MediaType {
			fmt.Fprintln(w, "it holds what the host has of certificates; what is missing, sealift verify names")
		}
	})
}
