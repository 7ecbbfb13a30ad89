// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sealift/examples/stats"
	"sealift/internal/moc/mocapi"
)

// Sight is what the operator's side could see of a run, read from its own files.
type Sight struct {
	Packages []SeenPackage `json:"packages"` // in the artifact store
	Messages int           `json:"messages"` // entries of the deployment's history at the M/OC
	Files    int           `json:"files"`    // of the M/OC, the Broker and the device's storage, logs included
	Bytes    int64         `json:"bytes"`
	Records  int           `json:"records"` // records of the PD that were looked for in them
	Found    []string      `json:"found"`   // files in which one was found, in the clear
}

// SeenPackage is one package as the operator stores it.
type SeenPackage struct {
	Role   string `json:"role"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"` // of its largest blob
	Clear  bool   `json:"clear"`
}

// searched is how many of the records are looked for, spread over the table.
const searched = 24

// watch looks at the run with the operator's eyes.
func (r *run) watch(ctx context.Context) {
	sight := &Sight{Packages: []SeenPackage{}, Found: []string{}}
	r.report.OperatorSaw = sight
	client := r.stack.Client(mocapi.RoleOperator)
	if dep, err := client.Deployment(ctx, r.id, 0, 0); err == nil {
		for _, p := range dep.Packages {
			clear := p.Role == mocapi.PackageTA || p.Role == mocapi.PackageUA
			sight.Packages = append(sight.Packages, SeenPackage{Role: p.Role, Digest: p.Digest, Clear: clear})
		}
	}
	if events, err := client.Events(ctx, r.id); err == nil {
		sight.Messages = len(events)
	}
	needles := records()
	sight.Records = len(needles)
	// The device's storage is the emulator's and the Broker's: sealed by the Agent, it must show nothing either.
	_ = filepath.WalkDir(filepath.Join(r.dir, "operator"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // a file that has just gone is none to look into
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		sight.Files++
		sight.Bytes += int64(len(data))
		for _, n := range needles {
			if bytes.Contains(data, n) {
				name, _ := filepath.Rel(r.dir, path)
				sight.Found = append(sight.Found, name)
				break
			}
		}
		return nil
	})
	r.say("moc", "%s", sight)
}

// String is the operator's sight for people.
func (s *Sight) String() string {
	var b strings.Builder
	b.WriteString("what the operator's side could see:\n")
	for _, p := range s.Packages {
		kind := "ciphertext only"
		if p.Clear {
			kind = "signed, in the clear"
		}
		fmt.Fprintf(&b, "package %-6s %.20s... %s\n", p.Role, p.Digest, kind)
	}
	fmt.Fprintf(&b, "%d records of the PD looked for in %d files (%.1f MB) of M/OC, Broker and device: ", s.Records, s.Files, float64(s.Bytes)/1e6)
	if len(s.Found) == 0 {
		b.WriteString("none found")
	} else {
		fmt.Fprintf(&b, "FOUND in %s", strings.Join(s.Found, ", "))
	}
	return b.String()
}

// records returns some lines of the PD, long enough not to be met by chance.
func records() [][]byte {
	lines := bytes.Split(bytes.TrimSpace(stats.Records), []byte("\n"))[1:]
	var out [][]byte
	for i := 0; i < len(lines); i += max(1, len(lines)/searched) {
		out = append(out, lines[i])
	}
	return out
}
