// SPDX-License-Identifier: Apache-2.0

package teep

import (
	"cmp"
	"slices"

	"sealift/cose/wire"
)

// Encode gives the deterministic encoding of m, after it has checked that m keeps the protocol's rules. The result is the
// payload that Sign protects.
func Encode(m Message) ([]byte, error) {
	c := &checker{typ: m.Type(), emit: true}
	if c.message(m); c.err != nil {
		return nil, c.err
	}
	w := &encoder{ext: slices.Clone(*m.extensions())}
	slices.SortFunc(w.ext, func(x, y Option) int { return cmp.Compare(x.Label, y.Label) })
	m.write(w)
	w.flush(^uint64(0))
	b := make([]byte, 0, len(w.b)+128)
	b = wire.AppendArray(b, 2+m.tail())
	b = wire.AppendUint(b, uint64(m.Type()))
	b = append(wire.AppendMap(b, w.n), w.b...)
	return m.writeTail(b), nil
}

// encoder collects the options of a message. They have to come in ascending order of their labels; the unknown ones, which are
// sorted, are merged in.
type encoder struct {
	b   []byte
	n   int
	ext []Option
}

// open begins the option label.
func (w *encoder) open(label uint64) {
	w.flush(label)
	w.n++
	w.b = wire.AppendUint(w.b, label)
}

// flush writes the unknown options up to label.
func (w *encoder) flush(label uint64) {
	for len(w.ext) > 0 && w.ext[0].Label <= label {
		w.n++
		w.b = append(wire.AppendUint(w.b, w.ext[0].Label), w.ext[0].Value...)
		w.ext = w.ext[1:]
	}
}

func (w *encoder) bytes(label uint64, v []byte) {
	if v != nil {
		w.open(label)
		w.b = wire.AppendBytes(w.b, v)
	}
}

func (w *encoder) text(label uint64, v string) {
	if v != "" {
		w.open(label)
		w.b = wire.AppendText(w.b, v)
	}
}

// list writes an array of what each appends; an empty one is left out.
func list[T any](w *encoder, label uint64, items []T, each func(b []byte, item T) []byte) {
	if len(items) > 0 {
		w.open(label)
		w.b = appendList(w.b, items, each)
	}
}

func appendList[T any](b []byte, items []T, each func(b []byte, item T) []byte) []byte {
	b = wire.AppendArray(b, len(items))
	for _, item := range items {
		b = each(b, item)
	}
	return b
}

func appendUint32(b []byte, v uint32) []byte { return wire.AppendUint(b, uint64(v)) }

func appendComponentID(b []byte, id ComponentID) []byte { return appendList(b, id, wire.AppendBytes) }

func appendSuite(b []byte, s CipherSuite) []byte {
	return appendList(b, s, func(b []byte, op Operation) []byte {
		return wire.AppendInt(wire.AppendInt(wire.AppendArray(b, 2), op.COSE), int64(op.Alg))
	})
}

func appendProfile(b []byte, p SUITProfile) []byte {
	b = wire.AppendInt(wire.AppendArray(b, 4), int64(p.Digest))
	b = wire.AppendInt(wire.AppendInt(b, int64(p.Auth)), int64(p.KeyExchange))
	return wire.AppendInt(b, int64(p.Encryption))
}

func appendProperty(b []byte, p SystemProperty) []byte { return p.append(b) }

func appendRequestedTC(b []byte, tc RequestedTC) []byte {
	n := 1
	if tc.SequenceNumber != nil {
		n++
	}
	if tc.HaveBinary != nil {
		n++
	}
	b = appendComponentID(wire.AppendUint(wire.AppendMap(b, n), labelComponentID), tc.Component)
	if tc.SequenceNumber != nil {
		b = wire.AppendUint(wire.AppendUint(b, labelSequenceNumber), *tc.SequenceNumber)
	}
	if tc.HaveBinary != nil {
		b = wire.AppendBool(wire.AppendUint(b, labelHaveBinary), *tc.HaveBinary)
	}
	return b
}

func (m *QueryRequest) write(w *encoder) {
	w.bytes(labelChallenge, m.Challenge)
	list(w, labelVersions, m.Versions, appendUint32)
	w.bytes(labelPayload, m.AttestationPayload)
	w.text(labelPayloadFormat, m.AttestationPayloadFormat)
	list(w, labelSUITReports, m.SUITReports, wire.AppendBytes)
	w.bytes(labelToken, m.Token)
	list(w, labelFreshness, m.SupportedFreshness, appendUint32)
}

func (m *QueryRequest) writeTail(b []byte) []byte {
	b = appendList(b, m.CipherSuites, appendSuite)
	b = appendList(b, m.SUITProfiles, appendProfile)
	return wire.AppendUint(b, uint64(m.DataItems))
}

func (m *QueryResponse) write(w *encoder) {
	if m.SelectedVersion != nil {
		w.open(labelSelectedVersion)
		w.b = appendUint32(w.b, *m.SelectedVersion)
	}
	w.bytes(labelPayload, m.AttestationPayload)
	list(w, labelTCList, m.TCList, appendProperty)
	list(w, labelExtList, m.ExtList, appendUint32)
	w.text(labelPayloadFormat, m.AttestationPayloadFormat)
	list(w, labelRequestedTCList, m.RequestedTCList, appendRequestedTC)
	list(w, labelUnneeded, m.UnneededManifestList, appendComponentID)
	list(w, labelSUITReports, m.SUITReports, wire.AppendBytes)
	w.bytes(labelToken, m.Token)
}

func (*QueryResponse) writeTail(b []byte) []byte { return b }

func (m *Update) write(w *encoder) {
	w.bytes(labelPayload, m.AttestationPayload)
	list(w, labelManifestList, m.ManifestList, wire.AppendBytes)
	w.text(labelErrMsg, m.ErrMsg)
	w.text(labelPayloadFormat, m.AttestationPayloadFormat)
	list(w, labelUnneeded, m.UnneededManifestList, appendComponentID)
	w.bytes(labelToken, m.Token)
	w.text(labelErrLang, m.ErrLang)
	if m.ErrCode != nil {
		w.open(labelErrCode)
		w.b = wire.AppendUint(w.b, uint64(*m.ErrCode))
	}
}

func (*Update) writeTail(b []byte) []byte { return b }

func (m *Success) write(w *encoder) {
	w.text(labelMsg, m.Msg)
	list(w, labelSUITReports, m.SUITReports, wire.AppendBytes)
	w.bytes(labelToken, m.Token)
}

func (*Success) writeTail(b []byte) []byte { return b }

func (m *Error) write(w *encoder) {
	list(w, labelCipherSuites, m.CipherSuites, appendSuite)
	w.bytes(labelChallenge, m.Challenge)
	list(w, labelVersions, m.Versions, appendUint32)
	list(w, labelSUITProfiles, m.SUITProfiles, appendProfile)
	w.text(labelErrMsg, m.Msg)
	list(w, labelSUITReports, m.SUITReports, wire.AppendBytes)
	w.bytes(labelToken, m.Token)
	list(w, labelFreshness, m.SupportedFreshness, appendUint32)
	w.text(labelErrLang, m.Lang)
}

func (m *Error) writeTail(b []byte) []byte { return wire.AppendUint(b, uint64(m.Code)) }
