// SPDX-License-Identifier: Apache-2.0

package vault

import "golang.org/x/sys/unix"

// StartSync implements flusher (sync_file_range(2)). It promises nothing: Sync does.
func (f diskFile) StartSync(offset, size int64) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _ = unix.SyncFileRange(int(fd), offset, size, unix.SYNC_FILE_RANGE_WRITE) })
	}
}
