// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"encoding/binary"
	"net"
)

// joining is the byte channel under yamux, which writes each frame's head and body one after the other: here they leave together, with
// one system call and one wake-up of the other end where the connection can do that (writev(2)). Only yamux's one sending goroutine
// writes.
type joining struct {
	net.Conn
	held [headSize]byte
	has  bool
	two  [2][]byte
}

// The head of a yamux frame: version, type (0: data), flags, stream, length.
const headSize = 12

// Write implements io.Writer. The head of a frame with a body waits for it.
func (j *joining) Write(p []byte) (int, error) {
	if j.has {
		j.has = false
		j.two = [2][]byte{j.held[:], p}
		buffers := net.Buffers(j.two[:])
		n, err := buffers.WriteTo(j.Conn)
		return max(int(n)-headSize, 0), err
	}
	if len(p) == headSize && p[1] == 0 && binary.BigEndian.Uint32(p[8:]) > 0 {
		copy(j.held[:], p)
		j.has = true
		return headSize, nil
	}
	return j.Conn.Write(p)
}
