// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sealift/appraisal"
	"sealift/appraisal/ear"
	"sealift/evidence"
	"sealift/internal/collateral"
	"sealift/internal/fault"
	"sealift/internal/owner"
	"sealift/internal/owner/exhibit"
	"sealift/internal/owner/home"
)

// evidenceFlags say how Evidence from a file is verified.
type evidenceFlags struct {
	at                  string
	anchors, collateral []string
	nonce, binding      string
	ear, key            string
}

func (f *evidenceFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.at, "at", "", "verify Evidence as of this time, RFC 3339 (default: now)")
	fl.StringArrayVar(&f.anchors, "anchor", nil, "file of a hardware root or device key that may vouch for it; repeat for more")
	fl.StringArrayVar(&f.collateral, "collateral", nil, "file or folder with certificates, collateral or revocation lists; repeat for more")
}

// addNonce adds what makes sense for one Evidence only.
func (f *evidenceFlags) addNonce(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.nonce, "nonce", "", "challenge that the Evidence has to answer, in hex")
	cmd.Flags().StringVar(&f.binding, "binding", "", "report data that the hardware has to have signed, 64 bytes in hex")
	cmd.Flags().StringVar(&f.ear, "ear", "", "of Evidence in a file: write the result as an EAR (JWT) to this file")
	cmd.Flags().StringVar(&f.key, "key", home.DefaultKey, "name of the owner's key that signs the EAR")
}

// given reports whether any flag is set: then it is a file that is meant.
func (f *evidenceFlags) given() bool {
	return f.at != "" || f.ear != "" || len(f.anchors)+len(f.collateral) > 0 || f.nonce != "" || f.binding != ""
}

// verifier is what Evidence from files is verified with.
type verifier struct {
	input  evidence.Input
	beside *exhibit.Beside
	wanted *collateral.Wanted // what was asked for and is not there
}

// verifier reads the flags' files. Roots of vendors that this program knows, and those of the owner's folder, may vouch too; whether
// one is accepted says the policy. What the owner keeps of collateral counts as well.
func (a *app) verifier(f *evidenceFlags) (*verifier, error) {
	now := time.Now()
	if f.at != "" {
		var err error
		if now, err = time.Parse(time.RFC3339, f.at); err != nil {
			return nil, usageError("as in --at 2025-06-20T00:00:00Z", "--at: %w", err)
		}
	}
	anchors, err := exhibit.VendorAnchors()
	if err != nil {
		return nil, err
	}
	b := &exhibit.Beside{}
	if h, err := home.Open(a.home); err == nil {
		own, err := h.Anchors()
		if err != nil {
			return nil, err
		}
		anchors = append(own, anchors...)
		b.AddStore(collateral.Open(filepath.Join(h.Dir(), collateralDir)))
	}
	for _, path := range f.anchors {
		anchor, err := exhibit.ReadAnchor(path)
		if err != nil {
			return nil, usageError("", "--anchor: %w", err)
		}
		anchors = append([]evidence.Anchor{anchor}, anchors...)
	}
	for _, path := range f.collateral {
		if err := b.Add(path); err != nil {
			return nil, usageError("", "--collateral: %w", err)
		}
	}
	v := &verifier{input: exhibit.Input(anchors, b, now), beside: b, wanted: &collateral.Wanted{From: b}}
	v.input.Endorsements = v.wanted
	return v, nil
}

// readExhibit reads Evidence from a file.
func (a *app) readExhibit(path string) (*exhibit.Exhibit, error) {
	data, err := a.readInput(path)
	if err != nil {
		return nil, usageError("", "reading %s: %w", path, err)
	}
	x, err := exhibit.Read(data)
	if err != nil {
		return nil, usageError("sealift inspect says what else it may be", "%s: %w", path, err)
	}
	return x, nil
}

// expected returns what the Evidence has to answer.
func (f *evidenceFlags) expected(x *exhibit.Exhibit) ([]byte, error) {
	text, what := f.nonce, "--nonce"
	if f.binding != "" {
		text, what = f.binding, "--binding"
	}
	nonce, err := hex.DecodeString(text)
	switch {
	case f.nonce != "" && f.binding != "":
		return nil, usageError("", "--nonce and --binding exclude each other")
	case err != nil:
		return nil, usageError("", "%s: %w", what, err)
	case text == "":
		return nil, nil
	case f.binding != "" && (x.Bundle != nil || len(nonce) != 64):
		return nil, usageError("a bundle's binding is computed from its own claims: --nonce is what to compare", "--binding is 64 bytes, for Evidence of hardware by itself")
	case x.Bundle != nil && len(nonce) != evidence.NonceSize && len(nonce) != 2*evidence.NonceSize || len(nonce) > 64:
		return nil, usageError("", "--nonce has %d bytes; want the owner's 32 or the challenge's 64", len(nonce))
	}
	return nonce, nil
}

// loadPolicy reads a policy by its file or by its name in the owner's folder.
func (a *app) loadPolicy(ref string) (*appraisal.Policy, error) {
	if ref == "" {
		ref = home.DefaultPolicy
	}
	h, homeErr := home.Open(a.home)
	var data []byte
	err := home.ErrNotFound
	if homeErr == nil && !strings.ContainsRune(ref, os.PathSeparator) {
		data, err = h.Policy(ref)
	}
	if err != nil {
		if data, err = a.readInput(ref); err != nil {
			return nil, usageError("name a file, or a policy of the owner's folder; sealift policy init makes one", "the policy %s: %w", ref, err)
		}
	}
	o := &owner.Owner{}
	if homeErr == nil {
		o = owner.New(h)
	}
	f, err := o.ReadPolicy(data, "")
	if err != nil {
		return nil, fmt.Errorf("the policy %s: %w", ref, err)
	}
	return f.Policy, nil
}

