// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sealift/internal/fault"
	"sealift/internal/image/initramfs"
	"sealift/internal/owner/packfile"
)

// packGuest makes the payload of a TA that a guest is booted with and returns its path in the owner's folder; "" for any other TA. The
// same files make the same bytes, whenever and by whomever they are packed.
func (o *Owner) packGuest(f *packfile.File) (string, error) {
	if f.TA == nil || f.TA.Guest == "" {
		return "", nil
	}
	entries, err := readGuest(f.TA.Guest)
	if err == nil {
		err = checkGuest(entries, guestEntrypoint(f.TA)[0], f.Arch)
	}
	var out bytes.Buffer
	if err == nil {
		err = initramfs.WriteLayer(&out, entries)
	}
	if err == nil && out.Len() > initramfs.MaxLayerBytes {
		err = fmt.Errorf("it has more than %d bytes", initramfs.MaxLayerBytes)
	}
	if err != nil {
		e := fault.Wrap(fault.BadRequest, fmt.Errorf("the guest payload %s: %w", f.TA.Guest, err))
		if errors.Is(err, initramfs.ErrLayer) || errors.Is(err, initramfs.ErrEntry) {
			return "", e.WithHint("docs/manual.md says what a guest payload can hold")
		}
		return "", e
	}
	dir := filepath.Join(o.Home.Dir(), "images")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	file := filepath.Join(dir, fmt.Sprintf("%x.cpio", sha256.Sum256(out.Bytes())))
	return file, os.WriteFile(file, out.Bytes(), 0o600)
}

// guestEntrypoint is the program with its first arguments. A single program stands at the root.
func guestEntrypoint(ta *packfile.TA) []string {
	if len(ta.Entrypoint) > 0 {
		return ta.Entrypoint
	}
	return []string{"/" + filepath.Base(ta.Guest)}
}

// readGuest reads a folder, an archive or a program. Folders that a TA has by itself, and that are empty, are left out: root file systems
// have them as mount points.
func readGuest(file string) ([]initramfs.Entry, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	var entries []initramfs.Entry
	switch {
	case st.IsDir():
		entries, err = initramfs.ReadFolder(file)
	case packfile.IsELF(file):
		var data []byte
		data, err = os.ReadFile(file)
		entries = []initramfs.Entry{{Name: filepath.Base(file), Mode: 0o755, Data: data}}
	default:
		var r *os.File
		if r, err = os.Open(file); err != nil {
			return nil, err
		}
		defer r.Close()
		entries, err = initramfs.ReadArchive(r)
	}
	return slices.DeleteFunc(entries, func(e initramfs.Entry) bool {
		return slices.Contains(initramfs.Reserved, e.Name) && !slices.ContainsFunc(entries, func(o initramfs.Entry) bool {
			return strings.HasPrefix(o.Name, e.Name+"/")
		})
	}), err
}

// checkGuest looks for the program, through links that stay in the payload.
func checkGuest(entries []initramfs.Entry, program, arch string) error {
	at := strings.TrimPrefix(path.Clean(program), "/")
	for range 8 {
		i := slices.IndexFunc(entries, func(e initramfs.Entry) bool { return e.Name == at })
		switch {
		case i < 0:
			return fmt.Errorf("it has no program %s", program)
		case entries[i].Link != "" && !path.IsAbs(entries[i].Link):
			at = path.Join(path.Dir(at), entries[i].Link)
		case entries[i].Link != "":
			return fmt.Errorf("%s is a link to %s: a program may be reached through relative links only", at, entries[i].Link)
		default:
			return packfile.CheckProgram(entries[i].Data, at, arch)
		}
	}
	return fmt.Errorf("%s is a link to a link to a link", program)
}
