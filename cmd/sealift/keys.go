// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sealift/cose"
	"sealift/internal/owner/home"
)

func newKeysCmd(a *app) *cobra.Command {
	return newGroupCmd("keys", "the owner's signing keys", newKeysGenerateCmd(a), newKeysImportCmd(a), newKeysListCmd(a))
}

func newKeysGenerateCmd(a *app) *cobra.Command {
	var alg string
	cmd := &cobra.Command{
		Use:   "generate [NAME]",
		Short: "make a signing key (default name: " + home.DefaultKey + ")",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			algs := map[string]cose.Algorithm{"esp256": cose.AlgESP256, "ed25519": cose.AlgEd25519}
			id, ok := algs[alg]
			if !ok {
				return usageError("known: esp256, ed25519", "unknown algorithm %q", alg)
			}
			h, err := a.openHome()
			if err != nil {
				return err
			}
			key, err := h.CreateKey(keyName(args), id, rand.Reader)
			return a.printKey(key, keyError(err))
		},
	}
	cmd.Flags().StringVar(&alg, "alg", "esp256", "signature algorithm: esp256 (P-256) or ed25519")
	return cmd
}

func newKeysImportCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "import NAME FILE",
		Short: "store a signing key given as PKCS #8 in PEM form",
		Args:  cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			data, err := os.ReadFile(args[1])
			if err != nil {
				return usageError("", "reading the key: %w", err)
			}
			h, err := a.openHome()
			if err != nil {
				return err
			}
			key, err := h.ImportKey(args[0], data)
			return a.printKey(key, keyError(err))
		},
	}
}

func newKeysListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list the signing keys with their public halves",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			h, err := a.openHome()
			if err != nil {
				return err
			}
			infos, err := h.Keys()
			if err != nil {
				return err
			}
			return a.print(infos, func(w io.Writer) {
				tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
				fmt.Fprintln(tw, "NAME\tALGORITHM\tTHUMBPRINT")
				for _, i := range infos {
					fmt.Fprintf(tw, "%s\t%s\t%s\n", i.Name, i.Algorithm, i.Thumbprint)
				}
				tw.Flush()
			})
		},
	}
}

func keyName(args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	return home.DefaultKey
}

func keyError(err error) error {
	switch {
	case errors.Is(err, home.ErrExists):
		return &exitError{code: exitFailure, err: err, hint: "a key is never replaced: choose another name"}
	case errors.Is(err, home.ErrName):
		return usageError("", "%w", err)
	}
	return err
}

func (a *app) printKey(key *home.SigningKey, err error) error {
	if err != nil {
		return err
	}
	return a.print(key.Info(), func(w io.Writer) {
		i := key.Info()
		fmt.Fprintf(w, "%s  %s  %s\n", i.Name, i.Algorithm, i.Thumbprint)
	})
}
