// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"sealift/cose"
	"sealift/evidence/psa"
	"sealift/suit"
)

// Tier is a trustworthiness tier of AR4SI section 2.3.2, by its lowest value.
type Tier int8

// The tiers.
const (
	TierNone            Tier = 0
	TierAffirming       Tier = 2
	TierWarning         Tier = 32
	TierContraindicated Tier = 96
)

var tierNames = map[Tier]string{TierNone: "none", TierAffirming: "affirming", TierWarning: "warning",
	TierContraindicated: "contraindicated"}

// tierOf returns the tier of a claim's value: none -1..1, affirming 2..31 and -32..-2, warning 32..95 and -96..-33,
// contraindicated the rest.
func tierOf(v int8) Tier {
	switch {
	case v >= -1 && v <= 1:
		return TierNone
	case v >= -32 && v <= 31:
		return TierAffirming
	case v >= -96 && v <= 95:
		return TierWarning
	}
	return TierContraindicated
}

// String returns none, affirming, warning or contraindicated.
func (t Tier) String() string { return tierNames[t] }

// MarshalText is String.
func (t Tier) MarshalText() ([]byte, error) {
	name, ok := tierNames[t]
	if !ok {
		return nil, fmt.Errorf("%w: tier %d", ErrPolicy, int8(t))
	}
	return []byte(name), nil
}

// UnmarshalText is the inverse of String.
func (t *Tier) UnmarshalText(text []byte) error {
	for tier, name := range tierNames {
		if name == string(text) {
			*t = tier
			return nil
		}
	}
	return fmt.Errorf("%w: %q is no tier", ErrPolicy, text)
}

// Hex32 is 32 bytes, in JSON as 64 hexadecimal digits.
type Hex32 [32]byte

// String returns lower-case hexadecimal.
func (h Hex32) String() string { return hex.EncodeToString(h[:]) }

// MarshalText is String.
func (h Hex32) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (h *Hex32) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != 32 {
		return fmt.Errorf("%w: %q is not 64 hexadecimal digits", ErrPolicy, text)
	}
	copy(h[:], b)
	return nil
}

// Digest is a digest, in JSON as "sha-256:<hexadecimal>".
type Digest struct{ suit.Digest }

// SHA256Digest returns a SHA-256 digest from its bytes.
func SHA256Digest(sum [32]byte) Digest {
	return Digest{suit.Digest{Alg: suit.AlgSHA256, Bytes: sum[:]}}
}

// MarshalText returns "name:<hexadecimal>".
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads "sha-256:<hexadecimal>", likewise sha-384 and sha-512.
func (d *Digest) UnmarshalText(text []byte) error {
	name, digits, _ := strings.Cut(string(text), ":")
	b, err := hex.DecodeString(digits)
	if err != nil || strings.ToLower(digits) != digits {
		return fmt.Errorf("%w: %q is not of the form sha-256:hexadecimal", ErrPolicy, text)
	}
	if alg, known := digestAlgs[name]; known {
		d.Digest = suit.Digest{Alg: alg, Bytes: b}
		return nil
	}
	return fmt.Errorf("%w: digest algorithm %q is not known (sha-256, sha-384, sha-512)", ErrPolicy, name)
}

var digestAlgs = map[string]cose.Algorithm{"sha-256": suit.AlgSHA256, "sha-384": suit.AlgSHA384, "sha-512": suit.AlgSHA512}

// lifecycleNames are the lifecycle states that a policy can accept. RFC 9783 section 4: a verifier can trust the
// root of trust in these two states only.
var lifecycleNames = map[string]psa.Lifecycle{
	"secured":           psa.LifecycleSecured,
	"non-psa-rot-debug": psa.LifecycleNonPSADebug,
}

// checkNames refuses JSON objects with a member that occurs twice or is not in lower case. encoding/json takes the
// last of two and ignores the case, so a reader could see another policy than the program.
func checkNames(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	for {
		if err := checkValue(dec, 0); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%w: %w", ErrPolicy, err)
		}
	}
}

const maxJSONDepth = 16

func checkValue(dec *json.Decoder, depth int) error {
	if depth > maxJSONDepth {
		return errors.New("nested too deeply")
	}
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	delim, _ := tok.(json.Delim)
	if delim != '{' && delim != '[' {
		return nil
	}
	seen := map[string]bool{}
	for dec.More() {
		if delim == '{' {
			tok, err := dec.Token()
			if err != nil {
				return err
			}
			name, _ := tok.(string)
			if seen[name] || strings.ToLower(name) != name {
				return fmt.Errorf("member %q occurs twice or is not in lower case", name)
			}
			seen[name] = true
		}
		if err := checkValue(dec, depth+1); err != nil {
			if errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	_, err = dec.Token()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
