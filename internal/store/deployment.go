// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"sealift/cose"
	"sealift/internal/moc/mocapi"
	"sealift/usecase"
)

// Deployment is a deployment with what the API shows and what only the M/OC needs. One that was read is shared: change a
// copy through Update.
type Deployment struct {
	mocapi.Deployment
	Private Private
	// Wanted are the packages that should be on the device, by role. Those of an update have a role that begins with NextRole.
	Wanted map[string]*Package

	stored []byte // the changing part as it stands in the database
}

// Private is what the M/OC keeps of a deployment beside what it shows.
type Private struct {
	// Wake counts reasons for a TEEP session; see mocapi.WantedInstance.
	Wake uint64 `json:"wake"`
	// Seen is set when the Broker has announced the instance once.
	Seen bool `json:"seen,omitempty"`
	// Deleted is when the removal was asked for.
	Deleted time.Time `json:"deleted,omitzero"`
	// Stopped is when the stop was asked for; zero while the instance should run.
	Stopped time.Time `json:"stopped,omitzero"`
	// Halted says that the device has stopped it since, and has not said that it runs.
	Halted bool `json:"halted,omitempty"`
	// Unappraised says that the instance was started again and the owner has not appraised it since.
	Unappraised bool `json:"unappraised,omitempty"`
	// Dropped is the device's work generation that no longer lists the instance; 0 while it is listed.
	Dropped uint64 `json:"dropped,omitempty"`
	// Appraised says what the owner's last positive appraisal covers; nil: there is none that counts.
	Appraised *Appraised `json:"appraised,omitempty"`
	// TARequested is when the Agent first told that the UA has asked for its TA, where the plan waits for that.
	TARequested time.Time `json:"ta_requested,omitzero"`
	// Asked are the owner's evidence requests without an answer, the oldest first.
	Asked []Asked `json:"asked,omitempty"`
	// Failed makes the state failed; Problem says why.
	Failed bool `json:"failed,omitempty"`
	// Attempts counts the failures of the update with the package of role AttemptRole.
	Attempts    int    `json:"attempts,omitempty"`
	AttemptRole string `json:"attempt_role,omitempty"`
	// Again has the package with the TA sent once more, so that the Agent starts a TA that it has given up.
	Again bool `json:"again,omitempty"`
	// Before is what Appraised was when the update began.
	Before *Appraised `json:"before,omitempty"`
	// UpdateSaid is the update's state as the history has it.
	UpdateSaid mocapi.UpdateState `json:"update_said,omitempty"`
	// RetryAt is when the deployment is woken without anybody asking.
	RetryAt time.Time `json:"retry_at,omitzero"`
}

// Asked is an evidence request that waits for its answer.
type Asked struct {
	ID    string    `json:"id"`
	Nonce []byte    `json:"nonce"`
	Time  time.Time `json:"time"`
}

// Appraised is what a positive appraisal is about: an Agent key and, where the TA is a package of its own, the digest
// of the TA's manifest.
type Appraised struct {
	ID       string `json:"id"`
	AgentKID []byte `json:"agent_kid"`
	TA       string `json:"ta,omitempty"`
}

// Package is a package that a deployment wants on its device.
type Package struct {
	mocapi.PackageRef
	Owner          string
	ManifestID     string // manifest-component-id, as a string
	ManifestDigest string // "sha256:<hex>" of the SUIT manifest
	Sequence       uint64
	Envelope       []byte   // SUIT envelope as it goes into an Update: without tag; empty where the owner delivers it itself
	Blobs          []string // "sha256:<hex>" of the payloads
}

// document is the stored form of what changes. It is small, so that a change is: plan, configuration and key stand in a
// column that is written once, trace and packages in tables of their own.
type document struct {
	Public  mocapi.Deployment `json:"public"`
	Private Private           `json:"private"`
}

// fixed is the stored form of what never changes.
type fixed struct {
	Plan     []usecase.Step `json:"plan"`
	Config   []byte         `json:"config"`
	OwnerKey *cose.Key      `json:"owner_key"`
}

// eventsPruned is how many events share the cost of deleting old ones. Chance decides which one pays: a rule over the
// numbers, which all deployments share, could pass one of them over for ever.
const eventsPruned = 16

