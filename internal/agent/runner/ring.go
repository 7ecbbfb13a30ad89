// SPDX-License-Identifier: Apache-2.0

package runner

import "sync"

// Ring is a log that keeps its last bytes: a TA that floods it pushes out its own lines and costs no more memory.
type Ring struct {
	mu    sync.Mutex
	buf   []byte
	next  int // where the next byte goes
	whole bool
}

// NewRing returns a Ring of n bytes.
func NewRing(n int) *Ring { return &Ring{buf: make([]byte, max(n, 1))} }

// Write never fails.
func (r *Ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(p)
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
	if !r.whole {
		return append([]byte(nil), r.buf[:r.next]...)
	}
	return append(append([]byte(nil), r.buf[r.next:]...), r.buf[:r.next]...)
}
