// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"

	"sealift/cose"
	"sealift/suit"
)

// An encrypted payload is fetched into a staging component, matched, copied from there with decryption, and the staging
// component is dropped (suit-firmware-encryption section 7):
//
//	set-component-index staged; override-parameters uri, image-digest; fetch; image-match
//	set-component-index target; override-parameters source-component, encryption-info; copy
//	set-component-index staged; unlink
//
// Executed to the letter that writes a large payload twice and reads it twice. Where the commands after a fetch are exactly
// these, nothing can look at the staged bytes but image-match, for which their digest is enough. So fetch decrypts on the way
// and streams the plaintext into the target; image-match judges the digest of the ciphertext; copy makes the target's content
// count. A platform MUST NOT use the content before that (see Streamer), and when image-match fails, or any other command comes
// in between, it is dropped. What a run leaves behind, and what it reports, is the same either way.

// Streamer is a Platform that can take the content of a component while the ciphertext that it is decrypted from is still
// arriving, and before that has been matched.
type Streamer interface {
	// CreateFrom is Create for content that is decrypted from what the staging component source would hold, whose digest has
	// to be sum. The processor calls Close only after image-match of that digest. ErrNotSupported makes it stage the
	// ciphertext instead.
	CreateFrom(ctx context.Context, c, source suit.ComponentID, sum suit.Digest) (Writer, error)
}

// Digester is a Writer that hashes what it takes anyway, so that the processor need not do it a second time.
type Digester interface {
	// Algorithm is that of Sum.
	Algorithm() cose.Algorithm
	// Sum returns the digest of all that was written. It is asked for before Close.
	Sum() []byte
}

// pending is a component whose content has been streamed and does not count yet.
type pending struct {
	rest   suit.Sequence // the commands that have to follow
	staged *state        // of the component that was not written
	size   int64         // of the ciphertext
	target string        // key of the component that was
	plain  int64         // its size
	writer Writer
}

// follow drops what is pending unless cmd is the next of the commands that it was streamed for.
func (m *machine) follow(cmd *suit.Command) {
	p := m.pending
	switch {
	case p == nil:
	case len(p.rest) == 0 || &p.rest[0] != cmd:
		m.dropPending()
	default:
		p.rest = p.rest[1:]
	}
}

func (m *machine) dropPending() {
	if p := m.pending; p != nil {
		m.pending = nil
		p.writer.Abort()
	}
}

// ahead is what the commands after a fetch say of it.
type ahead struct {
	target *component
	cipher cose.ContentCipher
}

// shape is the commands that follow a fetch which can be streamed.
var shape = []suit.CommandCode{
	suit.CodeImageMatch, suit.CodeSetComponentIndex, suit.CodeOverrideParameters, suit.CodeCopy, suit.CodeSetComponentIndex, suit.CodeUnlink,
}

// lookAhead returns where the payload fetched into c goes, if it goes nowhere else and only decrypted. Ciphers that authenticate
// release nothing before their end, so there is nothing to stream.
func (s *scope) lookAhead(c *component) *ahead {
	rest, m := s.rest, s.frame.machine
	if !is[Streamer](m.platform) || len(s.current) != 1 || len(rest) < len(shape) {
		return nil
	}
	for i, code := range shape {
		if rest[i].Code != code {
			return nil
		}
	}
	to, params, back := rest[1].Index, rest[2].Params, rest[4].Index
	if to.All || len(to.List) != 1 || back.All || !slices.Equal(back.List, []int{c.index}) || to.List[0] == c.index {
		return nil
	}
	source, ok := params.Uint(suit.ParamSource)
	info, encrypted := params.Bytes(suit.ParamEncryptionInfo)
	if !ok || !encrypted || len(params) != 2 || source != uint64(c.index) || authenticates(info) {
		return nil
	}
	if _, _, listed := s.frame.manifest.Component(to.List[0]); !listed {
		return nil
	}
	target := s.component(to.List[0])
	have := s.params(target)
	_, digest := have.Digest()
	_, metadata := have[suit.ParamComponentMetadata]
	if target.dependency || target.state == c.state || digest || metadata {
		return nil
	}
	cipher, err := cose.OpenInfo(info, m.platform.Keys(), cose.ContextSUITPayload)
	if err != nil {
		return nil // directive copy says what is wrong
	}
	return &ahead{target, cipher}
}

// through streams src, decrypted, into the target of a, and reports false where the platform does not want that.
func (m *machine) through(s *scope, c *component, a *ahead, src io.Reader, t transfer) (bool, error) {
	want, ok := t.want.Digest()
	if !ok {
		return false, nil
	}
	h, err := suit.NewHash(want.Alg)
	if err != nil {
		return true, err
	}
	w, err := m.platform.(Streamer).CreateFrom(m.ctx, a.target.id, c.id, want)
	if errors.Is(err, ErrNotSupported) {
		return false, nil
	}
	if err != nil {
		return true, fmt.Errorf("create %v: %w", a.target.id, err)
	}
	limit := min(t.limit, m.options.Limits.TotalBytes-m.written)
	plain := &boundedWriter{dst: w, left: limit}
	q := newQueue()
	done := make(chan error, 1)
	go func() { // decryption beside the digest of what arrives next
		_, err := a.cipher.Open(plain, q)
		q.stop(err)
		done <- err
	}()
	in := &boundedWriter{dst: io.Discard, hash: h, left: limit}
	err = q.fill(src, in)
	if other := <-done; err == nil {
		err = other
	}
	q.free()
	m.written += in.n + plain.n
	got := suit.Digest{Alg: want.Alg, Bytes: h.Sum(nil)}
	if err == nil && t.sum != nil && want.Alg == suit.AlgSHA256 && subtle.ConstantTimeCompare(t.sum, got.Bytes) != 1 {
		err = fmt.Errorf("%w: the URI names other content", suit.ErrDigest)
	}
	if err != nil {
		w.Abort()
		return true, fmt.Errorf("write %v: %w", c.id, err)
	}
	m.stored(c, in.n, got, true, nil)
	m.pending = &pending{rest: s.rest[:len(shape)], staged: c.state, size: in.n, target: a.target.key, plain: plain.n, writer: w}
	return true, nil
}

// streamed makes the content of c count that was streamed before, and reports whether there was some.
func (s *scope) streamed(c, from *component) (bool, error) {
	m := s.frame.machine
	p := m.pending
	if p == nil || p.target != c.key || p.staged != from.state {
		return false, nil
	}
	if !from.state.matched { // the command before was its image-match
		return true, errors.New("the source was not matched")
	}
	m.pending = nil
	if err := p.writer.Close(); err != nil {
		return true, fmt.Errorf("write %v: %w", c.id, err)
	}
	m.stored(c, p.plain, suit.Digest{}, false, suit.Params{suit.ParamSource: uint64(from.index)})
	delete(m.writable(c.state), suit.ParamEncryptionInfo)
	c.state.unauthenticated = false
	return true, nil
}
