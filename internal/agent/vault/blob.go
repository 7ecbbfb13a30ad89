// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

const (
	chunkSize = 64 << 10
	tagSize   = 16
)

// Ref names a blob and holds its key. It belongs into the state and nowhere else.
type Ref struct {
	ID   string   `cbor:"1,keyasint"`
	Key  [32]byte `cbor:"2,keyasint"`
	Size int64    `cbor:"3,keyasint"` // of the content
	// Volatile says that the blob is in memory only.
	Volatile bool `cbor:"4,keyasint,omitempty"`
}

func chunkCipher(key [32]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// chunkNonce is the chunk's number, 11 bytes big-endian, and 1 for the last chunk, else 0. A blob's key is never used for
// another blob, so nonces do not repeat.
func chunkNonce(nonce *[12]byte, number uint64, last bool) []byte {
	binary.BigEndian.PutUint64(nonce[3:11], number)
	nonce[11] = 0
	if last {
		nonce[11] = 1
	}
	return nonce[:]
}

// Writer writes a new blob. Exactly one of Close and Abort ends it; Abort after Close removes the blob again. It is for one
// goroutine at a time.
type Writer struct {
	v      *Vault
	ref    Ref
	aead   cipher.AEAD
	number uint64 // of the next chunk
	buf    []byte // content that is not sealed yet: at most a chunk, which may be the last one
	out    []byte // sealed and not passed on yet
	pipe   *pipe  // nil while the blob is small
	err    error  // of an earlier Write
	closed bool

	// The rest belongs to the goroutine of pipe, while there is one.
	f       File
	written int64 // bytes of the file
	flushed int64 // of them the disk was asked to write
}

// Create begins a blob. It is part of the state only when a committed state holds its Ref.
func (v *Vault) Create() (*Writer, error) { return v.create(false) }

func (v *Vault) create(volatile bool) (*Writer, error) {
	var id [16]byte
	w := &Writer{v: v, ref: Ref{Volatile: volatile}}
	if _, err := io.ReadFull(v.rand, id[:]); err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	if _, err := io.ReadFull(v.rand, w.ref.Key[:]); err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	w.ref.ID = hex.EncodeToString(id[:])
	var err error
	if w.aead, err = chunkCipher(w.ref.Key); err != nil {
		return nil, err
	}
	if w.f, err = v.files(w.ref).Create(blobPath(w.ref.ID)); err != nil {
		return nil, fmt.Errorf("vault: new blob: %w", err)
	}
	return w, nil
}

func blobPath(id string) string { return blobDir + "/" + id }

// Write adds content. It may return before the content is written; an error of that comes with a later Write, or with Close.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	total := len(p)
	w.ref.Size += int64(total)
	if len(w.buf) > 0 {
		n := min(chunkSize-len(w.buf), len(p))
		w.buf = append(w.buf, p[:n]...)
		p = p[n:]
		if len(p) == 0 {
			return total, nil
		}
		if w.err = w.seal(w.buf, false); w.err != nil { // more follows, so this is not the last chunk
			return 0, w.err
		}
		w.buf = w.buf[:0]
	}
	for ; len(p) > chunkSize; p = p[chunkSize:] {
		if w.err = w.seal(p[:chunkSize], false); w.err != nil {
			return 0, w.err
		}
	}
	w.buf = append(w.buf, p...)
	return total, nil
}

// seal seals a chunk, and passes on what is enough for a piece of the file. Only the last chunk may be empty or short.
func (w *Writer) seal(chunk []byte, last bool) error {
	if w.out == nil {
		w.out = make([]byte, 0, chunkSize+tagSize)
		if !last {
			w.out = newPiece()
		}
	}
	var nonce [12]byte
	w.out = w.aead.Seal(w.out, chunkNonce(&nonce, w.number, last), chunk, nil)
	w.number++
	if len(w.out) >= pieceSize && !last {
		return w.pass()
	}
	return nil
}

// put writes a piece of the file.
func (w *Writer) put(piece []byte) error {
	if _, err := w.f.Write(piece); err != nil {
		return fmt.Errorf("vault: write blob: %w", err)
	}
	if w.written += int64(len(piece)); w.written-w.flushed >= flushSize {
		if f, ok := w.f.(flusher); ok {
			f.StartSync(w.flushed, w.written-w.flushed)
		}
		w.flushed = w.written
	}
	return nil
}

// Close makes the blob durable and returns its Ref.
func (w *Writer) Close() (Ref, error) {
	if w.closed {
		return Ref{}, errors.New("vault: the blob is closed")
	}
	w.closed = true
	err := w.err
	if waited := w.wait(); err == nil {
		err = waited
	}
	if err == nil {
		err = w.seal(w.buf, true)
	}
	if err == nil {
		err = w.put(w.out)
	}
	if err == nil {
		err = w.f.Sync()
	}
	err = errors.Join(err, w.f.Close())
	if err == nil {
		err = w.v.files(w.ref).SyncDir(blobDir)
	}
	w.buf, w.out = nil, nil
	if err != nil {
		_ = w.v.Remove(w.ref)
		return Ref{}, err
	}
	return w.ref, nil
}

// Abort drops the blob.
func (w *Writer) Abort() error {
	if !w.closed {
		w.closed = true
		_ = w.wait()
		_ = w.f.Close()
	}
	return w.v.Remove(w.ref)
}

// Open returns a reader of a blob's content. Read fails with ErrTampered instead of returning a byte that was not written.
func (v *Vault) Open(ref Ref) (io.ReadCloser, error) {
	aead, err := chunkCipher(ref.Key)
	if err != nil {
		return nil, err
	}
	f, err := v.files(ref).Open(blobPath(ref.ID))
	if err != nil {
		return nil, fmt.Errorf("%w: blob: %w", ErrTampered, err)
	}
	return &reader{f: f, aead: aead, left: ref.Size, buf: make([]byte, chunkSize+tagSize)}, nil
}

type reader struct {
	f      io.ReadCloser
	aead   cipher.AEAD
	left   int64 // content not yet decrypted
	buf    []byte
	rest   []byte
	number uint64
	done   bool
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.done {
			return 0, io.EOF
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// fill decrypts the next chunk. Its length follows from the size in the state, so the file cannot choose it.
func (r *reader) fill() error {
	size := min(r.left, chunkSize)
	r.left -= size
	last := r.left == 0
	chunk := r.buf[:size+tagSize]
	if _, err := io.ReadFull(r.f, chunk); err != nil {
		return fmt.Errorf("%w: a blob is cut short: %w", ErrTampered, err)
	}
	var nonce [12]byte
	plain, err := r.aead.Open(chunk[:0], chunkNonce(&nonce, r.number, last), chunk, nil)
	if err != nil {
		return fmt.Errorf("%w: chunk %d of a blob", ErrTampered, r.number)
	}
	r.rest, r.done = plain, last
	r.number++
	return nil
}

func (r *reader) Close() error { return r.f.Close() }

// Remove deletes a blob's file. While the vault is broken it keeps all files, since the next start may need them.
func (v *Vault) Remove(ref Ref) error {
	if v.broken {
		return nil
	}
	return v.files(ref).Remove(blobPath(ref.ID))
}

// Sweep deletes the blobs that keep does not name: what a crash or a removal has left behind.
func (v *Vault) Sweep(keep map[string]bool) error {
	if v.broken {
		return ErrBroken
	}
	names, err := v.fs.ReadDir(blobDir)
	if err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	var errs []error
	for _, name := range names {
		if !keep[name] {
			errs = append(errs, v.fs.Remove(blobPath(name)))
		}
	}
	return errors.Join(errs...)
}
