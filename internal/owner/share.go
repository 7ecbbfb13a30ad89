// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"cmp"
	"fmt"

	"sealift/evidence"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/home"
)

// An owner can let applications of its own share a TEE instance (docs/design/0019). It says so when it deploys the first of them, and
// finds it in the measured configuration.

// shareWith finds the deployment whose instance a further application is to go into, and refuses what cannot be: before anything is pushed.
func (o *Owner) shareWith(ref, app string) (*deployment, error) {
	other, err := o.find(ref)
	if err != nil {
		return nil, err
	}
	if !other.Sharing {
		return nil, fault.New(fault.Conflict, "the TEE instance of %s (%s) is for that application alone: so it stands in its measured configuration",
			other.ID, other.Package.Name).WithHint("deploy that one with --sharing %s; a running instance's configuration cannot change", mocapi.SharingOwner)
	}
	all, err := home.Deployments[deployment](o.Home)
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		if d.instance() == other.instance() && d.Package.Name == app {
			return nil, fault.New(fault.Conflict, "the TEE instance of %s has an application %q already: deployment %s", other.ID, app, d.ID).
				WithHint("sealift update brings a newer version; two TAs of one name cannot be told apart")
		}
	}
	return other, nil
}

// checkInstance compares the instance that the M/OC has chosen with what was asked for. Who may install into it, Evidence shows.
func checkInstance(dep *mocapi.Deployment, sharing bool, with *deployment) error {
	got := cmp.Or(dep.TEE, dep.ID)
	want := got
	switch {
	case !sharing:
		want = dep.ID
	case with != nil:
		want = with.instance()
	}
	if got == want {
		return nil
	}
	return &fault.Error{Code: fault.Conflict, Exit: fault.ExitDrift, Message: fmt.Sprintf(
		"the M/OC placed the deployment %s in the TEE instance %s, and it should be in %s", dep.ID, got, want)}
}

// loads says whether Evidence names a TA of the application.
func loads(v *evidence.Verified, app string) bool {
	for _, t := range v.Claims.TAs {
		if len(t.Component) > 1 && string(t.Component[1]) == app {
			return true
		}
	}
	return false
}
