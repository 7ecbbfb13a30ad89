// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/fault"
	"sealift/internal/owner"
	"sealift/internal/owner/home"
	"sealift/internal/owner/inspect"
)

// fromFlags say from which Evidence a policy is made.
type fromFlags struct {
	evidenceFlags
	path, output string
}

// policyFrom makes a policy from known-good Evidence.
func (a *app) policyFrom(f *fromFlags, r *owner.PolicyRequest) error {
	v, err := a.verifier(&f.evidenceFlags)
	if err != nil {
		return err
	}
	x, err := a.readExhibit(f.path)
	if err != nil {
		return err
	}
	recorded := x.Recorded(v.beside, nil)
	verified, err := recorded.Verify(v.input, nil)
	if err != nil {
		return explainMismatches(a.stderr, f.path, err)
	}
	if verified.Emulated && (r.Production || !r.AcceptEmulated) {
		e := fault.New(fault.AppraisalRefused, "the root is EMULATED and protects nothing from the machine's operator: %s", verified.Root)
		e.Exit = fault.ExitPolicy
		return e.WithHint("--accept-emulated names it on purpose; a production policy never does")
	}
	source := fmt.Sprintf("%s, verified as of %s", filepath.Base(f.path), v.input.Now.UTC().Format(time.DateOnly))
	p, err := appraisal.PolicyFrom(verified, r.Name, source)
	if err != nil {
		return err
	}
	p.Production = r.Production
	data, err := p.Marshal()
	if err != nil {
		return err
	}
	if f.output != "" {
		if err := a.writeOutput(f.output, data); err != nil {
			return err
		}
	} else if err := a.keepPolicy(p, data, verified.Root, r.Replace); err != nil {
		return err
	}
	result := appraisal.AppraiseHardware(verified, p, v.input.Now)
	for _, finding := range result.Failed() {
		a.say("the Evidence itself does not satisfy this policy: %s [%s]: expected %s, got %s", finding.Claim, finding.Code, finding.Expected, finding.Got)
	}
	if f.output == "-" {
		return nil
	}
	return a.print(p, func(w io.Writer) { writePolicy(w, p) })
}

// keepPolicy stores a policy and the root that it names.
func (a *app) keepPolicy(p *appraisal.Policy, data []byte, root evidence.Anchor, replace bool) error {
	h, err := a.openHome()
	if err != nil {
		return err
	}
	if err := h.AddAnchor(root); err != nil {
		return err
	}
	err = h.SetPolicy(p.Name, data, replace)
	if errors.Is(err, home.ErrExists) {
		return fault.Wrap(fault.Conflict, err).WithHint("--force replaces it, --name makes another")
	}
	return err
}

// explainMismatches writes why Evidence did not verify.
func explainMismatches(w io.Writer, path string, err error) error {
	for _, m := range evidence.Mismatches(err) {
		fmt.Fprintf(w, "differs: %s [%s]\n  expected: %s\n  got:      %s\n  source of the expectation: %s\n", m.Claim, m.Code, m.Expected, m.Got, m.Source)
		if m.Hint != "" {
			fmt.Fprintf(w, "  what to do: %s\n", m.Hint)
		}
	}
	return &exitError{code: exitAttestation, err: fmt.Errorf("%s does not verify, so no policy is made from it", path),
		hint: "--anchor names a root that this program does not know, --collateral what belongs to the Evidence, --at another time"}
}

// writeOutput writes a result to a file, or to stdout for "-".
func (a *app) writeOutput(path string, data []byte) error {
	if path == "-" {
		_, err := a.stdout.Write(data)
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func newPolicyShowCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show [POLICY]",
		Short: "print a policy as JSON: one of the owner's folder, or a file in any form",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			name := home.DefaultPolicy
			if len(args) == 1 {
				name = args[0]
			}
			p, err := a.loadPolicy(name)
			if err != nil {
				return err
			}
			data, err := p.Marshal()
			if err != nil {
				return err
			}
			return a.print(p, func(w io.Writer) { _, _ = w.Write(data) })
		},
	}
}

