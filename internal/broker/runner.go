// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"sealift/internal/channel"
	"sealift/internal/moc/mocapi"
	"sealift/internal/platform"
)

// runner keeps one TEE instance running and its Agent in touch with its TAM. Its loop is the only place where it launches,
// attaches and runs sessions; everything else reads its state.
type runner struct {
	b      *Broker
	id     string
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	kick   chan struct{}

	mu      sync.Mutex
	wanted  mocapi.WantedInstance
	served  map[string]uint64 // the Wake that was served to the end since the last attach, by TAM URI
	agent   *channel.AgentClient
	err     error              // of the last attempt to launch, attach or talk
	reeErr  error              // of the last thing that the Agent asked of the REE
	refusal string             // what the Agent itself says is wrong
	tas     []mocapi.TAStatus  // of those about which there is something to say
	failed  string             // the TA that keeps ending, as the Agent tells it
	held    bool               // the Agent runs no TA until the owner consents, as it tells
	gaveUp  bool               // it is not launched any more
	stopped bool               // the platform has ended it, as the M/OC wants
	quit    context.CancelFunc // ends what serves the instance now; nil while nothing does
	moving  map[string]mocapi.Transfer
	session sync.Mutex // one TEEP session at a time
}

// newRunner makes a runner that lives until stop is called or ctx ends.
func (b *Broker) newRunner(ctx context.Context, w mocapi.WantedInstance) *runner {
	ctx, cancel := context.WithCancel(ctx)
	return &runner{
		b: b, id: w.ID, log: b.cfg.Log.With("instance", w.ID), ctx: ctx, cancel: cancel, wanted: w,
		done: make(chan struct{}), kick: make(chan struct{}, 1),
	}
}

// want takes the M/OC's latest wish. One for a stop ends what is going on with the instance, a launch that takes its time too.
func (r *runner) want(w mocapi.WantedInstance) {
	r.mu.Lock()
	r.wanted = w
	if w.Stopped && r.quit != nil {
		r.quit()
		r.quit = nil
		go func() { _ = r.b.cfg.Driver.Stop(r.ctx, r.id) }() // halt does it for certain
	}
	r.mu.Unlock()
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// stop ends the runner and detaches from the Agent. The instance itself stays as it is.
func (r *runner) stop() {
	r.cancel()
	<-r.done
}

// attached returns the Agent, or nil while there is none.
func (r *runner) attached() *channel.AgentClient {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.agent
}

func (r *runner) status() (running bool, lastError string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.err != nil:
		lastError = r.err.Error()
	case r.reeErr != nil:
		lastError = r.reeErr.Error()
	case r.refusal != "":
		lastError = "the TEEP Agent says: " + r.refusal
	}
	return r.agent != nil, lastError
}

// hopeless says whether the instance was given up, and which TA of it was, if any.
func (r *runner) hopeless() (gaveUp bool, failedTA string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gaveUp, r.failed
}

// rests says whether the instance is stopped as the M/OC wants, and whether its Agent waits for the owner's consent.
func (r *runner) rests() (stopped, held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopped, r.held
}

// remarkable lists the TAs about which there is something to say.
func (r *runner) remarkable() []mocapi.TAStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tas
}

// note records how the last attempt went and has it announced.
func (r *runner) note(err error) {
	r.mu.Lock()
	r.err = err
	r.mu.Unlock()
	r.b.notify()
}

// maxTries is how often in a row an instance is launched that does not come up, or does not stay for stableAfter, before the Broker gives
// up. A platform that does not answer is no try: it may be on its way.
const (
	maxTries    = 10
	stableAfter = 10 * time.Second
)

// run launches and attaches again and again: when the Agent dies, when the platform dies, when either is not there yet. When it has given up,
// it waits for the M/OC's next wake.
func (r *runner) run() {
	defer close(r.done)
	retry := r.b.newBackoff()
	tries := 0
	for r.ctx.Err() == nil {
		if r.stopWanted() {
			r.halt(retry)
			tries = 0
			continue
		}
		begun := time.Now()
		err := r.once()
		if r.ctx.Err() != nil {
			return
		}
		if r.stopWanted() {
			continue
		}
		r.note(err)
		r.log.Warn("the TEE instance is not running", "error", err)
		if time.Since(begun) > stableAfter {
			retry.reset()
			tries = 0
		}
		if !errors.Is(err, platform.ErrUnreachable) {
			tries++
		}
		if tries >= maxTries {
			r.awaitWake()
			retry.reset()
			tries = 0
			continue
		}
		retry.wait(r.ctx)
	}
}

