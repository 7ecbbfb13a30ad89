// SPDX-License-Identifier: Apache-2.0

// Package vault is the Agent's sealed storage: a small state and large blobs in a folder that belongs to the REE, which
// may read, alter, swap, replay and delete whatever lies there.
//
// The state is one file, encrypted with AES-256-GCM under a key that the TEE derives from the Agent's measurement. Its number
// n is additional data, and the TEE's monotonic counter c says which number is the valid one. A commit writes number c+1 to
// a new file, syncs it, renames it over the old one, syncs the folder, and only then raises the counter. A crash in between
// leaves number c or c+1, so both are accepted at start.
//
// Accepting two numbers opens a fork: REE could keep a c+1 that was never committed and present it after another c+1 has been.
// So after a start, and after a commit that failed, the next commit takes two numbers in a row: once the counter has moved
// twice, no file from before can have an acceptable number. What the Agent acknowledges is acknowledged after that.
//
// Blobs are files of chunks, each AES-256-GCM under a random key of the blob's own that only the state holds; the chunk's
// number and whether it is the last are in the nonce, so that chunks cannot be dropped, repeated or reordered (the STREAM
// construction). To delete a blob for good it is enough that the next state lacks its key.
package vault

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
)

// Errors of the vault.
var (
	ErrTampered   = errors.New("vault: the stored bytes are not those that were written")
	ErrRolledBack = errors.New("vault: the stored state is older than the hardware counter, or gone")
	ErrBroken     = errors.New("vault: a commit failed half way; a restart of the Agent resolves it")
	ErrTooLarge   = errors.New("vault: the state is too large")
)

// MaxState bounds the state.
const MaxState = 4 << 20

const (
	stateName   = "state"
	stagingName = "state.new"
	reserveName = "reserve"
	blobDir     = "blobs"
	magic       = "sealift-state-1\n"
	// reserveSize is set aside so that a full disk does not keep the Agent from recording a removal.
	reserveSize = 1 << 20
)

// Counter is the hardware's monotonic counter: see hw.TEE.
type Counter interface {
	Counter() (uint64, error)
	Increment(expect uint64) (uint64, error)
}

// Vault is open sealed storage. It is not safe for concurrent commits; blobs may be written and read at any time.
type Vault struct {
	fs      FS
	aead    cipher.AEAD
	counter Counter
	rand    io.Reader
	memory  memoryFS // holds the blobs that are kept nowhere else

	number uint64 // of the state that the counter confirms
	state  []byte // nil: nothing was ever committed
	fork   bool   // a file with number+1 may exist that is not the committed one
	broken bool
}

// Open reads the state and brings file and counter together. A vault that was never committed to has a nil State.
func Open(fsys FS, key [32]byte, counter Counter, rand io.Reader) (*Vault, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	v := &Vault{fs: fsys, aead: aead, counter: counter, rand: rand, fork: true}
	if err := fsys.MkdirAll(blobDir); err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	if v.number, err = counter.Counter(); err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	if err := v.load(); err != nil {
		return nil, err
	}
	_ = fsys.Remove(stagingName)
	v.fillReserve()
	if v.state == nil {
		return v, nil
	}
	if err := v.Commit(v.state); err != nil {
		return nil, err
	}
	return v, nil
}

// load reads the state file, which must have the counter's number or the next.
func (v *Vault) load() error {
	data, err := readAll(v.fs, stateName, MaxState+4096)
	if errors.Is(err, fs.ErrNotExist) {
		if v.number == 0 {
			return nil
		}
		return fmt.Errorf("%w: no state, but the counter is at %d", ErrRolledBack, v.number)
	}
	if err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	number, state, err := v.open(data)
	if err != nil {
		return err
	}
	switch number {
	case v.number:
	case v.number + 1:
		if _, err := v.counter.Increment(v.number); err != nil {
			return fmt.Errorf("vault: %w", err)
		}
		v.number++
	default:
		return fmt.Errorf("%w: the state has number %d, the counter is at %d", ErrRolledBack, number, v.number)
	}
	v.state = state
	return nil
}

// State returns the committed state. The caller must not change it.
func (v *Vault) State() []byte { return v.state }

// Commit makes state the durable one. When it returns nil, no earlier state can ever be accepted again. When it fails with
// another error than ErrBroken, the earlier state stands.
func (v *Vault) Commit(state []byte) error {
	if v.broken {
		return ErrBroken
	}
	if len(state) > MaxState {
		return ErrTooLarge
	}
	steps := 1
	if v.fork {
		steps = 2
	}
	for range steps {
		if err := v.step(state); err != nil {
			return err
		}
	}
	v.fork = false
	v.state = bytes.Clone(state)
	return nil
}

// step writes state under the next number and confirms it.
func (v *Vault) step(state []byte) error {
	next := v.number + 1
	sealed, err := v.seal(next, state)
	if err != nil {
		return err
	}
	err = v.stage(sealed)
	if errors.Is(err, syscall.ENOSPC) && v.fs.Remove(reserveName) == nil {
		err = v.stage(sealed)
		defer v.fillReserve()
	}
	if err != nil {
		v.fork = true // the REE may have kept what was written
		_ = v.fs.Remove(stagingName)
		return fmt.Errorf("vault: write the state: %w", err)
	}
	// From here on the next start may find either number, so a failure cannot be taken back.
	v.broken = true
	if err := v.fs.Rename(stagingName, stateName); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	if err := v.fs.SyncDir("."); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	if _, err := v.counter.Increment(v.number); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	v.broken = false
	v.number = next
	return nil
}

func (v *Vault) stage(sealed []byte) error {
	f, err := v.fs.Create(stagingName)
	if err != nil {
		return err
	}
	_, err = f.Write(sealed)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// fillReserve sets space aside, as far as there is any.
func (v *Vault) fillReserve() {
	if n, err := v.fs.Size(reserveName); err == nil && n >= reserveSize {
		return
	}
	f, err := v.fs.Create(reserveName)
	if err != nil {
		return
	}
	_, err = f.Write(make([]byte, reserveSize))
	if errors.Join(err, f.Close()) != nil {
		_ = v.fs.Remove(reserveName)
	}
}

// Broken says that only a restart helps: see ErrBroken.
func (v *Vault) Broken() bool { return v.broken }

// seal encodes state under number: magic, number, nonce, ciphertext; the first two are additional data.
func (v *Vault) seal(number uint64, state []byte) ([]byte, error) {
	head := binary.BigEndian.AppendUint64([]byte(magic), number)
	nonce := make([]byte, v.aead.NonceSize())
	if _, err := io.ReadFull(v.rand, nonce); err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	out := append(bytes.Clone(head), nonce...)
	return v.aead.Seal(out, nonce, state, head), nil
}

func (v *Vault) open(data []byte) (uint64, []byte, error) {
	headLen := len(magic) + 8
	if len(data) < headLen+v.aead.NonceSize() || string(data[:len(magic)]) != magic {
		return 0, nil, ErrTampered
	}
	head, rest := data[:headLen], data[headLen:]
	nonce, sealed := rest[:v.aead.NonceSize()], rest[v.aead.NonceSize():]
	state, err := v.aead.Open([]byte{}, nonce, sealed, head)
	if err != nil {
		return 0, nil, ErrTampered
	}
	return binary.BigEndian.Uint64(head[len(magic):]), state, nil
}
