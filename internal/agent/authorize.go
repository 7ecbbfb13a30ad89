// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"slices"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/suit"
)

// Errors of authorisation.
var (
	errUnauthorised = errors.New("agent: the signer may not write this component")
	errBinding      = errors.New("agent: the manifest does not bind the data to one TA")
	errWayOut       = errors.New("agent: only components addressed to the REE leave the TEE")
)

// validID checks the shape [class, app, name] of a component identifier: the names become file names in TAs' folders.
func validID(id suit.ComponentID) bool {
	if len(id) != 3 || !agentconfig.ValidName(string(id[1])) || !agentconfig.ValidName(string(id[2])) {
		return false
	}
	return slices.Contains([]string{classREE, classTEE, classPD, classStaged, classManifest}, string(id[0]))
}

// authorize says whose a component is (suit-manifest section 10, suit-trust-domains security considerations): an owner of
// the measured configuration writes the components of its own application, by whatever manifest. What may be done with them says rights.
func (a *Agent) authorize(signer *cose.Key, id suit.ComponentID) error {
	if signer == nil || !validID(id) {
		return fmt.Errorf("%w: %s", errUnauthorised, id)
	}
	for _, o := range a.config.Owners {
		if o.Key.Equal(signer) && o.Writes(app(id)) && mayName(o, class(id)) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s", errUnauthorised, id)
}

// mayName says whether an owner's manifests may list components of that kind at all: to be listed keeps a component installed. Manifests of
// its own an owner always has.
func mayName(o agentconfig.Owner, kind string) bool {
	return len(o.Rights) == 0 || kind == classManifest || slices.ContainsFunc(o.Rights, func(r agentconfig.Right) bool { return r.Kind == kind })
}

// authorizeReplacement keeps owners whose rights differ from replacing each other's manifests: who may install data could otherwise push
// out the programs.
func (a *Agent) authorizeReplacement(old *manifest, signer *cose.Key) error {
	if old == nil || slices.Equal(old.Signer, signer.KID()) {
		return nil
	}
	for _, o := range a.config.Owners {
		if len(o.Rights) > 0 && (o.Key.Equal(signer) || slices.Equal(o.Key.KID(), old.Signer)) {
			return fmt.Errorf("%w: %s is another owner's", errUnauthorised, old.ID)
		}
	}
	return nil
}

// authorizeManifest checks what a manifest as a whole may do, before any of it runs.
func (a *Agent) authorizeManifest(m *suit.Verified) error {
	if m.ComponentID == nil || class(m.ComponentID) != classManifest {
		return fmt.Errorf("%w: the manifest has no identifier of the form [manifest, app, name]", errUnauthorised)
	}
	if err := a.authorize(m.Signer, m.ComponentID); err != nil {
		return err
	}
	has := map[string]int{}
	for _, id := range m.Components {
		if err := a.authorize(m.Signer, id); err != nil {
			return err
		}
		if app(id) != app(m.ComponentID) { // in a shared instance the applications stay apart, though they are one owner's
			return fmt.Errorf("%w: %s in a manifest of application %s", errUnauthorised, id, app(m.ComponentID))
		}
		has[class(id)]++
	}
	if has[classManifest] > 0 {
		return fmt.Errorf("%w: a manifest that writes manifests", errUnauthorised)
	}
	if has[classPD] == 0 {
		return nil
	}
	// The TA that the data is for must be beyond doubt: it comes in the same manifest, or in the one that this depends on by digest.
	if has[classTEE]+len(m.Dependencies) != 1 {
		return fmt.Errorf("%w: %d TAs of its own, %d dependencies", errBinding, has[classTEE], len(m.Dependencies))
	}
	return nil
}
