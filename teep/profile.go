// SPDX-License-Identifier: Apache-2.0

package teep

import "fmt"

// Profile names a set of Options: how far a peer may depart from the text of the drafts. What each allows is listed here and
// nowhere else, so that an operator who has to talk with an older peer turns on one name and not a handful of switches.
type Profile string

// The profiles.
const (
	// ProfileStrict follows the text. It is the default.
	ProfileStrict Profile = ""
	// ProfileDrafts takes what the drafts' own examples and the implementations made from them send: signatures with ES256 and
	// EdDSA, a token beside a request for attestation, and signatures without kid. All of it is as well protected; none of
	// it is ever emitted.
	ProfileDrafts Profile = "drafts"
)

// Options are the choices that the profile stands for.
func (p Profile) Options() (Options, error) {
	switch p {
	case ProfileStrict:
		return Options{}, nil
	case ProfileDrafts:
		return Options{Legacy: true, LooseToken: true, MissingKID: true}, nil
	}
	return Options{}, fmt.Errorf("teep: there is no compatibility profile %q, only %q", string(p), string(ProfileDrafts))
}