func (r *runner) stopWanted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wanted.Stopped
}

// halt ends the instance and its UAs, says so, and waits until the M/OC wants it to run again.
func (r *runner) halt(retry *backoff) {
	err := errors.Join(r.b.cfg.Driver.Stop(r.ctx, r.id), r.b.host.StopInstance(r.id))
	if r.ctx.Err() != nil {
		return
	}
	if err != nil {
		r.note(fmt.Errorf("stopping the TEE instance: %w", err))
		r.log.Error("the TEE instance cannot be stopped", "error", err)
		retry.wait(r.ctx)
		return
	}
	retry.reset()
	r.mu.Lock()
	r.stopped, r.gaveUp, r.held, r.err, r.reeErr, r.failed, r.refusal, r.tas = true, false, false, nil, nil, "", "", nil
	r.mu.Unlock()
	r.b.notify()
	r.log.Info("the TEE instance is stopped")
	for r.stopWanted() {
		select {
		case <-r.kick:
		case <-r.ctx.Done():
			return
		}
	}
	r.mu.Lock()
	r.stopped = false
	r.mu.Unlock()
	r.b.notify()
}

// awaitWake says that the Broker has given up, and waits until the M/OC wakes the instance.
func (r *runner) awaitWake() {
	r.mu.Lock()
	r.gaveUp = true
	reasons := sessions(r.wanted)
	r.mu.Unlock()
	r.b.notify()
	r.log.Error("the TEE instance is given up until it is asked for again", "tries", maxTries)
	for {
		select {
		case <-r.kick:
		case <-r.ctx.Done():
			return
		}
		r.mu.Lock()
		again := !slices.Equal(sessions(r.wanted), reasons) || r.wanted.Stopped
		r.gaveUp = !again
		r.mu.Unlock()
		if again {
			return
		}
	}
}

// once brings the instance up, serves it for as long as its channel lives and it is not to be stopped, and says why it ended.
func (r *runner) once() error {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	r.mu.Lock()
	r.quit = cancel
	r.mu.Unlock()
	if r.stopWanted() {
		return nil
	}
	if err := r.launch(); err != nil {
		return fmt.Errorf("launching the TEE instance: %w", err)
	}
	conn, err := r.b.cfg.Driver.Attach(ctx, r.id)
	if err != nil {
		return fmt.Errorf("attaching to the TEEP Agent: %w", err)
	}
	agent, err := channel.ServeBroker(conn, reeServices{r.b, r.id})
	if err != nil {
		conn.Close()
		return fmt.Errorf("opening the channel to the TEEP Agent: %w", err)
	}
	r.ask(ctx, agent) // whether it holds anything back, before it counts as running
	r.mu.Lock()
	r.agent, r.served, r.err = agent, map[string]uint64{}, nil
	r.mu.Unlock()
	r.b.notify()
	defer func() {
		r.mu.Lock()
		r.agent = nil
		r.mu.Unlock()
		agent.Close()
	}()
	r.serve(ctx, agent)
	return r.ended()
}

// endTime is how long a platform may take to notice that an instance has ended whose channel is gone.
const endTime = 3 * time.Second

// ended says why the instance does not run any more, as far as the platform knows.
func (r *runner) ended() error {
	ctx, cancel := context.WithTimeout(r.ctx, endTime)
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		states, err := r.b.cfg.Driver.List(ctx)
		if err != nil {
			return fmt.Errorf("the TEEP Agent has ended: %w", err)
		}
		i := slices.IndexFunc(states, func(s platform.InstanceState) bool { return s.ID == r.id })
		if i >= 0 && !states[i].Running && states[i].Exit != "" {
			return fmt.Errorf("the TEEP Agent has ended: %s", states[i].Exit)
		}
		if i < 0 || !states[i].Running {
			return errors.New("the TEEP Agent has ended")
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return errors.New("the TEEP Agent has closed its channel")
		}
	}
}

