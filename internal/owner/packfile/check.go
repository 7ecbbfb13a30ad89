// SPDX-License-Identifier: Apache-2.0

package packfile

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"sealift/internal/launch"
	"sealift/usecase"
)

// Bounds of a package: what an Agent takes in one manifest, and what fits a component identifier.
const (
	maxPD        = 32
	maxArgBytes  = launch.MaxBytes / 2
	minMemory    = 1 << 20
	maxNameBytes = 64
)

var (
	appName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
	portName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)
	dataName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
	variable = regexp.MustCompile(`\$\{([^}]*)\}`)
	archs    = []string{"amd64", "arm64"}
)

// Check fills in the defaults and returns every Problem of the description, or nil. It looks at the files that the description
// names but reads no more of them than it must.
func (f *File) Check() error {
	f.defaults()
	c := &checker{f: f}
	c.name()
	c.cells()
	c.mode()
	if f.TA != nil {
		c.ta()
	}
	if f.UA != nil {
		c.ua()
	}
	c.pd()
	if len(c.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(c.problems, func(a, b Problem) int { return a.Line - b.Line })
	return c.problems
}

func (f *File) defaults() {
	if f.Arch == "" {
		f.Arch = runtime.GOARCH
	}
	if f.TA != nil && f.TA.Serve == "" {
		f.TA.Serve = launch.ServeSocket
	}
	if f.TA != nil && f.TA.Callers == "" {
		f.TA.Callers = launch.CallersOwner
	}
}

type checker struct {
	f        *File
	problems Problems
}

func (c *checker) refuse(field, hint, format string, args ...any) {
	c.problems = append(c.problems, c.f.problem(field, hint, format, args...))
}

func (c *checker) name() {
	switch {
	case c.f.Name == "":
		c.refuse("name", "for example name: stats", "the package needs a name")
	case !appName.MatchString(c.f.Name):
		c.refuse("name", "1 to 40 lower case letters, digits and hyphens, a letter or digit at both ends", "%q is not a name", c.f.Name)
	}
	if !slices.Contains(archs, c.f.Arch) {
		c.refuse("arch", didYouMean(c.f.Arch, archs), "unknown architecture %q", c.f.Arch)
	}
}

// cells checks that every accepted hardware fits some accepted instance type, and the other way round (USECASE section 2).
func (c *checker) cells() {
	known := knownWords(c, "hardware", c.f.Hardware, usecase.AllHardware())
	if !knownWords(c, "instances", c.f.Instances, usecase.Instances()) || !known {
		return
	}
	for i, hw := range c.f.Hardware {
		if err := anyFits(c.f.Instances, func(in usecase.Instance) error { return usecase.Valid(in, hw) }); err != nil {
			c.refuse(fmt.Sprintf("hardware[%d]", i), "", "%v", err)
			known = false
		}
	}
	for i, in := range c.f.Instances {
		err := anyFits(c.f.Hardware, func(hw usecase.Hardware) error { return usecase.Valid(in, hw) })
		if err != nil && known { // else the same pair would be refused from both sides
			c.refuse(fmt.Sprintf("instances[%d]", i), "", "%v", err)
		}
	}
}

// anyFits returns nil when valid accepts one of list, else the reason against the last.
func anyFits[T any](list []T, valid func(T) error) error {
	var why error
	for _, v := range list {
		if why = valid(v); why == nil {
			return nil
		}
	}
	return why
}

// knownWords refuses an empty list, unknown words and repeated ones.
func knownWords[T ~string](c *checker, field string, list, words []T) bool {
	if len(list) == 0 {
		c.refuse(field, "known: "+strings.Join(names(words), ", "), "the package does not say which it may run on")
		return false
	}
	ok := true
	for i, w := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		if !slices.Contains(words, w) {
			c.refuse(at, didYouMean(string(w), names(words)), "unknown word %q", w)
			ok = false
		} else if slices.Index(list, w) < i {
			c.refuse(at, "", "%q stands here twice", w)
		}
	}
	return ok
}

