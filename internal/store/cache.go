// SPDX-License-Identifier: Apache-2.0

package store

import (
	"sync"

	"sealift/internal/moc/mocapi"
)

// maxCached bounds the cache.
const maxCached = 4096

// cache holds decoded deployments that are not removed; it is filled by writes and by reads that no write has overtaken.
type cache struct {
	mu    sync.RWMutex
	epoch uint64
	byID  map[string]*Deployment
}

func (c *cache) get(id string) *Deployment {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byID[id]
}

func (c *cache) now() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.epoch
}

func (c *cache) put(d *Deployment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.set(d)
}

func (c *cache) fill(d *Deployment, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch == epoch {
		c.set(d)
	}
}

// set keeps a deployment, unless it is history: what was removed is read seldom, and there is ever more of it.
func (c *cache) set(d *Deployment) {
	if d.State == mocapi.StateRemoved {
		delete(c.byID, d.ID)
		return
	}
	if c.byID == nil || len(c.byID) >= maxCached {
		c.byID = map[string]*Deployment{}
	}
	c.byID[d.ID] = d
}

func (c *cache) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	delete(c.byID, id)
}
