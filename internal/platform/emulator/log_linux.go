// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"bytes"
	"log/slog"
	"sync"
	"time"
)

// agentLog is where an Agent's stdout and stderr go: line by line into the emulator's log. An Agent that floods it loses lines, and
// cannot fill the log or hold up the emulator.
type agentLog struct {
	log *slog.Logger

	mu      sync.Mutex
	line    []byte
	second  int64
	lines   int
	dropped int
}

const (
	maxLine      = 4096
	linesASecond = 200
)

// Write implements io.Writer. It never fails.
func (l *agentLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		part := p
		if i >= 0 {
			part, p = p[:i], p[i+1:]
		} else {
			p = nil
		}
		l.line = append(l.line, part[:min(len(part), maxLine-len(l.line))]...)
		if i >= 0 {
			l.emit()
		}
	}
	return n, nil
}

// emit logs one line, unless there were too many in this second.
func (l *agentLog) emit() {
	defer func() { l.line = l.line[:0] }()
	if now := time.Now().Unix(); now != l.second {
		if l.dropped > 0 {
			l.log.Warn("the agent wrote too much", "lines lost", l.dropped)
		}
		l.second, l.lines, l.dropped = now, 0, 0
	}
	if l.lines++; l.lines > linesASecond {
		l.dropped++
		return
	}
	l.log.Info("agent", "line", string(bytes.ToValidUTF8(l.line, []byte("?"))))
}
