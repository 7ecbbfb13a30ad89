// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"sealift/appraisal"
	"sealift/evidence"
	"sealift/internal/owner"
	"sealift/internal/owner/home"
	"sealift/usecase"
)

func newPolicyCmd(a *app) *cobra.Command {
	return newGroupCmd("policy", "what the owner accepts as Evidence", newPolicyInitCmd(a), newPolicyShowCmd(a),
		newPolicyTestCmd(a), newPolicyDiffCmd(a), newPolicySignCmd(a), newPolicyVerifyCmd(a), newPolicyImportCmd(a))
}

func newPolicyInitCmd(a *app) *cobra.Command {
	var r owner.PolicyRequest
	var roots, digests, hardware []string
	var from fromFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "write a policy: which Agent, under which hardware root, is accepted",
		Long: `Write an appraisal policy into the owner's folder. It accepts the Agent binaries and the hardware roots that are named here, and nothing
else. Take both from where you trust them: the Agent that you built or checked yourself, the root from the hardware's vendor, not
from the operator who is to be appraised.

With --from the policy is made of known-good Evidence instead: it accepts what that Evidence has, with at least its versions. The
Evidence has to verify, under a vendor's root that this program knows or one of --anchor.`,
		Example: "  sealift policy init --agent bin/sealift-agent --root vendor-root.pem\n" +
			"  sealift policy init --from report.bin --collateral vcek.der --name snp",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if from.path != "" {
				return a.policyFrom(&from, &r)
			}
			if err := fillPolicy(&r, roots, digests, hardware); err != nil {
				return err
			}
			o, err := a.openOwner(ownerFlags{})
			if err != nil {
				return err
			}
			p, err := o.InitPolicy(r)
			if err != nil {
				return err
			}
			return a.print(p, func(w io.Writer) { writePolicy(w, p) })
		},
	}
	from.evidenceFlags.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&from.path, "from", "", "file with known-good Evidence: a bundle, or what hardware signed")
	fl.StringVar(&from.output, "output", "", "with --from: write the policy to this file (- is stdout) instead of the owner's folder")
	fl.StringVar(&r.Name, "name", home.DefaultPolicy, "name of the policy")
	fl.StringArrayVar(&r.AgentFiles, "agent", nil, "Agent binary that is accepted (default: sealift-agent beside this program); repeat for more")
	fl.StringArrayVar(&digests, "agent-digest", nil, "SHA-256 of an Agent binary that is accepted, in hex; repeat for more")
	fl.StringArrayVar(&roots, "root", nil, "PEM file of a hardware root that is accepted (default: those in the owner's folder); repeat for more")
	fl.StringSliceVar(&hardware, "hardware", []string{"trustzone"}, "accepted hardware")
	fl.BoolVar(&r.AcceptEmulated, "accept-emulated", false, "accept an EMULATED root, on purpose")
	fl.BoolVar(&r.Production, "production", false, "never accept an emulated root")
	fl.BoolVar(&r.Replace, "force", false, "replace a policy of that name")
	return cmd
}

// fillPolicy reads what the flags name.
func fillPolicy(r *owner.PolicyRequest, roots, digests, hardware []string) error {
	for _, path := range roots {
		data, err := os.ReadFile(path)
		if err != nil {
			return usageError("", "reading the root: %w", err)
		}
		anchor, err := evidence.ParseAnchorPEM(data)
		if err != nil {
			return usageError("", "%s: %w", path, err)
		}
		r.Roots = append(r.Roots, anchor)
	}
	for _, text := range digests {
		var d appraisal.Hex32
		if err := d.UnmarshalText([]byte(text)); err != nil {
			return usageError("", "--agent-digest: %w", err)
		}
		r.AgentDigests = append(r.AgentDigests, d)
	}
	for _, name := range hardware {
		hw, err := usecase.ParseHardware(name)
		if err != nil {
			return usageError("", "--hardware: %w", err)
		}
		r.Hardware = append(r.Hardware, hw)
	}
	if len(r.AgentFiles)+len(r.AgentDigests) > 0 {
		return nil
	}
	if exe, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(exe), "sealift-agent")
		if _, err := os.Stat(beside); err == nil {
			r.AgentFiles = []string{beside}
		}
	}
	return nil
}

func writePolicy(w io.Writer, p *appraisal.Policy) {
	fmt.Fprintf(w, "policy %s accepts:\n", p.Name)
	for _, h := range p.Hardware {
		fmt.Fprintf(w, "  hardware  %s\n", h)
	}
	for _, r := range p.Anchors {
		fmt.Fprintf(w, "  root      %s %s%s\n", r.Fingerprint, r.Name, emulatedMark(r.Emulated))
	}
	for _, v := range p.ReferenceValues {
		for _, d := range v.Digests {
			fmt.Fprintf(w, "  %-9s %s\n", v.Name, d)
		}
	}
	if p.Config != nil {
		for _, d := range p.Config.Digests {
			fmt.Fprintf(w, "  config    %s\n", d)
		}
	}
	for i := range p.Rules {
		fmt.Fprintf(w, "  rule      %s\n", p.Rules[i].String())
	}
	for _, t := range p.TAs {
		fmt.Fprintf(w, "  TA        %s\n", t.Component)
	}
}
