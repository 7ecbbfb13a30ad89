// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"sealift/evidence"
	"sealift/internal/platform/hw"
)

// maxLoads is how many programs one start of the Agent can load: as many as Evidence can list.
const maxLoads = 1024

var errLoads = errors.New("agent: more programs were loaded since the start than Evidence can list; a restart of the instance begins anew")

// loads is the record of what was loaded since the Agent started, where the hardware has a register that vouches for it
// (evidence.Load). Evidence is made under its lock, so that record and register are of one moment.
type loads struct {
	mu   sync.Mutex
	list []evidence.Load
}

// record extends the register by the program c, which is about to be started, unless it was started before in the same version.
func (a *Agent) record(c *component, sequence uint64) error {
	recorder, ok := a.opts.TEE.(hw.Recorder)
	if !ok || a.hw.Register == "" {
		return nil
	}
	l := evidence.Load{Component: c.ID, Digest: c.Digest, Sequence: sequence}
	a.loads.mu.Lock()
	defer a.loads.mu.Unlock()
	if slices.ContainsFunc(a.loads.list, func(o evidence.Load) bool {
		return o.Sequence == l.Sequence && o.Component.Equal(l.Component) && o.Digest.Equal(l.Digest)
	}) {
		return nil
	}
	if len(a.loads.list) >= maxLoads {
		return errLoads
	}
	if err := recorder.Extend(l.Event()); err != nil {
		return fmt.Errorf("agent: recording the load of %s: %w", c.ID, err)
	}
	a.loads.list = append(a.loads.list, l)
	return nil
}

// sequenceOf is the sequence number of the manifest that brought c.
func sequenceOf(s *state, c *component) uint64 {
	if m := s.manifestOf(c); m != nil {
		return m.Sequence
	}
	return 0
}
