// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"crypto/rand"
	"testing"

	"sealift/cose"
	"sealift/internal/agent/vault"
	"sealift/internal/agent/vault/crashfs"
	"sealift/internal/owner/manifest"
	"sealift/suit/report"
	"sealift/usecase"
)

// large encrypts content with a cipher that streams.
func (w *world) large(content []byte, to *cose.Key) manifest.Item {
	w.t.Helper()
	info, enc, err := cose.NewEncrypter(rand.Reader, cose.AlgA128CTR, cose.Recipient{Key: to, KID: to.KID()}, cose.ContextSUITPayload)
	if err != nil {
		w.t.Fatal(err)
	}
	var out bytes.Buffer
	out.Grow(len(content))
	if _, err := enc.Seal(&out, bytes.NewReader(content)); err != nil {
		w.t.Fatal(err)
	}
	return manifest.Item{Kind: usecase.PD, Name: "rows", Ciphertext: w.offer(out.Bytes()), Size: int64(out.Len()), Encryption: info}
}

// release makes the manifest that brings the item as PD of the TA that ta installs.
func (w *world) release(sequence uint64, it manifest.Item, ta []byte) []byte {
	return w.sign(w.sealedBuilder(manifest.Sealed{Role: manifest.RolePD, Sequence: sequence, Items: []manifest.Item{it},
		DependsOn: &manifest.Dependency{ID: manifest.ID("app", manifest.RoleTA), Digest: w.digestOf(ta)}}), w.owner)
}

// TestLargePayload streams PD into sealed storage: it arrives, the ciphertext is not kept, and when the last byte is wrong, the payload
// is cut or too long, or the disk is full in the middle, the cause is told, what was there stays, and nothing else is left.
func TestLargePayload(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	ta := w.program(usecase.TA, 1, "echo v1", anyone)
	w.succeeds(w.update(ta), 1)
	to := w.claim().EncKey
	rows := bytes.Repeat([]byte("large secret row "), 100_000)
	before := w.blobs()
	w.succeeds(w.update(w.release(1, w.large(rows, to), ta)), 1)
	if n := w.blobs() - before; n != 2 { // the envelope and the PD
		t.Errorf("%d blobs more", n)
	}
	w.nothingIn("large secret row")
	after, present := w.blobs(), w.installed()
	for name, bad := range map[string]struct {
		change func(payload []byte) []byte
		reason report.Reason
		text   string
	}{
		"last byte": {func(p []byte) []byte { p[len(p)-1] ^= 1; return p }, report.ReasonOperationFailed, ""},
		"cut":       {func(p []byte) []byte { return p[:len(p)-1] }, report.ReasonOperationFailed, ""},
		"too long":  {func(p []byte) []byte { return append(p, 0) }, report.ReasonOperationFailed, ""},
		"disk full": {func(p []byte) []byte { w.fs.Space = int64(len(p) / 2); return p }, report.ReasonOperationFailed, "no space left in the sealed store"},
	} {
		it := w.large(rows, to)
		uri := manifest.URI(it.Ciphertext)
		w.ree.mu.Lock()
		w.ree.payloads[uri] = bad.change(w.ree.payloads[uri])
		w.ree.mu.Unlock()
		w.fails(w.update(w.release(2, it, ta)), bad.reason, bad.text)
		w.fs.Space = -1
		if n := w.blobs(); n != after {
			t.Errorf("%s: %d blobs, not %d", name, n, after)
		}
		if got := w.installed(); got != present {
			t.Errorf("%s: installed are %s, not %s", name, got, present)
		}
	}
	w.succeeds(w.update(w.release(2, w.large(rows, to), ta)), 1)
	if n := w.blobs(); n != after {
		t.Errorf("after an update %d blobs, not %d", n, after)
	}
}

// BenchmarkInstall is the Agent's part of an installation of 64 MiB, encrypted: from the channel to a file system with syncs, and the
// preparation of a TA that has the data.
func BenchmarkInstall(b *testing.B) {
	w := newWorld(b, nil)
	w.kill()
	dir, err := vault.Dir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	w.fs, w.store = crashfs.New(), dir
	w.tee = &fakeTEE{device: w.tee.device, config: w.tee.config, fs: w.fs}
	w.agentKey = nil
	w.boot()
	w.attest()
	ta := w.program(usecase.TA, 1, "echo v1", anyStdio)
	w.succeeds(w.update(ta), 1)
	it := w.large(make([]byte, 64<<20), w.claim().EncKey)
	b.SetBytes(64 << 20)
	b.ReportAllocs()
	for sequence := uint64(1); b.Loop(); sequence++ {
		w.succeeds(w.update(w.release(sequence, it, ta)), 1)
	}
}
