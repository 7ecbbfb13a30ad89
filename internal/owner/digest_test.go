// SPDX-License-Identifier: Apache-2.0

package owner_test

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"sealift/internal/owner"
	"sealift/usecase"
)

// TestNoTraceOfPDLeaves: among what the owner sends is no plaintext, and no digest of one either, since that confirms a
// guess (promise I2).
func TestNoTraceOfPDLeaves(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	// The fake M/OC may find fault with what it gets; what was sent until then is what matters here.
	_, deployErr := w.owner.Deploy(t.Context(), owner.DeployRequest{Package: w.pkg, Wait: true, Timeout: time.Minute})
	w.moc.mu.Lock()
	defer w.moc.mu.Unlock()
	sent := w.moc.wire.Bytes()
	if where := findCanary(sent, []byte(canary)); where != "" {
		t.Errorf("PD was sent (%s)", where)
	}
	for name, content := range map[string]string{
		"records.csv": "name,value\n" + canary + ",1\n", "large.bin": strings.Repeat(canary, 40_000),
	} {
		sum := sha256.Sum256([]byte(content))
		if where := findCanary(sent, sum[:16]); where != "" { // cut, so that a shortened one is found as well
			t.Errorf("the digest of %s was sent (%s)", name, where)
		}
	}
	if deployErr != nil || len(w.moc.releases) != 1 {
		t.Errorf("%d releases, %v", len(w.moc.releases), deployErr)
	}
}
