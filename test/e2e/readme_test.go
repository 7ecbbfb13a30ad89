// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// readme returns the README.
func readme(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// fenced returns the fenced blocks of a Markdown section.
func fenced(t *testing.T, text, section string) []string {
	t.Helper()
	_, text, found := strings.Cut(text, "\n## "+section+"\n")
	if !found {
		t.Fatalf("the README has no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)```[a-z]*\n(.*?)```").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// "Your own package" of the README works as it stands there, word for word, in one shell.
func TestReadmeYourOwnPackage(t *testing.T) {
	blocks := fenced(t, readme(t), "Your own package")
	if len(blocks) < 3 || !strings.HasPrefix(blocks[0], "# oui.yaml\n") || !strings.Contains(blocks[1], "dev up") || !strings.Contains(blocks[2], "demo --break") {
		t.Fatalf("the README's blocks are others than this test knows: %q", blocks)
	}
	u := newUser(t)
	u.write("oui.yaml", blocks[0])
	if err := os.Symlink(bin, filepath.Join(u.dir, "bin")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		u.sealift("", "dev", "down")
		nothingLeft(t)
	})
	cmd := exec.Command("sh", "-e", "-c", blocks[1])
	cmd.Dir, cmd.Env = u.dir, append(os.Environ(), "SEALIFT_HOME="+u.home)
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{"device-1, trustzone, EMULATED", "oui.sealift", "pd-to-ta", "running", "Raspberry Pi", "removed", "stopped"} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not print %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// Each verb and flag that the README uses is one that the program's own help names, as are the faults of demo --break.
func TestReadmeVerbsExist(t *testing.T) {
	u := newUser(t)
	help := u.must("", "--help").stdout
	commands := commandLines(readme(t))
	if len(commands) < 9 {
		t.Fatalf("found only %d command lines", len(commands))
	}
	for _, args := range commands {
		if !regexp.MustCompile(`(?m)^  ` + args[0] + ` +\S`).MatchString(help) {
			t.Errorf("sealift --help does not name %q, which the README uses", args[0])
		}
		own := u.must("", append(verbs(args), "--help")...).stdout
		if len(verbs(args)) == 2 && !strings.Contains(own, "sealift "+strings.Join(verbs(args), " ")) {
			t.Errorf("there is no command %v", verbs(args))
		}
		for _, arg := range args {
			if strings.HasPrefix(arg, "--") && !strings.Contains(own, arg) {
				t.Errorf("%v --help does not name %s", verbs(args), arg)
			}
		}
	}
	_, list, _ := strings.Cut(readme(t), "# also: ")
	list, _, _ = strings.Cut(list, "\n")
	faults := u.must("", "demo", "--help").stdout
	for _, fault := range strings.Split(list, ", ") {
		if fault == "" || !strings.Contains(faults, fault) {
			t.Errorf("demo --help does not name the fault %q", fault)
		}
	}
}

// commandLines finds the calls of the program in a text, without redirections and comments.
func commandLines(text string) (all [][]string) {
	for _, m := range regexp.MustCompile("bin/sealift ([a-z][^#|`\n)]*)").FindAllStringSubmatch(text, -1) {
		all = append(all, strings.Fields(m[1]))
	}
	return all
}

// verbs returns the words of a command line that name the command.
func verbs(args []string) []string {
	if slices.Contains([]string{"dev", "moc", "keys", "policy", "context", "broker", "emulator", "bench", "verifier", "collateral", "conform", "image"}, args[0]) && len(args) > 1 {
		return args[:2]
	}
	return args[:1]
}