func newPolicyTestCmd(a *app) *cobra.Command {
	var f evidenceFlags
	var long bool
	cmd := &cobra.Command{
		Use:   "test POLICY EVIDENCE...",
		Short: "say what a policy would make of Evidence in files; exit code 4 if it refuses any",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := a.loadPolicy(args[0])
			if err != nil {
				return err
			}
			results, err := a.appraiseFiles(&f, p, args[1:])
			if err != nil {
				return err
			}
			refused := 0
			for _, r := range results {
				if !r.OK {
					refused++
				}
			}
			if err := a.print(results, func(w io.Writer) { writeTests(w, results, long) }); err != nil || refused == 0 {
				return err
			}
			return &exitError{code: exitAttestation, err: fmt.Errorf("policy %s refuses %d of %d", p.Name, refused, len(results))}
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&long, "long", false, "print each result in whole")
	return cmd
}

func (a *app) appraiseFiles(f *evidenceFlags, p *appraisal.Policy, paths []string) ([]fileResult, error) {
	v, err := a.verifier(f)
	if err != nil {
		return nil, err
	}
	out := []fileResult{}
	for _, path := range paths {
		x, err := a.readExhibit(path)
		if err != nil {
			return nil, err
		}
		v.wanted.Asked = nil
		r, _ := appraisal.AppraiseRecorded(x.Recorded(v.beside, nil), v.input, p)
		out = append(out, fileResult{path, x.Form, r.OK(), r.Emulated, r, v.wanted.Asked})
	}
	return out, nil
}

func writeTests(w io.Writer, results []fileResult, long bool) {
	for _, r := range results {
		verdict := "passes"
		if !r.OK {
			verdict = "fails"
		}
		fmt.Fprintf(w, "%s  %s (%s)%s: %s\n", verdict, r.File, r.Form, emulatedMark(r.Emulated), r.Result.Status)
		if long {
			_ = r.Result.Explain(w)
			continue
		}
		writeCauses(w, r.Result.Failed())
		for _, m := range r.Missing {
			fmt.Fprintf(w, "  asked for and not there: %s %s\n", m.Kind, printable(m.Key))
		}
	}
}

func writeCauses(w io.Writer, findings []appraisal.Finding) {
	for _, f := range findings {
		fmt.Fprintf(w, "  %s [%s]: expected %s (%s), got %s\n", f.Claim, f.Code, f.Expected, f.Source, f.Got)
	}
}

// change is what `policy diff --json` prints for one file.
type change struct {
	File    string              `json:"file"`
	Verdict string              `json:"verdict"`
	Causes  []appraisal.Finding `json:"causes"`
	Before  *appraisal.Result   `json:"before"`
	After   *appraisal.Result   `json:"after"`
}

func newPolicyDiffCmd(a *app) *cobra.Command {
	var f evidenceFlags
	cmd := &cobra.Command{
		Use:   "diff OLD NEW EVIDENCE...",
		Short: "say whose Evidence would newly fail or pass under another policy, and why",
		Args:  cobra.MinimumNArgs(3),
		RunE: func(_ *cobra.Command, args []string) error {
			var results [2][]fileResult
			for i := range results {
				p, err := a.loadPolicy(args[i])
				if err != nil {
					return err
				}
				if results[i], err = a.appraiseFiles(&f, p, args[2:]); err != nil {
					return err
				}
			}
			changes := []change{}
			for i, before := range results[0] {
				c := appraisal.Compare(before.Result, results[1][i].Result)
				changes = append(changes, change{before.File, c.Verdict(), append([]appraisal.Finding{}, c.Causes...), c.Before, c.After})
			}
			return a.print(changes, func(w io.Writer) {
				for _, c := range changes {
					fmt.Fprintf(w, "%s: %s%s\n", c.Verdict, c.File, emulatedMark(c.After.Emulated))
					writeCauses(w, c.Causes)
				}
			})
		},
	}
	f.add(cmd)
	return cmd
}

