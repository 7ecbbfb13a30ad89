// SPDX-License-Identifier: Apache-2.0

// Package strictjson refuses JSON that two readers could understand in two ways.
//
// encoding/json takes the last of two members with one name, and matches names without regard to case; other readers take the
// first, or the exact one (RFC 8259 section 4). What is signed, or decides over trust, must not depend on that.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxDepth is how deep arrays and objects may be nested.
const MaxDepth = 32

// Check reads data, which has to be exactly one JSON value. It refuses an object that has a member twice, at any depth, one
// with a member whose name is not accepted, and nesting deeper than MaxDepth. A nil name accepts all names.
func Check(data []byte, name func(string) bool) error {
	c := checker{json.NewDecoder(bytes.NewReader(data)), name}
	c.UseNumber()
	if err := c.value(0); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if _, err := c.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the value")
	}
	return nil
}

type checker struct {
	*json.Decoder
	name func(string) bool
}

func (c checker) value(depth int) error {
	if depth > MaxDepth {
		return errors.New("nested too deeply")
	}
	tok, err := c.Token()
	if err != nil {
		return err
	}
	delim, _ := tok.(json.Delim)
	if delim != '{' && delim != '[' {
		return nil
	}
	seen := map[string]bool{}
	for c.More() {
		if delim == '{' {
			if err := c.member(seen); err != nil {
				return err
			}
		}
		if err := c.value(depth + 1); err != nil {
			return err
		}
	}
	_, err = c.Token()
	return err
}

func (c checker) member(seen map[string]bool) error {
	tok, err := c.Token()
	if err != nil {
		return err
	}
	name, _ := tok.(string)
	if seen[name] {
		return fmt.Errorf("member %q occurs twice", name)
	}
	if c.name != nil && !c.name(name) {
		return fmt.Errorf("member %q is not known", name)
	}
	seen[name] = true
	return nil
}
