// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"sealift/appraisal"
	"sealift/internal/owner"
)

// verifyResult is what `verify --json` prints, also when the Evidence is refused.
type verifyResult struct {
	Deployment string            `json:"deployment"`
	OK         bool              `json:"ok"`
	Appraisal  string            `json:"appraisal,omitempty"` // its id at the M/OC
	Emulated   bool              `json:"emulated"`
	Result     *appraisal.Result `json:"result"`
}

func newVerifyCmd(a *app) *cobra.Command {
	var f ownerFlags
	var opt owner.VerifyOptions
	var file evidenceFlags
	cmd := &cobra.Command{
		Use:   "verify DEPLOYMENT | EVIDENCE",
		Short: "challenge the TEE, or take Evidence from a file, and appraise it on this machine, by the owner's own policy",
		Long: `Send a fresh nonce to the deployment's Agent, verify the Evidence that comes back, and appraise it by the owner's policy and by what
the owner knows: its own key and package, the TAM keys that were pinned. Exit code 4 means refused; every claim that differs is
printed with what was expected, what came, and where the expectation came from.

EVIDENCE is a file (- is stdin): a bundle of an Agent, or what hardware signed: a report of SEV-SNP or CSV, a quote of SGX or TDX, a
token of CCA or PSA, Evidence of OP-TEE. Certificates, collateral and revocation lists lie in --collateral. The result then says
what cannot be concluded from a file: whether it is fresh (unless --nonce or --binding is given), and who answers.`,
		Example: "  sealift verify stats\n  sealift verify report.bin --policy snp.json --collateral certs/ --at 2025-06-20T00:00:00Z",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.isFile(args[0], &file) {
				return a.verifyFile(args[0], opt.Policy, &file)
			}
			o, err := a.openOwner(f)
			if err != nil {
				return err
			}
			if deployment, err := o.Await(cmd.Context(), args[0]); err != nil {
				return err
			} else if args[0] != deployment.ID {
				args[0] = deployment.ID
			}
			accepted, err := o.Verify(cmd.Context(), args[0], opt)
			return a.printVerdict(args[0], accepted, err)
		},
	}
	f.addPanel(cmd)
	file.add(cmd)
	file.addNonce(cmd)
	cmd.Flags().StringVar(&opt.Policy, "policy", "", "the owner's policy, by name; for Evidence in a file also a file (default: default)")
	cmd.Flags().DurationVar(&opt.Timeout, "timeout", owner.DefaultEvidenceTime, "how long the Evidence may take")
	return cmd
}

func (a *app) printVerdict(id string, accepted *owner.Appraised, err error) error {
	v := verifyResult{Deployment: id}
	var refused *owner.Refused
	switch {
	case errors.As(err, &refused):
		v.Result, v.Emulated = refused.Result, refused.Result.Emulated
	case err != nil:
		return err
	default:
		v.OK, v.Appraisal, v.Emulated, v.Result = true, accepted.AppraisalID(), accepted.Emulated(), accepted.Result
	}
	if !a.json && !v.OK {
		return a.explainRefusal(a.stdout, err)
	}
	if printErr := a.print(v, func(w io.Writer) { _ = v.Result.Explain(w) }); printErr != nil {
		return printErr
	}
	if !v.OK {
		return a.explainRefusal(io.Discard, err)
	}
	return nil
}
