// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"slices"
	"strings"
	"sync"
	"time"

	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
)

// logTime is how long a device may take to tell what its UAs have printed.
const logTime = 10 * time.Second

// maxUALogs bounds how many UAs of one instance a device tells of.
const maxUALogs = 64

// logDesk brings those who want to see what UAs print together with the Brokers that know. Nothing of it is kept: the wish goes out with the
// device's work, and the answer to those who wait for it.
type logDesk struct {
	mu    sync.Mutex
	asks  map[logKey]*logAsk
	waits int
}

type logKey struct{ device, tee string }

type logAsk struct {
	told   bool // the Broker has been asked
	answer chan struct{}
	logs   mocapi.UALogs // once answer is closed
	users  int
}

// maxWaits bounds how many wait at a time.
const maxWaits = 256

// ask notes a wish; leave has to be called. It is nil when too many wait.
func (l *logDesk) ask(k logKey) *logAsk {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waits >= maxWaits {
		return nil
	}
	a := l.asks[k]
	if a == nil {
		a = &logAsk{answer: make(chan struct{})}
		if l.asks == nil {
			l.asks = map[logKey]*logAsk{}
		}
		l.asks[k] = a
	}
	a.users++
	l.waits++
	return a
}

func (l *logDesk) leave(k logKey, a *logAsk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waits--
	if a.users--; a.users == 0 && l.asks[k] == a {
		delete(l.asks, k)
	}
}

// asked reports whether there is a wish that the device does not know.
func (l *logDesk) asked(device string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, a := range l.asks {
		if k.device == device && !a.told {
			return true
		}
	}
	return false
}

// take returns the instances of which a device is to tell, each once.
func (l *logDesk) take(device string) (tees []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, a := range l.asks {
		if k.device == device && !a.told {
			a.told = true
			tees = append(tees, k.tee)
		}
	}
	slices.Sort(tees)
	return tees
}

// put hands an answer to those who wait for it.
func (l *logDesk) put(k logKey, logs mocapi.UALogs) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.asks[k]; a != nil {
		a.logs = logs
		close(a.answer)
		delete(l.asks, k)
	}
}

// getUALogs asks the device of a deployment what its UAs have printed.
func (s *Server) getUALogs(c *call) (any, error) {
	d, err := s.deployment(c)
	if err != nil {
		return nil, err
	}
	if d.State == mocapi.StateRemoved {
		return nil, fault.New(fault.DeploymentRemoved, "the deployment %s is removed", d.ID)
	}
	k := logKey{d.Device, d.TEE}
	a := s.uaLogs.ask(k)
	if a == nil {
		return nil, fault.New(fault.Unavailable, "too many wait for what UAs have printed")
	}
	defer s.uaLogs.leave(k, a)
	s.store.Wake(store.TopicDevice(d.Device))
	timer := time.NewTimer(logTime)
	defer timer.Stop()
	select {
	case <-a.answer:
	case <-timer.C:
		return nil, fault.New(fault.Unavailable, "device %s does not say what its UAs have printed", d.Device).WithHint("is its Broker running?")
	case <-s.closing:
		return nil, fault.New(fault.Unavailable, "the M/OC is stopping")
	case <-c.Context().Done():
		return nil, c.Context().Err()
	}
	out := mocapi.UALogs{UAs: []mocapi.UALog{}}
	for _, u := range a.logs.UAs {
		if strings.HasPrefix(u.Component, "ree/"+d.App+"/") { // an instance may serve several deployments
			out.UAs = append(out.UAs, u)
		}
	}
	return out, nil
}

// putUALogs takes a Broker's answer.
func (s *Server) putUALogs(c *call) (any, error) {
	if err := ownDevice(c); err != nil {
		return nil, err
	}
	l, err := decode[mocapi.UALogs](c)
	if err != nil {
		return nil, err
	}
	if len(l.UAs) > maxUALogs || len(l.Instance) > maxShort {
		return nil, fault.New(fault.BadRequest, "the logs of more than %d UAs", maxUALogs)
	}
	for _, u := range l.UAs {
		if len(u.Text) > mocapi.MaxUALog || len(u.Component) > maxShort {
			return nil, fault.New(fault.BadRequest, "the log of a UA has more than %d bytes", mocapi.MaxUALog)
		}
	}
	d, err := s.store.Device(c.Context(), c.id.Name)
	if err != nil {
		return nil, err
	}
	if now := s.cfg.Now(); d.Broker != l.BrokerID && d.Live(now) {
		return nil, deviceInUse(d, now)
	}
	s.uaLogs.put(logKey{c.id.Name, l.Instance}, l)
	return nil, nil
}
