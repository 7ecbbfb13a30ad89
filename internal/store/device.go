// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sealift/internal/moc/mocapi"
)

// Device is a device as its Broker announced it last.
type Device struct {
	ID         string              `json:"id"`
	Generation uint64              `json:"-"` // of the work that it should have
	Last       mocapi.Announcement `json:"last"`
	Broker     string              `json:"broker"` // that holds the lease
	Lease      time.Time           `json:"lease"`  // when the lease ends
	Seen       time.Time           `json:"seen"`
}

// Live reports whether a Broker holds the device.
func (d *Device) Live(now time.Time) bool { return d.Broker != "" && now.Before(d.Lease) }

// Device reads a device inside the transaction.
func (tx *Tx) Device(id string) (*Device, error) {
	var data []byte
	d := &Device{ID: id}
	if err := tx.row("SELECT generation, doc FROM devices WHERE id = ?", []any{id}, &d.Generation, &data); err != nil {
		return nil, err
	}
	return d, decodeDevice(d, data)
}

// PutDevice stores a device; a new one begins with generation 1.
func (tx *Tx) PutDevice(d *Device) error {
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO devices (id, generation, doc) VALUES (?1, 1, ?2)
		ON CONFLICT (id) DO UPDATE SET doc = ?2`, d.ID, data)
	return err
}

// BumpDevice raises the generation of a device's work, wakes its Broker and returns the new generation.
func (tx *Tx) BumpDevice(id string) (generation uint64, err error) {
	err = tx.row("UPDATE devices SET generation = generation + 1 WHERE id = ? RETURNING generation", []any{id}, &generation)
	if errors.Is(err, ErrNotFound) {
		return 0, fmt.Errorf("device %s: %w", id, err)
	}
	tx.notify(TopicDevice(id))
	return generation, err
}

// Devices reads all devices inside the transaction, by name.
func (tx *Tx) Devices() ([]*Device, error) { return loadDevices(tx.rows) }

// Used counts the instances that take a place on a device: all that are placed on it but the stopped.
// One that serves several deployments takes one.
func (tx *Tx) Used(device string) (n int, err error) {
	err = tx.row(usedQuery, []any{device}, &n)
	return n, err
}

// UsedBy counts those of them that are an owner's deployments of one application.
func (tx *Tx) UsedBy(device, owner, app string) (n int, err error) {
	err = tx.row(usedQuery+" AND owner = ? AND app = ?", []any{device, owner, app}, &n)
	return n, err
}

const usedQuery = "SELECT count(DISTINCT tee) FROM deployments WHERE device = ? AND state NOT IN ('removed', 'stopped')"

// Device returns a device.
func (s *Store) Device(ctx context.Context, id string) (*Device, error) {
	var data []byte
	d := &Device{ID: id}
	if err := s.row(ctx, "SELECT generation, doc FROM devices WHERE id = ?", []any{id}, &d.Generation, &data); err != nil {
		return nil, err
	}
	return d, decodeDevice(d, data)
}

// Devices returns all devices, by name.
func (s *Store) Devices(ctx context.Context) ([]*Device, error) {
	return loadDevices(func(text string, args []any, each func(func(...any) error) error) error {
		return s.rows(ctx, text, args, each)
	})
}

// Used counts the instances that take a place on a device.
func (s *Store) Used(ctx context.Context, device string) (n int, err error) {
	err = s.row(ctx, usedQuery, []any{device}, &n)
	return n, err
}

func loadDevices(rows rowsFunc) (out []*Device, err error) {
	err = rows("SELECT id, generation, doc FROM devices ORDER BY id", nil, func(scan func(...any) error) error {
		d := &Device{}
		var data []byte
		if err := scan(&d.ID, &d.Generation, &data); err != nil {
			return err
		}
		out = append(out, d)
		return decodeDevice(d, data)
	})
	return out, err
}

func decodeDevice(d *Device, data []byte) error {
	id := d.ID
	if err := json.Unmarshal(data, d); err != nil {
		return fmt.Errorf("store: device %s: %w", id, err)
	}
	d.ID = id
	return nil
}
