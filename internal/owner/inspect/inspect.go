// SPDX-License-Identifier: Apache-2.0

// Package inspect shows what is in a file: a TEEP message, a SUIT envelope, manifest or report, a COSE message or key, an
// EAT with its claims, a CMW, an Attestation Result (EAR, as CWT or JWT), what hardware of one of the six architectures
// signed, a quote of a TPM, an appraisal policy, a CoRIM, a packed application, the proof of a removal; anything else that is CBOR in
// plain diagnostic notation (RFC 8949 section 8). It finds out by itself which of them it is.
//
// The content is printed as annotated diagnostic notation: a comment names each label, command, parameter and claim, and
// byte strings that hold CBOR are opened. The reader takes whatever is well-formed, because the files that strict
// decoders refuse are the ones people want to look into. A [shape] writes the names into the tree and collects the parts
// that carry proofs of authenticity; each of them becomes a [Check], which says what was verified, with which key, and
// what was not. Private keys are never shown.
package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"sealift/evidence"
	"sealift/evidence/tpm"
	"sealift/internal/agentconfig"
	"sealift/internal/owner/archive"
	"sealift/internal/owner/exhibit"
)

// ErrUnknown says that a file is of none of the kinds that this package reads.
var ErrUnknown = errors.New("neither a format of TEEP, SUIT, COSE or RATS nor other CBOR")

// MaxFile bounds what Read reads.
const MaxFile = 64 << 20

// KindCBOR is the kind of well-formed CBOR that is nothing else that is known here.
const KindCBOR = "CBOR"

// File is what was found in a file.
type File struct {
	Kind string `json:"kind"`
	// Emulated says that a part rests on emulated hardware, which proves nothing about a real device.
	Emulated bool     `json:"emulated"`
	Facts    []string `json:"facts,omitempty"`
	Checks   []Check  `json:"checks"`
	Warnings []string `json:"warnings,omitempty"`
	Parts    []Part   `json:"parts,omitempty"`
}

// Part is one tree of items; a package holds several.
type Part struct {
	Name string `json:"name,omitempty"`
	Item *Item  `json:"item"`
}

// Read describes data; what can be verified is verified with keys.
func Read(data []byte, keys *Keys) (*File, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%d bytes are more than inspect reads", len(data))
	}
	if keys == nil {
		keys = &Keys{}
	}
	f := &File{Checks: []Check{}}
	for _, try := range []func(*File, []byte, *Keys) bool{readPackage, readPEM, readJWT, readPolicy, readRemoval, readJSON, readCBOR, readHardware} {
		if try(f, data, keys) {
			return f, nil
		}
	}
	return nil, ErrUnknown
}

