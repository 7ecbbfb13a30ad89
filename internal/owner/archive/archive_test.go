// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/internal/owner/archive"
	"sealift/suit"
	"sealift/usecase"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sample is a package with one artifact of two layers.
func sample(t testing.TB) (archive.Description, []archive.Artifact) {
	t.Helper()
	priv, err := cose.GenerateKey(cose.AlgEd25519, rand.Reader)
	must(t, err)
	key, err := cose.NewKey(priv.Public())
	must(t, err)
	a, err := archive.NewArtifact("ta", []byte("an envelope"), []archive.Blob{
		archive.BytesBlob(archive.MediaTypePayload, bytes.Repeat([]byte("payload "), 1000))})
	must(t, err)
	digest := suit.SHA256([]byte("x"))
	return archive.Description{Version: 1, Name: "stats", Mode: usecase.ModeTAPD, Sequence: 1, Owner: key,
		Hardware: []usecase.Hardware{usecase.TrustZone}, Instances: []usecase.Instance{usecase.Process},
		Components: []archive.Component{{Kind: usecase.TA, Name: "ta", ID: suit.NewComponentID("tee", "stats", "ta"), Size: 8000,
			SHA256: digest.String()[len("sha-256:"):]}},
		Packages: []archive.Package{{Role: "ta", Digest: a.Digest(), ManifestSHA256: "00"}}}, []archive.Artifact{a}
}

func encode(t testing.TB) []byte {
	t.Helper()
	d, artifacts := sample(t)
	var b bytes.Buffer
	must(t, archive.WriteTo(&b, d, artifacts))
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	d, artifacts := sample(t)
	path := filepath.Join(t.TempDir(), "stats.sealift")
	must(t, archive.Write(path, d, artifacts))
	f, err := archive.Open(path)
	must(t, err)
	defer f.Close()
	if f.Description.Name != "stats" || len(f.Artifacts) != 1 || f.Artifacts[0].Digest() != artifacts[0].Digest() {
		t.Errorf("read %+v", f)
	}
	envelope, err := f.Artifacts[0].Envelope()
	must(t, err)
	r, err := f.Artifacts[0].Layers[1].Open()
	must(t, err)
	payload, err := io.ReadAll(r)
	must(t, err)
	if string(envelope) != "an envelope" || len(payload) != 8000 {
		t.Errorf("envelope %q, payload of %d bytes", envelope, len(payload))
	}
}

func TestDeterministic(t *testing.T) {
	d, artifacts := sample(t)
	var a, b bytes.Buffer
	must(t, archive.WriteTo(&a, d, artifacts))
	must(t, archive.WriteTo(&b, d, artifacts))
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("the same package gives other bytes")
	}
}

// readAll opens a package file and reads every blob of it.
func readAll(data []byte) error {
	f, err := archive.Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return err
	}
	for _, a := range f.Artifacts {
		for _, l := range a.Layers {
			r, err := l.Open()
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestDamaged flips a bit of each 61st byte, and cuts the file at each 509th: whatever still reads must be whole.
func TestDamaged(t *testing.T) {
	good := encode(t)
	must(t, readAll(good))
	refused := 0
	for i := 0; i < len(good); i += 61 {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if err := readAll(bad); err != nil {
			refused++
			if !errors.Is(err, archive.ErrFormat) {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
	}
	if refused < 100 {
		t.Errorf("only %d of the changes were noticed", refused)
	}
	for n := 0; n < len(good)-2048; n += 509 { // the last two blocks and the padding before them hold nothing
		if err := readAll(good[:n]); err == nil {
			t.Errorf("cut to %d bytes and still read", n)
		}
	}
}

func TestFileBlobNoticesChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(path, []byte("content"), 0o600))
	whole := archive.BytesBlob("", []byte("content"))
	b := archive.FileBlob("", path, whole.Size, whole.Digest[len("sha256:"):])
	read := func() error {
		r, err := b.Open()
		must(t, err)
		defer r.Close()
		_, err = io.ReadAll(r)
		return err
	}
	must(t, read())
	for _, changed := range []string{"CONTENT", "contents", "conten"} {
		must(t, os.WriteFile(path, []byte(changed), 0o600))
		if err := read(); !errors.Is(err, archive.ErrFormat) {
			t.Errorf("%q: %v", changed, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(encode(f))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := readAll(data); err != nil && !errors.Is(err, archive.ErrFormat) {
			t.Errorf("an error of another kind: %v", err)
		}
	})
}

// TestWriteLeavesWhatIsNoFile: root could otherwise turn a device of the machine into a package file.
func TestWriteLeavesWhatIsNoFile(t *testing.T) {
	d, artifacts := sample(t)
	folder := t.TempDir()
	if err := archive.Write(folder, d, artifacts); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Error(err)
	}
	ln, err := net.Listen("unix", filepath.Join(folder, "s"))
	must(t, err)
	defer ln.Close()
	if err := archive.Write(filepath.Join(folder, "s"), d, artifacts); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Error(err)
	}
}
