// SPDX-License-Identifier: Apache-2.0

// Package rehearsal runs a SUIT manifest where it can do no harm: the procedures of suit/processor against a device that
// is a temporary folder. Payloads come from files that the caller names, nothing is fetched from a network, nothing is
// started, and the folder is gone afterwards.
//
// What each command did is told by the processor itself (processor.Options.Observe), whatever the manifest's reporting policies let into the
// SUIT Report: also which alternatives were tried, and which conditions in them did not hold.
package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"sealift/cose"
	"sealift/internal/owner/inspect"
	"sealift/suit"
	"sealift/suit/processor"
)

// ErrProcedure says that a procedure of that name does not exist.
var ErrProcedure = errors.New("rehearsal: known procedures are update, invocation and uninstall")

// Setup is the device.
type Setup struct {
	Keys         *inspect.Keys     // trust anchors
	Ring         cose.KeyRing      // the device's own keys, which open encrypted payloads and sign nothing
	Payloads     map[string][]byte // by URI
	Components   map[string][]byte // content before the run, by printed identifier
	Dependencies map[string][]byte // stored envelopes, by printed identifier
	// Identities of all components; nil means: whatever the manifest asks for.
	Vendors, Classes, Devices [][]byte
	Sequence                  uint64 // of the installed manifest; 0 for none
	Slot                      uint64
	Battery                   uint64
	Version                   suit.Version
	Now                       time.Time
	Lenient                   bool // as processor.Options.LenientDependencies
}

// Result is what a rehearsal showed.
type Result struct {
	Procedure string `json:"procedure"`
	OK        bool   `json:"ok"`
	Error     string `json:"error,omitempty"`
	// Assumed says that identities were taken from the manifest itself.
	Assumed    bool     `json:"identitiesAssumed,omitempty"`
	Steps      []Step   `json:"steps"`
	Effects    []string `json:"effects"`
	Components []string `json:"components"`
	// Report is the encoded SUIT Report.
	Report []byte `json:"report"`
}

// Step is one command for one component, or a command that concerns the scope.
type Step struct {
	Manifest  string `json:"manifest,omitempty"` // of a dependency
	Section   string `json:"section"`
	Offset    int    `json:"offset"`
	Depth     int    `json:"depth,omitempty"` // of nesting in try-each and run-sequence
	Command   string `json:"command"`
	Component string `json:"component,omitempty"`
	Outcome   string `json:"outcome"`
}

// sections are the members of each procedure in order (suit-manifest section 6.5, suit-trust-domains section 6).
var sections = map[string][]suit.Member{
	"update": {suit.MemberDependencyResolution, suit.MemberPayloadFetch, suit.MemberCandidateVerification, suit.MemberInstall,
		suit.MemberValidate},
	"invocation": {suit.MemberValidate, suit.MemberLoad, suit.MemberInvoke},
	"uninstall":  {suit.MemberUninstall},
}

// Run rehearses one procedure. A procedure that fails is a Result; an error is only what keeps it from being tried.
func Run(ctx context.Context, envelope []byte, procedure string, s Setup) (*Result, error) {
	if sections[procedure] == nil {
		return nil, ErrProcedure
	}
	if s.Keys == nil {
		s.Keys = &inspect.Keys{}
	}
	dir, err := os.MkdirTemp("", "sealift-dry-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	assumed := s.assume(envelope)
	f := &folder{root: root, setup: s}
	if err := f.fill(); err != nil {
		return nil, err
	}
	var seen observer
	p := processor.New(f, processor.Options{
		Keys: s.Keys.Public, MACKeys: s.Keys.MAC, UpdateManagement: true, LenientDependencies: s.Lenient, Schemes: s.schemes(),
		Observe: seen.note,
	})
	run := map[string]func(context.Context, []byte) (*processor.Outcome, error){
		"update": p.Update, "invocation": p.Invocation, "uninstall": p.Uninstall,
	}[procedure]
	out, runErr := run(ctx, envelope)
	result := &Result{Procedure: procedure, OK: runErr == nil, Assumed: assumed, Effects: f.effects, Steps: steps(out, sections[procedure], &seen)}
	if runErr != nil {
		result.Error = runErr.Error()
	}
	if result.Components, err = f.content(ctx, out); err != nil {
		return nil, err
	}
	result.Report, err = out.Report.Marshal()
	return result, err
}

// assume takes the identities that a manifest asks for, where the caller gave none.
func (s *Setup) assume(envelope []byte) bool {
	e, err := suit.ParseEnvelope(envelope)
	if err != nil {
		return false
	}
	m, err := e.ManifestInsecure()
	if err != nil || s.Vendors != nil || s.Classes != nil || s.Devices != nil {
		return false
	}
	for _, section := range suit.Sections {
		seq, _ := m.Section(section)
		s.assumeOf(seq)
	}
	return s.Vendors != nil || s.Classes != nil || s.Devices != nil
}

func (s *Setup) assumeOf(seq suit.Sequence) {
	for _, cmd := range seq {
		sets := []suit.Params{cmd.Params}
		for _, m := range cmd.Multiple {
			sets = append(sets, m.Params)
		}
		for _, params := range sets {
			if pen, ok := params[suit.ParamVendorID].(suit.PEN); ok {
				s.Vendors = append(s.Vendors, pen.Encode())
			}
			for param, dst := range map[suit.Param]*[][]byte{
				suit.ParamVendorID: &s.Vendors, suit.ParamClassID: &s.Classes, suit.ParamDeviceID: &s.Devices,
			} {
				if id, ok := params.Bytes(param); ok {
					*dst = append(*dst, id)
				}
			}
		}
		for _, alternative := range cmd.Alternatives {
			s.assumeOf(alternative)
		}
		s.assumeOf(cmd.Sequence)
	}
}

// schemes allows the scheme of each payload that there is a file for, and the usual ones, which then find nothing.
func (s *Setup) schemes() []string {
	out := []string{"http", "https", "ni", "coap", "coaps", "file"}
	for uri := range s.Payloads {
		for i, c := range uri {
			if c == ':' {
				out = append(out, uri[:i])
				break
			}
		}
	}
	return out
}

func (f *folder) fill() error {
	for name, data := range f.setup.Components {
		id, err := suit.ParseComponentID(name)
		if err == nil {
			err = f.root.WriteFile(fileName(id), data, 0o600)
		}
		if err != nil {
			return fmt.Errorf("component %s: %w", name, err)
		}
	}
	return nil
}

// content describes the manifest's components after the run.
func (f *folder) content(ctx context.Context, out *processor.Outcome) ([]string, error) {
	lines := []string{}
	if out.Manifest == nil {
		return lines, nil
	}
	for _, ran := range out.Manifests {
		for _, id := range ran.Manifest.Components {
			line := id.String() + ": none"
			if n, err := f.Size(ctx, id); err == nil {
				d, err := f.Digest(ctx, id, suit.AlgSHA256)
				if err != nil {
					return nil, err
				}
				line = fmt.Sprintf("%v: %d bytes, %v", id, n, d)
			}
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	return lines, nil
}