// fileResult is what `verify FILE --json` prints.
type fileResult struct {
	File     string            `json:"file"`
	Form     string            `json:"form"` // what was recognised
	OK       bool              `json:"ok"`
	Emulated bool              `json:"emulated"`
	Result   *appraisal.Result `json:"result"`
	// Missing is what vendors say of such a device, as far as it was asked for and is not there.
	Missing []collateral.Asked `json:"missing,omitempty"`
}

// writeMissing says how what is missing can be had.
func writeMissing(w io.Writer, file string, missing []collateral.Asked) {
	if len(missing) == 0 {
		return
	}
	fmt.Fprintln(w, "\nasked for and not there:")
	for _, m := range missing {
		fmt.Fprintf(w, "  %s %s\n", m.Kind, printable(m.Key))
	}
	fmt.Fprintf(w, "sealift collateral fetch %s gets it from the vendors; without a network: sealift collateral add, or --collateral\n", file)
}

// verifyFile verifies and appraises Evidence from a file.
func (a *app) verifyFile(path, policy string, f *evidenceFlags) error {
	p, err := a.loadPolicy(policy)
	if err != nil {
		return err
	}
	v, err := a.verifier(f)
	if err != nil {
		return err
	}
	x, err := a.readExhibit(path)
	if err != nil {
		return err
	}
	nonce, err := f.expected(x)
	if err != nil {
		return err
	}
	r, verified := appraisal.AppraiseRecorded(x.Recorded(v.beside, nonce), v.input, p)
	if f.ear != "" {
		if err := a.writeEAR(f, r, verified); err != nil {
			return err
		}
	}
	err = a.print(fileResult{path, x.Form, r.OK(), r.Emulated, r, v.wanted.Asked}, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s\n", path, x.Form)
		_ = r.Explain(w)
		writeMissing(w, path, v.wanted.Asked)
	})
	if err != nil || r.OK() {
		return err
	}
	return refusal(r)
}

// writeEAR writes the result as an EAT Attestation Result. Its nonce is the report data, where that was compared: an EAR without
// one says nothing of freshness, and no Relying Party should take it.
func (a *app) writeEAR(f *evidenceFlags, r *appraisal.Result, v *evidence.VerifiedHardware) error {
	if !v.Authentic() {
		return usageError("", "--ear: of Evidence that does not verify there is no result")
	}
	h, err := a.openHome()
	if err != nil {
		return err
	}
	k, err := h.Key(f.key)
	if err != nil {
		return usageError("sealift keys list shows them", "the key %s: %w", f.key, err)
	}
	var nonce []byte
	if v.Compared {
		nonce = v.ReportData
	}
	e := ear.New(r, v.Hardware.BindingName(v.Emulated), nonce, ear.VerifierID{Developer: "Sealift", Build: buildVersion().Version}, time.Now(), earValidity)
	data, err := e.SignJWT(rand.Reader, k.Signer, ear.FormDraft)
	if err != nil {
		return err
	}
	return a.writeOutput(f.ear, append(data, '\n'))
}

// earValidity is how long an EAR that verify writes may be shown.
const earValidity = time.Hour

// refusal is the error of Evidence that a policy does not accept.
func refusal(r *appraisal.Result) error {
	failed := r.Failed()
	names := make([]string, len(failed))
	for i, f := range failed {
		names[i] = f.Claim
	}
	if len(names) == 0 {
		names = []string{"the result is " + r.Status.String() + ", which is not enough"}
	}
	return &exitError{code: exitAttestation, err: fmt.Errorf("the Evidence is refused:%s %s", emulatedMark(r.Emulated), strings.Join(names, "; "))}
}

// isFile reports whether verify is about a file: flags say so, or it is no deployment and there is such a file.
func (a *app) isFile(ref string, f *evidenceFlags) bool {
	if f.given() || ref == "-" {
		return true
	}
	if info, err := os.Stat(ref); err != nil || !info.Mode().IsRegular() {
		return false
	}
	h, err := home.Open(a.home)
	if err != nil {
		return true
	}
	_, err = owner.New(h).Deployment(ref)
	fe, ok := errors.AsType[*fault.Error](err)
	return ok && fe.Code == fault.NotFound
}

// explainFault writes the findings in the details of an error, such as those of the operator's Verifier, as every refusal is
// written.
func (a *app) explainFault(f *fault.Error) {
	data, err := json.Marshal(f.Details)
	if err != nil {
		return
	}
	var findings []appraisal.Finding
	if json.Unmarshal(data, &findings) != nil {
		var details struct{ Findings []appraisal.Finding }
		if json.Unmarshal(data, &details) != nil {
			return
		}
		findings = details.Findings
	}
	var shown []appraisal.Finding
	for _, finding := range findings {
		if finding.Code == "" || finding.Claim == "" { // details of another shape
			return
		}
		for _, s := range []*string{&finding.Code, &finding.Claim, &finding.Expected, &finding.Got, &finding.Source, &finding.Hint} {
			*s = printable(*s)
		}
		shown = append(shown, finding)
	}
	_ = appraisal.ExplainFindings(a.stderr, shown)
}
