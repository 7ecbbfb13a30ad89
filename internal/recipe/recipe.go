// SPDX-License-Identifier: Apache-2.0

// Package recipe reads a SUIT manifest that a person has written in YAML and makes a suit.Builder of it. docs/manifest.md
// is its reference.
//
// The names of members, commands and parameters are those of the drafts without "suit-". Nothing is guessed: an unknown
// field, a value of the wrong form, or a file that cannot be read is a [Problem] with its line, and all of them are
// reported at once. Digests and sizes can be taken from files, so that they are computed and not copied by hand.
package recipe

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"sealift/suit"
)

// Bounds of what is read.
const (
	MaxRecipe  = 1 << 20
	MaxPayload = 16 << 20 // of one file that goes into the envelope
)

// ErrRecipe is under all errors of this package.
var ErrRecipe = errors.New("recipe")

// Problem is one thing that is wrong with a recipe.
type Problem struct {
	Source  string `json:"source"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Field   string `json:"field,omitempty"` // as in "install[2].fetch"
	Message string `json:"message"`
}

// String is the problem as one line for people, with its place.
func (p Problem) String() string {
	s := fmt.Sprintf("%s:%d:%d: ", p.Source, p.Line, p.Column)
	if p.Field != "" {
		s += p.Field + ": "
	}
	return s + p.Message
}

// Problems are all that is wrong, in the order of the lines.
type Problems []Problem

// Error prints one line for each.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Is makes errors.Is(err, ErrRecipe) true.
func (ps Problems) Is(target error) bool { return target == ErrRecipe }

// Parse reads a recipe. source names it in Problems; files that it names are read from dir, which they cannot leave.
func Parse(data []byte, source string, dir fs.FS) (*suit.Builder, error) {
	if len(data) > MaxRecipe {
		return nil, Problems{{Source: source, Line: 1, Column: 1, Message: fmt.Sprintf("longer than %d bytes: is it a recipe?", MaxRecipe)}}
	}
	var doc yaml.Node
	if err := yaml.Load(data, &doc); err != nil {
		return nil, notYAML(err, source)
	}
	root := &doc
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		root = doc.Content[0]
	}
	d := &decoder{source: source, dir: dir, builder: &suit.Builder{}}
	d.manifest(root)
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b Problem) int { return a.Line - b.Line })
		return nil, d.problems
	}
	return d.builder, nil
}

func notYAML(err error, source string) error {
	var one *yaml.LoadError
	var many *yaml.LoadErrors
	var ps Problems
	add := func(e *yaml.LoadError) {
		ps = append(ps, Problem{Source: source, Line: max(e.Mark.Line, 1), Column: max(e.Mark.Column, 1), Message: "not YAML: " + e.Message})
	}
	switch {
	case errors.As(err, &many):
		for _, e := range many.Errors {
			add(e)
		}
	case errors.As(err, &one):
		add(one)
	default:
		ps = Problems{{Source: source, Line: 1, Column: 1, Message: "not YAML: " + err.Error()}}
	}
	return ps
}

type reader = func(n *yaml.Node, field string)

// manifest reads the whole recipe. Components come first, whatever the order of the lines, because the rest may name them.
func (d *decoder) manifest(root *yaml.Node) {
	b := d.builder
	if root.Kind != yaml.MappingNode {
		d.refuse(root, "", "a recipe is a mapping")
		return
	}
	later := func(*yaml.Node, string) {}
	fields := map[string]reader{
		"sequence-number":       func(n *yaml.Node, f string) { b.Sequence, _ = d.uint(n, f) },
		"reference-uri":         func(n *yaml.Node, f string) { b.ReferenceURI, _ = d.scalar(n, f) },
		"manifest-component-id": func(n *yaml.Node, f string) { b.ComponentID = d.id(n, f) },
		"set-version":           func(n *yaml.Node, f string) { b.SetVersion = d.version(n, f) },
		"components": func(n *yaml.Node, f string) {
			d.list(n, f, func(n *yaml.Node, f string) { b.AddComponent(d.id(n, f)) })
		},
		"dependencies": func(n *yaml.Node, f string) {
			d.list(n, f, func(n *yaml.Node, f string) { d.deps = append(d.deps, d.id(n, f)) })
		},
		"payloads": d.payloads,
		"sever":    func(n *yaml.Node, f string) { d.list(n, f, d.sever) },
		"coswid":   func(n *yaml.Node, f string) { b.CoSWID = d.bytes(n, f) },
		"text":     d.text,
	}
	sections := d.sections()
	for name := range sections {
		fields[name] = later
	}
	d.mapping(root, "", fields)
	for _, id := range d.deps {
		b.AddDependency(id)
	}
	if len(b.Components)+len(b.Dependencies) == 0 {
		d.refuse(root, "components", "a manifest needs a component or a dependency")
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if dst, ok := sections[root.Content[i].Value]; ok {
			*dst = d.sequence(root.Content[i+1], root.Content[i].Value, 0)
		}
	}
}

func (d *decoder) sections() map[string]*suit.Sequence {
	b := d.builder
	return map[string]*suit.Sequence{
		"shared": &b.Shared, suit.MemberValidate.String(): &b.Validate, suit.MemberLoad.String(): &b.Load, suit.MemberInvoke.String(): &b.Invoke,
		suit.MemberDependencyResolution.String(): &b.DependencyResolution, suit.MemberPayloadFetch.String(): &b.PayloadFetch,
		suit.MemberCandidateVerification.String(): &b.CandidateVerification, suit.MemberInstall.String(): &b.Install,
		suit.MemberUninstall.String(): &b.Uninstall,
	}
}

func (d *decoder) payloads(n *yaml.Node, field string) {
	if n.Kind != yaml.MappingNode {
		d.refuse(n, field, "a mapping of URIs to files is expected")
		return
	}
	d.builder.Payloads = map[string][]byte{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		uri := n.Content[i].Value
		if _, twice := d.builder.Payloads[uri]; twice {
			d.refuse(n.Content[i], field+"."+uri, "stands here twice")
		}
		if name, ok := d.scalar(n.Content[i+1], field+"."+uri); ok {
			d.builder.Payloads[uri] = d.file(n.Content[i+1], field+"."+uri, name)
		}
	}
}

// severable are the members that Sever takes.
var severable = []suit.Member{
	suit.MemberDependencyResolution, suit.MemberPayloadFetch, suit.MemberCandidateVerification, suit.MemberInstall, suit.MemberText, suit.MemberCoSWID,
}

// Severable finds the severable member of that name.
func Severable(name string) (suit.Member, error) {
	var known []string
	for _, m := range severable {
		if m.String() == name {
			return m, nil
		}
		known = append(known, m.String())
	}
	return 0, fmt.Errorf("%q cannot be severed; known: %s", name, strings.Join(known, ", "))
}

func (d *decoder) sever(n *yaml.Node, field string) {
	name, ok := d.scalar(n, field)
	if !ok {
		return
	}
	m, err := Severable(name)
	if err != nil {
		d.refuse(n, field, "%v", err)
		return
	}
	d.builder.Sever = append(d.builder.Sever, m)
}

// file reads a file beside the recipe.
func (d *decoder) file(n *yaml.Node, field, name string) []byte {
	clean := path.Clean(name)
	if !fs.ValidPath(clean) {
		d.refuse(n, field, "%q is not a file beside the recipe or below it", name)
		return nil
	}
	f, err := d.dir.Open(clean)
	if err != nil {
		d.refuse(n, field, "%v", err)
		return nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() > MaxPayload) {
		err = fmt.Errorf("%s is no file of at most %d bytes", name, MaxPayload)
	}
	var data []byte
	if err == nil {
		data, err = fs.ReadFile(d.dir, clean)
	}
	if err != nil {
		d.refuse(n, field, "%v", err)
	}
	return data
}
