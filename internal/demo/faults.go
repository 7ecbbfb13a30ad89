// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sealift/internal/fault"
	"sealift/internal/image"
)

// Fault is something that can be wrong on purpose.
type Fault struct {
	Name  string
	What  string   // for people
	Exit  int      // of the refusal
	Codes []string // fault codes that are the right refusal

	// older says that the fault needs another, older TA of the same owner.
	older bool
}

// Names of faults that need more than a dishonest operator.
const (
	faultMeasurement = "measurement"
	faultTASwap      = "ta-swap"
	faultRollback    = "rollback"
)

// Faults lists what can be broken.
func Faults() []Fault {
	return []Fault{
		{Name: faultMeasurement, What: "the device runs an Agent that differs by a few bytes from the one that the owner trusts",
			Exit: fault.ExitAttestation, Codes: []string{fault.AppraisalRefused, fault.OperatorAppraisal}},
		{Name: faultTASwap, What: "the operator installs an older TA in the place of the one that was ordered",
			Exit: fault.ExitAttestation, Codes: []string{fault.AppraisalRefused}, older: true},
		{Name: "nonce", What: "the operator answers the owner's challenge with Evidence that it has kept",
			Exit: fault.ExitAttestation, Codes: []string{fault.AppraisalRefused}},
		{Name: "signature", What: "the operator alters the Evidence by one bit",
			Exit: fault.ExitAttestation, Codes: []string{fault.AppraisalRefused}},
		{Name: faultRollback, What: "the operator puts an older TA in the place of the running one",
			Exit: fault.ExitPolicy, Codes: []string{fault.RollbackRefused}, older: true},
		{Name: "pd-early", What: "the operator says that the Evidence was appraised already, to get the PD",
			Exit: fault.ExitPolicy, Codes: []string{fault.ReleaseBeforeAppraisal}},
	}
}

// findFault returns the fault called name, nil for the empty name.
func findFault(name string) (*Fault, error) {
	if name == "" {
		return nil, nil
	}
	all := Faults()
	i := slices.IndexFunc(all, func(f Fault) bool { return f.Name == name })
	if i < 0 {
		var names []string
		for _, f := range all {
			names = append(names, f.Name)
		}
		return nil, fault.New(fault.BadRequest, "there is no fault %q", name).WithHint("one of %s", strings.Join(names, ", "))
	}
	return &all[i], nil
}

// plant returns the Agent images and the M/OC's arguments with which the fault exists. What the owner's policy knows are the
// images as they were.
func (f *Fault) plant(dir string, images []string) (planted, mocArgs []string, err error) {
	if f.Name != faultMeasurement {
		return images, []string{"--dishonest", f.Name}, nil
	}
	for i, path := range images {
		altered := filepath.Join(dir, fmt.Sprintf("altered-%d-%s", i, filepath.Base(path)))
		if err := alter(path, altered); err != nil {
			return nil, nil, fmt.Errorf("altering the Agent image %s: %w", filepath.Base(path), err)
		}
		planted = append(planted, altered)
	}
	return planted, nil, nil
}

// alter copies an Agent image and adds zero bytes behind the Agent, or behind the archive that it lies in. It runs as before, and
// measures differently.
func alter(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	st, err := src.Stat()
	if err != nil {
		return err
	}
	img, err := image.Read(src, st.Size())
	if err != nil {
		return err
	}
	target := image.PartAgent
	if img.Instance == image.VM {
		target = image.PartInitramfs
	}
	const more = 4 // a kernel reads its archive in words
	parts := map[string]io.Reader{}
	for i := range img.Parts {
		p := &img.Parts[i]
		parts[p.Name] = img.Open(src, p.Name)
		if p.Name == target {
			parts[p.Name] = io.MultiReader(parts[p.Name], bytes.NewReader(make([]byte, more)))
			p.Size += more
		}
	}
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	return errors.Join(image.Write(dst, img, parts), dst.Close())
}

// appendByte copies a program and adds one byte to it. It runs as before, and is another one.
func appendByte(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err == nil {
		_, err = dst.Write([]byte{0})
	}
	return errors.Join(err, dst.Close())
}

// judge turns the end of a run into its outcome. With a planted fault, the right refusal is what should happen: any other
// end, and most of all a run to the end, is a failure of the demo itself.
func (r *run) judge(err error) error {
	if r.fault == nil {
		if err != nil {
			r.report.Error, r.report.Exit = err.Error(), fault.From(err).Exit
		}
		return err
	}
	if err == nil {
		err = fault.New(fault.Internal, "nobody noticed the planted fault %s", r.fault.Name)
		r.report.Error, r.report.Exit = err.Error(), fault.ExitFailure
		return err
	}
	f := fault.From(err)
	if !slices.Contains(r.fault.Codes, f.Code) {
		err = fmt.Errorf("the planted fault %s ended the run in another way than it should: %w", r.fault.Name, err)
		r.report.Error, r.report.Exit = err.Error(), fault.ExitFailure
		return &wrongEnd{err}
	}
	r.report.Refusal, r.report.Exit = refusalOf(err), r.fault.Exit
	r.say("demo", "REFUSED, as it should be [%s]", f.Code)
	for _, d := range r.report.Refusal.Differences {
		r.say("", "%s", d)
	}
	return &fault.Error{Code: f.Code, Message: f.Message, Hint: f.Hint, Exit: r.fault.Exit}
}

// wrongEnd hides the code of the error it holds: the demo has failed, whatever the error meant.
type wrongEnd struct{ err error }

func (w *wrongEnd) Error() string { return w.err.Error() }
