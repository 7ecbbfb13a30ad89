// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"fmt"

	"sealift/cose"
)

// Parse decodes a SUIT_Report: bare, or wrapped in a byte string as the plaintext of an encrypted report is.
func Parse(data []byte) (*Report, error) {
	if len(data) > 0 && data[0]>>5 == 2 {
		var inner []byte
		if err := cose.Unmarshal(data, &inner); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		data = inner
	}
	var fields map[int64]cose.RawMessage
	if err := cose.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for _, need := range []int64{labelReference, labelRecords, labelResult} {
		if fields[need] == nil {
			return nil, fmt.Errorf("%w: member %d is missing", ErrMalformed, need)
		}
	}
	r := &Report{}
	for label, raw := range fields {
		if err := r.member(label, raw); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *Report) member(label int64, raw cose.RawMessage) error {
	switch label {
	case labelReference:
		var ref wireReference
		if err := cose.Unmarshal(raw, &ref); err != nil {
			return fmt.Errorf("%w: reference: %w", ErrMalformed, err)
		}
		if ref.Digest.IsZero() {
			return fmt.Errorf("%w: reference without digest", ErrMalformed)
		}
		r.URI, r.Digest = ref.URI, ref.Digest
	case labelNonce:
		if err := cose.Unmarshal(raw, &r.Nonce); err != nil {
			return fmt.Errorf("%w: nonce: %w", ErrMalformed, err)
		}
	case labelRecords:
		return r.items(raw)
	case labelResult:
		return r.result(raw)
	case labelCapabilities:
		c := &Capabilities{}
		r.Capabilities = c
		return c.parse(raw)
	default:
		return fmt.Errorf("%w: member %d", ErrMalformed, label)
	}
	return nil
}

// items decodes the list of records (arrays) and system-property-claims (maps).
func (r *Report) items(raw cose.RawMessage) error {
	var list []cose.RawMessage
	if err := cose.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("%w: records: %w", ErrMalformed, err)
	}
	for _, raw := range list {
		switch raw[0] >> 5 {
		case 4:
			rec := &Record{}
			if err := rec.parse(raw); err != nil {
				return err
			}
			r.Items = append(r.Items, rec)
		case 5:
			prop := &SystemProperty{}
			if err := prop.UnmarshalCBOR(raw); err != nil {
				return err
			}
			r.Items = append(r.Items, prop)
		default:
			return fmt.Errorf("%w: record", ErrMalformed)
		}
	}
	return nil
}

func (r *Report) result(raw cose.RawMessage) error {
	if bytes.Equal(raw, []byte{0xf5}) { // true
		return nil
	}
	var fields map[int64]cose.RawMessage
	if err := cose.Unmarshal(raw, &fields); err != nil {
		return fmt.Errorf("%w: result: %w", ErrMalformed, err)
	}
	if len(fields) != 3 {
		return fmt.Errorf("%w: result of %d members", ErrMalformed, len(fields))
	}
	f := &Failure{}
	var reason int64
	for label, raw := range fields {
		var err error
		switch label {
		case labelCode:
			err = cose.Unmarshal(raw, &f.Code)
		case labelRecord:
			err = f.Record.parse(raw)
		case labelReason:
			err = cose.Unmarshal(raw, &reason)
		default:
			err = fmt.Errorf("member %d", label)
		}
		if err != nil {
			return fmt.Errorf("%w: result: %w", ErrMalformed, err)
		}
	}
	f.Reason = Reason(reason)
	r.Failure = f
	return nil
}
