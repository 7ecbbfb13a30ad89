// SPDX-License-Identifier: Apache-2.0

package processor_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/processor"
)

// memory is a Platform of one's own: components are byte slices. It embeds the interface for what this example does not use.
type memory struct {
	processor.Platform
	files map[string][]byte
}

func (m memory) Authorize(*cose.Key, suit.ComponentID) error       { return nil }
func (m memory) InstalledSequence(suit.ComponentID) (uint64, bool) { return 0, false }
func (m memory) VendorIDs(suit.ComponentID) [][]byte {
	v := suit.VendorID("vendor.example")
	return [][]byte{v[:]}
}
func (m memory) Create(_ context.Context, c suit.ComponentID) (processor.Writer, error) {
	return &memoryFile{m: m, name: c.String()}, nil
}

func (m memory) Size(_ context.Context, c suit.ComponentID) (int64, error) {
	data, ok := m.files[c.String()]
	if !ok {
		return 0, fs.ErrNotExist
	}
	return int64(len(data)), nil
}

func (m memory) Digest(_ context.Context, c suit.ComponentID, _ cose.Algorithm) (suit.Digest, error) {
	data, ok := m.files[c.String()]
	if !ok {
		return suit.Digest{}, fs.ErrNotExist
	}
	return suit.SHA256(data), nil
}

func (m memory) Open(_ context.Context, c suit.ComponentID) (io.ReadCloser, error) {
	data, ok := m.files[c.String()]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

type memoryFile struct {
	bytes.Buffer
	m    memory
	name string
}

func (f *memoryFile) Close() error { f.m.files[f.name] = f.Bytes(); return nil }
func (f *memoryFile) Abort() error { return nil }

// A manifest is verified, admitted and run; the payload travels inside the envelope.
func ExampleProcessor_Update() {
	priv, err := cose.GenerateKey(cose.AlgEd25519, rand.Reader)
	if err != nil {
		panic(err)
	}
	author, err := cose.NewSigner(priv)
	if err != nil {
		panic(err)
	}
	firmware, vendor := []byte("new firmware"), suit.VendorID("vendor.example")
	b := &suit.Builder{Sequence: 1, ComponentID: suit.NewComponentID("manifest")}
	b.AddComponent(suit.NewComponentID("firmware"))
	b.Shared = suit.Sequence{
		suit.Override(suit.Params{suit.ParamVendorID: vendor[:], suit.ParamDigest: suit.SHA256(firmware), suit.ParamSize: len(firmware)}),
		suit.VendorIdentifier(),
	}
	b.Install = suit.Sequence{suit.Override(suit.Params{suit.ParamURI: "#fw"}), suit.Fetch(), suit.ImageMatch()}
	b.Validate = suit.Sequence{suit.ImageMatch()}
	b.Payloads = map[string][]byte{"#fw": firmware}
	envelope, err := b.Build(rand.Reader, author)
	if err != nil {
		panic(err)
	}

	device := memory{files: map[string][]byte{}}
	p := processor.New(device, processor.Options{Keys: []*cose.Key{author.Key()}})
	out, err := p.Update(context.Background(), envelope)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(out.Report.OK(), out.Report.Installed(), string(device.files["firmware"]))
	// Output: true [firmware] new firmware
}
