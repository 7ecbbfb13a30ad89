// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"encoding/hex"
	"fmt"
	"io"
	"reflect"
	"time"

	"sealift/internal/agentconfig"
	"sealift/internal/fault"
	"sealift/internal/moc/course"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/internal/tam"
	"sealift/usecase"
)

// removalPatience is how long the Agent has to give up its components before the instance is destroyed without that.
const removalPatience = 20 * time.Second

// launchPatience comes on top of it for an instance that is stopped: a virtual machine takes its time to come up.
const launchPatience = 60 * time.Second

// createDeployment checks a request, places it, and stores the deployment with its measured configuration. The device's
// Broker is woken by the new work.
func (s *Server) createDeployment(c *call) (any, error) {
	r, err := decode[mocapi.DeploymentRequest](c)
	if err != nil {
		return nil, err
	}
	if !agentconfig.ValidName(r.App) {
		return nil, fault.New(fault.BadRequest, "%q cannot be the name of an application", r.App)
	}
	if r.OwnerKey == nil {
		return nil, fault.New(fault.BadRequest, "owner_key is missing")
	}
	w, err := parseWish(&r)
	if err != nil {
		return nil, err
	}
	start, _ := course.Roles(w.mode)
	wanted, err := s.loadPackages(source{c.id.Name, r.OwnerKey, r.App, w.mode}, start, r.Packages)
	if err != nil {
		return nil, err
	}
	id, err := s.newID("d")
	if err != nil {
		return nil, err
	}
	d := &store.Deployment{Wanted: wanted, Deployment: mocapi.Deployment{ID: id, Owner: c.id.Name, App: r.App, Mode: r.Mode,
		OwnerKey: r.OwnerKey, State: mocapi.StatePending, Trace: []mocapi.TraceStep{}, TAMURI: s.tamURI() + "/" + id,
		Installed: []mocapi.InstalledComponent{}, Packages: []mocapi.PackageRef{}}}
	for _, role := range start {
		d.Packages = append(d.Packages, wanted[role].PackageRef)
	}
	d.Private.Wake = 1
	if w.sharing {
		d.Sharing, w.memory = mocapi.SharingOwner, memoryOf(wanted)
	}
	s.cfg.Adversary.Swap(s.engine, d)
	err = s.store.Write(c.Context(), func(tx *store.Tx) error { return s.insert(tx, d, w, r.ShareWith) })
	if err != nil {
		return nil, err
	}
	c.w.Header().Set("Location", "/v1/deployments/"+id)
	return s.view(c, d), nil
}

// insert places a deployment and stores it, in one transaction: two requests cannot take the same last place.
func (s *Server) insert(tx *store.Tx, d *store.Deployment, w *wish, shareWith string) error {
	devices, err := tx.Devices()
	if err != nil {
		return err
	}
	tees, err := w.shareable(tx, d.Owner, shareWith)
	if err != nil {
		return err
	}
	loadOf := func(device string) (load, error) {
		used, err := tx.Used(device)
		if err != nil {
			return load{}, err
		}
		same, err := tx.UsedBy(device, d.Owner, d.App)
		return load{used, same}, err
	}
	at, err := w.choose(devices, loadOf, tees, s.cfg.Now())
	if err != nil {
		return err
	}
	for _, dev := range devices {
		if dev.ID == at.device {
			d.Emulated, d.RelayAddr = dev.Last.Emulated, dev.Last.RelayAddr
		}
	}
	d.Device, d.Hardware, d.Instance, d.Delivery = at.device, string(at.cell.Hardware), string(at.cell.Instance), w.delivery
	plan, err := usecase.Plan(w.mode, at.cell.Instance, at.cell.Hardware)
	if err == nil {
		plan, err = plan.Through(w.delivery)
	}
	if err != nil {
		return err
	}
	d.Plan = plan.Steps
	if at.tee != nil {
		d.TEE, d.Config = at.tee.id, at.tee.members[0].Config
		if err := tx.AddEvent(d.ID, "state", "placed in the instance %s on device %s (%s)", d.TEE, d.Device, at.cell); err != nil {
			return err
		}
		return tx.InsertDeployment(d)
	}
	if d.Config, err = s.configure(d, plan); err != nil {
		return err
	}
	if err := tx.AddEvent(d.ID, "state", "placed on device %s (%s)", d.Device, at.cell); err != nil {
		return err
	}
	return tx.InsertDeployment(d)
}