// Write prints the file: facts and checks as comments to the end of the line (draft-ietf-cbor-edn-literals section 2.2),
// then the content.
func (f *File) Write(w io.Writer, s Style) error {
	var b strings.Builder
	line := func(text string) { b.WriteString("# " + clean(text) + "\n") }
	line(f.Kind)
	if f.Emulated {
		line("EMULATED: this rests on emulated hardware and proves nothing about a real device")
	}
	for _, fact := range f.Facts {
		line(fact)
	}
	for _, c := range f.Checks {
		line(c.String())
	}
	if len(f.Checks) == 0 {
		line("not verified: nothing in it is signed")
	}
	for _, warning := range f.Warnings {
		line("warning: " + warning)
	}
	for _, part := range f.Parts {
		if part.Name != "" {
			b.WriteString("\n")
			line(part.Name)
		}
		if err := WriteItem(&b, part.Item, s); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func readCBOR(f *File, data []byte, keys *Keys) bool {
	it, rest, err := read(data)
	if err != nil {
		return false
	}
	kind, s := recognise(it)
	if kind == "" && (rest > 0 || len(data) < 2) {
		return false // any text begins with a byte that is an item
	}
	f.Kind = kind
	if kind == "" {
		f.Kind = KindCBOR
	}
	if rest > 0 {
		f.Warnings = append(f.Warnings, fmt.Sprintf("%d bytes follow the item; strict decoders refuse that", rest))
	}
	f.add("", it, s, keys)
	f.more(data)
	return true
}

// more adds what the packages that decide say of formats in CBOR.
func (f *File) more(data []byte) {
	if b, err := evidence.ParseBundle(data); err == nil {
		f.evidence(b)
		return
	}
	if q, err := tpm.Parse(data); err == nil {
		f.Kind = kindQuote
		f.quote(q, nil, nil)
		return
	}
	if f.policy(data) {
		f.Kind = kindPolicy
		if data[0]>>5 == 6 { // a tag: COSE
			f.Kind += ", signed"
		}
		return
	}
	if f.manifest(data) {
		f.Kind = "CoRIM"
		return
	}
	if x, err := exhibit.Read(data); err == nil {
		if !strings.Contains(f.Kind, x.Form) {
			f.Kind += ", " + x.Form
		}
		f.hardware(x)
	}
	f.result(data)
}

// add annotates an item, checks what it holds and keeps it as a part.
func (f *File) add(name string, it *Item, s shape, keys *Keys) {
	a := &annotator{}
	a.apply(s, it)
	for _, found := range a.found {
		f.Checks = append(f.Checks, keys.check(found)...)
	}
	f.Warnings = append(f.Warnings, a.warnings...)
	f.Parts = append(f.Parts, Part{Name: name, Item: it})
	it.walk(func(it *Item) {
		marked := bytes.Contains(it.content, []byte(evidence.EmulatedMark)) // as in the subject of a certificate
		f.Emulated = f.Emulated || marked || it.Type == Text && strings.HasPrefix(it.Value, evidence.EmulatedPrefix)
	})
}

// evidence tells what Evidence claims; whether it is authentic depends on a challenge that no file holds.
func (f *File) evidence(b *evidence.Bundle) {
	f.Checks = append(f.Checks, Check{What: "Evidence as a whole", State: Unverified,
		Detail: "that needs the challenge and the vendor's root: sealift verify does it"})
	if c, err := agentconfig.Parse(b.Config); err == nil {
		f.Facts = append(f.Facts, fmt.Sprintf("measured configuration sha-256 %x: deployment %s, place %s of %s, TAM %s",
			c.Digest(), c.Deployment, c.Hardware, c.Instance, c.TAMURI))
	}
	if c, err := evidence.ParseClaims(b.Claims); err == nil {
		for _, ta := range c.TAs {
			f.Facts = append(f.Facts, fmt.Sprintf("TA %s, sequence number %d, %s", ta.Component, ta.Sequence, ta.Digest))
		}
		if len(b.Quote) > 0 {
			f.bundleQuote(b, c)
		}
	}
}

func readPackage(f *File, data []byte, keys *Keys) bool {
	file, err := archive.Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return false
	}
	d := file.Description
	f.Kind = "packed application"
	fact := func(format string, args ...any) { f.Facts = append(f.Facts, fmt.Sprintf(format, args...)) }
	fact("name %s, mode %s, sequence number %d", d.Name, d.Mode, d.Sequence)
	fact("for hardware %v, instances %v", d.Hardware, d.Instances)
	fact("owner key %x", d.Owner.KID())
	for _, c := range d.Components {
		where := "in this file"
		if c.Path != "" {
			where = "local file " + c.Path
		}
		fact("component %s: %d bytes, sha-256 %s, %s", c.ID, c.Size, c.SHA256, where)
	}
	keys = keys.with("the owner that the package names", d.Owner)
	for _, a := range file.Artifacts {
		e, err := a.Envelope()
		if err != nil {
			f.Warnings = append(f.Warnings, fmt.Sprintf("package %s: %v", a.Role, err))
			continue
		}
		if it, rest, err := read(e); err == nil && rest == 0 {
			f.add(fmt.Sprintf("package %s, %s", a.Role, a.Digest()), it, suitEnvelope, keys)
		}
	}
	return true
}
