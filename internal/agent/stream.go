// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"io"
	"syscall"
	"time"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/processor"
)

// stage runs the update procedure of a manifest, and logs how much came from outside and how long it took until that was in sealed
// storage: what `sealift bench install` measures.
func (t *transaction) stage(ctx context.Context, m *suit.Verified, envelope []byte) (*processor.Outcome, error) {
	begun, used := time.Now(), cpuTime()
	out, err := t.processor().Update(ctx, envelope)
	if err == nil {
		t.a.log.Info("staged", "manifest", m.ComponentID.String(), "bytes", t.fetched, "milliseconds", time.Since(begun).Milliseconds(),
			"cpu_ms", (cpuTime() - used).Milliseconds())
	}
	return out, err
}

// started logs how long a TA took from its start until it serves: read from sealed storage, verified, put into TEE memory.
func (t *transaction) started(c *component, begun time.Time, used time.Duration) {
	t.a.log.Info("started", "ta", c.ID.String(), "bytes", c.Size, "milliseconds", time.Since(begun).Milliseconds(),
		"cpu_ms", (cpuTime() - used).Milliseconds())
}

// cpuTime is what this process has used of all processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var _ processor.Streamer = (*transaction)(nil)

// CreateFrom implements processor.Streamer: a TA or PD goes decrypted into sealed storage while its ciphertext arrives, in one pass.
// Nothing reads it before the ciphertext was matched. What is for the REE is staged first: it leaves the TEE at once.
func (t *transaction) CreateFrom(ctx context.Context, id, source suit.ComponentID, sum suit.Digest) (processor.Writer, error) {
	if class(source) != classStaged || class(id) == classREE || sum.Alg != suit.AlgSHA256 {
		return nil, processor.ErrNotSupported
	}
	t.source = sum.Bytes // as if it had been opened: see flow
	defer func() { t.source = nil }()
	return t.Create(ctx, id)
}

// Algorithm implements processor.Digester.
func (w *stageWriter) Algorithm() cose.Algorithm { return suit.AlgSHA256 }

// Sum implements processor.Digester.
func (w *stageWriter) Sum() []byte { return w.hash.Sum(nil) }

// fetchedReader counts what comes from outside.
type fetchedReader struct {
	io.ReadCloser
	t *transaction
}

func (f fetchedReader) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	f.t.fetched += int64(n)
	return n, err
}
