// SPDX-License-Identifier: Apache-2.0

package packfile

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sealift/usecase"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// program builds a small static program once and returns its path.
func program(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	src := filepath.Join(dir, "main.go")
	if err := os.WriteFile(src, []byte("package main\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "prog")
	cmd := exec.Command("go", "build", "-o", out, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building a program: %v\n%s", err, msg)
	}
	return out
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReadGood(t *testing.T) {
	dir := t.TempDir()
	data, err := os.ReadFile(program(t))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "ta"), string(data))
	write(t, filepath.Join(dir, "records.csv"), "a,b\n")
	path := filepath.Join(dir, "p.yaml")
	write(t, path, `
name: stats
mode: ua,ta,pd
hardware: [trustzone]
instances: process
ta: {binary: ta, args: ["-f", "${PD}/records.csv"], serve: stdio, callers: any, memory: 64MiB}
ua:
  binary: ta
  args: ["--listen", "${HOST}:${PORT_HTTP}"]
  ports: [http, {name: admin, port: 9000}]
pd:
  - records.csv
  - {name: again, path: records.csv}
`)
	f, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Check(); err != nil {
		t.Fatal(err)
	}
	if f.TA.Memory != 64<<20 || f.TA.Binary != filepath.Join(dir, "ta") || len(f.UA.Ports) != 2 || f.UA.Ports[1].Number != 9000 {
		t.Errorf("read %+v %+v", f.TA, f.UA)
	}
	if f.PD[0].Name != "records.csv" || f.PD[1].Name != "again" || len(f.Cells()) != 1 {
		t.Errorf("read %+v %v", f.PD, f.Cells())
	}
}

// TestProblems holds one file with many faults: all of them must be reported, each with its line.
func TestProblems(t *testing.T) {
	for _, name := range []string{"fields", "meaning", "cells", "yaml", "empty", "superfluous"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name+".yaml")
			f, err := Read(path)
			if err == nil {
				err = f.Check()
			}
			var ps Problems
			if !errors.As(err, &ps) {
				t.Fatalf("got %v, not Problems", err)
			}
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				write(t, golden, err.Error()+"\n")
			}
			want, readErr := os.ReadFile(golden)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if err.Error()+"\n" != string(want) {
				t.Errorf("got\n%v\nwant\n%s", err, want)
			}
		})
	}
}

func TestFlagProblems(t *testing.T) {
	f := New(map[string]string{"ta": "--ta", "ta.binary": "--ta", "hardware": "--hardware", "mode": "--mode"})
	f.Name, f.Mode = "x", "ta,pd"
	f.TA = &TA{Binary: "/nowhere/ta"}
	f.Hardware, f.Instances = []usecase.Hardware{"tdx"}, []usecase.Instance{"process"}
	err := f.Check()
	for _, want := range []string{"--ta: there is no file /nowhere/ta", "--hardware: tdx/process", "pd: mode ta,pd needs this component"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
}

func TestPrograms(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct{ content, want string }{
		"script":  {"#!/bin/sh\n", "is a script"},
		"windows": {"MZ\x90\x00", "Windows program"},
		"wasm":    {"\x00asm\x01", "WebAssembly module"},
		"text":    {"hello there", "not a static ELF"},
		"short":   {"x", "too short"},
	} {
		path := filepath.Join(dir, name)
		write(t, path, tc.content)
		if err := checkProgram(path, "amd64"); err == nil || !strings.Contains(err.what, tc.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := checkProgram(program(t), "other"); err != nil {
		t.Errorf("static program: %v", err)
	}
	if sh, err := filepath.EvalSymlinks("/bin/sh"); err == nil {
		if err := checkProgram(sh, "other"); err == nil || !strings.Contains(err.what, "dynamically linked") {
			t.Errorf("shell: got %v", err)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]uint64{"1": 1, "64MiB": 64 << 20, "2 GiB": 2 << 30, "7KiB": 7 << 10, "0": 0, "-1": 0, "1MB": 0, "99999999999999GiB": 0} {
		got, err := ParseSize(in)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("ParseSize(%q) = %d, %v", in, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"fields", "meaning", "cells", "yaml", "superfluous"} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data, "fuzz.yaml")
		if (file == nil) == (err == nil) {
			t.Fatalf("file %v and error %v", file, err)
		}
	})
}

// TestImage guards the fields of a TA that is a container image, and where they belong.
func TestImage(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "records.csv"), "a,b\n")
	read := func(ta, instances string) (*File, error) {
		path := filepath.Join(dir, "p.yaml")
		hardware := "trustzone"
		if strings.Contains(instances, "vm") {
			hardware = "sev-snp"
		}
		write(t, path, "name: stats\nmode: ta,pd\nhardware: ["+hardware+"]\ninstances: "+instances+"\npd: [records.csv]\nta: "+ta+"\n")
		f, err := Read(path)
		if err != nil {
			return nil, err
		}
		return f, f.Check()
	}
	f, err := read("{image: app, entrypoint: [/a, b], env: [A=b], dir: /x, cpus: 0.5, memory: 1GiB}", "[container]")
	if err != nil {
		t.Fatal(err)
	}
	if f.TA.Image != filepath.Join(dir, "app") || len(f.TA.Entrypoint) != 2 || f.TA.Env[0] != "A=b" || f.TA.Dir != "/x" || f.TA.CPUs != 500 || !f.Contained() {
		t.Errorf("%+v", f.TA)
	}
	reference := "registry.example/app@sha256:" + strings.Repeat("0", 64)
	if f, err = read("{image: "+reference+"}", "container"); err != nil || f.TA.Image != reference {
		t.Errorf("%+v %v", f, err)
	}
	for ta, instances := range map[string]string{"{image: app}": "[vm, container]", "{guest: records.csv, entrypoint: [/app]}": "[vm]"} {
		if f, err := read(ta, instances); err != nil || f.Contained() != (f.TA.Guest == "") {
			t.Errorf("%s in %s: %v", ta, instances, err)
		}
	}
	for ta, instances := range map[string]string{
		"{image: app}":                                                  "[process, container]",
		"{image: app, entrypoint: [/a]}":                                "[process]",
		"{image: app, binary: records.csv}":                             "[container]",
		"{image: app, cpus: many}":                                      "[container]",
		"{image: app, cpus: 0}":                                         "[container]",
		"{serve: stdio}":                                                "[container]",
		"{image: app, env: {A: b}}":                                     "[container]",
		"{binary: records.csv, env: [A=b]}":                             "[process]",
		"{image: app, args: [\"${LISTN}\"]}":                            "[vm]",
		"{guest: records.csv}":                                          "[vm]", // which program?
		"{guest: records.csv, entrypoint: [app]}":                       "[vm]",
		"{guest: none, entrypoint: [/app]}":                             "[vm]",
		"{guest: records.csv, entrypoint: [/app], image: app}":          "[vm]",
		"{guest: records.csv, entrypoint: [/app], cpus: 1}":             "[vm]",
		"{guest: records.csv, entrypoint: [/app], binary: records.csv}": "[vm]",
	} {
		var problems Problems
		if _, err := read(ta, instances); !errors.As(err, &problems) {
			t.Errorf("%s in %s: %v", ta, instances, err)
		}
	}
}