// configure writes the measured configuration of a new instance.
func (s *Server) configure(d *store.Deployment, plan *usecase.LoadPlan) ([]byte, error) {
	encKey, err := s.keys.EncKey()
	if err != nil {
		return nil, err
	}
	config := agentconfig.Config{Version: agentconfig.Version, Deployment: d.ID, Hardware: d.Hardware, Instance: d.Instance,
		TAMKeys: s.keys.Public(), TAMEncKey: encKey, SigningAlg: s.cfg.AgentSuite,
		VerifierKeys: s.cfg.TAMVerifiers, RequireTAMAttestation: len(s.cfg.TAMVerifiers) > 0, TAMURI: d.TAMURI, Owners: []agentconfig.Owner{{Key: d.OwnerKey, App: d.App}},
		TAOnRequest: plan.HasTrigger(usecase.TriggerUARequest)}
	if config.Layer, err = guestPayload(d); err != nil {
		return nil, err
	}
	if d.Sharing != "" {
		config.Owners[0].App = agentconfig.AnyApp
	}
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return config.Marshal(), nil
}

// newID makes an identifier that is also a label of a host name.
func (s *Server) newID(prefix string) (string, error) {
	var b [8]byte
	if _, err := io.ReadFull(s.cfg.Rand, b[:]); err != nil {
		return "", fmt.Errorf("making an identifier: %w", err)
	}
	return prefix + hex.EncodeToString(b[:]), nil
}

