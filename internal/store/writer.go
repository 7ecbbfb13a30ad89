// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"sync"
)

// maxBatch bounds how many writes share a transaction, so that none waits for long.
const maxBatch = 64

// request is a write that waits for the writer.
type request struct {
	fn   func(*Tx) error
	err  chan error
	tx   *Tx
	fail error
}

// Tx is a write transaction. It is valid only inside the function that it was given to. What it reads includes what it
// has written.
type Tx struct {
	s     *Store
	ctx   context.Context
	stmts *stmts
	after []func()               // run when the transaction is durable
	own   map[string]*Deployment // written by this write
	batch map[string]*Deployment // written by those before it in the transaction
}

// Write runs fn in a transaction and returns when its effect is durable. fn may run while other writes share the
// transaction; if it returns an error, nothing of it remains and Write returns that error. fn must not block on
// anything but the Tx.
func (s *Store) Write(ctx context.Context, fn func(*Tx) error) error {
	r := &request{fn: fn, err: make(chan error, 1)}
	select {
	case s.queue <- r:
	case <-s.stop:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	// Once it is in the writer's hands its outcome matters, whether or not the caller still waits.
	return <-r.err
}

// writer serves writes until the store is closed.
func (s *Store) writer(conn *sql.Conn) {
	defer close(s.done)
	defer conn.Close()
	prepared := &stmts{prepare: conn.PrepareContext}
	defer prepared.close() // SQLite folds its log into the file only when nothing holds the database any more
	for {
		select {
		case <-s.stop:
			return
		case r := <-s.queue:
			s.commit(prepared, s.gather(r))
			if s.forgot {
				s.forgot = false
				s.emptyLog(prepared)
			}
		}
	}
}

// emptyLog folds SQLite's write-ahead log into the database and empties it: until then the log still has what was deleted.
// A reader in the way delays it to the next time.
func (s *Store) emptyLog(prepared *stmts) {
	st, err := prepared.get(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)")
	if err != nil {
		return
	}
	var busy, log, done int
	if st.QueryRow().Scan(&busy, &log, &done) != nil || busy != 0 {
		s.forgot = true
	}
}

// gather takes what else is waiting.
func (s *Store) gather(first *request) []*request {
	batch := []*request{first}
	for len(batch) < maxBatch {
		select {
		case r := <-s.queue:
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// commit runs a batch in one transaction and answers its callers.
func (s *Store) commit(prepared *stmts, batch []*request) {
	err := s.run(prepared, batch)
	for _, r := range batch {
		if r.fail == nil && err != nil {
			r.fail = fmt.Errorf("writing the database: %w", err)
		}
		if r.fail == nil {
			for _, f := range r.tx.after {
				f()
			}
		}
		r.err <- full(r.fail)
	}
}

func (s *Store) run(prepared *stmts, batch []*request) (err error) {
	ctx := context.Background()
	exec := func(text string) error {
		st, err := prepared.get(ctx, text)
		if err == nil {
			_, err = st.Exec()
		}
		return err
	}
	if err := exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = exec("ROLLBACK")
		}
	}()
	if len(batch) == 1 { // alone: the transaction itself is the savepoint
		r := batch[0]
		r.tx = &Tx{s: s, ctx: ctx, stmts: prepared}
		if r.fail = call(r); r.fail != nil {
			return exec("ROLLBACK")
		}
		return exec("COMMIT")
	}
	written, before := false, map[string]*Deployment{}
	for _, r := range batch {
		if err := exec("SAVEPOINT one"); err != nil {
			return err
		}
		r.tx = &Tx{s: s, ctx: ctx, stmts: prepared, batch: before}
		if r.fail = call(r); r.fail != nil {
			if err := exec("ROLLBACK TO one"); err != nil {
				return err
			}
		} else {
			written = true
			maps.Copy(before, r.tx.own)
		}
		if err := exec("RELEASE one"); err != nil {
			return err
		}
	}
	if !written {
		return exec("ROLLBACK")
	}
	return exec("COMMIT")
}

// call runs one write; a panic in it must not take the writer and with it everybody else's writes.
func call(r *request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("store: a write panicked: %v", p)
		}
	}()
	return r.fn(r.tx)
}

func (tx *Tx) exec(text string, args ...any) (int64, error) {
	st, err := tx.stmts.get(tx.ctx, text)
	if err != nil {
		return 0, err
	}
	res, err := st.ExecContext(tx.ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (tx *Tx) row(text string, args []any, into ...any) error {
	st, err := tx.stmts.get(tx.ctx, text)
	if err != nil {
		return err
	}
	return notFound(st.QueryRowContext(tx.ctx, args...).Scan(into...))
}

func (tx *Tx) rows(text string, args []any, each func(scan func(...any) error) error) error {
	st, err := tx.stmts.get(tx.ctx, text)
	if err != nil {
		return err
	}
	return eachRow(tx.ctx, st, args, each)
}

// notify wakes whoever watches topic once the transaction is durable.
func (tx *Tx) notify(topic string) { tx.after = append(tx.after, func() { tx.s.hub.notify(topic) }) }

// hub wakes waiting readers. A topic exists only while somebody watches it.
type hub struct {
	mu     sync.Mutex
	topics map[string]*watched
}

// watched is a topic that somebody waits for.
type watched struct {
	changed chan struct{}
	waiting int
}

// Watch returns a channel that is closed at the next change of topic. To miss nothing, watch first, then read. The caller calls done when it
// waits no longer: a topic may never change again, or never have existed.
func (s *Store) Watch(topic string) (changed <-chan struct{}, done func()) { return s.hub.watch(topic) }

// Wake wakes whoever watches topic, for what is not stored.
func (s *Store) Wake(topic string) { s.hub.notify(topic) }

// TopicDeployment is the topic of a deployment's changes.
func TopicDeployment(id string) string { return "deployment/" + id }

// TopicDevice is the topic of changes of a device's work.
func TopicDevice(id string) string { return "device/" + id }

// TopicEvidence is the topic of the answer to an evidence request.
func TopicEvidence(id string) string { return "evidence/" + id }

func (h *hub) watch(topic string) (<-chan struct{}, func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[topic]
	if t == nil {
		if h.topics == nil {
			h.topics = map[string]*watched{}
		}
		t = &watched{changed: make(chan struct{})}
		h.topics[topic] = t
	}
	t.waiting++
	return t.changed, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if t.waiting--; t.waiting == 0 && h.topics[topic] == t {
			delete(h.topics, topic)
		}
	}
}

func (h *hub) notify(topic string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.topics[topic]; t != nil {
		close(t.changed)
		delete(h.topics, topic)
	}
}
