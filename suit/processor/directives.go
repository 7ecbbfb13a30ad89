// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/report"
)

// fetch stores what the uri names in the current component: an integrated payload of this manifest's envelope, or what
// the platform's fetcher delivers. A component that already has the wanted digest stays (suit-manifest 8.4.10.4).
func fetch(s *scope, _ *suit.Command, c *component) error {
	params := s.params(c)
	uri, ok := params.URI()
	if !ok || uri == "" {
		return fmt.Errorf("%w: %v is not set", ErrRule, suit.ParamURI)
	}
	if err := s.unordered(c.index); err != nil {
		return err
	}
	if c.dependency {
		return s.fetchDependency(c, uri)
	}
	m := s.frame.machine
	if m.upToDate(s, c) {
		return nil
	}
	limit := s.payloadLimit(params)
	src, err := s.openURI(uri, limit)
	if err != nil {
		return err
	}
	defer src.Close()
	t := transfer{
		limit: limit, want: params, sum: ni(uri),
		fill: func(w io.Writer) error { return copyStream(w, src) },
	}
	if a := s.lookAhead(c); a != nil {
		if done, err := m.through(s, c, a, src, t); done {
			return err
		}
	}
	return m.store(c, t)
}

// payloadLimit bounds a fetch by image-size, or by policy where that is not set. image-size of an encrypted component may
// describe the plaintext, which is shorter than the ciphertext by an authentication tag.
func (s *scope) payloadLimit(params suit.Params) int64 {
	limit := s.frame.machine.options.Limits.PayloadBytes
	size, ok := params.Uint(suit.ParamSize)
	if !ok {
		return limit
	}
	if _, encrypted := params.Bytes(suit.ParamEncryptionInfo); encrypted {
		const tag = 16
		size += tag
	}
	return int64(min(size, uint64(s.frame.machine.options.Limits.TotalBytes)))
}

// openURI opens an integrated payload (whatever its key looks like: intermediaries may add payloads under the URI by which
// they got them), else asks the platform.
func (s *scope) openURI(uri string, limit int64) (io.ReadCloser, error) {
	if payload, ok := s.frame.manifest.Envelope.Payload(uri); ok {
		r := &payloadReader{}
		r.Reset(payload)
		return r, nil
	}
	m := s.frame.machine
	scheme, _, _ := strings.Cut(uri, ":")
	if strings.HasPrefix(uri, "#") {
		return nil, fmt.Errorf("the envelope has no payload %q", uri)
	}
	if !slices.Contains(m.options.Schemes, strings.ToLower(scheme)) {
		return nil, fmt.Errorf("%w: scheme of %q", ErrNotSupported, uri)
	}
	r, err := m.platform.Fetch(m.ctx, uri, limit)
	if err != nil {
		return nil, fmt.Errorf("fetch %q: %w", uri, err)
	}
	return r, nil
}

// payloadReader reads an integrated payload.
type payloadReader struct{ bytes.Reader }

// Close does nothing.
func (*payloadReader) Close() error { return nil }

// upToDate reports whether the component has the wanted digest already, and notes it if so.
func (m *machine) upToDate(s *scope, c *component) bool {
	want, ok := s.params(c).Digest()
	if !ok {
		return false
	}
	size, err := m.platform.Size(m.ctx, c.id)
	if err != nil {
		return false
	}
	if n, ok := s.params(c).Uint(suit.ParamSize); ok && n != uint64(size) {
		return false
	}
	got, err := m.digest(c, want.Alg)
	if err != nil || !want.Equal(got) {
		return false
	}
	m.touch(c, Touched{Size: size, Digest: got, Unchanged: true},
		suit.Params{suit.ParamDigest: got, suit.ParamSize: uint64(size)})
	return true
}

// write stores parameter content in the current component.
func write(s *scope, _ *suit.Command, c *component) error {
	content, ok := s.params(c).Bytes(suit.ParamContent)
	if !ok {
		return fmt.Errorf("%w: %v is not set", ErrRule, suit.ParamContent)
	}
	if err := s.changeable(c); err != nil {
		return err
	}
	if err := s.unordered(c.index); err != nil {
		return err
	}
	// The manifest's signature covers the content, so a cipher that does not authenticate is no danger here.
	return s.transfer(c, bytes.NewReader(content), int64(len(content)), nil, false)
}

// copyComponent stores the component in parameter source-component in the current one.
func copyComponent(s *scope, _ *suit.Command, c *component) error {
	from, err := s.source(c)
	if err != nil {
		return err
	}
	if done, err := s.streamed(c, from); done || err != nil {
		return err
	}
	m := s.frame.machine
	size, err := m.platform.Size(m.ctx, from.id)
	if err != nil {
		return fmt.Errorf("source %v: %w", from.id, err)
	}
	src, err := m.platform.Open(m.ctx, from.id)
	if err != nil {
		return fmt.Errorf("source %v: %w", from.id, err)
	}
	defer src.Close()
	return s.transfer(c, src, size, suit.Params{suit.ParamSource: uint64(from.index)}, !from.state.matched)
}

