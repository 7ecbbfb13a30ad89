// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"sealift/cose"
	"sealift/evidence"
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

// TierOf returns the tier of a trustworthiness claim's value.
func TierOf(value int8) Tier { return tierOf(value) }

// ParseTier is the inverse of [Tier.String].
func ParseTier(s string) (Tier, error) {
	var t Tier
	err := t.UnmarshalText([]byte(s))
	return t, err
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

// Digest is a digest, in JSON as "sha-256:<hexadecimal>", in CBOR as SUIT_Digest.
type Digest struct{ suit.Digest }

// Time is a point in time in whole seconds, in JSON as RFC 3339 in UTC ("2027-01-01T00:00:00Z"), in CBOR as a number of
// seconds since 1970.
type Time struct{ time.Time }

// String returns RFC 3339 in UTC.
func (t Time) String() string { return t.UTC().Format(time.RFC3339) }

// MarshalText is String.
func (t Time) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// MarshalJSON is String, quoted: without it the embedded method would be taken.
func (t Time) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }

// UnmarshalJSON reads what [Time.MarshalJSON] wrote.
func (t *Time) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("%w: a time is a text: %w", ErrPolicy, err)
	}
	return t.UnmarshalText([]byte(text))
}

// UnmarshalText reads RFC 3339 in UTC and whole seconds.
func (t *Time) UnmarshalText(text []byte) error {
	parsed, err := time.Parse(time.RFC3339, string(text))
	if err != nil || (Time{parsed}).String() != string(text) || parsed.Unix() <= 0 {
		return fmt.Errorf("%w: %q is not of the form 2027-01-01T00:00:00Z", ErrPolicy, text)
	}
	t.Time = parsed.UTC()
	return nil
}

// MarshalCBOR gives seconds since 1970.
func (t Time) MarshalCBOR() ([]byte, error) { return cose.Marshal(t.Unix()) }

// UnmarshalCBOR reads seconds since 1970.
func (t *Time) UnmarshalCBOR(data []byte) error {
	var sec int64
	if err := cose.Unmarshal(data, &sec); err != nil || sec <= 0 || sec >= 1<<37 {
		return fmt.Errorf("%w: a time is a number of seconds since 1970", ErrPolicy)
	}
	t.Time = time.Unix(sec, 0).UTC()
	return nil
}

// AlgSM3 is SM3 (GB/T 32905), with which CSV measures. COSE has no number for it; this one is for private use.
const AlgSM3 = cose.Algorithm(-70010)

// SHA256Digest returns a SHA-256 digest from its bytes.
func SHA256Digest(sum [32]byte) Digest {
	return Digest{suit.Digest{Alg: suit.AlgSHA256, Bytes: sum[:]}}
}

// LaunchDigest returns a measurement of the architecture as a digest: SHA-384 on sev-snp and tdx, SM3 on csv; elsewhere
// its length tells which of the SHA-2 family it is.
func LaunchDigest(hw evidence.Hardware, value []byte) (Digest, error) {
	for _, a := range digestAlgs {
		if a.size == len(value) && (a.alg == AlgSM3) == (hw == evidence.CSV && len(value) == 32) {
			return Digest{suit.Digest{Alg: a.alg, Bytes: value}}, nil
		}
	}
	return Digest{}, fmt.Errorf("%w: no digest has %d bytes", ErrPolicy, len(value))
}

// String returns "name:<hexadecimal>".
func (d Digest) String() string {
	for _, a := range digestAlgs {
		if a.alg == d.Alg {
			return a.name + ":" + hex.EncodeToString(d.Bytes)
		}
	}
	return d.Digest.String()
}

// MarshalText is String.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads "sha-256:<hexadecimal>", likewise sha-384, sha-512 and sm3.
func (d *Digest) UnmarshalText(text []byte) error {
	name, digits, _ := strings.Cut(string(text), ":")
	b, err := hex.DecodeString(digits)
	if err != nil || strings.ToLower(digits) != digits {
		return fmt.Errorf("%w: %q is not of the form sha-256:hexadecimal", ErrPolicy, text)
	}
	for _, a := range digestAlgs {
		if a.name == name {
			d.Digest = suit.Digest{Alg: a.alg, Bytes: b}
			return nil
		}
	}
	return fmt.Errorf("%w: digest algorithm %q is not known (sha-256, sha-384, sha-512, sm3)", ErrPolicy, name)
}

// same compares what was measured; the algorithm's name is for people, since Evidence does not name it.
func (d Digest) same(o Digest) bool { return bytes.Equal(d.Bytes, o.Bytes) }

// valid reports whether the algorithm is known and the length is its own.
func (d Digest) valid() bool {
	for _, a := range digestAlgs {
		if a.alg == d.Alg {
			return a.size == len(d.Bytes)
		}
	}
	return false
}

var digestAlgs = []struct {
	name string
	alg  cose.Algorithm
	size int // bytes
}{{"sha-256", suit.AlgSHA256, 32}, {"sha-384", suit.AlgSHA384, 48}, {"sha-512", suit.AlgSHA512, 64}, {"sm3", AlgSM3, 32}}

// lifecycleNames are the lifecycle states that a policy can accept. RFC 9783 section 4: a verifier can trust the
// root of trust in these two states only.
var lifecycleNames = map[string]psa.Lifecycle{
	"secured":           psa.LifecycleSecured,
	"non-psa-rot-debug": psa.LifecycleNonPSADebug,
}

// lowerCase accepts the names of a policy's members. Because encoding/json ignores the case, a reader could otherwise see
// another policy than the program.
func lowerCase(name string) bool { return strings.ToLower(name) == name }
