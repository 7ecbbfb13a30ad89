// SPDX-License-Identifier: Apache-2.0

package initramfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sealift/internal/image/initramfs"
	"sealift/internal/sharedtest"
)

var payload = []initramfs.Entry{
	{Name: "bin/app", Mode: 0o700, Data: []byte("a program")},
	{Name: "bin/other", Link: "app"},
	{Name: "etc", Mode: 0o700},
	{Name: "etc/app.conf", Mode: 0o600, Data: []byte("x")},
	{Name: "empty", Data: []byte{}},
}

func layer(t testing.TB, list []initramfs.Entry) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := initramfs.WriteLayer(&out, list); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read returns what a reader makes of a payload, one line an entry.
func read(data []byte) (lines []string, err error) {
	l := initramfs.NewLayerReader(bytes.NewReader(data))
	for {
		h, err := l.Next()
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
		content, err := io.ReadAll(l)
		if err != nil {
			return lines, err
		}
		lines = append(lines, fmt.Sprintf("%s %v %q %o %s", h.Name, h.Folder, h.Link, h.Mode, content))
	}
}

// TestLayer: what is written is read, always in the same bytes.
func TestLayer(t *testing.T) {
	data := layer(t, payload)
	reversed := slices.Clone(payload)
	slices.Reverse(reversed)
	if !bytes.Equal(data, layer(t, reversed)) {
		t.Error("the order changes the payload")
	}
	lines, err := read(data)
	want := []string{`. true "" 755 `, `bin true "" 755 `, `bin/app false "" 755 a program`, `bin/other false "app" 0 `, `empty false "" 644 `,
		`etc true "" 755 `, `etc/app.conf false "" 644 x`}
	if err != nil || !slices.Equal(lines, want) {
		t.Errorf("%q, %v", lines, err)
	}
	for n := range data {
		if err := initramfs.CheckLayer(bytes.NewReader(data[:n])); !errors.Is(err, initramfs.ErrLayer) {
			t.Fatalf("%d of %d bytes: %v", n, len(data), err)
		}
	}
}

// raw is an entry as any program may write it.
type raw struct {
	name              string
	ino, mode, links  int
	major, check, uid int
	data              string
}

func (r raw) bytes() []byte {
	out := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		r.ino, r.mode, r.uid, 0, r.links, 0, len(r.data), r.major, 0, 0, 0, len(r.name)+1, r.check, r.name)
	out += strings.Repeat("\x00", -len(out)&3) + r.data
	return []byte(out + strings.Repeat("\x00", -len(out)&3))
}

