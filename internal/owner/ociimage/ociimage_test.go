// SPDX-License-Identifier: Apache-2.0

package ociimage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"sealift/internal/oci"
	"sealift/internal/oci/ocitest"
	"sealift/internal/owner/ociimage"
)

// payload makes the payload of what is found under a name.
func payload(t testing.TB, name, arch string) ([]byte, error) {
	t.Helper()
	img, err := ociimage.Open(context.Background(), name, arch)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	_, err = oci.Write(&buf, img, arch)
	return buf.Bytes(), errors.Join(err, img.Close())
}

// foreign makes a layout of images of another library, one for each architecture.
func foreign(t *testing.T, archs ...string) string {
	t.Helper()
	index := v1.ImageIndex(empty.Index)
	for _, arch := range archs {
		img, err := random.Image(1000, 2)
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		config.OS, config.Architecture = "linux", arch
		if img, err = mutate.ConfigFile(img, config); err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendIndex(index); err != nil { // an index in the layout's own
		t.Fatal(err)
	}
	return dir
}

// TestPlatforms guards that the image for the target is taken out of several, and that there has to be one.
func TestPlatforms(t *testing.T) {
	dir := foreign(t, "amd64", "arm64")
	intel, err := payload(t, dir, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	arm, err := payload(t, dir, "arm64")
	if err != nil || bytes.Equal(intel, arm) {
		t.Errorf("%v", err)
	}
	if _, err := payload(t, dir, "riscv64"); !errors.Is(err, oci.ErrPlatform) {
		t.Error(err)
	}
	if _, err := payload(t, foreign(t, "amd64", "amd64"), "amd64"); !errors.Is(err, oci.ErrPlatform) {
		t.Errorf("two for one platform: %v", err)
	}
}

// TestPayloadIsALayout guards that what was packed can be packed again, and is the same.
func TestPayloadIsALayout(t *testing.T) {
	data, err := payload(t, foreign(t, "amd64"), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := payload(t, file, "amd64")
	if err != nil || !bytes.Equal(data, again) {
		t.Errorf("another payload: %v", err)
	}
}

// TestFromProgram guards that a program always makes the same image.
func TestFromProgram(t *testing.T) {
	file := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(file, []byte("a program"), 0o700); err != nil {
		t.Fatal(err)
	}
	var out [2]bytes.Buffer
	for i := range out {
		img, err := ociimage.FromProgram(file, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		c, err := oci.Write(&out[i], img, "amd64")
		if err != nil || c.Config.Entrypoint[0] != "/app" {
			t.Fatalf("%+v %v", c, err)
		}
	}
	if !bytes.Equal(out[0].Bytes(), out[1].Bytes()) {
		t.Error("two images of one program")
	}
}

// TestNoImage guards the errors of names that are no image.
func TestNoImage(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("no tar file"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.tar")
	if err := os.WriteFile(other, ocitest.Layer(t, ocitest.File("a", "b")), 0o600); err != nil {
		t.Fatal(err)
	}
	index := func(digest string) string {
		d := t.TempDir()
		data, err := json.Marshal(oci.Index{SchemaVersion: 2, Manifests: []oci.Descriptor{{MediaType: oci.TypeManifest, Digest: digest, Size: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "index.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return d
	}
	for name, want := range map[string]error{
		text: oci.ErrMalformed, other: oci.ErrMalformed, dir: oci.ErrMalformed, filepath.Join(dir, "none"): ociimage.ErrReference,
		"registry.example/app:latest": ociimage.ErrReference, "UPPER@sha256:12": ociimage.ErrReference,
		index("sha256:../../../../etc/passwd"): oci.ErrMalformed, index("sha256:" + strings.Repeat("0", 64)): oci.ErrMalformed,
	} {
		if _, err := payload(t, name, "amd64"); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	img := &ocitest.Image{Layers: [][]byte{ocitest.Layer(f, ocitest.File("a", "b"))}, Config: oci.Config{Architecture: "amd64"}}
	f.Add(img.Payload(f))
	f.Add(ocitest.Layer(f, ocitest.File("oci-layout", "{}"), ocitest.File("index.json", "{}")))
	f.Add(ocitest.Layer(f, ocitest.File("manifest.json", "[]")))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "image.tar")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		img, err := ociimage.Open(context.Background(), file, "amd64")
		if err != nil {
			return
		}
		defer img.Close()
		_, _ = oci.Write(io.Discard, img, "amd64")
	})
}
