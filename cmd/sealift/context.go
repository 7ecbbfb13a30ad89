// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sealift/internal/owner/home"
)

func newContextCmd(a *app) *cobra.Command {
	return newGroupCmd("context", "the M/OCs that the owner works with", newContextSetCmd(a), newContextUseCmd(a), newContextShowCmd(a))
}

// contextInfo describes a context without its token.
type contextInfo struct {
	Name    string   `json:"name"`
	URL     string   `json:"url"`
	Token   bool     `json:"token"` // there is one
	TAMKeys []string `json:"tam_keys"`
	InUse   bool     `json:"in_use"`
}

func describeContext(name string, c *home.Context, inUse string) contextInfo {
	info := contextInfo{Name: name, URL: c.URL, Token: c.Token != "", TAMKeys: []string{}, InUse: name == inUse}
	for _, k := range c.TAMKeys {
		info.TAMKeys = append(info.TAMKeys, fmt.Sprintf("%x", k.KID()))
	}
	return info
}

func newContextSetCmd(a *app) *cobra.Command {
	var name, token, tokenFile, caFile string
	var policySigners []string
	cmd := &cobra.Command{
		Use:   "set URL",
		Short: "store an M/OC's address and token, pin its TAM's keys, and use it from now on",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := home.Context{URL: strings.TrimSuffix(args[0], "/")}
			var err error
			if c.Token, err = a.readToken(token, tokenFile); err != nil {
				return err
			}
			if caFile != "" {
				ca, err := os.ReadFile(caFile)
				if err != nil {
					return usageError("", "reading the certificate authority: %w", err)
				}
				c.CA = string(ca)
			}
			for _, path := range policySigners {
				keys, err := a.publicKeys(nil, []string{path})
				if err != nil {
					return err
				}
				c.PolicySigners = append(c.PolicySigners, keys...)
			}
			o, err := a.openOwner(ownerFlags{})
			if err != nil {
				return err
			}
			set, err := o.SetContext(cmd.Context(), name, c)
			if err != nil {
				return err
			}
			return a.printContexts([]contextInfo{describeContext(name, set, name)})
		},
	}
	cmd.Flags().StringVar(&name, "name", home.DefaultContext, "name of the context")
	cmd.Flags().StringVar(&token, "token", "", "bearer token; --token-file or $SEALIFT_TOKEN keep it out of the process list")
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file with the bearer token; - is stdin")
	cmd.Flags().StringArrayVar(&policySigners, "policy-signer", nil, "file of a key that has to have signed the policies used with this M/OC; repeat for more")
	cmd.Flags().StringVar(&caFile, "ca", "", "PEM file of the M/OC's certificate authority")
	return cmd
}

func (a *app) readToken(token, file string) (string, error) {
	var data []byte
	var err error
	switch {
	case token != "":
		return token, nil
	case file == "-":
		data, err = io.ReadAll(io.LimitReader(a.stdin, 64<<10))
	case file != "":
		data, err = os.ReadFile(file)
	default:
		return os.Getenv("SEALIFT_TOKEN"), nil
	}
	if err != nil {
		return "", usageError("", "reading the token: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

func newContextUseCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "use NAME",
		Short: "use a stored context from now on",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			h, err := a.openHome()
			if err != nil {
				return err
			}
			if err := h.UseContext(args[0]); errors.Is(err, home.ErrNotFound) {
				return usageError("sealift context show lists them", "there is no context %q", args[0])
			} else if err != nil {
				return err
			}
			c, name, err := h.Context("")
			if err != nil {
				return err
			}
			return a.printContexts([]contextInfo{describeContext(name, c, name)})
		},
	}
}

func newContextShowCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show [NAME]",
		Short: "list the contexts, without their tokens",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			h, err := a.openHome()
			if err != nil {
				return err
			}
			names, err := h.Contexts()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				names = args
			}
			_, inUse, err := h.Context("")
			if err != nil && !errors.Is(err, home.ErrNotFound) {
				return err
			}
			infos := []contextInfo{}
			for _, name := range names {
				c, _, err := h.Context(name)
				if err != nil {
					return err
				}
				infos = append(infos, describeContext(name, c, inUse))
			}
			return a.printContexts(infos)
		},
	}
}

func (a *app) printContexts(infos []contextInfo) error {
	return a.print(infos, func(w io.Writer) {
		tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		fmt.Fprintln(tw, "NAME\tM/OC\tTOKEN\tTAM KEYS\tIN USE")
		for _, i := range infos {
			short := make([]string, len(i.TAMKeys))
			for k, thumbprint := range i.TAMKeys {
				short[k] = fmt.Sprintf("%.16s", thumbprint)
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", i.Name, i.URL, yes(i.Token), strings.Join(short, " "), yes(i.InUse))
		}
		tw.Flush()
	})
}
