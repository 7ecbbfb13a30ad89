// SPDX-License-Identifier: Apache-2.0

package usecase

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Role is a party of the use case that can see something of a deployment.
type Role string

// The roles. The artifact store belongs to the M/OC; who listens on the wires between M/OC and device sees no more
// than the Broker.
const (
	RoleOwner    Role = "owner"
	RoleMOC      Role = "moc"
	RoleTAM      Role = "tam"
	RoleVerifier Role = "verifier"
	RoleBroker   Role = "broker"
	RoleAgent    Role = "agent"
	RoleTA       Role = "ta"
	RoleUA       Role = "ua"
)

// Roles returns all roles, from the data owner to the device.
func Roles() []Role {
	return []Role{RoleOwner, RoleMOC, RoleTAM, RoleVerifier, RoleBroker, RoleAgent, RoleTA, RoleUA}
}

// Trusted reports whether the use case lets the role see PD in the clear (section 1: the owner, and, once attested,
// the TEEP Agent and the TA).
func (r Role) Trusted() bool { return r == RoleOwner || r == RoleAgent || r == RoleTA }

// Sight is the set of things that a role sees of a payload. In JSON it is an array of names in a fixed order.
type Sight uint8

// What can be seen of a payload. Hash is the digest of the content, by which content can be recognized or guessed;
// the digest of a ciphertext is not meant.
const (
	SeesName Sight = 1 << iota
	SeesSize
	SeesHash
	SeesCiphertext
	SeesContent
)

// Common sets of things seen.
const (
	seesDescription = SeesName | SeesSize | SeesHash
	seesAll         = seesDescription | SeesContent
	seesSealed      = SeesName | SeesSize | SeesCiphertext
)

var sightNames = []struct {
	bit  Sight
	name string
}{
	{SeesName, "name"}, {SeesSize, "size"}, {SeesHash, "hash"}, {SeesCiphertext, "ciphertext"}, {SeesContent, "content"},
}

// Has reports whether all of q is in s.
func (s Sight) Has(q Sight) bool { return s&q == q }

// Names returns the set as words: name, size, hash, ciphertext, content.
func (s Sight) Names() []string {
	out := []string{}
	for _, n := range sightNames {
		if s.Has(n.bit) {
			out = append(out, n.name)
		}
	}
	return out
}

// String returns the words joined with '+', or "nothing".
func (s Sight) String() string {
	if s == 0 {
		return "nothing"
	}
	return strings.Join(s.Names(), "+")
}

// MarshalJSON writes the set as an array of words.
func (s Sight) MarshalJSON() ([]byte, error) { return json.Marshal(s.Names()) }

// UnmarshalJSON reads an array of words; an unknown word is an ErrUnknown.
func (s *Sight) UnmarshalJSON(data []byte) error {
	var words []string
	if err := json.Unmarshal(data, &words); err != nil {
		return err
	}
	*s = 0
next:
	for _, w := range words {
		for _, n := range sightNames {
			if n.name == w {
				*s |= n.bit
				continue next
			}
		}
		return fmt.Errorf("%w: %q is nothing that can be seen of a payload", ErrUnknown, w)
	}
	return nil
}

// Exposure says, for each role, what it sees of each payload. A role or payload that is absent sees, or shows, nothing.
type Exposure map[Role]map[Payload]Sight

// Of returns what role r sees of payload p.
func (e Exposure) Of(r Role, p Payload) Sight { return e[r][p] }

func (e Exposure) add(s Sight, p Payload, roles ...Role) {
	for _, r := range roles {
		if e[r] == nil {
			e[r] = map[Payload]Sight{}
		}
		e[r][p] |= s
	}
}

func (e Exposure) merge(o Exposure) {
	for r, seen := range o {
		for p, s := range seen {
			e.add(s, p, r)
		}
	}
}
