// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"time"

	"sealift/evidence/crl"
)

// Cache remembers verified chains and collateral by the SHA-256 of their bytes, up to a number of each; what was not
// used for longest goes first. Times are checked at every use. It is safe for concurrent use; a nil *Cache remembers nothing.
type Cache struct {
	chains, collateral lru
	lists              crl.Checker
}

// platformsPerFMSPC is how many more chains than pieces of collateral a cache holds: a piece is for all platforms of one
// kind, and takes some hundred kilobytes.
const platformsPerFMSPC = 8

// NewCache returns a cache for up to n chains (one for each platform) and n/8 pieces of collateral (one for each FMSPC).
func NewCache(n int) *Cache {
	return &Cache{chains: newLRU(n), collateral: newLRU(n / platformsPerFMSPC)}
}

// Chain verifies the chain of a quote's signature data: see [VerifyChain].
func (c *Cache) Chain(s *SignatureData, roots []*x509.Certificate, now time.Time) (*Chain, error) {
	chain, err := c.ChainAnyTime(s, roots)
	if err != nil {
		return nil, err
	}
	if err := chain.ValidAt(now); err != nil {
		return nil, err
	}
	return chain, nil
}

// ChainAnyTime is [Cache.Chain] without the check of the time: the chain leads to a trusted root, and may be expired. It
// is there to explain a refusal.
func (c *Cache) ChainAnyTime(s *SignatureData, roots []*x509.Certificate) (*Chain, error) {
	key := sha256.Sum256(s.Chain)
	if c != nil {
		if known, ok := c.chains.get(key).(*Chain); ok {
			if _, err := findRoot(known.Root.Raw, roots); err != nil {
				return nil, err
			}
			return known, nil
		}
	}
	certs, err := s.Certificates()
	if err != nil {
		return nil, err
	}
	chain, err := linkChain(certs, roots)
	if err != nil {
		return nil, err
	}
	if c != nil {
		c.chains.put(key, chain)
	}
	return chain, nil
}

// Collateral verifies collateral in one of the forms of [ParseCollateral]: see [Collateral.Verify].
func (c *Cache) Collateral(data []byte, root *x509.Certificate, now time.Time) (*VerifiedCollateral, error) {
	v, err := c.verified(data, root)
	if err != nil {
		return nil, err
	}
	if err := v.ValidAt(now); err != nil {
		return nil, err
	}
	return v, nil
}

func (c *Cache) verified(data []byte, root *x509.Certificate) (*VerifiedCollateral, error) {
	key := sha256.Sum256(data)
	if c != nil {
		if known, ok := c.collateral.get(key).(*VerifiedCollateral); ok && root != nil && bytes.Equal(known.root.Raw, root.Raw) {
			return known, nil
		}
	}
	parsed, err := ParseCollateral(data)
	if err != nil {
		return nil, err
	}
	v, err := parsed.verify(root)
	if err != nil {
		return nil, err
	}
	if c != nil {
		c.collateral.put(key, v)
	}
	return v, nil
}

// lru is a bounded map.
type lru struct {
	mu    sync.Mutex
	max   int
	order *list.List // of entries, the last used first
	items map[[32]byte]*list.Element
}

type entry struct {
	key   [32]byte
	value any
}

func newLRU(n int) lru {
	return lru{max: max(n, 1), order: list.New(), items: map[[32]byte]*list.Element{}}
}

func (l *lru) get(key [32]byte) any {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.items[key]
	if e == nil {
		return nil
	}
	l.order.MoveToFront(e)
	return e.Value.(entry).value
}

func (l *lru) put(key [32]byte, value any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.items[key]; e != nil {
		e.Value = entry{key, value}
		return
	}
	l.items[key] = l.order.PushFront(entry{key, value})
	if len(l.items) > l.max {
		last := l.order.Back()
		delete(l.items, last.Value.(entry).key)
		l.order.Remove(last)
	}
}