// AddEvent adds a line to a deployment's history.
func (tx *Tx) AddEvent(deployment, kind, format string, args ...any) error {
	_, err := tx.exec("INSERT INTO events (deployment, time, kind, message) VALUES (?, ?, ?, ?)",
		deployment, tx.s.Now().UnixMilli(), kind, fmt.Sprintf(format, args...))
	if err != nil || rand.IntN(eventsPruned) != 0 {
		return err
	}
	_, err = tx.exec(`DELETE FROM events WHERE deployment = ?1 AND seq <=
		(SELECT seq FROM events WHERE deployment = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)`, deployment, tx.s.opts.EventsKept)
	return err
}

// InsertDeployment stores a new deployment with its packages. Its version becomes 1.
func (tx *Tx) InsertDeployment(d *Deployment) error {
	d.Version, d.Created, d.Updated, d.TEE = 1, tx.s.Now().UTC(), tx.s.Now().UTC(), cmp.Or(d.TEE, d.ID)
	rest, err := json.Marshal(fixed{d.Plan, d.Config, d.OwnerKey})
	if err != nil {
		return err
	}
	if d.stored, err = d.encode(); err != nil {
		return err
	}
	_, err = tx.exec("INSERT INTO deployments (id, owner, app, device, tee, state, version, retry_at, updated, fixed, doc) VALUES (?, ?, ?, ?, ?, ?, 1, NULL, ?, ?, ?)",
		d.ID, d.Owner, d.App, d.Device, d.TEE, string(d.State), d.Updated.UnixMilli(), rest, d.stored)
	if err != nil {
		return err
	}
	for _, p := range d.Wanted {
		if err := tx.putPackage(d.ID, p); err != nil {
			return err
		}
	}
	return tx.changed(d, true)
}

// Deployment reads a deployment inside the transaction. The result is the caller's own, except for what its slices, maps
// and pointers hold: those are replaced, not written to.
func (tx *Tx) Deployment(id string) (*Deployment, error) {
	d, err := tx.present(id)
	if err != nil {
		return nil, err
	}
	return d.clone(), nil
}

// present returns the deployment as the transaction sees it. All writes go through one writer, which knows what it has
// written: a read of the database is needed only once.
func (tx *Tx) present(id string) (*Deployment, error) {
	if d := tx.own[id]; d != nil {
		return d, nil
	}
	if d := tx.batch[id]; d != nil {
		return d, nil
	}
	if d := tx.s.cache.get(id); d != nil {
		return d, nil
	}
	return loadDeployment(id, tx.row, tx.rows)
}

func (d *Deployment) clone() *Deployment {
	c := *d
	c.Wanted = maps.Clone(d.Wanted)
	return &c
}

// InTEE returns the deployments that a TEE instance serves, those that are being removed too, the oldest first. They are shared: change
// a copy through Update.
func (tx *Tx) InTEE(tee string) ([]*Deployment, error) {
	return tx.deployments("SELECT id FROM deployments WHERE tee = ? AND state <> 'removed' ORDER BY seq", tee)
}

// Sharing returns an owner's deployments whose instances may be shared, likewise.
func (tx *Tx) Sharing(owner string) ([]*Deployment, error) {
	all, err := tx.deployments("SELECT id FROM deployments WHERE owner = ? AND state <> 'removed' ORDER BY seq", owner)
	return slices.DeleteFunc(all, func(d *Deployment) bool { return d.Sharing == "" }), err
}