// mode checks that the description has exactly the components that its mode moves.
func (c *checker) mode() {
	modes := names(usecase.Modes())
	if c.f.Mode == "" {
		c.refuse("mode", "known: "+strings.Join(modes, "  "), "the package needs a mode")
		return
	}
	if _, err := usecase.ParseMode(string(c.f.Mode)); err != nil {
		c.refuse("mode", didYouMean(string(c.f.Mode), modes), "unknown mode %q", c.f.Mode)
		return
	}
	for _, p := range []struct {
		kind  usecase.Payload
		given bool
	}{{usecase.TA, c.f.TA != nil}, {usecase.UA, c.f.UA != nil}, {usecase.PD, len(c.f.PD) > 0}} {
		switch wanted := c.f.Mode.Has(p.kind); {
		case wanted && !p.given:
			c.refuse(string(p.kind), "", "mode %s needs this component, and it is missing", c.f.Mode)
		case !wanted && p.given:
			c.refuse(string(p.kind), "take it out, or choose a mode that has it", "mode %s has no place for this component", c.f.Mode)
		}
	}
}

func (c *checker) ta() {
	ta := c.f.TA
	c.taProgram(ta)
	c.word("ta.serve", ta.Serve, launch.ServeSocket, launch.ServeStdio)
	c.word("ta.callers", ta.Callers, launch.CallersOwner, launch.CallersAny)
	if ta.Restart != "" {
		c.word("ta.restart", ta.Restart, launch.RestartAlways, launch.RestartOnFailure, launch.RestartNever)
	}
	if ta.Memory != 0 && ta.Memory < minMemory {
		c.refuse("ta.memory", "write it as 64MiB", "%d bytes are too few for a program", ta.Memory)
	}
	vars := []string{"PD", "ATTEST"}
	if ta.Serve == launch.ServeSocket {
		vars = append(vars, "LISTEN")
	}
	c.args("ta.args", ta.Args, vars)
}

// taProgram checks what a TA is made of: a program; an image, which belongs in containers, also those of guests; or a guest payload.
func (c *checker) taProgram(ta *TA) {
	if ta.Guest != "" {
		c.guest(ta)
		return
	}
	if ta.Image == "" && (c.f.Contained() || !IsModule(ta.Binary)) {
		c.program("ta.binary", ta.Binary)
	}
	if ta.Image != "" && ta.Binary != "" {
		c.refuse("ta.image", "take one of them out", "the TA is given as a program and as an image")
	}
	if c.f.Contained() {
		return
	}
	for _, f := range []struct {
		field string
		given bool
	}{{"ta.image", ta.Image != ""}, {"ta.entrypoint", len(ta.Entrypoint) > 0}, {"ta.dir", ta.Dir != ""},
		{"ta.cpus", ta.CPUs > 0}} {
		if f.given {
			c.refuse(f.field, "write instances: [container]; an image also runs in [vm]", "this belongs to a TA that runs in containers, and only there")
		}
	}
}

// guest checks a TA that a guest is booted with. What it is made of is read when it is packed.
func (c *checker) guest(ta *TA) {
	if ta.Image != "" || ta.Binary != "" {
		c.refuse("ta.guest", "take the other out", "the TA is given as a guest payload and as something else")
	}
	if len(c.f.Instances) != 1 || c.f.Instances[0] != usecase.VM {
		c.refuse("ta.guest", "write instances: [vm]", "a guest payload belongs to a vm, and only there")
	}
	if ta.Dir != "" || ta.CPUs > 0 {
		c.refuse("ta.guest", "take dir and cpus out", "these belong to a container image")
	}
	st, err := os.Stat(ta.Guest)
	switch {
	case err != nil && errors.Is(err, fs.ErrNotExist):
		c.refuse("ta.guest", c.f.pathHint(), "there is no file or folder %s", ta.Guest)
	case err != nil:
		c.refuse("ta.guest", "", "%v", err)
	case st.IsDir():
	case IsELF(ta.Guest):
		c.program("ta.guest", ta.Guest)
		return
	default:
		c.readable("ta.guest", ta.Guest)
	}
	if len(ta.Entrypoint) == 0 || !path.IsAbs(ta.Entrypoint[0]) {
		c.refuse("ta.entrypoint", "for example entrypoint: /bin/app", "a guest payload needs the absolute path of its program in it")
	}
}

