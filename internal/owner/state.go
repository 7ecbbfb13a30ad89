// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"sealift/internal/fault"
	"sealift/internal/owner/archive"
	"sealift/internal/owner/home"
)

// deployment is what the owner keeps of one deployment, in home's folder deployments.
type deployment struct {
	ID        string              `json:"id"`
	Context   string              `json:"context"`
	Account   string              `json:"account"` // the owner's name at the M/OC: where packages are pushed to
	Delivery  string              `json:"delivery,omitempty"`
	Package   archive.Description `json:"package"`
	Created   time.Time           `json:"created"`
	Sharing   bool                `json:"sharing,omitempty"`   // this owner lets its other applications into the instance
	TEE       string              `json:"tee,omitempty"`       // the instance, where it was made for another deployment
	Appraised *appraisedState     `json:"appraised,omitempty"` // the last positive appraisal
	Released  []released          `json:"released,omitempty"`
	Latest    uint64              `json:"latest,omitempty"` // the highest sequence number of a package that it ever got
	Update    *update             `json:"update,omitempty"` // the one that is going on, or that failed last
}

// released notes one release.
type released struct {
	ID        string    `json:"id"`
	Appraisal string    `json:"appraisal"`
	Digest    string    `json:"digest"`   // of the pushed package; empty where the owner delivered it itself
	Sequence  uint64    `json:"sequence"` // of its manifest
	Time      time.Time `json:"time"`
}

// find returns the deployment that ref names: its ID, or the name of an application that has exactly one here.
func (o *Owner) find(ref string) (*deployment, error) {
	if ref == "" {
		return nil, fault.New(fault.BadRequest, "no deployment is named")
	}
	all, err := home.Deployments[deployment](o.Home)
	if err != nil {
		return nil, err
	}
	var found []*deployment
	for _, d := range all {
		if d.ID == ref {
			return d, d.restore()
		}
		if d.Package.Name == ref {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 0:
		return nil, fault.New(fault.NotFound, "there is no deployment %q in this owner's folder", ref).WithHint("sealift status lists them")
	case 1:
		return found[0], found[0].restore()
	}
	hint := "name one by its id:"
	for _, d := range found {
		hint += " " + d.ID
	}
	return nil, fault.New(fault.BadRequest, "%d deployments of %q", len(found), ref).WithHint("%s", hint)
}

// instance is the TEE instance that serves the deployment: it is called after the one that it was made for.
func (d *deployment) instance() string { return cmp.Or(d.TEE, d.ID) }

func (d *deployment) restore() error {
	if d.Update == nil {
		return d.Package.Restore()
	}
	return errors.Join(d.Package.Restore(), d.Update.Package.Restore())
}

// change applies f to the stored deployment under the folder's lock.
func (o *Owner) change(id string, f func(*deployment) error) error {
	err := home.ChangeDeployment(o.Home, id, f)
	if errors.Is(err, home.ErrNotFound) {
		return fmt.Errorf("the deployment %s was removed meanwhile: %w", id, err)
	}
	return err
}
