// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sealift/examples/stats"
	"sealift/internal/moc/course"
	"sealift/internal/moc/mocapi"
)

// Sight is what the operator's side could see of a run, read from its own store and files.
type Sight struct {
	Packages []SeenPackage  `json:"packages"` // in the artifact store
	History  map[string]int `json:"history"`  // entries of the deployment's history at the M/OC, by kind
	Files    int            `json:"files"`    // of the M/OC, the Broker and the device's storage, logs included
	Bytes    int64          `json:"bytes"`
	Records  int            `json:"records"` // records of the PD that were looked for in them
	Found    []string       `json:"found"`   // files in which one was found, in the clear
}

// SeenPackage is one package as the operator stores it: a signed manifest and its payloads.
type SeenPackage struct {
	Role    string     `json:"role"`
	Name    string     `json:"name"` // repository
	Content string     `json:"content"`
	Blobs   []SeenBlob `json:"blobs"`
}

// SeenBlob is one blob: all that the operator knows of ciphertext is its size and digest.
type SeenBlob struct {
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"`
	Digest    string `json:"digest"`
}

// searched is how many of the records are looked for, spread over the table.
const searched = 24

// watch looks at the run with the operator's eyes.
func (r *run) watch(ctx context.Context) {
	sight := &Sight{Packages: []SeenPackage{}, History: map[string]int{}, Found: []string{}}
	r.report.OperatorSaw = sight
	client := r.stack.Client(mocapi.RoleOperator)
	clear, _ := course.Roles(r.opt.Mode)
	if dep, err := client.Deployment(ctx, r.id, 0, 0); err == nil {
		for _, p := range dep.Packages {
			seen := SeenPackage{Role: p.Role, Name: p.Repository, Content: "ciphertext", Blobs: blobs(ctx, client, p)}
			if slices.Contains(clear, p.Role) {
				seen.Content = "signed, in the clear"
			}
			sight.Packages = append(sight.Packages, seen)
		}
	}
	if events, err := client.Events(ctx, r.id); err == nil {
		for _, e := range events {
			sight.History[e.Kind]++
		}
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

// blobs reads an OCI image manifest from the operator's registry. What cannot be read is not shown.
func blobs(ctx context.Context, client *mocapi.Client, p mocapi.PackageRef) []SeenBlob {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, client.BaseURL+"/v2/"+p.Repository+"/manifests/"+p.Digest, nil)
	if err != nil {
		return nil
	}
	req.Header.Set("Authorization", "Bearer "+client.Token)
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var manifest struct {
		Layers []SeenBlob `json:"layers"`
	}
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&manifest) != nil {
		return nil
	}
	return manifest.Layers
}

// String is the operator's sight for people.
func (s *Sight) String() string {
	var b strings.Builder
	b.WriteString("what the operator's side could see:\n")
	for _, p := range s.Packages {
		fmt.Fprintf(&b, "package %s, %s:\n", p.Name, p.Content)
		for _, x := range p.Blobs {
			fmt.Fprintf(&b, "  %-33s %9d bytes  %.19s...\n", x.MediaType, x.Size, x.Digest)
		}
	}
	b.WriteString("messages and decisions:")
	for _, kind := range slices.Sorted(maps.Keys(s.History)) {
		fmt.Fprintf(&b, " %d %s", s.History[kind], kind)
	}
	fmt.Fprintf(&b, "\n%d records of the PD looked for in %d files (%.1f MB) of M/OC, Broker and device: ", s.Records, s.Files, float64(s.Bytes)/1e6)
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
