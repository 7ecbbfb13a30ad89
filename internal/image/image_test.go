// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"sealift/evidence"
	"sealift/internal/image"
)

func vm(t *testing.T, change func(*image.Image, map[string]string)) []byte {
	t.Helper()
	parts := map[string]string{image.PartKernel: "the kernel", image.PartInitramfs: "the archive"}
	i := &image.Image{Instance: image.VM, Cmdline: "quiet", VCPUs: 1, MemoryMiB: 256}
	if change != nil {
		change(i, parts)
	}
	for _, name := range []string{image.PartKernel, image.PartInitramfs} {
		i.Parts = append(i.Parts, image.Part{Name: name, Size: int64(len(parts[name]))})
	}
	readers := map[string]io.Reader{}
	for name, p := range parts {
		readers[name] = strings.NewReader(p)
	}
	var out bytes.Buffer
	if err := image.Write(&out, i, readers); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func measure(t *testing.T, data []byte, hw evidence.Hardware) string {
	t.Helper()
	i, err := image.Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := i.Measure(bytes.NewReader(data), image.Hash(hw))
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(m)
}

// TestRoundTrip guards that what is written is read, part by part.
func TestRoundTrip(t *testing.T) {
	data := vm(t, nil)
	i, err := image.Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := io.ReadAll(i.Open(bytes.NewReader(data), image.PartKernel))
	if err != nil || string(kernel) != "the kernel" || i.Cmdline != "quiet" {
		t.Errorf("%q %+v %v", kernel, i, err)
	}
	if i.Open(bytes.NewReader(data), image.PartFirmware) != nil {
		t.Error("a part that is not there")
	}
}

// TestMeasure guards that everything that decides what runs changes the measurement, for every architecture.
func TestMeasure(t *testing.T) {
	changes := map[string]func(*image.Image, map[string]string){
		"kernel":    func(_ *image.Image, p map[string]string) { p[image.PartKernel] = "The kernel" },
		"initramfs": func(_ *image.Image, p map[string]string) { p[image.PartInitramfs] += "!" },
		"cmdline":   func(i *image.Image, _ map[string]string) { i.Cmdline = "debug" },
		"vcpus":     func(i *image.Image, _ map[string]string) { i.VCPUs = 2 },
		"memory":    func(i *image.Image, _ map[string]string) { i.MemoryMiB = 512 },
		"borders": func(_ *image.Image, p map[string]string) {
			p[image.PartKernel], p[image.PartInitramfs] = "the kernelt", "he archive"
		},
	}
	sizes := map[evidence.Hardware]int{evidence.SEVSNP: 48, evidence.TDX: 48}
	for _, hw := range evidence.AllHardware() {
		seen := map[string]string{measure(t, vm(t, nil), hw): "nothing"}
		want := 32
		if sizes[hw] != 0 {
			want = sizes[hw]
		}
		for name, change := range changes {
			m := measure(t, vm(t, change), hw)
			if other, found := seen[m]; found || len(m) != 2*want {
				t.Errorf("%s: changing %s measures like changing %s: %s", hw, name, other, m)
			}
			seen[m] = name
		}
	}
}

// TestProcess guards that the image of a process is the executable, measured by its plain hash.
func TestProcess(t *testing.T) {
	data := []byte("\x7fELF and so on")
	i, err := image.Read(bytes.NewReader(data), int64(len(data)))
	if err != nil || i.Instance != image.Process {
		t.Fatal(i, err)
	}
	h := image.Hash(evidence.TrustZone)()
	h.Write(data)
	if got := measure(t, data, evidence.TrustZone); got != hex.EncodeToString(h.Sum(nil)) {
		t.Error(got)
	}
}

// TestMalformed guards the decoder.
func TestMalformed(t *testing.T) {
	good := vm(t, nil)
	for n := range good {
		if _, err := image.Read(bytes.NewReader(good[:n]), int64(n)); err == nil {
			t.Errorf("%d of %d bytes were read as an image", n, len(good))
		}
	}
	for name, data := range map[string][]byte{
		"more":   append(bytes.Clone(good), 0),
		"text":   []byte("#!/bin/sh\necho no image at all\n"),
		"header": append([]byte("SEALIFT-IMAGE-1\n\xff\xff\xff\xff"), good...),
	} {
		if _, err := image.Read(bytes.NewReader(data), int64(len(data))); !errors.Is(err, image.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	var t testing.T
	f.Add(vm(&t, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := image.Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		var out bytes.Buffer
		parts := map[string]io.Reader{}
		for _, p := range i.Parts {
			parts[p.Name] = i.Open(bytes.NewReader(data), p.Name)
		}
		if err := image.Write(&out, i, parts); err != nil || !bytes.Equal(out.Bytes(), data) {
			t.Errorf("written again it differs: %v", err)
		}
	})
}

// TestWithLayer: a guest payload changes what every architecture measures, each in its own way, and a value is computed from what an owner
// knows.
func TestWithLayer(t *testing.T) {
	one, two := sha256.Sum256([]byte("one")), sha256.Sum256([]byte("two"))
	seen := map[string]bool{}
	for _, hw := range []evidence.Hardware{evidence.SEVSNP, evidence.CCA, evidence.TDX, evidence.CSV} {
		base, err := hex.DecodeString(measure(t, vm(t, nil), hw))
		if err != nil {
			t.Fatal(err)
		}
		seen[string(base)] = true
		for _, layer := range [][32]byte{one, two} {
			m := image.LayerLaunch(layer)(hw, base)
			if len(m) != len(base) || !bytes.Equal(m, image.WithLayer(image.Hash(hw), base, layer)) {
				t.Errorf("%s: %x", hw, m)
			}
			seen[string(m)] = true
		}
	}
	if len(seen) != 3*3 { // SEV-SNP and TDX have the same hash function
		t.Errorf("%d measurements", len(seen))
	}
}
