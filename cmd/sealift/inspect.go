// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"sealift/internal/owner/home"
	"sealift/internal/owner/inspect"
)

func newInspectCmd(a *app) *cobra.Command {
	var style inspect.Style
	var keyFiles []string
	cmd := &cobra.Command{
		Use:   "inspect FILE...",
		Short: "show what is in a file: TEEP, SUIT, COSE, EAT, CMW, Evidence, Attestation Results, policies, packages",
		Long: `Show what is in files (- is stdin): TEEP messages, SUIT envelopes, manifests and reports, COSE messages and keys, EAT claims,
CMW collections, Attestation Results (CWT or JWT), appraisal policies, CoRIMs, packed applications, or other CBOR, as annotated
diagnostic notation; of reports, quotes and tokens that hardware signed, measurements and fields by the names that policies use.

The first lines say what was verified, with which key, and what was not. Keys are those of the owner's folder and those
given with --key: PEM, COSE_Key or JWK; symmetric and private ones verify MACs and tell whether they open what is encrypted.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			keys, err := a.knownKeys(keyFiles)
			if err != nil {
				return err
			}
			for i, path := range args {
				if i > 0 && !a.json {
					fmt.Fprintln(a.stdout)
				}
				if err := a.inspect(path, keys, style); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&keyFiles, "key", nil, "file of a key to verify with (repeated)")
	cmd.Flags().BoolVar(&style.Full, "full", false, "print long byte strings in whole")
	return cmd
}

func (a *app) inspect(path string, keys *inspect.Keys, style inspect.Style) error {
	data, err := a.readInput(path)
	if err != nil {
		return usageError("", "reading %s: %w", path, err)
	}
	file, err := inspect.Read(data, keys)
	if err != nil {
		return &exitError{code: exitFailure, err: fmt.Errorf("%s: %w", path, err)}
	}
	type result struct {
		Path string `json:"file"`
		*inspect.File
	}
	return a.print(result{path, file}, func(w io.Writer) { _ = file.Write(w, style) })
}

// knownKeys gathers the keys in files and those of the owner's folder.
func (a *app) knownKeys(files []string) (*inspect.Keys, error) {
	keys := &inspect.Keys{}
	for _, path := range files {
		if err := a.addKey(keys, path); err != nil {
			return nil, err
		}
	}
	if h, err := home.Open(a.home); err == nil {
		infos, err := h.Keys()
		if err != nil {
			return nil, err
		}
		for _, i := range infos {
			keys.Add("own key "+i.Name, i.Public)
		}
	}
	return keys, nil
}

func (a *app) addKey(keys *inspect.Keys, path string) error {
	data, err := a.readInput(path)
	if err == nil {
		err = keys.AddFile(filepath.Base(path), data)
	}
	if err != nil {
		return usageError("a key is a file in PEM, COSE_Key or JWK form", "key %s: %w", path, err)
	}
	return nil
}

// readInput reads a file, or stdin for "-", as far as inspect goes.
func (a *app) readInput(path string) ([]byte, error) {
	r := a.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	return io.ReadAll(io.LimitReader(r, inspect.MaxFile+1))
}
