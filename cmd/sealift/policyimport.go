// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"sealift/appraisal"
	"sealift/appraisal/corim"
	"sealift/internal/owner/inspect"
	"sealift/usecase"
)

// importFlags say what is taken out of which manifest.
type importFlags struct {
	corim, hardware, class, output string
	keys                           []string
}

// imported is what `policy import` prints.
type imported struct {
	Policy  string   `json:"policy"`
	Added   int      `json:"added"`
	Signed  bool     `json:"signed"` // and the signature verified
	Ignored []string `json:"ignored"`
}

func newPolicyImportCmd(a *app) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import POLICY --corim FILE",
		Short: "add the reference values of a CoRIM to a policy",
		Long: `Add the reference values of a Concise Reference Integrity Manifest (draft-ietf-rats-corim), signed or not, to a policy: those of CCA and
PSA devices. They count for as long as the manifest is valid. What else the manifest holds is listed and left out. With --key the
manifest has to be signed with that key; without it, you answer for where the file comes from.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.importCoRIM(args[0], &f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.corim, "corim", "", "file with the manifest (- is stdin)")
	fl.StringVar(&f.hardware, "hardware", "", "architecture that it is for (default: what its profile says)")
	fl.StringVar(&f.class, "implementation-id", "", "class of devices, in hex, where the manifest is about several")
	fl.StringArrayVar(&f.keys, "key", nil, "file of a key that has to have signed it; repeat for more")
	fl.StringVar(&f.output, "output", "", "write the policy to this file (- is stdout) instead of the owner's folder")
	_ = cmd.MarkFlagRequired("corim")
	return cmd
}

func (a *app) importCoRIM(policy string, f *importFlags) error {
	p, err := a.loadPolicy(policy)
	if err != nil {
		return err
	}
	data, err := a.readInput(f.corim)
	if err != nil {
		return usageError("", "reading the manifest: %w", err)
	}
	keys := &inspect.Keys{}
	for _, path := range f.keys {
		if err := a.addKey(keys, path); err != nil {
			return err
		}
	}
	m, err := corim.Parse(data, keys.Public...)
	if err != nil {
		return &exitError{code: exitFailure, err: fmt.Errorf("%s: %w", f.corim, err)}
	}
	s := corim.Selection{Hardware: m.Hardware(), Source: fmt.Sprintf("CoRIM %s (%s)", m.ID, filepath.Base(f.corim))}
	if f.hardware != "" {
		if s.Hardware, err = usecase.ParseHardware(f.hardware); err != nil {
			return usageError("", "--hardware: %w", err)
		}
	}
	if s.Hardware == "" {
		return usageError("--hardware says it", "the manifest's profile does not tell which architecture it is for")
	}
	if f.class != "" {
		if s.ImplementationID, err = hex.DecodeString(f.class); err != nil {
			return usageError("", "--implementation-id: %w", err)
		}
	}
	p.Version = appraisal.PolicyVersion
	added, err := m.Apply(p, s)
	if err != nil {
		return &exitError{code: exitFailure, err: fmt.Errorf("%s: %w", f.corim, err)}
	}
	if err := a.storePolicy(p, f.output); err != nil || f.output == "-" {
		return err
	}
	r := imported{Policy: p.Name, Added: added, Signed: m.Signer != nil, Ignored: append([]string{}, m.Ignored...)}
	return a.print(r, func(w io.Writer) {
		fmt.Fprintf(w, "added %d entries of %s to policy %s\n", r.Added, s.Source, r.Policy)
		for _, line := range r.Ignored {
			fmt.Fprintf(w, "left out: %s\n", line)
		}
	})
}

// storePolicy writes a policy to a file, or replaces it in the owner's folder.
func (a *app) storePolicy(p *appraisal.Policy, output string) error {
	data, err := p.Marshal()
	if err != nil {
		return err
	}
	if output != "" {
		return a.writeOutput(output, data)
	}
	h, err := a.openHome()
	if err != nil {
		return err
	}
	return h.SetPolicy(p.Name, data, true)
}
