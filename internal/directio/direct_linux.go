// SPDX-License-Identifier: Apache-2.0

package directio

import "golang.org/x/sys/unix"

// setDirect sets or clears O_DIRECT of an open file (fcntl(2)).
func setDirect(fd uintptr, on bool) error {
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	if flags &^= unix.O_DIRECT; on {
		flags |= unix.O_DIRECT
	}
	_, err = unix.FcntlInt(fd, unix.F_SETFL, flags)
	return err
}

func startSync(fd uintptr, offset, size int64) {
	_ = unix.SyncFileRange(int(fd), offset, size, unix.SYNC_FILE_RANGE_WRITE)
}
