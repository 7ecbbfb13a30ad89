// SPDX-License-Identifier: Apache-2.0

package teep

import (
	"fmt"

	"sealift/cose"
	"sealift/cose/wire"
)

// Decode reads the payload of a protected message and checks it against the protocol's rules. Errors are ErrMalformed,
// ErrUnknownType or a *RuleError. The message aliases data.
func Decode(data []byte) (Message, error) { return decode(data, Options{}) }

func decode(data []byte, o Options) (Message, error) {
	if len(data) > maxMessage {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(data))
	}
	d := &decoder{r: wire.NewReader(data)}
	n := d.r.Array()
	number := d.r.Uint()
	if err := d.r.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	d.typ = MessageType(number)
	m := newMessage(d.typ)
	if m == nil || uint64(d.typ) != number {
		return nil, fmt.Errorf("%w: %d", ErrUnknownType, number)
	}
	if n != 2+m.tail() {
		return nil, fmt.Errorf("%w: %v of %d elements", ErrMalformed, d.typ, n)
	}
	d.options(m)
	m.readTail(d)
	if err := d.r.Err(); err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrMalformed, d.typ, err)
	}
	c := &checker{typ: d.typ, loose: o.LooseToken, err: d.err}
	if c.message(m); c.err != nil {
		return nil, c.err
	}
	return m, nil
}

// peek finds the type and the token of a message whose content was refused.
func peek(data []byte) (MessageType, []byte) {
	r := wire.NewReader(data)
	if r.Array() < 2 {
		return 0, nil
	}
	t := MessageType(r.Uint())
	for range r.Map() {
		if key := r.Raw(); len(key) != 1 || key[0] != labelToken {
			r.Skip()
			continue
		}
		if token := r.Bytes(); r.Err() == nil && len(token) >= minToken && len(token) <= maxToken {
			return t, token
		}
		break
	}
	return t, nil
}

// decoder reads one message. A violated rule is kept in err and does not stop the reading; what cannot be read at all stays
// in the reader.
type decoder struct {
	r   *wire.Reader
	typ MessageType
	err error
}

// fail records the first violated rule.
func (d *decoder) fail(label uint64, problem, source string) {
	if d.err == nil {
		d.err = &RuleError{d.typ, labelName(label), problem, source}
	}
}

// options reads the map of options. One that another message has is refused; one that nobody has is kept.
func (d *decoder) options(m Message) {
	for range d.r.Map() {
		label := d.r.Uint()
		if d.r.Err() != nil {
			return
		}
		if m.read(d, label) {
			continue
		}
		value := d.r.Raw()
		if labelName(label) != "" {
			d.fail(label, "not an option of this message", "teep-protocol section 4")
			continue
		}
		ext := m.extensions()
		*ext = append(*ext, Option{label, cose.RawMessage(value)})
	}
}

// text reads a text; an empty one is none.
func (d *decoder) text(label uint64) string {
	s := d.r.Text()
	if s == "" && d.r.Err() == nil {
		d.fail(label, "empty text", "teep-protocol section 4")
	}
	return s
}

// readList reads an array; the result is not nil.
func readList[T any](d *decoder, each func() T) []T {
	n := d.r.Array()
	items := make([]T, 0, min(n, 64))
	for range n {
		if d.r.Err() != nil {
			break
		}
		items = append(items, each())
	}
	return items
}

func (d *decoder) byteStrings() [][]byte { return readList(d, d.r.Bytes) }
func (d *decoder) numbers() []uint32     { return readList(d, d.r.Uint32) }

func (d *decoder) componentID() ComponentID     { return ComponentID(d.byteStrings()) }
func (d *decoder) componentIDs() []ComponentID  { return readList(d, d.componentID) }
func (d *decoder) properties() []SystemProperty { return readList(d, d.systemProperty) }
func (d *decoder) suites() []CipherSuite        { return readList(d, d.suite) }
func (d *decoder) profiles() []SUITProfile      { return readList(d, d.profile) }
func (d *decoder) requested() []RequestedTC     { return readList(d, d.requestedTC) }

// elements reads the head of an array that has to have n elements.
func (d *decoder) elements(n int) {
	if k := d.r.Array(); k != n {
		d.r.Fail(fmt.Errorf("array of %d elements, not %d", k, n))
	}
}

func (d *decoder) algorithm() cose.Algorithm { return cose.Algorithm(d.r.Int()) }

func (d *decoder) suite() CipherSuite {
	return readList(d, func() Operation {
		d.elements(2)
		return Operation{d.r.Int(), d.algorithm()}
	})
}

