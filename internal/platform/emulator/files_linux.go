// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sealift/cose"
)

// errState means that the state folder cannot be used as it is. Nothing is made anew in its place, because that would lose
// what was sealed without anybody noticing.
var errState = errors.New("emulator: the state folder is damaged")

// writeRecord replaces file with the encoding of v. When it returns nil, the new content is on stable storage; when the process
// or the machine dies before, file holds the old or the new content, whole.
func writeRecord(file string, v any) error {
	data, err := cose.Marshal(v)
	if err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	tmp := file + ".new"
	if err := writeSynced(tmp, data); err != nil {
		return err
	}
	if err := os.Rename(tmp, file); err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	return syncDir(filepath.Dir(file))
}

func writeSynced(file string, data []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	return nil
}

// maxRecord bounds what is read back.
const maxRecord = 1 << 20

// readRecord decodes file into v. The error is fs.ErrNotExist if there is none, else errState.
func readRecord(file string, v any) error {
	f, err := os.Open(file)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return fmt.Errorf("%w: %w", errState, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return fmt.Errorf("%w: %w", errState, err)
	}
	if err := cose.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %s: %w", errState, file, err)
	}
	return nil
}

// overwrite replaces the content of file by zeros before it is deleted. On flash and on journaling or copying file systems the old
// content may survive somewhere; it is the best that a program can do.
func overwrite(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(make([]byte, st.Size()), 0); err != nil {
		return err
	}
	return f.Sync()
}

// lockDir takes the state folder for this process. The lock ends with the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("emulator: another emulator uses the state folder %s", dir)
		}
		return nil, fmt.Errorf("emulator: locking %s: %w", dir, err)
	}
	return f, nil
}