func (c *checker) ua() {
	ua := c.f.UA
	c.program("ua.binary", ua.Binary)
	if ua.Memory != 0 && ua.Memory < minMemory {
		c.refuse("ua.memory", "write it as 64MiB", "%d bytes are too few for a program", ua.Memory)
	}
	vars := []string{"TA", "REQUEST_TA", "HOST"}
	for i, p := range ua.Ports {
		at := fmt.Sprintf("ua.ports[%d]", i)
		if !portName.MatchString(p.Name) {
			c.refuse(at, "lower case letters, digits, hyphens and underscores", "%q is not a name for a port", p.Name)
			continue
		}
		v := launch.PortVar(p.Name)
		if slices.Contains(vars, v) {
			c.refuse(at, "", "the port %q stands here twice", p.Name)
		}
		vars = append(vars, v)
		if i == 0 {
			vars = append(vars, "PORT")
		}
	}
	if len(ua.Ports) > launch.MaxPorts {
		c.refuse("ua.ports", "", "%d ports, at most %d can be published", len(ua.Ports), launch.MaxPorts)
	}
	c.args("ua.args", ua.Args, vars)
}

func (c *checker) word(field, got string, known ...string) {
	if !slices.Contains(known, got) {
		c.refuse(field, didYouMean(got, known), "unknown word %q", got)
	}
}

// args checks sizes and that no ${NAME} is a misspelt name of those that the device will replace. Others may be the program's own.
func (c *checker) args(field string, args, vars []string) {
	total := 0
	for i, arg := range args {
		at := fmt.Sprintf("%s[%d]", field, i)
		total += len(arg) + 1
		if strings.ContainsRune(arg, 0) {
			c.refuse(at, "", "an argument cannot hold a zero byte")
		}
		for _, m := range variable.FindAllStringSubmatch(arg, -1) {
			if !slices.Contains(vars, m[1]) && misspelt(m[1], vars) {
				c.refuse(at, "known here: ${"+strings.Join(vars, "}, ${")+"}", "unknown variable %s", m[0])
			}
		}
	}
	if len(args) > launch.MaxArgs || total > maxArgBytes {
		c.refuse(field, "", "more than %d arguments or %d bytes", launch.MaxArgs, maxArgBytes)
	}
}

// misspelt reports whether name is nearly one of vars, or a variable that the device knows but not here.
func misspelt(name string, vars []string) bool {
	if slices.Contains([]string{"PD", "LISTEN", "ATTEST", "TA", "REQUEST_TA", "HOST", "PORT"}, name) || strings.HasPrefix(name, "PORT_") {
		return true
	}
	return slices.ContainsFunc(vars, func(v string) bool { return distance(name, v) == 1 || strings.EqualFold(name, v) })
}

func (c *checker) pd() {
	if len(c.f.PD) > maxPD {
		c.refuse("pd", "put them into one archive that the TA opens", "%d files, at most %d fit one manifest", len(c.f.PD), maxPD)
	}
	seen := make(map[string]bool)
	for i, d := range c.f.PD {
		at := fmt.Sprintf("pd[%d]", i)
		if !dataName.MatchString(d.Name) || len(d.Name) > maxNameBytes {
			c.refuse(at, "letters, digits, dots, hyphens and underscores; or give one as {name: ..., path: ...}", "%q is not a name for a file of PD", d.Name)
		} else if seen[d.Name] {
			c.refuse(at, "give one of them another name as {name: ..., path: ...}", "two files would have the name %q", d.Name)
		}
		seen[d.Name] = true
		c.readable(at, d.Path)
	}
}

// readable checks that path is a regular file with content that this user can open.
func (c *checker) readable(field, path string) bool {
	if path == "" {
		c.refuse(field, "", "the path is missing")
		return false
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.refuse(field, c.f.pathHint(), "there is no file %s", path)
		return false
	case err != nil:
		c.refuse(field, "", "%v", err)
		return false
	case !st.Mode().IsRegular():
		c.refuse(field, "put a folder into an archive first", "%s is not a regular file", path)
		return false
	case st.Size() == 0:
		c.refuse(field, "", "%s is empty", path)
		return false
	}
	r, err := os.Open(path)
	if err != nil {
		c.refuse(field, "", "%v", err)
		return false
	}
	r.Close()
	return true
}

func (c *checker) program(field, path string) {
	if !c.readable(field, path) {
		return
	}
	if err := checkProgram(path, c.f.Arch); err != nil {
		c.refuse(field, err.hint, "%s", err.what)
	}
}

func names[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// pathHint reminds of where relative paths begin, which differs between a package file and flags.
func (f *File) pathHint() string {
	if f.source == "" {
		return ""
	}
	return "paths are relative to the package file"
}