func (s *scope) source(c *component) (*component, error) {
	index, ok := s.params(c).Uint(suit.ParamSource)
	if !ok {
		return nil, fmt.Errorf("%w: %v is not set", ErrRule, suit.ParamSource)
	}
	// The parameter may come from another manifest that shares the component: its index counts here.
	if _, _, ok := s.frame.manifest.Component(int(index)); !ok || int(index) == c.index {
		return nil, fmt.Errorf("%w: source component %d", ErrRule, index)
	}
	from := s.component(int(index))
	if err := s.changeable(from); err != nil {
		return nil, err
	}
	return from, errors.Join(s.changeable(c), s.unordered(c.index, from.index))
}

// changeable refuses dependencies where a command reads or writes content: their manifests are kept by the caller.
func (s *scope) changeable(c *component) error {
	if c.dependency {
		return fmt.Errorf("%w: %v is a dependency", ErrNotSupported, c.id)
	}
	return nil
}

// transfer stores size bytes of src in c, decrypted if encryption-info is set, which one transfer uses up
// (suit-firmware-encryption section 4). unchecked says that nobody has matched the source's digest.
func (s *scope) transfer(c *component, src io.Reader, size int64, note suit.Params, unchecked bool) error {
	m := s.frame.machine
	params := s.params(c)
	t := transfer{limit: size, want: params, note: note, fill: func(w io.Writer) error { return copyStream(w, src) }}
	info, encrypted := params.Bytes(suit.ParamEncryptionInfo)
	if encrypted {
		cipher, err := cose.OpenInfo(info, m.platform.Keys(), cose.ContextSUITPayload)
		if err != nil {
			return fmt.Errorf("encryption-info: %w", err)
		}
		t.fill = func(w io.Writer) error {
			_, err := cipher.Open(w, src)
			return err
		}
	}
	if err := m.store(c, t); err != nil {
		return err
	}
	if encrypted {
		delete(m.writable(c.state), suit.ParamEncryptionInfo)
		c.state.unauthenticated = unchecked && !authenticates(info)
	}
	return nil
}

// authenticates reports whether the content cipher of a COSE_Encrypt authenticates. AEAD ciphers have their algorithm in
// the protected header; ciphers that do not authenticate must leave that empty (RFC 9459 section 4).
func authenticates(info []byte) bool {
	var msg cbor.RawTag
	var parts []cose.RawMessage
	var protected []byte
	if cose.Unmarshal(info, &msg) != nil || cose.Unmarshal(msg.Content, &parts) != nil || len(parts) == 0 {
		return false
	}
	return cose.Unmarshal(parts[0], &protected) == nil && len(protected) > 1
}

// swap exchanges the current component and its source.
func swap(s *scope, _ *suit.Command, c *component) error {
	from, err := s.source(c)
	if err != nil {
		return err
	}
	m := s.frame.machine
	if err := m.platform.(Swapper).Swap(m.ctx, c.id, from.id); err != nil {
		return err
	}
	c.forget()
	from.forget()
	for _, x := range []*component{c, from} {
		size, err := m.platform.Size(m.ctx, x.id)
		if err != nil {
			return err
		}
		m.touch(x, Touched{Size: size}, suit.Params{suit.ParamSize: uint64(size)})
	}
	return nil
}

// invoke starts the current component.
func invoke(s *scope, _ *suit.Command, c *component) error {
	m := s.frame.machine
	if err := s.changeable(c); err != nil {
		return err
	}
	args, _ := s.params(c).Bytes(suit.ParamInvokeArgs)
	if err := m.platform.Invoke(m.ctx, c.id, args); err != nil {
		return fmt.Errorf("invoke %v: %w", c.id, err)
	}
	m.out.Invoked = append(m.out.Invoked, c.id)
	return nil
}

// unlink drops this manifest's reference to the current component, once; the last reference takes the component with it
// (suit-trust-domains section 5.6.4). The manifest of a dependency is uninstalled before it is removed.
func unlink(s *scope, _ *suit.Command, c *component) error {
	f, m := s.frame, s.frame.machine
	if f.unlinked[c.key] {
		return nil
	}
	remaining, err := m.platform.Unlink(m.ctx, f.name, c.id)
	if err != nil {
		return err
	}
	if f.unlinked == nil {
		f.unlinked = map[string]bool{}
	}
	f.unlinked[c.key] = true
	if remaining > 0 {
		return nil
	}
	if c.dependency {
		if err := f.uninstallDependency(c); err != nil {
			return err
		}
	}
	if err := m.platform.Remove(m.ctx, c.id); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c.forget()
	m.out.Unlinked = append(m.out.Unlinked, c.id)
	return nil
}

// touch notes that a component was written.
func (m *machine) touch(c *component, t Touched, properties suit.Params) {
	t.Component = c.id
	if i := c.state.touched; i > 0 {
		m.out.Touched[i-1] = t
	} else {
		m.out.Touched = append(m.out.Touched, t)
		c.state.touched = len(m.out.Touched)
	}
	m.out.Report.Items = append(m.out.Report.Items, &report.SystemProperty{Component: t.Component, Params: properties})
}

// forget drops what is known of a component's content.
func (c *component) forget() {
	c.state.digest, c.state.matched, c.state.unauthenticated = suit.Digest{}, false, false
}