func (r *runner) launch() error {
	r.mu.Lock()
	wanted := r.wanted
	r.mu.Unlock()
	image, err := r.b.openImage(wanted.Instance)
	if err != nil {
		return err
	}
	defer image.Close()
	spec := platform.Spec{ID: r.id, Agent: image, Config: wanted.Config}
	if wanted.Layer != "" {
		if spec.Layer, err = r.b.fetchLayer(r.ctx, wanted.Layer); err != nil {
			return fmt.Errorf("the guest payload: %w", err)
		}
		defer spec.Layer.Close()
	}
	slow := time.AfterFunc(slowLaunch, func() {
		r.note(fmt.Errorf("the TEE instance has been starting for %s, and nothing of it is heard yet", slowLaunch))
	})
	defer slow.Stop()
	return r.b.cfg.Driver.Launch(r.ctx, spec)
}

// slowLaunch is how long a launch may take before who waits for it is told. A guest that hangs is ended by its platform minutes later.
const slowLaunch = 30 * time.Second

// serve runs a TEEP session after attaching and whenever the M/OC has a reason for one, until the channel closes.
func (r *runner) serve(ctx context.Context, agent *channel.AgentClient) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-agent.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	retry := r.b.newBackoff()
	for !r.stopWanted() {
		look := lookEvery
		if _, held := r.rests(); held { // the owner's consent goes past the Broker
			look = lookHeld
		}
		if due := r.due(); len(due) > 0 {
			err := r.converse(ctx, agent, due)
			if ctx.Err() != nil {
				return
			}
			r.ask(ctx, agent)
			r.note(err)
			if err != nil {
				r.log.Warn("a TEEP session has failed", "error", err)
				if !r.pause(ctx, retry, r.due()) {
					return
				}
				continue
			}
			retry.reset()
			continue
		}
		select {
		case <-r.kick:
		case <-time.After(look):
			r.ask(ctx, agent)
		case <-ctx.Done():
			return
		}
	}
}

// pause waits after a failed session: for the next delay, or until the M/OC has a newer reason for one. It reports whether ctx
// still lives.
func (r *runner) pause(ctx context.Context, retry *backoff, failed []mocapi.WantedSession) bool {
	t := time.NewTimer(retry.delay())
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		case <-r.kick:
			if !slices.Equal(r.due(), failed) {
				return true
			}
		}
	}
}

// ask lets the Agent say what is wrong from its side: a session in which it refused something has succeeded all the same.
func (r *runner) ask(ctx context.Context, agent *channel.AgentClient) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	st, err := agent.Status(ctx)
	if err != nil {
		return
	}
	failed, held := "", false
	var tas []mocapi.TAStatus
	for _, ta := range st.TAs {
		one := mocapi.TAStatus{Component: ta.ID.String(), Held: ta.State == channel.TAHeld}
		if ta.State == taFailed && len(ta.ID) == 3 { // not one that waits for its PD
			one.Failed = fmt.Sprintf("the TA %s keeps ending: %s (started %d times)", ta.ID, ta.LastExit, ta.Restarts)
			failed = one.Failed
		}
		if held = held || one.Held; one.Held || one.Failed != "" {
			tas = append(tas, one)
		}
	}
	r.mu.Lock()
	changed := !slices.Equal(r.tas, tas)
	r.refusal, r.failed, r.held, r.tas = st.LastError, failed, held, tas
	r.mu.Unlock()
	if changed {
		r.b.notify()
	}
}

// taFailed is the state of a TA that ended too often, in channel.TAStatus.
const taFailed = "failed"

// lookEvery is how often the Agent is asked how its TAs are; lookHeld while it holds one.
const (
	lookEvery = 3 * time.Second
	lookHeld  = 300 * time.Millisecond
)

// sessions are those of the deployments that an instance serves; that which its configuration names comes first.
func sessions(w mocapi.WantedInstance) []mocapi.WantedSession {
	return append([]mocapi.WantedSession{{TAMURI: w.TAMURI, Wake: w.Wake}}, w.Further...)
}

// due lists the sessions that there is a reason for.
func (r *runner) due() []mocapi.WantedSession {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(sessions(r.wanted), func(s mocapi.WantedSession) bool {
		wake, served := r.served[s.TAMURI]
		return served && wake == s.Wake
	})
}