func newPolicySignCmd(a *app) *cobra.Command {
	var key, output string
	cmd := &cobra.Command{
		Use:   "sign POLICY",
		Short: "sign a policy with one of the owner's keys: its CBOR form in a COSE_Sign1",
		Long: `Sign a policy. Without --output a policy of the owner's folder is replaced there by the signed one. A context that pins this key
(context set --policy-signer) then refuses policies that it has not signed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			h, err := a.openHome()
			if err != nil {
				return err
			}
			data, err := a.policyBytes(h, args[0])
			if err != nil {
				return err
			}
			f, err := appraisal.ReadPolicy(data) // whoever signs takes the responsibility, whoever signed before
			if err != nil {
				return err
			}
			k, err := h.Key(key)
			if err != nil {
				return usageError("sealift keys list shows them", "the key %s: %w", key, err)
			}
			signed, err := appraisal.SignPolicy(rand.Reader, k.Signer, f.Policy)
			if err != nil {
				return err
			}
			if output != "" {
				err = a.writeOutput(output, signed)
			} else {
				err = h.SetPolicy(f.Policy.Name, signed, true)
			}
			if err != nil || output == "-" {
				return err
			}
			return a.printSigned(f.Policy, k.Public())
		},
	}
	cmd.Flags().StringVar(&key, "key", home.DefaultKey, "name of the owner's key")
	cmd.Flags().StringVar(&output, "output", "", "write the signed policy to this file (- is stdout)")
	return cmd
}

// policyBytes reads a policy by its name in the owner's folder, or a file.
func (a *app) policyBytes(h *home.Home, ref string) ([]byte, error) {
	data, err := h.Policy(ref)
	if err == nil {
		return data, nil
	}
	if data, err = a.readInput(ref); err != nil {
		return nil, usageError("name a file, or a policy of the owner's folder", "the policy %s: %w", ref, err)
	}
	return data, nil
}

// signedPolicy is what `policy sign` and `policy verify` print.
type signedPolicy struct {
	Policy string          `json:"policy"`
	Hash   appraisal.Hex32 `json:"hash"`
	Signer string          `json:"signer"` // thumbprint
}

func (a *app) printSigned(p *appraisal.Policy, signer *cose.Key) error {
	s := signedPolicy{p.Name, p.Hash(), fmt.Sprintf("%x", signer.Thumbprint())}
	return a.print(s, func(w io.Writer) { fmt.Fprintf(w, "policy %s, hash %s, signed by %s\n", s.Policy, s.Hash, s.Signer) })
}

func newPolicyVerifyCmd(a *app) *cobra.Command {
	var keyFiles []string
	cmd := &cobra.Command{
		Use:   "verify POLICY",
		Short: "check who signed a policy: one of the owner's keys, or of those given",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			h, err := a.openHome()
			if err != nil {
				return err
			}
			data, err := a.policyBytes(h, args[0])
			if err != nil {
				return err
			}
			signers, err := a.publicKeys(h, keyFiles)
			if err != nil {
				return err
			}
			f, err := appraisal.ReadPolicy(data, signers...)
			if errors.Is(err, appraisal.ErrPolicySigner) {
				return &exitError{code: exitPolicy, err: err, hint: "--key names the file of another signer's key"}
			}
			if err != nil {
				return err
			}
			return a.printSigned(f.Policy, f.Signer)
		},
	}
	cmd.Flags().StringArrayVar(&keyFiles, "key", nil, "file of a key that may have signed it (default: the owner's keys); repeat for more")
	return cmd
}

// publicKeys returns the keys in files, or the owner's where none is given.
func (a *app) publicKeys(h *home.Home, files []string) ([]*cose.Key, error) {
	if len(files) == 0 {
		infos, err := h.Keys()
		if err != nil {
			return nil, err
		}
		var out []*cose.Key
		for _, i := range infos {
			out = append(out, i.Public)
		}
		if len(out) == 0 {
			return nil, usageError("--key names the file of one", "there is no key to verify with")
		}
		return out, nil
	}
	keys := &inspect.Keys{}
	for _, path := range files {
		if err := a.addKey(keys, path); err != nil {
			return nil, err
		}
	}
	return keys.Public, nil
}