// deployment returns the deployment in the path if the caller may see it. Others' do not exist for an owner.
func (s *Server) deployment(c *call) (*store.Deployment, error) {
	d, err := s.store.Deployment(c.Context(), c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if c.id.Role != mocapi.RoleOperator && d.Owner != c.id.Name {
		return nil, store.ErrNotFound
	}
	return d, nil
}

func (s *Server) listDeployments(c *call) (any, error) {
	owner := c.id.Name
	if c.id.Role == mocapi.RoleOperator {
		owner = ""
	}
	all, err := s.store.Deployments(c.Context(), owner)
	if err != nil {
		return nil, err
	}
	out := []mocapi.Deployment{}
	for _, d := range all {
		out = append(out, s.view(c, d))
	}
	return out, nil
}

// view is what the M/OC says of a deployment. A dishonest one says that the owner has appraised what it has not.
func (s *Server) view(c *call, d *store.Deployment) mocapi.Deployment {
	out := d.Deployment
	if d.State != mocapi.StateRemoved {
		if dev, err := s.store.Device(c.Context(), d.Device); err == nil && !dev.Live(s.cfg.Now()) {
			out.DeviceSilentSince = dev.Seen
		}
	}
	if d.Sharing != "" && d.State != mocapi.StateRemoved {
		beside, err := s.store.InTEE(c.Context(), d.TEE)
		for _, o := range beside {
			if err == nil && o.ID != d.ID {
				out.SharesWith = append(out.SharesWith, o.ID)
			}
		}
	}
	if s.cfg.Adversary == tam.BreakPDEarly && out.AgentKey != nil {
		out.Appraised = true
	}
	return out
}

func (s *Server) getDeployment(c *call) (any, error) {
	since, err := sinceOf(c)
	if err != nil {
		return nil, err
	}
	return poll(s, c, store.TopicDeployment(c.PathValue("id")), func() (mocapi.Deployment, bool, error) {
		d, err := s.deployment(c)
		if err != nil {
			return mocapi.Deployment{}, false, err
		}
		return s.view(c, d), d.Version != since, nil
	})
}

// deleteDeployment starts a removal. Where no Agent was ever admitted there is nobody to ask; otherwise the Agent is asked
// to uninstall, with a deadline.
func (s *Server) deleteDeployment(c *call) (any, error) {
	if _, err := s.deployment(c); err != nil {
		return nil, err
	}
	switch lost := c.URL.Query().Get("lost"); lost {
	case "", "false":
	case "true":
		return s.abandonDeployment(c)
	default:
		return nil, fault.New(fault.BadRequest, "lost=%s is neither true nor false", lost)
	}
	d, err := s.store.Update(c.Context(), c.PathValue("id"), func(tx *store.Tx, d *store.Deployment) error {
		if !d.Private.Deleted.IsZero() {
			return store.ErrUnchanged
		}
		now, patience := s.cfg.Now(), removalPatience
		if !d.Private.Stopped.IsZero() { // started once more, so that the Agent can sign what it destroys
			d.Private.Stopped, patience = time.Time{}, removalPatience+launchPatience
		}
		d.Private.Deleted, d.Private.RetryAt = now.UTC(), now.Add(patience)
		d.Private.Wake++
		if d.AgentKey == nil {
			if err := course.Drop(tx, d); err != nil {
				return err
			}
		}
		if err := tx.AddEvent(d.ID, "state", "%s %s asked for the removal", c.id.Role, c.id.Name); err != nil {
			return err
		}
		return course.Refresh(tx, d)
	})
	if err != nil {
		return nil, err
	}
	return s.view(c, d), nil
}

// abandonDeployment removes a deployment whose device does not come back. It is no longer part of the device's work, so that a Broker that comes
// back all the same destroys it; until then nobody knows what the device has.
func (s *Server) abandonDeployment(c *call) (any, error) {
	d, err := s.store.Update(c.Context(), c.PathValue("id"), func(tx *store.Tx, d *store.Deployment) error {
		if d.State == mocapi.StateRemoved {
			return store.ErrUnchanged
		}
		dev, err := tx.Device(d.Device)
		if err != nil {
			return err
		}
		if now := s.cfg.Now(); dev.Live(now) {
			return fault.New(fault.Conflict, "device %s is not lost: it was heard of %s ago", d.Device, now.Sub(dev.Seen).Round(time.Second)).
				WithHint("remove the deployment without giving its device up")
		}
		if d.Private.Deleted.IsZero() {
			d.Private.Deleted = s.cfg.Now().UTC()
		}
		if err := course.Drop(tx, d); err != nil {
			return err
		}
		if err := tx.AddEvent(d.ID, "state", "%s %s gave the device up, which was last heard of at %s", c.id.Role, c.id.Name,
			dev.Seen.UTC().Format(time.RFC3339)); err != nil {
			return err
		}
		return course.Refresh(tx, d)
	})
	if err != nil {
		return nil, err
	}
	if d.State == mocapi.StateRemoved {
		return s.view(c, d), nil
	}
	if err := s.removed(c, d); err != nil {
		return nil, err
	}
	if d, err = s.deployment(c); err != nil {
		return nil, err
	}
	return s.view(c, d), nil
}

func (s *Server) trace(c *call) (any, error) {
	d, err := s.deployment(c)
	if err != nil {
		return nil, err
	}
	t := mocapi.Trace{Deployment: d.ID, Plan: d.Plan, Trace: d.Trace}
	t.Complete = len(t.Plan) == len(t.Trace)
	for i := range t.Trace {
		t.Complete = t.Complete && reflect.DeepEqual(t.Trace[i].Step, t.Plan[i])
	}
	return t, nil
}

func (s *Server) events(c *call) (any, error) {
	d, err := s.deployment(c)
	if err != nil {
		return nil, err
	}
	return s.store.Events(c.Context(), d.ID)
}