// TestHostileLayers: what a kernel would unpack over the Agent, outside the payload's folder, through a link, as a device or with rights, and
// what is not written in the one form, is refused.
func TestHostileLayers(t *testing.T) {
	const dir, reg, link = 0o040755, 0o100644, 0o120777
	top := raw{name: "layer", ino: 1, mode: dir, links: 2}
	end := raw{name: "TRAILER!!!", links: 1}
	file := func(name string) raw { return raw{name: name, ino: 2, mode: reg, links: 1, data: "x"} }
	many := []raw{top}
	for i := range 33 {
		many = append(many, raw{name: fmt.Sprintf("layer/%02d", i), ino: 2 + i, mode: reg, links: 1})
	}
	for name, entries := range map[string][]raw{
		"the Agent":           {top, file("init"), end},
		"beside":              {file("layers"), end},
		"up":                  {top, file("layer/../init"), end},
		"absolute":            {top, file("/init"), end},
		"absolute inside":     {top, file("/layer/x"), end},
		"dot":                 {top, file("layer/./x"), end},
		"double slash":        {top, file("layer//x"), end},
		"zero in the name":    {top, file("layer/a\x00b"), end},
		"no folder":           {top, file("layer/a/x"), end},
		"no root":             {file("layer/x"), end},
		"root is a file":      {{name: "layer", ino: 1, mode: reg, links: 1}, end},
		"root is a link":      {{name: "layer", ino: 1, mode: link, links: 1, data: "/"}, {name: "layer/init", ino: 2, mode: reg, links: 1}, end},
		"through a link":      {top, {name: "layer/d", ino: 2, mode: dir, links: 2}, {name: "layer/d/l", ino: 3, mode: link, links: 1, data: "/"}, {name: "layer/d/l/init", ino: 4, mode: reg, links: 1}, end},
		"link at the top":     {top, {name: "layer/l", ino: 2, mode: link, links: 1, data: "/run"}, end},
		"through a file":      {top, file("layer/f"), {name: "layer/f/x", ino: 3, mode: reg, links: 1}, end},
		"device":              {top, {name: "layer/null", ino: 2, mode: 0o020666, links: 1}, end},
		"pipe":                {top, {name: "layer/p", ino: 2, mode: 0o010644, links: 1}, end},
		"set-user-ID":         {top, {name: "layer/su", ino: 2, mode: 0o104755, links: 1}, end},
		"other permissions":   {top, {name: "layer/x", ino: 2, mode: 0o100600, links: 1}, end},
		"hard link":           {top, {name: "layer/x", ino: 2, mode: reg, links: 2}, end},
		"another user":        {top, {name: "layer/x", ino: 2, mode: reg, links: 1, uid: 1000}, end},
		"another device":      {top, {name: "layer/x", ino: 2, mode: reg, links: 1, major: 8}, end},
		"checksum":            {top, {name: "layer/x", ino: 2, mode: reg, links: 1, check: 1}, end},
		"inode":               {top, {name: "layer/x", ino: 7, mode: reg, links: 1}, end},
		"folder with content": {top, {name: "layer/d", ino: 2, mode: dir, links: 2, data: "x"}, end},
		"twice":               {top, file("layer/x"), {name: "layer/x", ino: 3, mode: reg, links: 1}, end},
		"out of order":        {top, file("layer/x"), {name: "layer/a", ino: 3, mode: reg, links: 1}, end},
		"a TA's own folder":   {top, file("layer/pd"), end},
		"many at the top":     append(many, end),
		"nothing":             {end},
		"no end":              {top, file("layer/x")},
		"after the end":       {top, end, file("layer/x")},
		"second archive":      {top, end, file("init"), end},
		"end with content":    {top, {name: "TRAILER!!!", links: 1, data: "x"}},
		"long name":           {top, file("layer/" + strings.Repeat("n", 1100)), end},
	} {
		var data []byte
		for _, e := range entries {
			data = append(data, e.bytes()...)
		}
		if err := initramfs.CheckLayer(bytes.NewReader(data)); !errors.Is(err, initramfs.ErrLayer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := append(append(top.bytes(), file("layer/x").bytes()...), end.bytes()...)
	if err := initramfs.CheckLayer(bytes.NewReader(good)); err != nil {
		t.Error(err) // else the table shows nothing
	}
	upper := bytes.Replace(good, []byte("000081a4"), []byte("000081A4"), 1)
	filled := bytes.Clone(good)
	filled[len(top.bytes())-1] = 'x'
	for name, data := range map[string][]byte{"upper case": upper, "filled up": filled, "more": append(bytes.Clone(good), 0, 0, 0, 0)} {
		if err := initramfs.CheckLayer(bytes.NewReader(data)); bytes.Equal(data, good) || !errors.Is(err, initramfs.ErrLayer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := initramfs.CheckLayer(io.MultiReader(bytes.NewReader(top.bytes()), strings.NewReader(strings.Repeat("070701", 1<<20)))); !errors.Is(err, initramfs.ErrLayer) {
		t.Error(err)
	}
}

// TestReadArchive: archives of another program, and folders, become the same payload.
func TestReadArchive(t *testing.T) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		sharedtest.Missing(t, "busybox-static")
	}
	dir := t.TempDir()
	for name, content := range map[string]string{"bin/app": "a program", "etc/app.conf": "x", "empty": ""} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o600)
		if name == "bin/app" {
			mode = 0o700
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("app", filepath.Join(dir, "bin/other")); err != nil {
		t.Fatal(err)
	}
	want := layer(t, payload)
	entries, err := initramfs.ReadFolder(dir)
	if err != nil || !bytes.Equal(layer(t, entries), want) {
		t.Errorf("from a folder it is another payload: %v", err)
	}
	for _, command := range []string{"find . | busybox cpio -o -H newc", "find . | busybox cpio -o -H newc | gzip"} {
		cmd := exec.Command(busybox, "sh", "-c", command)
		cmd.Dir = dir
		data, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		entries, err := initramfs.ReadArchive(bytes.NewReader(data))
		if err != nil || !bytes.Equal(layer(t, entries), want) {
			t.Errorf("%s makes another payload: %v", command, err)
		}
	}
	device := raw{name: "null", ino: 1, mode: 0o020666, links: 1}
	for name, data := range map[string][]byte{"device": device.bytes(), "text": []byte("no archive"), "short": {0x1f}, "gzip": {0x1f, 0x8b, 8}} {
		if _, err := initramfs.ReadArchive(bytes.NewReader(data)); !errors.Is(err, initramfs.ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzLayer: what is accepted is written again in the same bytes, whatever reads it.
func FuzzLayer(f *testing.F) {
	f.Add(layer(f, payload))
	f.Add(layer(f, payload[:1]))
	f.Fuzz(func(t *testing.T, data []byte) {
		if initramfs.CheckLayer(bytes.NewReader(data)) != nil {
			return
		}
		entries, err := initramfs.ReadArchive(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		for i := range entries {
			entries[i].Name = strings.TrimPrefix(strings.TrimPrefix(entries[i].Name, initramfs.LayerDir), "/")
		}
		if !bytes.Equal(layer(t, entries[1:]), data) {
			t.Error("it has two forms")
		}
	})
}

func FuzzReadArchive(f *testing.F) {
	f.Add(layer(f, payload))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = initramfs.ReadArchive(bytes.NewReader(data)) })
}
