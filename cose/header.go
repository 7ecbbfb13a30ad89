// SPDX-License-Identifier: Apache-2.0

package cose

import (
	"errors"
	"fmt"
	"slices"

	"sealift/cose/wire"
)

// Header parameters: RFC 9052 section 3.1, RFC 9360 (x5chain), RFC 9053 section 6.3 (key agreement).
const (
	labelAlg       = 1
	labelCrit      = 2
	labelContent   = 3
	labelKID       = 4
	labelIV        = 5
	labelX5Chain   = 33
	labelEphemeral = -1
	labelSalt      = -20
	labelPartyUMin = -26 // -21 to -26: parties' identities and nonces in the KDF context
)

// Bounds on headers.
const (
	maxHeaders  = 64
	maxKIDSize  = 256
	maxX5Chain  = 16
	maxCertSize = 64 << 10
)

// understood are the parameters that may stand in crit: those that every code path here takes into account.
var understood = []int64{labelAlg, labelCrit, labelContent, labelKID, labelIV, labelX5Chain}

// header is one protected and one unprotected bucket, read together.
type header struct {
	protected []byte // content of the protected byte string, as received
	empty     bool   // no parameter is protected, however that was written
	alg       Algorithm
	hasAlg    bool // alg is protected
	unprotAlg Algorithm
	hasUnprot bool // alg is (also) unprotected
	kid       []byte
	iv        []byte
	x5chain   [][]byte
	content   any
	ephemeral *Key
	salt      []byte

	ephemeralErr error
	hasParties   bool // parameters that change the KDF context in ways not supported
	labels       []int64
	texts        []string
	crit         []int64
	hasCrit      bool
	unknownCrit  bool // crit lists a text label; none is understood
}

// readHeader reads the two buckets at r.
func readHeader(r *wire.Reader) (*header, error) {
	h := &header{}
	if err := h.read(r); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *header) read(r *wire.Reader) error {
	h.protected = r.Bytes()
	if err := r.Err(); err != nil {
		return malformed(err)
	}
	if len(h.protected) > 0 {
		if err := h.bucket(wire.NewReader(h.protected), true); err != nil {
			return err
		}
	}
	h.empty = len(h.labels)+len(h.texts) == 0
	if err := h.checkCrit(); err != nil {
		return err
	}
	return h.bucket(r, false)
}

// bucket reads one map of parameters. A label that occurs in both buckets is refused (RFC 9052 section 3).
func (h *header) bucket(r *wire.Reader, protected bool) error {
	n := r.Map()
	if n > maxHeaders {
		return malformedf("%d header parameters", n)
	}
	for range n {
		if r.Kind() == wire.KindText {
			text := r.Text()
			if slices.Contains(h.texts, text) {
				return malformedf("header parameter %q in both buckets", text)
			}
			h.texts = append(h.texts, text)
			r.Skip()
			continue
		}
		label := r.Int()
		if slices.Contains(h.labels, label) {
			return malformedf("header parameter %d in both buckets", label)
		}
		h.labels = append(h.labels, label)
		if err := h.parameter(r, label, protected); err != nil {
			return err
		}
	}
	if err := r.Err(); err != nil {
		return malformed(err)
	}
	return nil
}

func (h *header) parameter(r *wire.Reader, label int64, protected bool) error {
	switch label {
	case labelAlg:
		if r.Kind() == wire.KindText {
			return fmt.Errorf("%w: algorithm %q", ErrUnsupported, r.Text())
		}
		if alg := Algorithm(r.Int()); protected {
			h.alg, h.hasAlg = alg, true
		} else {
			h.unprotAlg, h.hasUnprot = alg, true
		}
	case labelCrit:
		if !protected {
			return malformedf("crit is not protected") // RFC 9052 section 3.1
		}
		return h.readCrit(r)
	case labelContent:
		if r.Kind() == wire.KindText {
			h.content = r.Text()
		} else {
			h.content = r.Uint()
		}
	case labelKID:
		if h.kid = r.Bytes(); len(h.kid) > maxKIDSize {
			return malformedf("kid of %d bytes", len(h.kid))
		}
	case labelIV:
		h.iv = r.Bytes()
	case labelX5Chain:
		return h.readX5Chain(r)
	case labelEphemeral:
		key, err := ParseKey(r.Raw())
		if err != nil && !errors.Is(err, ErrUnsupported) {
			return fmt.Errorf("ephemeral key: %w", err)
		}
		h.ephemeral, h.ephemeralErr = key, err // another recipient may have a curve we know
	case labelSalt:
		h.salt = r.Bytes()
	default:
		h.hasParties = h.hasParties || (label < labelSalt && label >= labelPartyUMin)
		r.Skip()
	}
	return nil
}

