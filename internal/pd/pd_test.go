// SPDX-License-Identifier: Apache-2.0

package pd_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sealift/internal/pd"
	"sealift/internal/sharedtest"
)

const secret = "canary-7f3a"

func TestPlainNeverPrintsItsContent(t *testing.T) {
	p := pd.FromBytes("rows.csv", []byte(secret))
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "pd", p, "ptr", &p)
	out := log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		out += fmt.Sprintf(verb, p) + fmt.Sprintf(verb, &p) + fmt.Sprintf(verb, []pd.Plain{p})
	}
	hexed := fmt.Sprintf("%x", secret)
	if strings.Contains(out, secret) || strings.Contains(out, hexed) {
		t.Fatalf("content leaked: %s", out)
	}
	if _, err := json.Marshal(struct{ P pd.Plain }{p}); !errors.Is(err, pd.ErrPlain) {
		t.Fatalf("json: %v", err)
	}
}

func TestFromFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := pd.FromFile("f", path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := read(p); err != nil || got != secret {
			t.Fatalf("%q, %v", got, err)
		}
	}
	for _, changed := range []string{secret + "!", secret[1:]} {
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := read(p); err == nil {
			t.Fatalf("a file of %d bytes passed for one of %d", len(changed), p.Size())
		}
	}
	if _, err := pd.FromFile("d", t.TempDir()); err == nil {
		t.Fatal("a directory was accepted")
	}
}

func read(p pd.Plain) (string, error) {
	r, err := p.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

// TestImporters keeps plaintext PD inside the two places that may hold it (docs/architecture.md section 6, I2).
func TestImporters(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}}: {{join .Imports \" \"}} {{join .TestImports \" \"}}", "sealift/...").Output()
	if len(out) == 0 && err != nil {
		sharedtest.Missing(t, "go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		name, imports, _ := strings.Cut(strings.TrimSpace(line), ":")
		if !strings.Contains(imports+" ", "sealift/internal/pd ") {
			continue
		}
		if !strings.HasPrefix(name, "sealift/internal/agent/") && name != "sealift/internal/agent" && !strings.HasPrefix(name, "sealift/internal/owner") && name != "sealift/internal/pd" {
			t.Errorf("%s imports internal/pd", name)
		}
	}
}
