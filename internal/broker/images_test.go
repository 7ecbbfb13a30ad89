// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sealift/internal/image"
	"sealift/internal/platform"
)

// typedTEE is a platform that offers several instance types and keeps what it was given.
type typedTEE struct {
	*fakeTEE
	launched map[string][]byte
}

func (f *typedTEE) Info(ctx context.Context) (platform.Info, error) {
	info, err := f.fakeTEE.Info(ctx)
	info.InstanceTypes = []string{image.Process, image.Container, image.VM}
	return info, err
}

func (f *typedTEE) Launch(ctx context.Context, s platform.Spec) error {
	data, err := io.ReadAll(s.Agent)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.launched[s.ID] = data
	f.mu.Unlock()
	return f.fakeTEE.Launch(ctx, s)
}

func vmImage(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	err := image.Write(&out, &image.Image{Instance: image.VM, VCPUs: 1, MemoryMiB: 64,
		Parts: []image.Part{{Name: image.PartKernel, Size: 1}, {Name: image.PartInitramfs, Size: 1}}},
		map[string]io.Reader{image.PartKernel: strings.NewReader("k"), image.PartInitramfs: strings.NewReader("i")})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestImages: the Broker announces the instance types for which both the platform and an image exist, launches the image of the
// wanted type, and says which image it lacks.
func TestImages(t *testing.T) {
	m, tee := newFakeMOC(t), &typedTEE{&fakeTEE{instances: map[string]*fakeAgent{}}, map[string][]byte{}}
	vm := filepath.Join(t.TempDir(), "vm.img")
	if err := os.WriteFile(vm, vmImage(t), 0o600); err != nil {
		t.Fatal(err)
	}
	b, _ := start(t, m, tee, t.TempDir(), vm)
	eventually(t, "the announcement", func() bool { a, _ := m.state(); return a.BrokerID != "" })
	a, _ := m.state()
	if !slices.Equal(a.InstanceTypes, []string{image.Process, image.VM}) || len(a.Images) != 2 || a.Images[image.VM] != b.images[image.VM].digest {
		t.Errorf("announced %v %v", a.InstanceTypes, a.Images)
	}
	m.wantInstance(image.Container, 1, "d1")
	eventually(t, "the reason", func() bool {
		a, _ := m.state()
		return len(a.Instances) == 1 && strings.Contains(a.Instances[0].LastError, `no Agent image for the instance type "container"`)
	})
	m.wantInstance(image.VM, 1, "d2")
	eventually(t, "the launch", func() bool {
		tee.mu.Lock()
		defer tee.mu.Unlock()
		return bytes.Equal(tee.launched["d2"], vmImage(t))
	})
}

// TestImagesRefused: two images for one type are a mistake, and what is no image is refused at the start.
func TestImagesRefused(t *testing.T) {
	dir := t.TempDir()
	elf, text := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for path, data := range map[string]string{elf: "\x7fELF", text: "no image at all, whatever its name"} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readImages([]string{elf, elf}); err == nil {
		t.Error("two images for a process")
	}
	if _, err := readImages([]string{elf, text}); !errors.Is(err, image.ErrMalformed) {
		t.Error(err)
	}
	if _, err := readImages(nil); err == nil {
		t.Error("no image")
	}
	if _, err := readImages([]string{filepath.Join(dir, "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
