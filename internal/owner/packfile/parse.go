// SPDX-License-Identifier: Apache-2.0

package packfile

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxFile bounds a package file: a description is a page, not a payload.
const maxFile = 1 << 20

// Read parses the package file at path. Paths in it are relative to its own folder.
func Read(path string) (*File, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the package file: %w", err)
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the package file: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("the package file %s is larger than %d bytes: is it a package file?", path, maxFile)
	}
	return Parse(data, path)
}

// Parse parses a package file's bytes. source names it in Problems, and its folder is where relative paths begin.
func Parse(data []byte, source string) (*File, error) {
	var doc yaml.Node
	if err := yaml.Load(data, &doc); err != nil {
		return nil, syntaxProblems(err, source)
	}
	d := &decoder{file: &File{source: source, pos: make(map[string]Pos)}, dir: filepath.Dir(source)}
	root := &doc
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		root = doc.Content[0]
	}
	d.file.pos[""] = Pos{Line: max(root.Line, 1), Column: max(root.Column, 1)}
	d.mapping(root, "", map[string]func(*yaml.Node, string){
		"name":      d.text(&d.file.Name),
		"mode":      word(d, &d.file.Mode),
		"arch":      d.text(&d.file.Arch),
		"hardware":  words(d, &d.file.Hardware),
		"instances": words(d, &d.file.Instances),
		"ta":        d.ta,
		"ua":        d.ua,
		"pd":        d.pd,
	})
	if len(d.problems) > 0 {
		return nil, d.problems
	}
	return d.file, nil
}

// syntaxProblems turns what the YAML reader says into Problems with lines.
func syntaxProblems(err error, source string) error {
	var one *yaml.LoadError
	var many *yaml.LoadErrors
	var ps Problems
	add := func(e *yaml.LoadError) {
		text := e.Message
		if text == "" {
			text = e.Error()
		}
		ps = append(ps, Problem{Source: source, Line: e.Mark.Line, Column: e.Mark.Column, Message: "not YAML: " + text})
	}
	switch {
	case errors.As(err, &many):
		for _, e := range many.Errors {
			add(e)
		}
	case errors.As(err, &one):
		add(one)
	default:
		ps = Problems{{Source: source, Message: "not YAML: " + err.Error()}}
	}
	return ps
}

// decoder walks the YAML nodes by hand, because only so every value keeps its line for what Check finds later.
type decoder struct {
	file     *File
	dir      string
	problems Problems
}

func (d *decoder) refuse(n *yaml.Node, field, hint, format string, args ...any) {
	d.problems = append(d.problems, Problem{Source: d.file.source, Line: n.Line, Column: n.Column, Field: field,
		Message: fmt.Sprintf(format, args...), Hint: hint})
}

// mapping gives each value of the mapping n to the function of its key, and refuses keys that have none.
func (d *decoder) mapping(n *yaml.Node, at string, fields map[string]func(*yaml.Node, string)) {
	if n.Kind != yaml.MappingNode {
		d.refuse(n, at, "write it as `field: value` lines", "a mapping is expected here, not %s", kindName(n))
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		field := join(at, key.Value)
		read, ok := fields[key.Value]
		switch {
		case !ok:
			d.refuse(key, field, didYouMean(key.Value, keys(fields)), "unknown field")
		case seen[key.Value]:
			d.refuse(key, field, "", "the field stands here twice")
		default:
			seen[key.Value] = true
			d.file.pos[field] = Pos{Line: value.Line, Column: value.Column}
			read(value, field)
		}
	}
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

// scalar reads a single value. An alias or an anchor has no use in so small a file and is not followed.
func (d *decoder) scalar(n *yaml.Node, field string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		d.refuse(n, field, "", "a single value is expected here, not %s", kindName(n))
		return "", false
	}
	return n.Value, true
}

func (d *decoder) text(dst *string) func(*yaml.Node, string)    { return word(d, dst) }
func (d *decoder) texts(dst *[]string) func(*yaml.Node, string) { return words(d, dst) }

func word[T ~string](d *decoder, dst *T) func(*yaml.Node, string) {
	return func(n *yaml.Node, field string) {
		if v, ok := d.scalar(n, field); ok {
			*dst = T(v)
		}
	}
}

func words[T ~string](d *decoder, dst *[]T) func(*yaml.Node, string) {
	return func(n *yaml.Node, field string) {
		d.list(n, field, func(n *yaml.Node, field string) {
			if v, ok := d.scalar(n, field); ok {
				*dst = append(*dst, T(v))
			}
		})
	}
}

// list calls item for each element. A single scalar counts as a list of one.
func (d *decoder) list(n *yaml.Node, field string, item func(n *yaml.Node, field string)) {
	if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
		item(n, field)
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.refuse(n, field, "write it as [a, b] or as `- a` lines", "a list is expected here, not %s", kindName(n))
		return
	}
	for i, e := range n.Content {
		at := field + "[" + strconv.Itoa(i) + "]"
		d.file.pos[at] = Pos{Line: e.Line, Column: e.Column}
		item(e, at)
	}
}

// path reads a file's path and makes it relative to the working directory instead of the package file's folder.
func (d *decoder) path(dst *string) func(*yaml.Node, string) {
	return func(n *yaml.Node, field string) {
		if v, ok := d.scalar(n, field); ok {
			*dst = d.resolve(v)
		}
	}
}

func (d *decoder) resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(d.dir, filepath.FromSlash(path))
}

// image reads a path, or a reference, which is taken as it stands.
func (d *decoder) image(dst *string) func(*yaml.Node, string) {
	return func(n *yaml.Node, field string) {
		if v, ok := d.scalar(n, field); ok {
			if *dst = d.resolve(v); strings.Contains(v, "@sha256:") {
				*dst = v
			}
		}
	}
}

