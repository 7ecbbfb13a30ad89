// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// goModule builds a Go program as a WebAssembly module. The program is foreign to the product: the toolchain's own output.
func goModule(t *testing.T, u *user, name, pkg string, flags ...string) string {
	t.Helper()
	out := filepath.Join(u.dir, name)
	build := exec.Command("go", append(append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"}, flags...), "-o", out, pkg)...)
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, text)
	}
	return out
}

// WebAssembly modules as TAs, from pack to call: a command, which starts anew for each request, and a reactor, which stays.
// Both read released data.
func TestWebAssembly(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.write("words.txt", "one potato\ntwo potatoes\nthree\n")
	for _, c := range []struct {
		serve string
		flags []string
		asked []int // how often the module has been asked for the word, as it counts itself
	}{
		{"stdio", nil, []int{1, 1}},
		{"socket", []string{"-buildmode=c-shared"}, []int{1, 2}},
	} {
		t.Run(c.serve, func(t *testing.T) {
			u.t = t
			module := goModule(t, u, c.serve+".wasm", "./examples/wasm/tally", c.flags...)
			name := "tally-" + c.serve
			u.must("", "pack", u.write(name+".yaml", fmt.Sprintf("name: %s\nmode: ta,pd\nta:\n  binary: %s\n  serve: %s\npd: [words.txt]\n"+
				"hardware: [trustzone]\ninstances: [process]\n", name, module, c.serve)))
			u.must("", "deploy", "--wait", name+".sealift")
			for _, n := range c.asked {
				want := fmt.Sprintf("asked %d, lines 2, sha256 %x\n", n, sha256.Sum256([]byte("potato")))
				if r := u.must("potato\n", "call", name); r.stdout != want {
					t.Errorf("%q, want %q\n%s", r.stdout, want, r.stderr)
				}
			}
			u.must("", "remove", name)
		})
	}
}

// A module where it does not belong, or that is none, is refused when it is packed.
func TestWebAssemblyRefused(t *testing.T) {
	u := newUser(t)
	u.write("words.txt", "one\n")
	module := u.write("cut.wasm", "\x00asm\x01\x00\x00\x00")
	for words, text := range map[string]string{
		"in a process or vm": "name: x\nmode: ta,pd\nta:\n  binary: " + module + "\n  serve: stdio\npd: [words.txt]\nhardware: [trustzone]\ninstances: [container]\n",
		"ua.binary":          "name: x\nmode: ua,ta,pd\nua:\n  binary: " + module + "\nta:\n  binary: " + module + "\n  serve: stdio\npd: [words.txt]\nhardware: [trustzone]\ninstances: [process]\n",
	} {
		r := u.sealift("", "pack", u.write("x.yaml", text))
		if r.code != 2 || !strings.Contains(r.stderr, words) {
			t.Errorf("exit %d, want 2 and %q\n%s", r.code, words, r.stderr)
		}
	}
}
