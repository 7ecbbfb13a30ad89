// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ree

import (
	"io"
	"os"
	"slices"
	"strings"

	"sealift/suit"
)

// Log is the last of what a UA has printed, in this and earlier lives.
type Log struct {
	Component suit.ComponentID
	Text      []byte
}

// Logs returns at most most bytes of each UA of a TEE instance. Those that do not run are included.
func (h *Host) Logs(instance string, most int64) (logs []Log) {
	keys, err := h.store.keys()
	if err != nil {
		return nil
	}
	slices.SortFunc(keys, func(a, b key) int { return strings.Compare(a.app+"\x00"+a.name, b.app+"\x00"+b.name) })
	for _, k := range keys {
		if k.instance == instance {
			file := h.store.path(k, logFile)
			text := tail(file, most)
			if short := most - int64(len(text)); short > 0 {
				text = append(tail(file+".1", short), text...) // see supervise.Log
			}
			logs = append(logs, Log{k.id(), text})
		}
	}
	return logs
}

// tail returns the last bytes of a file, none if it cannot be read.
func tail(file string, most int64) []byte {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil
	}
	if _, err := f.Seek(max(0, st.Size()-most), io.SeekStart); err != nil {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(f, most))
	return text
}
