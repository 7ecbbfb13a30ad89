// SPDX-License-Identifier: Apache-2.0

package runner

import "sync"

// Ring is a log that keeps its last bytes: a TA that floods it pushes out its own lines and costs no more memory.
type Ring struct {
	mu    sync.Mutex
	buf   []byte
	next  int // where the next byte goes
	whole bool
	total uint64 // bytes ever written
}

// NewRing returns a Ring of n bytes.
func NewRing(n int) *Ring { return &Ring{buf: make([]byte, max(n, 1))} }

// Write never fails.
func (r *Ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(p)
	r.total += uint64(n)
	if over := len(p) - len(r.buf); over > 0 {
		p = p[over:]
	}
	c := copy(r.buf[r.next:], p)
	if c < len(p) || r.next+c == len(r.buf) {
		r.whole = true
	}
	copy(r.buf, p[c:])
	r.next = (r.next + len(p)) % len(r.buf)
	return n, nil
}

// Bytes returns what is kept, oldest first.
func (r *Ring) Bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes()
}

func (r *Ring) bytes() []byte {
	if !r.whole {
		return append([]byte(nil), r.buf[:r.next]...)
	}
	return append(append([]byte(nil), r.buf[r.next:]...), r.buf[:r.next]...)
}

// Since returns what was written after the first offset bytes, as far as it is kept, and the offset for the next call.
func (r *Ring) Since(offset uint64) ([]byte, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept, total := r.bytes(), r.total
	if news := total - min(offset, total); news < uint64(len(kept)) {
		kept = kept[uint64(len(kept))-news:]
	}
	return kept, total
}
