// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sealift/internal/agentconfig"
	"sealift/suit"
	"sealift/suit/processor"
)

// rights is the access control list that the measured configuration gives its owners: who may run which command on which components, and
// set which parameter of them (suit-manifest section 10). It comes on top of authorize, which says whose application a component
// belongs to, and is asked before anything of a manifest runs.
func (a *Agent) rights() processor.ACL {
	var acl processor.ACL
	for _, o := range a.config.Owners {
		if len(o.Rights) == 0 {
			acl = append(acl, processor.Rule{Signer: o.Key, Components: everything(o.App)})
		}
		for _, r := range o.Rights {
			acl = append(acl, processor.Rule{Signer: o.Key, Components: []suit.ComponentID{prefix(r.Kind, o.App)},
				Commands: codes[suit.CommandCode](r.Commands), Params: codes[suit.Param](r.Params)})
		}
	}
	return acl
}

// everything are the prefixes of an application's components.
func everything(app string) (prefixes []suit.ComponentID) {
	for _, kind := range []string{classREE, classTEE, classPD, classStaged, classManifest} {
		prefixes = append(prefixes, prefix(kind, app))
	}
	return prefixes
}

// prefix is what the identifiers of an application's components of one kind begin with.
func prefix(kind, app string) suit.ComponentID {
	if app == agentconfig.AnyApp {
		return suit.NewComponentID(kind)
	}
	return suit.NewComponentID(kind, app)
}

// codes converts a list; nil, which stands for all, stays nil.
func codes[T ~int64](list []int64) []T {
	if len(list) == 0 {
		return nil
	}
	out := make([]T, len(list))
	for i, n := range list {
		out[i] = T(n)
	}
	return out
}
