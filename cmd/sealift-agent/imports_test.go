// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImports keeps the measured binary small: no HTTP, no database, nothing of the M/OC, the Broker or the owner, and no
// package that nobody has thought about (docs/architecture.md section 1).
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{else}}std {{.ImportPath}}{{end}}", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		name := strings.TrimSpace(line)
		if std, ok := strings.CutPrefix(name, "std "); ok {
			// database/sql/driver is two interfaces that the UUID library implements.
			if std == "net/http" || std == "database/sql" || std == "net/rpc" || std == "html/template" || std == "plugin" || std == "testing" {
				t.Errorf("the Agent imports %s", std)
			}
			continue
		}
		if !allowed(name) {
			t.Errorf("the Agent imports %s", name)
		}
	}
}

func allowed(name string) bool {
	for _, prefix := range []string{
		"sealift/cmd/sealift-agent", "sealift/cose", "sealift/suit", "sealift/teep", "sealift/evidence", "sealift/appraisal",
		"sealift/internal/agent", "sealift/internal/agentconfig", "sealift/internal/answer", "sealift/internal/channel",
		"sealift/internal/delivery", "sealift/internal/directio", "sealift/internal/launch",
		"sealift/internal/image/initramfs", "sealift/internal/oci", "sealift/internal/pd", "sealift/internal/platform/hw", "sealift/internal/platform/packet",
		"sealift/internal/platform/guest", "sealift/internal/platform/sandbox", "sealift/internal/platform/serial",
		"github.com/fxamacker/cbor/v2", "github.com/x448/float16", "github.com/google/uuid", "github.com/hashicorp/yamux",
		"github.com/elastic/go-seccomp-bpf", "github.com/landlock-lsm/go-landlock", "kernel.org/pub/linux/libs/security/libcap/psx",
		"golang.org/x/sys", "golang.org/x/net/bpf",
		"github.com/google/go-tpm",                                                                             // 0.3 MB: for the TPM of a guest
		"github.com/tetratelabs/wazero",                                                                        // runs inside a TA's sandbox only, in a process of its own
		"golang.org/x/crypto/chacha20poly1305", "golang.org/x/crypto/chacha20", "golang.org/x/crypto/internal", // content encryption of one SUIT profile
	} {
		if name == prefix || strings.HasPrefix(name, prefix+"/") {
			return name != "sealift/teep/teephttp"
		}
	}
	return false
}

// TestNotStartedByHand guards the message that someone gets who starts the Agent in a terminal.
func TestNotStartedByHand(t *testing.T) {
	cmd := exec.Command("go", "run", ".")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "sealift-agent: error: this program is started by a TEE platform only") {
		t.Fatalf("%v: %s", err, out)
	}
}
