// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealift/suit"
	"sealift/suit/report"
)

var updateGolden = flag.Bool("update", false, "write the golden files")

// goldenMAC authenticates the golden manifests: an HMAC is the same each time, as ECDSA is not.
var goldenMAC = bytes.Repeat([]byte{7}, 32)

// overrideMultipleExample is what libcsuit's expU1 is an example of (the file is not among the shared vectors): two components get
// wait-info of their own in one override-multiple, and both are waited for.
func overrideMultipleExample() *suit.Builder {
	b := &suit.Builder{}
	b.AddComponent(suit.ComponentID{{0x00}})
	b.AddComponent(suit.ComponentID{{0x01}})
	b.Install = suit.Sequence{
		suit.OverrideMultiple(map[int]suit.Params{
			0: {suit.ParamWaitInfo: suit.WaitInfo{{Event: suit.WaitAuthorization, Value: -1}, {Event: suit.WaitPower, Value: 10}}.Encode()},
			1: {suit.ParamWaitInfo: suit.WaitInfo{{Event: suit.WaitTimeOfDay, Value: 23 * 60 * 60}}.Encode()},
		}),
		{Code: suit.CodeSetComponentIndex, Index: suit.Index{All: true}},
		suit.Wait(),
	}
	return b
}

// metadataExample is what expU3 is an example of: a folder, a file in it with permissions, and a link to that file.
func metadataExample(t *testing.T) *suit.Builder {
	t.Helper()
	r, rw := suit.PermissionRead, suit.PermissionRead|suit.PermissionWrite
	meta := func(m suit.Metadata) []byte {
		data, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	const content = "#!/bin/sh\n"
	b := &suit.Builder{}
	link := b.AddComponent(suit.NewComponentID("usr", "bin", "example"))
	folder := b.AddComponent(suit.NewComponentID("usr", "local", "bin"))
	file := b.AddComponent(suit.NewComponentID("usr", "local", "bin", "example3"))
	b.Payloads = map[string][]byte{"#example3": []byte(content)}
	b.PayloadFetch = suit.Sequence{
		suit.SetComponentIndex(folder),
		suit.Override(suit.Params{suit.ParamContent: []byte{}, suit.ParamComponentMetadata: meta(suit.Metadata{Type: suit.FileDirectory})}),
		suit.Write(),
		suit.SetComponentIndex(file),
		suit.Override(suit.Params{
			suit.ParamURI: "#example3", suit.ParamDigest: suit.SHA256([]byte(content)), suit.ParamSize: uint64(len(content)),
			suit.ParamComponentMetadata: meta(suit.Metadata{
				Permissions: &r, Type: suit.FileRegular,
				User:  []suit.ActorPermissions{{Actor: int64(1000), Permissions: rw}},
				Group: []suit.ActorPermissions{{Actor: int64(1000), Permissions: r}},
			}),
		}),
		suit.Fetch(), suit.ImageMatch(),
	}
	b.Install = suit.Sequence{
		suit.SetComponentIndex(link),
		suit.Override(suit.Params{
			suit.ParamContent: []byte("/usr/local/bin/example3"), suit.ParamComponentMetadata: meta(suit.Metadata{Type: suit.FileSymlink}),
		}),
		suit.Write(),
	}
	return b
}

// golden builds an envelope and holds it against its file.
func golden(t *testing.T, name string, b *suit.Builder) []byte {
	t.Helper()
	data, err := b.BuildMAC(goldenMAC, []byte("golden"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name+".suit.hex")
	if *updateGolden {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(data)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(data); got != strings.TrimSpace(string(text)) {
		t.Errorf("%s is encoded as\n%s", name, got)
	}
	return data
}

// links is a device that makes links.
type links struct{ *managedPlatform }

func (l links) CreateWith(ctx context.Context, c suit.ComponentID, m *suit.Metadata) (Writer, error) {
	l.metadata[c.String()] = m
	return l.Create(ctx, c)
}

// TestUpdateManagementGolden runs own manifests of what expU1 and expU3 show.
func TestUpdateManagementGolden(t *testing.T) {
	run := func(p Platform, data []byte) error {
		t.Helper()
		out, err := New(p, Options{MACKeys: [][]byte{goldenMAC}, UpdateManagement: true}).Update(context.Background(), data)
		checkReport(t, out, err)
		return err
	}
	multiple := golden(t, "override-multiple", overrideMultipleExample())
	p := managed(ownDevice())
	if err := run(p, multiple); !errors.Is(err, ErrNotSupported) || len(p.waited) != 0 {
		t.Errorf("a device that sees only power: %v, waited for %v", err, p.waited)
	}
	p.events[suit.WaitAuthorization], p.events[suit.WaitTimeOfDay] = true, true
	if err := run(p, multiple); err != nil || len(p.waited) != 2 || len(p.waited[0]) != 2 || p.waited[1][0].Event != suit.WaitTimeOfDay {
		t.Errorf("%v, waited for %v", err, p.waited)
	}

	files := golden(t, "component-metadata", metadataExample(t))
	device := managed(ownDevice())
	if err := run(links{device}, files); err != nil || string(device.components["usr/bin/example"]) != "/usr/local/bin/example3" ||
		device.metadata["usr/local/bin"].Type != suit.FileDirectory || *device.metadata["usr/local/bin/example3"].Permissions != suit.PermissionRead {
		t.Errorf("%v, %q", err, device.components)
	}
	var e *Error
	if err := run(managed(ownDevice()), files); !errors.As(err, &e) || e.Section != suit.MemberInstall {
		t.Errorf("a device that makes no links: %v", err)
	}
	if err := run(ownDevice(), files); !errors.As(err, &e) || e.Reason != report.ReasonParameterUnsupported {
		t.Errorf("a device without metadata: %v", err)
	}
}