func (h *header) readCrit(r *wire.Reader) error {
	n := r.Array()
	if r.Err() == nil && (n == 0 || n > maxHeaders) {
		return malformedf("crit lists %d parameters", n)
	}
	h.hasCrit = true
	for range n {
		if r.Kind() == wire.KindText {
			h.unknownCrit = true
			r.Skip()
			continue
		}
		h.crit = append(h.crit, r.Int())
	}
	return nil
}

// checkCrit enforces RFC 9052 section 3.1: what crit lists must be protected, and must be understood.
func (h *header) checkCrit() error {
	if h.unknownCrit {
		return fmt.Errorf("%w: a text label", ErrCrit)
	}
	for _, label := range h.crit {
		if !slices.Contains(understood, label) {
			return fmt.Errorf("%w: parameter %d", ErrCrit, label)
		}
		if !slices.Contains(h.labels, label) {
			return malformedf("crit lists parameter %d, which is not protected", label)
		}
	}
	return nil
}

// readX5Chain reads one certificate or an array of two or more (RFC 9360 section 2). Certificates are not judged here.
func (h *header) readX5Chain(r *wire.Reader) error {
	n := 1
	if r.Kind() == wire.KindArray {
		n = r.Array()
	}
	if n == 0 || n > maxX5Chain {
		return malformedf("x5chain of %d certificates", n)
	}
	for range n {
		cert := r.Bytes()
		if len(cert) > maxCertSize {
			return malformedf("certificate of %d bytes", len(cert))
		}
		h.x5chain = append(h.x5chain, cert)
	}
	return nil
}

// headerWriter collects what goes into an emitted header.
type headerWriter struct {
	alg     Algorithm
	content any // nil, an integer or a string
	kid     []byte
	x5chain [][]byte
}

// protected gives the content of the protected byte string.
func (w headerWriter) protected() ([]byte, error) {
	n := 1
	if w.content != nil {
		n = 2
	}
	b := wire.AppendMap(nil, n)
	b = wire.AppendInt(wire.AppendUint(b, labelAlg), int64(w.alg))
	switch c := w.content.(type) {
	case nil:
		return b, nil
	case string:
		return wire.AppendText(wire.AppendUint(b, labelContent), c), nil
	case int:
		if c >= 0 {
			return wire.AppendUint(wire.AppendUint(b, labelContent), uint64(c)), nil
		}
	case uint64:
		return wire.AppendUint(wire.AppendUint(b, labelContent), c), nil
	case uint16:
		return wire.AppendUint(wire.AppendUint(b, labelContent), uint64(c)), nil
	}
	return nil, malformedf("content type %v of type %T", w.content, w.content)
}

// appendUnprotected writes the unprotected bucket: kid, where peers look for it, and x5chain.
func (w headerWriter) appendUnprotected(b []byte) []byte {
	n := 0
	if w.kid != nil {
		n++
	}
	if len(w.x5chain) > 0 {
		n++
	}
	b = wire.AppendMap(b, n)
	if w.kid != nil {
		b = wire.AppendBytes(wire.AppendUint(b, labelKID), w.kid)
	}
	if len(w.x5chain) == 0 {
		return b
	}
	b = wire.AppendUint(b, labelX5Chain)
	if len(w.x5chain) > 1 {
		b = wire.AppendArray(b, len(w.x5chain))
	}
	for _, cert := range w.x5chain {
		b = wire.AppendBytes(b, cert)
	}
	return b
}
