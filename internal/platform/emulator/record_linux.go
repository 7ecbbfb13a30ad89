// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"sealift/internal/image"
	"sealift/internal/image/initramfs"
	"sealift/internal/platform"
	"sealift/internal/platform/sandbox"
)

const recordVersion = 1

// record is what has to survive of an instance.
type record struct {
	Version  uint      `cbor:"1,keyasint"`
	ID       string    `cbor:"2,keyasint"`
	Salt     []byte    `cbor:"3,keyasint"`
	UID      int       `cbor:"4,keyasint,omitempty"` // of the host; 0 if the emulator could not give it one
	Counters []counter `cbor:"5,keyasint,omitempty"`
}

// counter belongs to one measurement, so that a launch with other bytes cannot disturb it.
type counter struct {
	Measurement [32]byte `cbor:"1,keyasint"`
	Value       uint64   `cbor:"2,keyasint"`
}

// maxCounters bounds how many different measurements one instance can have used a counter with. A deployment has one; a few more
// come with new versions of the Agent.
const maxCounters = 64

const (
	recordFile = "record.cbor"
	storeName  = "store"
)

// value returns the counter of measurement m.
func (r record) value(m [32]byte) uint64 {
	for _, c := range r.Counters {
		if c.Measurement == m {
			return c.Value
		}
	}
	return 0
}

// with returns a copy of r in which the counter of m has value v.
func (r record) with(m [32]byte, v uint64) (record, error) {
	r.Counters = slices.Clone(r.Counters)
	for i := range r.Counters {
		if r.Counters[i].Measurement == m {
			r.Counters[i].Value = v
			return r, nil
		}
	}
	if len(r.Counters) >= maxCounters {
		return r, fmt.Errorf("emulator: the instance has used counters with %d measurements already", maxCounters)
	}
	r.Counters = append(r.Counters, counter{Measurement: m, Value: v})
	return r, nil
}

func loadRecord(dir, id string) (record, error) {
	var r record
	if err := readRecord(filepath.Join(dir, recordFile), &r); err != nil {
		return r, fmt.Errorf("instance %s: %w", id, err)
	}
	if r.Version != recordVersion || r.ID != id || len(r.Salt) != 32 || len(r.Counters) > maxCounters {
		return r, fmt.Errorf("%w: record of instance %s", errState, id)
	}
	return r, nil
}

// createInstance makes the folder of a new instance, complete or not at all.
func createInstance(instances string, r record) error {
	tmp, err := os.MkdirTemp(instances, ".new-")
	if err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	err = func() error {
		if err := os.Mkdir(filepath.Join(tmp, storeName), 0o700); err != nil {
			return err
		}
		if err := writeRecord(filepath.Join(tmp, recordFile), r); err != nil {
			return err
		}
		if err := os.Rename(tmp, filepath.Join(instances, r.ID)); err != nil {
			return err
		}
		return syncDir(instances)
	}()
	if err != nil {
		_ = os.RemoveAll(tmp)
		return fmt.Errorf("emulator: making instance %s: %w", r.ID, err)
	}
	return nil
}

// ownStore gives the store folder to the user that the instance runs as. Links are not followed: what is in there was written by
// an Agent.
func ownStore(dir string, uid int) error {
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, uid)
	})
}

// freshUID picks a user of the host that no other instance has, or 0 where this process cannot start programs as others. Emulators
// on one machine start at different points of the range.
func freshUID(seed [33]byte, taken map[int]bool) int {
	const size = sandbox.LastHostUID - sandbox.FirstHostUID + 1
	start := (int(seed[1])<<8 | int(seed[2])) % size
	for i := range size {
		uid := sandbox.FirstHostUID + (start+i)%size
		if !taken[uid] {
			if !sandbox.CanMapUID(uid) {
				return 0
			}
			return uid
		}
	}
	return 0
}

// parts are what an instance is launched from, in sealed memory files.
type parts struct {
	image       *image.Image
	file        *os.File
	layer       *os.File // a guest payload, or nil
	layerDigest [32]byte
}

func (p *parts) close() {
	p.file.Close()
	if p.layer != nil {
		p.layer.Close()
	}
}

// layerShare is the part of a guest's memory that a guest payload may have: for a while it is there twice, as an archive and unpacked, and
// its program a third time.
const layerShare = 6

// copyParts copies and checks what came with a launch: the image, and a guest payload, which is for a vm only.
func copyParts(files []*os.File) (*parts, error) {
	img, file, err := copyImage(files[0])
	if err != nil {
		return nil, err
	}
	p := &parts{image: img, file: file}
	if len(files) > 1 {
		if err := p.copyLayer(files[1]); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

func (p *parts) copyLayer(f *os.File) error {
	if p.image.Instance != image.VM {
		return fmt.Errorf("%w: a guest payload is for a vm, and this is an image for a %s", platform.ErrInvalid, p.image.Instance)
	}
	if p.image.TPM { // nobody could compute from reference values what its firmware measures then
		return fmt.Errorf("%w: a guest with a TPM is booted from its image alone, without a guest payload", platform.ErrInvalid)
	}
	limit := int64(p.image.MemoryMiB) << 20 / layerShare
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return fmt.Errorf("%w: the guest payload has to be a regular file", platform.ErrInvalid)
	}
	if st.Size() > min(limit, initramfs.MaxLayerBytes) {
		return fmt.Errorf("%w: a guest payload of %d bytes; a guest with %d MiB of memory takes %d", platform.ErrInvalid, st.Size(),
			p.image.MemoryMiB, min(limit, initramfs.MaxLayerBytes))
	}
	if p.layer, p.layerDigest, err = sandbox.SealedMemfd("layer", io.NewSectionReader(f, 0, initramfs.MaxLayerBytes+1)); err != nil {
		return explain(err)
	}
	if err := initramfs.CheckLayer(io.NewSectionReader(p.layer, 0, 1<<62)); err != nil {
		return fmt.Errorf("%w: %w", platform.ErrInvalid, err)
	}
	return nil
}

// copyImage copies the Broker's image into a sealed memory file and measures it. What the Broker does to its own file meanwhile
// decides what is copied, but what is copied is what is measured and run.
func copyImage(f *os.File) (*image.Image, *os.File, error) {
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%w: the image has to be a regular file", platform.ErrInvalid)
	}
	if st.Size() > platform.MaxAgentBytes {
		return nil, nil, fmt.Errorf("%w: the image is larger than %d MiB", platform.ErrInvalid, platform.MaxAgentBytes>>20)
	}
	file, _, err := sandbox.SealedMemfd("agent", io.NewSectionReader(f, 0, platform.MaxAgentBytes))
	if err != nil {
		return nil, nil, explain(err)
	}
	img, err := readImage(file)
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return img, file, nil
}

// readImage reads the header of a sealed image, and checks that the programs that run on this machine's kernel can.
func readImage(file *os.File) (*image.Image, error) {
	st, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	img, err := image.Read(file, st.Size())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", platform.ErrInvalid, err)
	}
	if agent := img.Open(file, image.PartAgent); agent != nil {
		if err := sandbox.CheckProgram(agent); err != nil {
			return nil, explain(err)
		}
	}
	return img, nil
}

// explain gives an error of the sandbox the kind that the Broker knows.
func explain(err error) error {
	switch {
	case errors.Is(err, sandbox.ErrProgram), errors.Is(err, sandbox.ErrSpec):
		return fmt.Errorf("%w: %w", platform.ErrInvalid, err)
	case errors.Is(err, sandbox.ErrUnsupported):
		return fmt.Errorf("%w: %w", platform.ErrUnsupported, err)
	}
	return err
}
