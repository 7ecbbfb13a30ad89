// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sealift/cose"
	"sealift/internal/payload"
	"sealift/suit"
)

// blockName is how the checks of authentication blocks begin.
const blockName = "authentication block "

// State is the outcome of a Check.
type State string

// The states. Unverified means that nobody can tell with what is at hand, Refused that it is wrong.
const (
	Verified   State = "verified"
	Unverified State = "not verified"
	Refused    State = "REFUSED"
)

// Check is one proof of authenticity in a file and what became of it.
type Check struct {
	What   string `json:"what"`
	State  State  `json:"state"`
	Key    string `json:"key,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// String is the check as one line for people.
func (c Check) String() string {
	s := string(c.State) + ": " + c.What
	if c.Key != "" {
		s += ", key " + c.Key
	}
	if c.Detail != "" {
		s += ": " + c.Detail
	}
	return s
}

// check makes the checks of one found part.
func (k *Keys) check(f found) []Check {
	switch f.kind {
	case kindEnvelope:
		return k.checkEnvelope(f.it.raw, nil)
	case kindSign1, kindSign:
		return []Check{k.checkSigned(f.name(), f.it.raw, nil)}
	case kindMac0:
		return []Check{k.checkMAC(f.name(), f.it.raw, nil)}
	case kindMac:
		return []Check{{What: f.kind, State: Unverified, Detail: "this structure is not supported"}}
	}
	return []Check{k.checkEncrypted(f)}
}

// name says what a COSE message is about, where its payload was recognised.
func (f found) name() string {
	body := f.it
	if body.Type == Tag {
		body = body.Items[0]
	}
	if len(body.Items) > 2 && body.Items[2].Inside != nil && body.Items[2].Inside.Note != "" {
		return f.kind + " of " + body.Items[2].Inside.Note
	}
	return f.kind
}

func (k *Keys) checkSigned(what string, raw, detached []byte) Check {
	c := Check{What: what, State: Unverified}
	m, err := cose.Parse(raw)
	switch {
	case errors.Is(err, cose.ErrUnsupported):
		c.Detail = err.Error()
		return c
	case err != nil:
		c.State, c.Detail = Refused, err.Error()
		return c
	case m.Detached() && detached == nil:
		c.Detail = "the payload is detached"
		return c
	}
	v, err := m.Verify(k.Public, cose.VerifyOptions{Legacy: true, Detached: detached})
	if errors.Is(err, cose.ErrNoKey) {
		v, err = m.Verify(k.Public, cose.VerifyOptions{Legacy: true, Detached: detached, AnyKID: true})
		if errors.Is(err, cose.ErrBadSignature) {
			err = cose.ErrNoKey // the message names another key than those
		}
	}
	if errors.Is(err, cose.ErrBadSignature) && wanted(m.KIDs()) == "" {
		err = cose.ErrNoKey // it names no key, so another one may have made it
	}
	switch {
	case err == nil:
		c.State, c.Key = Verified, k.Name(v.Key)
		c.Detail = v.Algorithm.String()
	case errors.Is(err, cose.ErrNoKey):
		c.Detail = "no key at hand is the signer's" + wanted(m.KIDs())
	case errors.Is(err, cose.ErrUnsupported):
		c.Detail = err.Error()
	default:
		c.State, c.Detail = Refused, err.Error()
	}
	return c
}

func wanted(kids [][]byte) string {
	s := ""
	for _, kid := range kids {
		if len(kid) > 0 {
			s += fmt.Sprintf("; kid %x", kid)
		}
	}
	return s
}

func (k *Keys) checkMAC(what string, raw, detached []byte) Check {
	c := Check{What: what, State: Unverified}
	if len(k.MAC) == 0 {
		c.Detail = "no symmetric key at hand"
		return c
	}
	_, err := cose.VerifyMac0(raw, k.MAC, detached)
	switch {
	case err == nil:
		c.State, c.Detail = Verified, "by one of the symmetric keys"
	case errors.Is(err, cose.ErrUnsupported), errors.Is(err, cose.ErrNoKey), errors.Is(err, cose.ErrBadSignature):
		c.Detail = "none of the symmetric keys fits"
	default:
		c.State, c.Detail = Refused, err.Error()
	}
	return c
}

// checkEncrypted says whether a key at hand opens the message.
func (k *Keys) checkEncrypted(f found) Check {
	c := Check{What: f.kind, State: Unverified, Detail: "no key at hand opens it"}
	body := f.it
	if body.Type == Tag {
		body = body.Items[0]
	}
	detached := len(body.Items) > 2 && body.Items[2].Type != Bytes
	for _, context := range []string{cose.ContextSUITPayload, cose.ContextEAT, cose.ContextSUITReport} {
		var err error
		if detached {
			_, err = cose.OpenInfo(f.it.raw, k.Ring, context)
		} else {
			_, err = cose.Decrypt(f.it.raw, k.Ring, context)
		}
		if err == nil {
			c.Detail = "a key at hand opens it (" + context + "); encryption says nothing of the sender"
			return c
		}
	}
	return c
}

// checkEnvelope checks what suit-manifest section 6.3.1 lists: digest, authentication blocks, severed members; and tells
// what is in the envelope that only digests in the manifest's commands cover.
func (k *Keys) checkEnvelope(raw []byte, files map[string][]byte) []Check {
	e, err := suit.ParseEnvelope(raw)
	if err != nil {
		return []Check{{What: kindEnvelope, State: Refused, Detail: err.Error()}}
	}
	m, err := e.ManifestInsecure()
	digest := Check{What: "manifest", State: Verified, Detail: "its digest is the one in the wrapper"}
	if err != nil {
		digest.State, digest.Detail = Refused, err.Error()
	}
	checks := append([]Check{digest}, k.checkBlocks(raw)...)
	if m == nil {
		return checks
	}
	if err := m.Check(); err != nil {
		checks = append(checks, Check{What: "rules of command sequences", State: Refused, Detail: err.Error()})
	}
	for _, label := range slices.Sorted(maps.Keys(m.Severed)) {
		c := Check{What: "severed member " + label.String(), State: Verified, Detail: "in the envelope, and its digest is the manifest's"}
		if _, missing := m.Missing[label]; missing {
			c.State, c.Detail = Unverified, "not in the envelope"
		}
		checks = append(checks, c)
	}
	return append(checks, checkPayloads(e, m, files)...)
}

// Envelope makes the checks of one SUIT envelope, with files in the place of what URIs name. It passes if a block
// verified and nothing was refused.
func Envelope(data []byte, keys *Keys, files map[string][]byte) (checks []Check, passed bool) {
	checks = keys.checkEnvelope(data, files)
	authentic := false
	for _, c := range checks {
		if c.State == Refused {
			return checks, false
		}
		authentic = authentic || c.State == Verified && strings.HasPrefix(c.What, blockName)
	}
	return checks, authentic
}

// checkBlocks checks the authentication blocks, which cover the encoded digest and not the manifest itself.
func (k *Keys) checkBlocks(raw []byte) []Check {
	it, _, err := read(raw)
	if err != nil {
		return nil
	}
	if it.Type == Tag {
		it = it.Items[0]
	}
	wrapper, _, err := read(it.get(2).content)
	if err != nil || wrapper.Type != Array || len(wrapper.Items) < 2 {
		return []Check{{What: "authentication", State: Refused, Detail: "there is no authentication block"}}
	}
	covered := wrapper.Items[0].content
	var checks []Check
	for i, block := range wrapper.Items[1:] {
		name := fmt.Sprintf(blockName+"%d", i+1)
		inner, _, err := read(block.content)
		switch {
		case err != nil:
			checks = append(checks, Check{What: name, State: Refused, Detail: err.Error()})
		case coseKind(inner) == kindMac0:
			checks = append(checks, k.checkMAC(name, block.content, covered))
		default:
			checks = append(checks, k.checkSigned(name, block.content, covered))
		}
	}
	return checks
}

// checkPayloads compares payloads with the digests that the manifest's commands set beside their URIs: those in the
// envelope, and those in files.
func checkPayloads(e *suit.Envelope, m *suit.Manifest, files map[string][]byte) []Check {
	wanted := payload.Of(m)
	var checks []Check
	for _, uri := range e.Payloads() {
		content, _ := e.Payload(uri)
		what := fmt.Sprintf("integrated payload %q of %d bytes", uri, len(content))
		checks = append(checks, checkPayload(what, uri, content, wanted))
	}
	seen := map[string]bool{}
	for _, p := range wanted {
		if _, integrated := e.Payload(p.URI); integrated || seen[p.URI] {
			continue
		}
		seen[p.URI] = true
		what := fmt.Sprintf("payload %q", p.URI)
		if content, ok := files[p.URI]; ok {
			checks = append(checks, checkPayload(what, p.URI, content, wanted))
			continue
		}
		checks = append(checks, Check{What: what, State: Unverified, Detail: "it is not in the envelope"})
	}
	for _, uri := range slices.Sorted(maps.Keys(files)) {
		if !seen[uri] {
			checks = append(checks, Check{What: fmt.Sprintf("payload %q", uri), State: Unverified, Detail: "no command fetches this URI"})
		}
	}
	return checks
}

func checkPayload(what, uri string, content []byte, wanted []payload.Payload) Check {
	c := Check{What: what, State: Unverified, Detail: "no command sets a digest with this URI"}
	for _, p := range wanted {
		if p.URI != uri || p.Digest.IsZero() {
			continue
		}
		if matches(content, p.Digest) {
			c.State, c.Detail = Verified, "its digest is the manifest's"
			return c
		}
		c.State, c.Detail = Refused, "its digest is not "+p.Digest.String()
	}
	return c
}

// matches compares a payload with a digest; that of a dependency is its manifest's (suit-trust-domains section 5.4.2).
func matches(content []byte, want suit.Digest) bool {
	if inner, err := suit.ParseEnvelope(content); err == nil {
		if m, err := inner.ManifestInsecure(); err == nil && m.Digest.Equal(want) {
			return true
		}
	}
	got, err := want.Of(content)
	return err == nil && got.Equal(want)
}