func (tx *Tx) deployments(text string, args ...any) (out []*Deployment, err error) {
	ids, err := scanIDs(tx.rows, text, args)
	for _, id := range ids {
		d, err := tx.present(id)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, err
}

// PutDeployment replaces the version of the deployment that d was made from by d; ErrConflict if it is no longer the
// present one, or if a step of the trace was done before. Steps are only added, never changed; plan, configuration and
// owner's key stay. What is the same as before is not written, and its version stays.
func (tx *Tx) PutDeployment(d *Deployment) error {
	old, err := tx.present(d.ID)
	if err != nil {
		return err
	}
	if old.Version != d.Version || len(d.Trace) < len(old.Trace) {
		return ErrConflict
	}
	news := len(d.Trace) > len(old.Trace)
	for i := len(old.Trace); i < len(d.Trace); i++ {
		if err := tx.putStep(d, i); err != nil {
			return err
		}
	}
	for role, p := range d.Wanted {
		if q := old.Wanted[role]; q == nil || q.Digest != p.Digest || q.ManifestDigest != p.ManifestDigest { // a live package has no digest here
			news = true
			if err := tx.putPackage(d.ID, p); err != nil {
				return err
			}
		}
	}
	for role := range old.Wanted {
		if d.Wanted[role] == nil {
			if err := tx.dropPackage(d.ID, role); err != nil {
				return err
			}
		}
	}
	doc, err := d.encode()
	if err != nil {
		return err
	}
	if !news && len(old.Wanted) == len(d.Wanted) && bytes.Equal(doc, old.stored) {
		return nil
	}
	d.Version, d.Updated, d.stored = old.Version+1, tx.s.Now().UTC(), doc
	var retry any
	if !d.Private.RetryAt.IsZero() {
		retry = d.Private.RetryAt.UnixMilli()
	}
	n, err := tx.exec("UPDATE deployments SET state = ?, version = ?, retry_at = ?, updated = ?, doc = ? WHERE id = ? AND version = ?",
		string(d.State), d.Version, retry, d.Updated.UnixMilli(), doc, d.ID, old.Version)
	if err != nil {
		return err
	}
	if n != 1 {
		return ErrConflict
	}
	work := old.Private.Wake != d.Private.Wake || (old.Private.Dropped == 0) != (d.Private.Dropped == 0) ||
		old.Private.Stopped.IsZero() != d.Private.Stopped.IsZero()
	return tx.changed(d, work)
}

func (tx *Tx) putStep(d *Deployment, i int) error {
	doc, err := json.Marshal(d.Trace[i])
	if err != nil {
		return err
	}
	// The primary key makes "once" a property of the database, not of the caller.
	_, err = tx.exec("INSERT INTO trace (deployment, step, doc) VALUES (?, ?, ?)", d.ID, i, doc)
	if err != nil {
		return fmt.Errorf("%w: step %d of %s: %w", ErrConflict, i, d.ID, err)
	}
	return tx.AddEvent(d.ID, "step", "%s done", d.Trace[i].Step.Step)
}

// changed wakes readers, and the device's Broker if its work has changed.
func (tx *Tx) changed(d *Deployment, work bool) error {
	shared := d.clone()
	if tx.own == nil {
		tx.own = map[string]*Deployment{}
	}
	tx.own[d.ID] = shared
	tx.after = append(tx.after, func() { tx.s.cache.put(shared) })
	tx.notify(TopicDeployment(d.ID))
	if !work {
		return nil
	}
	_, err := tx.BumpDevice(d.Device)
	return err
}

// Update applies fn to a copy of a deployment and stores the result. If fn returns ErrUnchanged, nothing is stored and
// Update returns nil.
func (s *Store) Update(ctx context.Context, id string, fn func(*Tx, *Deployment) error) (*Deployment, error) {
	var out *Deployment
	err := s.Write(ctx, func(tx *Tx) error {
		d, err := tx.Deployment(id)
		if err != nil {
			return err
		}
		out = d
		if err := fn(tx, d); err != nil {
			return err
		}
		return tx.PutDeployment(d)
	})
	if errors.Is(err, ErrUnchanged) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ErrUnchanged is returned by a function given to Update that has nothing to change.
var ErrUnchanged = errors.New("store: nothing to change")

// Deployment returns a deployment. It is shared: the caller must not change it.
func (s *Store) Deployment(ctx context.Context, id string) (*Deployment, error) {
	if d := s.cache.get(id); d != nil {
		return d, nil
	}
	epoch := s.cache.now()
	d, err := loadDeployment(id,
		func(text string, args []any, into ...any) error { return s.row(ctx, text, args, into...) },
		func(text string, args []any, each func(func(...any) error) error) error {
			return s.rows(ctx, text, args, each)
		})
	if err != nil {
		return nil, err
	}
	s.cache.fill(d, epoch)
	return d, nil
}

// Deployments returns the deployments of an owner, or of all if owner is empty, the oldest first.
func (s *Store) Deployments(ctx context.Context, owner string) ([]*Deployment, error) {
	if owner == "" {
		return s.deployments(ctx, "SELECT id FROM deployments ORDER BY seq")
	}
	return s.deployments(ctx, "SELECT id FROM deployments WHERE owner = ? ORDER BY seq", owner)
}

// DeploymentsOn returns the deployments that a device should hold or still holds.
func (s *Store) DeploymentsOn(ctx context.Context, device string) ([]*Deployment, error) {
	return s.deployments(ctx, "SELECT id FROM deployments WHERE device = ? AND state <> 'removed' ORDER BY seq", device)
}

// InTEE returns the deployments that a TEE instance serves, those that are being removed too, the oldest first.
func (s *Store) InTEE(ctx context.Context, tee string) ([]*Deployment, error) {
	return s.deployments(ctx, "SELECT id FROM deployments WHERE tee = ? AND state <> 'removed' ORDER BY seq", tee)
}

// DueRetries returns the deployments whose RetryAt has come.
func (s *Store) DueRetries(ctx context.Context) (ids []string, err error) {
	return scanIDs(s.rowsWith(ctx), "SELECT id FROM deployments WHERE retry_at IS NOT NULL AND retry_at <= ?", []any{s.Now().UnixMilli()})
}

func scanIDs(rows rowsFunc, text string, args []any) (ids []string, err error) {
	err = rows(text, args, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		ids = append(ids, id)
		return err
	})
	return ids, err
}

func (s *Store) deployments(ctx context.Context, text string, args ...any) ([]*Deployment, error) {
	ids, err := scanIDs(s.rowsWith(ctx), text, args)
	if err != nil {
		return nil, err
	}
	out := make([]*Deployment, 0, len(ids))
	for _, id := range ids {
		d, err := s.Deployment(ctx, id)
		if errors.Is(err, ErrNotFound) {
			continue // pruned since
		}
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

func (d *Deployment) encode() ([]byte, error) {
	doc := document{d.Deployment, d.Private}
	p := &doc.Public
	p.Version, p.Updated, p.Plan, p.Config, p.OwnerKey, p.Trace, p.Packages = 0, time.Time{}, nil, nil, nil, nil, nil
	return json.Marshal(doc)
}

type rowFunc = func(text string, args []any, into ...any) error
type rowsFunc = func(text string, args []any, each func(func(...any) error) error) error

func loadDeployment(id string, row rowFunc, rows rowsFunc) (*Deployment, error) {
	var data, rest []byte
	var version uint64
	var updated int64
	err := row("SELECT version, updated, fixed, doc FROM deployments WHERE id = ?", []any{id}, &version, &updated, &rest, &data)
	if err != nil {
		return nil, err
	}
	var doc document
	var f fixed
	if err := errors.Join(json.Unmarshal(data, &doc), json.Unmarshal(rest, &f)); err != nil {
		return nil, fmt.Errorf("store: deployment %s: %w", id, err)
	}
	d := &Deployment{Deployment: doc.Public, Private: doc.Private, Wanted: map[string]*Package{}, stored: data}
	d.Plan, d.Config, d.OwnerKey, d.TEE = f.Plan, f.Config, f.OwnerKey, cmp.Or(d.TEE, d.ID)
	d.Version, d.Updated, d.Trace, d.Packages = version, time.UnixMilli(updated).UTC(), []mocapi.TraceStep{}, []mocapi.PackageRef{}
	err = rows("SELECT doc FROM trace WHERE deployment = ? ORDER BY step", []any{id}, func(scan func(...any) error) error {
		var data []byte
		if err := scan(&data); err != nil {
			return err
		}
		var step mocapi.TraceStep
		if err := json.Unmarshal(data, &step); err != nil {
			return fmt.Errorf("store: trace of %s: %w", id, err)
		}
		d.Trace = append(d.Trace, step)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return d, loadPackages(d, rows)
}

func loadPackages(d *Deployment, rows rowsFunc) error {
	err := rows(`SELECT role, owner, repository, digest, manifest_id, manifest_digest, sequence, envelope FROM packages
		WHERE deployment = ? ORDER BY created, role`, []any{d.ID}, func(scan func(...any) error) error {
		p, err := scanPackage(scan)
		if err != nil {
			return err
		}
		d.Wanted[p.Role] = p
		if !strings.HasPrefix(p.Role, NextRole) {
			d.Packages = append(d.Packages, p.PackageRef)
		}
		return nil
	})
	if err != nil || len(d.Wanted) == 0 {
		return err
	}
	return rows("SELECT role, digest FROM package_blobs WHERE deployment = ? ORDER BY digest", []any{d.ID}, func(scan func(...any) error) error {
		var role, digest string
		err := scan(&role, &digest)
		if p := d.Wanted[role]; err == nil && p != nil {
			p.Blobs = append(p.Blobs, digest)
		}
		return err
	})
}

// NextRole begins the role of a package that an update brings: it becomes that of its role without this when the device has it and
// no longer has the former.
const NextRole = "next:"

// SetWanted makes p the package of its role.
func (d *Deployment) SetWanted(p *Package) {
	d.Packages = slices.DeleteFunc(slices.Clone(d.Packages), func(r mocapi.PackageRef) bool { return r.Role == p.Role })
	if p.Digest != "" { // one that its owner delivers itself lies in no registry
		d.Packages = append(d.Packages, p.PackageRef)
	}
	d.Wanted[p.Role] = p
}
