// SPDX-License-Identifier: Apache-2.0

// Package packfile reads and checks the description of a package: what a data owner writes by hand (YAML), or gives as flags,
// to say which programs and data make up a confidential application and where it may run.
//
//	name: stats
//	mode: ua,ta,pd
//	hardware: [trustzone]
//	instances: [process]
//	ta:
//	  binary: bin/stats-ta
//	  args: ["--min-group", "5"]
//	  serve: socket
//	  callers: any
//	  memory: 64MiB
//	ua:
//	  binary: bin/stats-ua
//	  ports: [http]
//	pd:
//	  - records.csv
//
// Reading is strict. A field that is not known is refused, with its line and the nearest known name; so is everything that would
// fail later on a device, where it is dearer: a missing file, a program that is not a static ELF for the target, a component that
// the mode has no place for, hardware that the instance type does not allow. All of it is reported at once, each with where it stands.
package packfile

import (
	"fmt"
	"strings"

	"sealift/usecase"
)

// File is a package description whose syntax is right. Check tells whether it makes sense.
type File struct {
	Name      string             // the application: lower case letters, digits and hyphens
	Mode      usecase.Mode       // what travels together
	Arch      string             // GOARCH of the target; "" is the machine that packs
	Hardware  []usecase.Hardware // accepted hardware architectures
	Instances []usecase.Instance // accepted instance types
	TA        *TA
	UA        *UA
	PD        []Data

	source string         // how Problems name the description: a path, or "" for flags
	pos    map[string]Pos // where each field stands
}

// TA describes the trusted application.
type TA struct {
	Binary  string   // path of a static ELF
	Image   string   // instead of it a container image: see package ociimage
	Guest   string   // instead of both a guest payload: a folder, an archive (cpio -H newc, also with gzip) or a static program
	Args    []string // of an image: in place of its Cmd; may hold ${PD}, ${ATTEST} and, when it serves on a socket, ${LISTEN} (see internal/launch)
	Serve   string   // "socket" (default) or "stdio"
	Callers string   // "owner" (default): only the owner's key may connect; "any"
	Memory  uint64   // bytes; 0 leaves it to the Agent
	Env     []string // NAME=value
	Restart string   // when it ends, serving on a socket: "always" (default), "on-failure" or "never"
	// Procs bounds its processes and threads, CPUSeconds the time of each process; 0 leaves both to the Agent.
	Procs      uint32
	CPUSeconds uint64

	// Of an image, where empty leaves it to the image; Entrypoint also of a guest payload, where it names the program by its absolute path.
	// CPUs is in thousandths of a processor, 0 for no limit.
	Entrypoint []string
	Dir        string
	CPUs       uint32
}

// Contained reports whether the TA runs as a container wherever the package may go: one that is an image does in containers and in guests;
// a single program does where it may go to containers only, and is packed as an image that holds nothing else.
func (f *File) Contained() bool {
	if f.TA == nil || f.TA.Guest != "" || len(f.Instances) == 0 {
		return false
	}
	for _, i := range f.Instances {
		if i != usecase.Container && (i != usecase.VM || f.TA.Image == "") {
			return false
		}
	}
	return true
}

// UA describes the untrusted application, which the Broker runs outside the TEE.
type UA struct {
	Binary string
	Args   []string
	Ports  []Port
	Memory uint64 // bytes, all its processes together; 0 is what the device allows
	Procs  uint32 // processes and threads; 0 is what the device allows
}

// Port is a TCP port that a UA publishes. Number 0 lets the device choose.
type Port struct {
	Name   string
	Number uint16
}

// Data is one file of personalization data. Name is what the TA sees in its PD directory.
type Data struct {
	Name string
	Path string
}

// Pos is a place in a package file, or a flag.
type Pos struct {
	Line, Column int
	Flag         string
}

// Problem is one thing wrong with a package description.
type Problem struct {
	Source  string `json:"source,omitempty"` // the file's path; empty for flags
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Field   string `json:"field,omitempty"` // as in "ta.binary"
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// String is one line: where, what, and how to mend it.
func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "%s:%d:%d: ", p.Source, p.Line, p.Column)
	} else if p.Source != "" {
		fmt.Fprintf(&b, "%s: ", p.Source)
	}
	if p.Field != "" {
		fmt.Fprintf(&b, "%s: ", p.Field)
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		fmt.Fprintf(&b, " (%s)", p.Hint)
	}
	return b.String()
}

// Problems is every Problem of one description, in the order of its lines. It is the error of Parse and Check.
type Problems []Problem

// Error lists them, one a line.
func (ps Problems) Error() string {
	if len(ps) == 1 {
		return ps[0].String()
	}
	lines := []string{fmt.Sprintf("the package description has %d errors:", len(ps))}
	for _, p := range ps {
		lines = append(lines, "  "+p.String())
	}
	return strings.Join(lines, "\n")
}

// New starts a description from flags: source is empty and at names the flag of each field, for Problems.
func New(at map[string]string) *File {
	f := &File{pos: make(map[string]Pos)}
	for field, flag := range at {
		f.pos[field] = Pos{Flag: flag}
	}
	return f
}

// problem makes a Problem at field, or at the nearest enclosing field whose place is known.
func (f *File) problem(field, hint, format string, args ...any) Problem {
	p := Problem{Source: f.source, Field: field, Message: fmt.Sprintf(format, args...), Hint: hint}
	for at := field; ; at = parent(at) {
		if pos, ok := f.pos[at]; ok {
			if pos.Flag != "" {
				p.Field = pos.Flag
			}
			p.Line, p.Column = pos.Line, pos.Column
			return p
		}
		if at == "" {
			return p
		}
	}
}

// parent cuts the last element off a field's path: "pd[1].path" to "pd[1]" to "pd" to "".
func parent(field string) string {
	if i := strings.LastIndexAny(field, ".["); i >= 0 {
		return field[:i]
	}
	return ""
}

// Cells lists the pairs of instance type and hardware that this package accepts, instance types first.
func (f *File) Cells() []usecase.Cell {
	var cells []usecase.Cell
	for _, i := range f.Instances {
		for _, h := range f.Hardware {
			if usecase.Valid(i, h) == nil {
				cells = append(cells, usecase.Cell{Instance: i, Hardware: h})
			}
		}
	}
	return cells
}
