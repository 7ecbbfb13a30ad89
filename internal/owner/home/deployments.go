// SPDX-License-Identifier: Apache-2.0

package home

import "errors"

// Deployments returns every stored deployment, sorted by ID. What a deployment is made of is the caller's business.
func Deployments[T any](h *Home) ([]*T, error) {
	return allOf[T](h, kindDeployment)
}

// Removals returns what is kept of removed deployments, sorted by ID.
func Removals[T any](h *Home) ([]*T, error) { return allOf[T](h, kindRemoval) }

// AddRemoval stores what is kept of a removed deployment.
func (h *Home) AddRemoval(id string, v any) error {
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return h.writeJSON(kindRemoval, id, v)
}

func allOf[T any](h *Home, kind string) ([]*T, error) {
	names, err := h.list(kind, ".json")
	if err != nil {
		return nil, err
	}
	var all []*T
	for _, name := range names {
		v := new(T)
		if err := h.readJSON(kind, name, v); errors.Is(err, ErrNotFound) {
			continue // removed since it was listed
		} else if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// AddDeployment stores a new deployment.
func (h *Home) AddDeployment(id string, v any) error {
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return h.writeJSON(kindDeployment, id, v)
}

// ChangeDeployment reads a stored deployment, lets f change it and writes it back, alone.
func ChangeDeployment[T any](h *Home, id string, f func(*T) error) error {
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	v := new(T)
	if err := h.readJSON(kindDeployment, id, v); err != nil {
		return err
	}
	if err := f(v); err != nil {
		return err
	}
	return h.writeJSON(kindDeployment, id, v)
}

// RemoveDeployment forgets a deployment; one that is not there is no error.
func (h *Home) RemoveDeployment(id string) error {
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := h.remove(kindDeployment, id, ".json"); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}
