// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"io"
	"time"

	"sealift/suit"
	"sealift/suit/processor"
)

// stage runs the update procedure of a manifest, and logs how much came from outside and how long it took until that was in sealed
// storage: what `sealift bench install` measures.
func (t *transaction) stage(ctx context.Context, m *suit.Verified, envelope []byte) (*processor.Outcome, error) {
	begun := time.Now()
	out, err := t.processor().Update(ctx, envelope)
	if err == nil {
		t.a.log.Info("staged", "manifest", m.ComponentID.String(), "bytes", t.fetched, "milliseconds", time.Since(begun).Milliseconds())
	}
	return out, err
}

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