func (d *decoder) profile() SUITProfile {
	d.elements(4)
	return SUITProfile{d.algorithm(), d.algorithm(), d.algorithm(), d.algorithm()}
}

func (d *decoder) requestedTC() RequestedTC {
	var tc RequestedTC
	found := false
	for range d.r.Map() {
		switch label := d.r.Uint(); label {
		case labelComponentID:
			tc.Component, found = d.componentID(), true
		case labelSequenceNumber:
			tc.SequenceNumber = new(d.r.Uint())
		case labelHaveBinary:
			tc.HaveBinary = new(d.r.Bool())
		default:
			d.fail(labelRequestedTCList, "unknown member", "teep-protocol section 4.3.2")
			d.r.Skip()
		}
	}
	if !found {
		d.fail(labelRequestedTCList, "entry without component-id", "teep-protocol section 4.3.2")
	}
	return tc
}

func (m *QueryRequest) read(d *decoder, label uint64) bool {
	switch label {
	case labelChallenge:
		m.Challenge = d.r.Bytes()
	case labelVersions:
		m.Versions = d.numbers()
	case labelPayload:
		m.AttestationPayload = d.r.Bytes()
	case labelPayloadFormat:
		m.AttestationPayloadFormat = d.text(label)
	case labelSUITReports:
		m.SUITReports = d.byteStrings()
	case labelToken:
		m.Token = d.r.Bytes()
	case labelFreshness:
		m.SupportedFreshness = d.numbers()
	default:
		return false
	}
	return true
}

func (m *QueryRequest) readTail(d *decoder) {
	m.CipherSuites = d.suites()
	m.SUITProfiles = d.profiles()
	m.DataItems = DataItem(d.r.Uint()) & knownItems // reserved bits are ignored, section 4.2
}

func (m *QueryResponse) read(d *decoder, label uint64) bool {
	switch label {
	case labelSelectedVersion:
		m.SelectedVersion = new(d.r.Uint32())
	case labelPayload:
		m.AttestationPayload = d.r.Bytes()
	case labelTCList:
		m.TCList = d.properties()
	case labelExtList:
		m.ExtList = d.numbers()
	case labelPayloadFormat:
		m.AttestationPayloadFormat = d.text(label)
	case labelRequestedTCList:
		m.RequestedTCList = d.requested()
	case labelUnneeded:
		m.UnneededManifestList = d.componentIDs()
	case labelSUITReports:
		m.SUITReports = d.byteStrings()
	case labelToken:
		m.Token = d.r.Bytes()
	default:
		return false
	}
	return true
}

func (*QueryResponse) readTail(*decoder) {}

func (m *Update) read(d *decoder, label uint64) bool {
	switch label {
	case labelPayload:
		m.AttestationPayload = d.r.Bytes()
	case labelManifestList:
		m.ManifestList = d.byteStrings()
	case labelErrMsg:
		m.ErrMsg = d.text(label)
	case labelPayloadFormat:
		m.AttestationPayloadFormat = d.text(label)
	case labelUnneeded:
		m.UnneededManifestList = d.componentIDs()
	case labelToken:
		m.Token = d.r.Bytes()
	case labelErrLang:
		m.ErrLang = d.text(label)
	case labelErrCode:
		m.ErrCode = new(d.errCode())
	default:
		return false
	}
	return true
}

func (*Update) readTail(*decoder) {}

func (m *Success) read(d *decoder, label uint64) bool {
	switch label {
	case labelMsg:
		m.Msg = d.text(label)
	case labelSUITReports:
		m.SUITReports = d.byteStrings()
	case labelToken:
		m.Token = d.r.Bytes()
	default:
		return false
	}
	return true
}

func (*Success) readTail(*decoder) {}

func (m *Error) read(d *decoder, label uint64) bool {
	switch label {
	case labelCipherSuites:
		m.CipherSuites = d.suites()
	case labelChallenge:
		m.Challenge = d.r.Bytes()
	case labelVersions:
		m.Versions = d.numbers()
	case labelSUITProfiles:
		m.SUITProfiles = d.profiles()
	case labelErrMsg:
		m.Msg = d.text(label)
	case labelSUITReports:
		m.SUITReports = d.byteStrings()
	case labelToken:
		m.Token = d.r.Bytes()
	case labelFreshness:
		m.SupportedFreshness = d.numbers()
	case labelErrLang:
		m.Lang = d.text(label)
	default:
		return false
	}
	return true
}

func (m *Error) readTail(d *decoder) { m.Code = d.errCode() }

// errCode reads an error code. Numbers beyond the range of ErrCode would be unknown errors anyway, and are refused.
func (d *decoder) errCode() ErrCode { return ErrCode(d.r.Uint32()) }
