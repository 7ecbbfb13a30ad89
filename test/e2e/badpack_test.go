// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A package file that is wrong is refused with the place and the reason, and no package is written. What a package file says
// is checked before any M/OC is asked, so none runs here.
func TestBadPackageFiles(t *testing.T) {
	u := newUser(t)
	u.must("", "keys", "generate")
	good, err := os.ReadFile(textPackage(t, u, "bad", "text"))
	if err != nil {
		t.Fatal(err)
	}
	u.write("noelf", "#!/bin/sh\necho I am a script\n")
	u.write("cut", "\x7fELF\x02\x01\x01")
	replace := func(from, to string) string {
		if !strings.Contains(string(good), from) {
			t.Fatalf("the package file does not hold %q", from)
		}
		return strings.Replace(string(good), from, to, 1)
	}
	for name, c := range map[string]struct {
		text  string
		words []string
	}{
		"missing program":   {replace(busybox(t), "./nothing-here"), []string{"bad.yaml:4:", "ta.binary", "there is no file", "nothing-here"}},
		"missing data":      {replace("[bad.txt]", "[lost.csv]"), []string{"bad.yaml:7:", "pd[0]", "there is no file", "lost.csv"}},
		"unknown mode":      {replace("ta,pd", "ta,px"), []string{"bad.yaml:2:", "unknown mode", "ta,pd?"}},
		"unknown hardware":  {replace("trustzone", "trustzome"), []string{"hardware[0]", "trustzome", "did you mean trustzone?"}},
		"unknown instance":  {replace("process", "prozess"), []string{"instances[0]", "prozess"}},
		"hardware instance": {replace("trustzone", "sev-snp"), []string{"hardware[0]", "sev-snp/process", "the nearest that fit"}},
		"instance hardware": {replace("process", "vm"), []string{"trustzone/vm", "the nearest that fit"}},
		"unknown field":     {string(good) + "colour: red\n", []string{"bad.yaml:10:1", "colour", "unknown field"}},
		"misspelt field":    {replace("serve:", "serves:"), []string{"ta.serves", "did you mean serve?"}},
		"field twice":       {string(good) + "name: again\n", []string{"name", "twice"}},
		"unknown serve":     {replace("stdio", "http"), []string{"serve", "http"}},
		"mode without ua":   {replace("ta,pd", "ua,ta,pd"), []string{"ua", "missing"}},
		"dynamic program":   {replace(busybox(t), "/bin/sh"), []string{"ta.binary", "dynamically linked", "statically"}},
		"script":            {replace(busybox(t), "noelf"), []string{"ta.binary", "is a script"}},
		"cut program":       {replace(busybox(t), "cut"), []string{"ta.binary", "not a static ELF"}},
		"no name":           {replace("name: bad\n", ""), []string{"name", "needs a name"}},
		"bad name":          {replace("name: bad", "name: ../../bad"), []string{"name", "../../bad"}},
		"empty":             {"", []string{"bad.yaml", "not YAML"}},
		"not YAML":          {"name: [\n", []string{"bad.yaml", "not YAML"}},
		"not text":          {"\x00\xff\xfe\x80", []string{"bad.yaml", "not YAML"}},
		"two errors":        {strings.Replace(replace("trustzone", "sgy"), "ta,pd", "pd,ta", 1), []string{"2 errors", "mode", "hardware[0]"}},
	} {
		t.Run(name, func(t *testing.T) {
			u.t = t
			u.write("bad.yaml", c.text)
			r := u.refused(2, c.words, "pack", "bad.yaml")
			if r.stdout != "" {
				t.Errorf("stdout: %s", r.stdout)
			}
			if made, _ := filepath.Glob(filepath.Join(u.dir, "*.sealift*")); len(made) != 0 {
				t.Errorf("a package was written: %v", made)
			}
		})
	}
	u.t = t
	u.refused(2, []string{"none.yaml", "no such file"}, "pack", "none.yaml")
	u.write("bad.yaml", string(good))
	u.must("", "pack", "bad.yaml")
	u.refused(2, []string{"no such file"}, "plan", "other.sealift")
}

// A package that was changed after it was signed, or cut short, is refused before anything of it is sent.
func TestBadPackages(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.must("", "pack", textPackage(t, u, "bad", "text"))
	path := filepath.Join(u.dir, "bad.sealift")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := func(at int) []byte {
		data := append([]byte(nil), whole...)
		data[at] ^= 1
		return data
	}
	for name, data := range map[string][]byte{
		"empty": {}, "cut in the middle": whole[:len(whole)/2], "cut at the end": whole[:len(whole)-1],
		"changed at the start": flipped(3), "changed payload": flipped(len(whole) / 2), "not a package": []byte(strings.Repeat("x", 5000)),
	} {
		t.Run(name, func(t *testing.T) {
			u.t = t
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			u.refused(2, []string{"damaged"}, "deploy", "--wait", "--timeout", "20s", "bad.sealift")
			if left := deployments(t, u); len(left) != 0 {
				t.Errorf("deployed: %v", left)
			}
		})
	}
	stillWorks(t, u)
}