func (d *decoder) ta(n *yaml.Node, at string) {
	ta := &TA{}
	d.file.TA = ta
	d.mapping(n, at, map[string]func(*yaml.Node, string){
		"binary":  d.path(&ta.Binary),
		"image":   d.image(&ta.Image),
		"guest":   d.path(&ta.Guest),
		"args":    d.texts(&ta.Args),
		"serve":   d.text(&ta.Serve),
		"callers": d.text(&ta.Callers),
		"restart": d.text(&ta.Restart),
		"maxProcs": func(n *yaml.Node, field string) {
			ta.Procs = uint32(d.count(n, field, math.MaxUint32))
		},
		"cpuSeconds": func(n *yaml.Node, field string) {
			ta.CPUSeconds = d.count(n, field, math.MaxInt32)
		},

		"entrypoint": d.texts(&ta.Entrypoint),
		"env":        d.texts(&ta.Env),
		"dir":        d.text(&ta.Dir),
		"cpus": func(n *yaml.Node, field string) {
			v, ok := d.scalar(n, field)
			if !ok {
				return
			}
			cpus, err := strconv.ParseFloat(v, 64)
			if err != nil || !(cpus >= 0.01 && cpus <= 1024) {
				d.refuse(n, field, "write it as 0.5 or 2", "%q is no number of processors", v)
				return
			}
			ta.CPUs = uint32(cpus * 1000)
		},
		"memory": d.size(&ta.Memory),
	})
}

// size reads a number of bytes.
func (d *decoder) size(dst *uint64) func(*yaml.Node, string) {
	return func(n *yaml.Node, field string) {
		v, ok := d.scalar(n, field)
		if !ok {
			return
		}
		size, err := ParseSize(v)
		if err != nil {
			d.refuse(n, field, "write it as 64MiB", "%v", err)
		}
		*dst = size
	}
}

// count reads a whole number from 1 to most.
func (d *decoder) count(n *yaml.Node, field string, most uint64) uint64 {
	v, ok := d.scalar(n, field)
	if !ok {
		return 0
	}
	number, err := strconv.ParseUint(v, 10, 64)
	if err != nil || number == 0 || number > most {
		d.refuse(n, field, "write a whole number", "%q is no number from 1 to %d", v, most)
		return 0
	}
	return number
}

func (d *decoder) ua(n *yaml.Node, at string) {
	ua := &UA{}
	d.file.UA = ua
	d.mapping(n, at, map[string]func(*yaml.Node, string){
		"binary": d.path(&ua.Binary),
		"args":   d.texts(&ua.Args),
		"memory": d.size(&ua.Memory),
		"maxProcs": func(n *yaml.Node, field string) {
			ua.Procs = uint32(d.count(n, field, math.MaxUint32))
		},
		"ports": func(n *yaml.Node, field string) {
			d.list(n, field, func(n *yaml.Node, field string) { d.port(ua, n, field) })
		},
	})
}

// port reads `http`, `http=8080` or `{name: http, port: 8080}`.
func (d *decoder) port(ua *UA, n *yaml.Node, field string) {
	var p Port
	if n.Kind == yaml.MappingNode {
		number := ""
		d.mapping(n, field, map[string]func(*yaml.Node, string){"name": d.text(&p.Name), "port": d.text(&number)})
		if number != "" {
			parsed, err := ParsePort(p.Name + "=" + number)
			if err != nil {
				d.refuse(n, field, "", "%v", err)
			}
			p = parsed
		}
	} else if v, ok := d.scalar(n, field); ok {
		parsed, err := ParsePort(v)
		if err != nil {
			d.refuse(n, field, "write it as http or http=8080", "%v", err)
		}
		p = parsed
	}
	ua.Ports = append(ua.Ports, p)
}

func (d *decoder) pd(n *yaml.Node, at string) {
	d.list(n, at, func(n *yaml.Node, field string) {
		var data Data
		if n.Kind == yaml.MappingNode {
			d.mapping(n, field, map[string]func(*yaml.Node, string){"name": d.text(&data.Name), "path": d.path(&data.Path)})
		} else if v, ok := d.scalar(n, field); ok {
			data.Path = d.resolve(v)
		}
		if data.Name == "" && data.Path != "" {
			data.Name = filepath.Base(data.Path)
		}
		d.file.PD = append(d.file.PD, data)
	})
}

// ParsePort parses "name" or "name=number".
func ParsePort(s string) (Port, error) {
	name, number, given := strings.Cut(s, "=")
	p := Port{Name: name}
	if given {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return Port{}, fmt.Errorf("%q is not a port number", number)
		}
		p.Number = uint16(n)
	}
	return p, nil
}

// ParseData parses a flag's "path" or "name=path".
func ParseData(s string) Data {
	if name, path, ok := strings.Cut(s, "="); ok && !strings.ContainsRune(name, filepath.Separator) {
		return Data{Name: name, Path: path}
	}
	return Data{Name: filepath.Base(s), Path: s}
}

// ParseSize parses a number of bytes with an optional unit KiB, MiB or GiB.
func ParseSize(s string) (uint64, error) {
	digits, shift := s, 0
	for unit, bits := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if rest, ok := strings.CutSuffix(s, unit); ok {
			digits, shift = strings.TrimSpace(rest), bits
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n == 0 || n > 1<<62>>shift {
		return 0, fmt.Errorf("%q is not a size", s)
	}
	return n << shift, nil
}

func kindName(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias"
	case n.Kind == yaml.ScalarNode && n.Tag != "!!null":
		return strconv.Quote(n.Value)
	default:
		return "nothing"
	}
}
