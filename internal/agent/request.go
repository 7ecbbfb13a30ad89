// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"

	"sealift/suit"
	"sealift/suit/report"
)

// A TA that is started on its UA's request (agentconfig.Config.TAOnRequest). Where the TA is a package of its own, the TAM holds it
// back until the request stands in requested-tc-list, and there is nothing to do here. Where UA and TA come in one manifest, the UA
// goes out and the TA waits, installed and in no list of what is loaded, until it was asked for and the TAM sends the manifest once more.

// mustWait decides whether a TA that a manifest invokes is started now. One that ran before, in the same version, goes on.
func (t *transaction) mustWait(c *component) bool {
	if t.held || t.a.requested(c.ID) {
		return false
	}
	was := t.a.state.Load().component(c.ID)
	if was != nil && was.Digest.Equal(c.Digest) {
		return was.Waits
	}
	return t.a.config.TAOnRequest && slices.ContainsFunc(t.next.Components, func(o component) bool {
		return class(o.ID) == classREE && slices.ContainsFunc(o.Users, func(u string) bool { return slices.Contains(c.Users, u) })
	})
}

// requested says whether the TA was asked for and not started since. What a transaction makes of the request is not looked at.
func (a *Agent) requested(id suit.ComponentID) bool {
	return slices.ContainsFunc(a.state.Load().Requested, id.Equal)
}

// isWaiting says whether an item of a report is about a TA that was not started.
func (t *transaction) isWaiting(i report.Item) bool {
	p, ok := i.(*report.SystemProperty)
	if !ok {
		return false
	}
	c := t.next.component(p.Component)
	return c != nil && c.Waits
}

// listing is what a report says of an installed TA.
func listing(c *component) report.Item {
	return &report.SystemProperty{Component: c.ID, Params: suit.Params{suit.ParamDigest: c.Digest, suit.ParamSize: uint64(c.Size)}}
}
