// SPDX-License-Identifier: Apache-2.0

//go:build linux

package supervise

import (
	"fmt"
	"os"
	"sync"
)

// Log is a log file of bounded size: when it is full it becomes PATH.1, in the place of an older one, and begins anew. A
// program that floods its log fills at most twice the bound.
type Log struct {
	path string
	max  int64

	mu   sync.Mutex
	file *os.File
	size int64
}

// OpenLog opens the log file at path for appending.
func OpenLog(path string, maxBytes int64) (*Log, error) {
	l := &Log{path: path, max: maxBytes}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Log) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening a log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("opening a log: %w", err)
	}
	l.file, l.size = f, st.Size()
	return nil
}

// Write never fails: a log that cannot be written (a full disk) must not end the program that writes to it.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := len(p)
	for len(p) > 0 {
		if l.size >= l.max && !l.rotate() {
			break
		}
		part := p[:min(int64(len(p)), l.max-l.size)]
		n, err := l.file.Write(part)
		l.size += int64(n)
		if err != nil {
			break
		}
		p = p[n:]
	}
	return all, nil
}

func (l *Log) rotate() bool {
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		return false
	}
	old := l.file
	if err := l.open(); err != nil {
		return false
	}
	old.Close()
	return true
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
