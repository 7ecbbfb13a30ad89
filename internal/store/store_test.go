// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/usecase"
)

// TestMain lets this binary be the process that TestKill kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SEALIFT_TEST_STORE"); dir != "" {
		writeUntilKilled(dir)
	}
	os.Exit(m.Run())
}

func open(t testing.TB, dir string, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// insert makes a device and a deployment on it.
func insert(ctx context.Context, s *store.Store, id string) error {
	return s.Write(ctx, func(tx *store.Tx) error {
		if err := tx.PutDevice(&store.Device{ID: "d1"}); err != nil {
			return err
		}
		d := &store.Deployment{Deployment: mocapi.Deployment{ID: id, Owner: "alpha", Device: "d1", State: mocapi.StatePending,
			Plan: make([]usecase.Step, 3)}, Wanted: map[string]*store.Package{}}
		return tx.InsertDeployment(d)
	})
}

// writeUntilKilled makes transactions of several rows each and says on stdout which one is durable.
func writeUntilKilled(dir string) {
	ctx := context.Background()
	s, err := store.Open(dir, store.Options{})
	if err == nil {
		err = insert(ctx, s, "x")
	}
	for i := 0; err == nil; i++ {
		_, err = s.Update(ctx, "x", func(tx *store.Tx, d *store.Deployment) error {
			var token [8]byte
			binary.BigEndian.PutUint64(token[:], uint64(i))
			if _, err := tx.Consume("x", token[:], time.Now().Add(time.Hour)); err != nil {
				return err
			}
			d.Private.Wake++
			return tx.AddEvent("x", "count", "%d", i)
		})
		fmt.Println(i)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKill kills a writing process, several times over one database: all that it had reported done is there, each
// transaction is there as a whole, and the next process goes on.
func TestKill(t *testing.T) {
	for round := range 4 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "SEALIFT_TEST_STORE="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, last := bufio.NewScanner(out), -1
		for lines.Scan() {
			if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
				t.Fatal(err)
			}
			if last == 30+17*round {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		s := open(t, dir, store.Options{})
		d, err := s.Deployment(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		events, err := s.Events(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		n := len(events)
		if n < last+1 || d.Private.Wake != uint64(n) || d.Version != uint64(n+1) {
			t.Errorf("reported %d, found %d events, wake %d, version %d", last+1, n, d.Private.Wake, d.Version)
		}
		if err := insert(t.Context(), s, "y"); err != nil {
			t.Errorf("after the kill: %v", err)
		}
	}
}

// TestCompareAndSwap lets many writers add to one deployment: nothing is lost, and a stale version is refused.
func TestCompareAndSwap(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	ctx := t.Context()
	if err := insert(ctx, s, "x"); err != nil {
		t.Fatal(err)
	}
	stale, err := s.Deployment(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 10 {
				_, err := s.Update(ctx, "x", func(_ *store.Tx, d *store.Deployment) error { d.Private.Wake++; return nil })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	d, err := s.Deployment(ctx, "x")
	if err != nil || d.Private.Wake != 160 || d.Version != 161 {
		t.Errorf("wake %d, version %d, %v", d.Private.Wake, d.Version, err)
	}
	if stale.Private.Wake != 0 {
		t.Error("a value that was read has changed")
	}
	copied := *stale
	err = s.Write(ctx, func(tx *store.Tx) error { return tx.PutDeployment(&copied) })
	if !errors.Is(err, store.ErrConflict) {
		t.Errorf("writing a stale version: %v", err)
	}
}

// TestPackagesMove: a package that is read anew and becomes the one of another role keeps its payloads.
func TestPackagesMove(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	if err := insert(t.Context(), s, "one"); err != nil {
		t.Fatal(err)
	}
	p := &store.Package{PackageRef: mocapi.PackageRef{Role: store.NextRole + "ta", Digest: "sha256:aa"}, Envelope: []byte{1}, Blobs: []string{"sha256:bb", "sha256:cc"}}
	change := func(fn func(d *store.Deployment)) {
		t.Helper()
		if _, err := s.Update(t.Context(), "one", func(_ *store.Tx, d *store.Deployment) error { fn(d); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, store.Options{})
	}
	change(func(d *store.Deployment) { d.Wanted = map[string]*store.Package{p.Role: p} })
	change(func(d *store.Deployment) {
		moved := *d.Wanted[p.Role]
		moved.Role = "ta"
		d.Wanted = map[string]*store.Package{"ta": &moved}
	})
	d, err := s.Deployment(t.Context(), "one")
	if err != nil || d.Wanted["ta"] == nil || !slices.Equal(d.Wanted["ta"].Blobs, p.Blobs) {
		t.Errorf("%+v, %v", d.Wanted["ta"], err)
	}
}

// TestTraceOnce tries to do a step twice and to undo one.
func TestTraceOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	ctx := t.Context()
	if err := insert(ctx, s, "x"); err != nil {
		t.Fatal(err)
	}
	add := func(_ *store.Tx, d *store.Deployment) error {
		d.Trace = append(d.Trace, mocapi.TraceStep{Step: usecase.Step{Step: "one"}})
		return nil
	}
	before, err := s.Update(ctx, "x", add)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Update(ctx, "x", func(_ *store.Tx, d *store.Deployment) error { d.Trace = nil; return nil })
	if !errors.Is(err, store.ErrConflict) {
		t.Errorf("taking a step back: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, store.Options{})
	d, err := s.Deployment(ctx, "x")
	if err != nil || len(d.Trace) != 1 || d.Version != before.Version {
		t.Errorf("after reopening: %d steps, version %d, %v", len(d.Trace), d.Version, err)
	}
}

// TestFailedWriteLeavesNothing puts failing and succeeding writes into shared transactions.
func TestFailedWriteLeavesNothing(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	ctx := t.Context()
	if err := insert(ctx, s, "x"); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			_, err := s.Update(ctx, "x", func(tx *store.Tx, d *store.Deployment) error {
				d.Private.Wake++
				if err := tx.AddEvent("x", "k", "%d", i); err != nil {
					return err
				}
				switch i % 3 {
				case 1:
					return boom
				case 2:
					panic("boom")
				}
				return nil
			})
			if (err == nil) != (i%3 == 0) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
	d, err := s.Deployment(ctx, "x")
	events, err2 := s.Events(ctx, "x")
	if d.Private.Wake != 20 || len(events) != 20 || errors.Join(err, err2) != nil {
		t.Errorf("wake %d, %d events, %v", d.Private.Wake, len(events), errors.Join(err, err2))
	}
}

// TestTokensAreBounded answers many tokens: each once, and the table stays small without any becoming good again.
func TestTokensAreBounded(t *testing.T) {
	now := time.Now()
	s := open(t, t.TempDir(), store.Options{TokensKept: 100, Now: func() time.Time { return now }})
	ctx := t.Context()
	issued := now
	consume := func(i int) (fresh bool) {
		t.Helper()
		token := make([]byte, 32)
		binary.BigEndian.PutUint32(token[4:], uint32(i))
		token[0] = byte(i) // the store prunes by a token's first byte
		err := s.Write(ctx, func(tx *store.Tx) (err error) {
			fresh, err = tx.Consume("x", token, issued.Add(time.Hour+time.Duration(i)*time.Millisecond))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return fresh
	}
	const n = 2000
	for i := range n {
		if !consume(i) {
			t.Fatalf("token %d is not fresh", i)
		}
	}
	for i := range n {
		if consume(i) {
			t.Fatalf("token %d was good twice", i)
		}
	}
	var rows int
	if err := s.CountTokens(ctx, &rows); err != nil || rows > 200 {
		t.Errorf("%d tokens are kept, %v", rows, err)
	}
	now = now.Add(2 * time.Hour)
	if consume(n) {
		t.Error("an expired token is fresh")
	}
}

// TestEventsAreBounded writes the histories of several deployments in turn: each is bounded, and keeps its newest lines.
func TestEventsAreBounded(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{EventsKept: 10})
	ids := []string{"a", "b", "c", "d"}
	for i := range 1000 {
		err := s.Write(t.Context(), func(tx *store.Tx) error {
			for _, id := range ids {
				if err := tx.AddEvent(id, "k", "%d", i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range ids {
		events, err := s.Events(t.Context(), id)
		if err != nil || len(events) < 10 || len(events) > 400 || events[len(events)-1].Message != "999" {
			t.Errorf("%s: %d events are kept, %v", id, len(events), err)
		}
	}
}

// TestWatch checks that a change wakes, and that reading after watching misses nothing.
func TestWatch(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	ctx := t.Context()
	if err := insert(ctx, s, "x"); err != nil {
		t.Fatal(err)
	}
	watch := func() (changed, work <-chan struct{}, done func()) {
		changed, done1 := s.Watch(store.TopicDeployment("x"))
		work, done2 := s.Watch(store.TopicDevice("d1"))
		return changed, work, func() { done1(); done2() }
	}
	changed, work, done := watch()
	again, alsoDone := s.Watch(store.TopicDeployment("x"))
	if _, err := s.Update(ctx, "x", func(_ *store.Tx, d *store.Deployment) error { d.Private.Wake++; return nil }); err != nil {
		t.Fatal(err)
	}
	<-changed
	<-again
	<-work
	changed, work, doneToo := watch()
	done() // of what has changed already: it does not end the newer ones
	if _, err := s.Update(ctx, "x", func(_ *store.Tx, d *store.Deployment) error { return store.ErrUnchanged }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(ctx, "x", func(_ *store.Tx, d *store.Deployment) error { d.RelayAddr = "r"; return nil }); err != nil {
		t.Fatal(err)
	}
	<-changed
	select {
	case <-work:
		t.Error("a change that is no work woke the device")
	default:
	}
	alsoDone()
	doneToo()
	_, done = s.Watch("what nobody ever changes")
	if n := s.Watched(); n != 1 {
		t.Errorf("%d topics are watched", n)
	}
	if done(); s.Watched() != 0 {
		t.Errorf("%d topics are watched by nobody", s.Watched())
	}
}

// TestRemovedIsNotKept: removed deployments are not kept in memory, and can be read all the same.
func TestRemovedIsNotKept(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	for _, id := range []string{"x", "y"} {
		if err := insert(t.Context(), s, id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Update(t.Context(), "x", func(_ *store.Tx, d *store.Deployment) error { d.State = mocapi.StateRemoved; return nil }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if d, err := s.Deployment(t.Context(), "x"); err != nil || d.State != mocapi.StateRemoved || s.Cached() != 1 {
			t.Errorf("%v, %v, %d in memory", d, err, s.Cached())
		}
	}
}

// TestBearerTokens keeps hashes only, finds owners, and forgets on demand.
func TestBearerTokens(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	id := mocapi.Identity{Role: mocapi.RoleOwner, Name: "alpha"}
	token, err := s.NewToken(t.Context(), rand.Reader, id)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Identify(t.Context(), token); err != nil || got != id {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := s.Identify(t.Context(), token+"x"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a wrong token: %v", err)
	}
	for _, name := range []string{"moc.db", "moc.db-wal"} {
		data, err := os.ReadFile(dir + "/" + name)
		if err == nil && strings.Contains(string(data), token) {
			t.Errorf("the token stands in %s", name)
		}
	}
	if st, err := os.Stat(dir + "/moc.db"); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of the database: %v, %v", st.Mode(), err)
	}
	if n, err := s.RevokeTokens(t.Context(), id); err != nil || n != 1 {
		t.Errorf("revoked %d, %v", n, err)
	}
	if _, err := s.Identify(t.Context(), token); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a revoked token: %v", err)
	}
}

// TestInstances: deployments that share an instance take one place, and those of a database without instances have one each.
func TestInstances(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	used := func(want int, shared string, in ...string) {
		t.Helper()
		n, err := s.Used(t.Context(), "d1")
		list, err2 := s.InTEE(t.Context(), shared)
		if err != nil || err2 != nil || n != want {
			t.Fatalf("%d, %v %v, want %d", n, err, err2, want)
		}
		var ids []string
		for _, d := range list {
			ids = append(ids, d.ID)
		}
		if !slices.Equal(ids, in) {
			t.Errorf("%s serves %v, want %v", shared, ids, in)
		}
	}
	for _, id := range []string{"one", "two"} {
		if err := insert(t.Context(), s, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.ForgetInstances(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, store.Options{})
	used(2, "two", "two")
	if d, err := s.Deployment(t.Context(), "two"); err != nil || d.TEE != "two" {
		t.Fatalf("%+v, %v", d, err)
	}
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		d := &store.Deployment{Deployment: mocapi.Deployment{ID: "three", TEE: "two", Sharing: "owner", Owner: "alpha", Device: "d1", State: mocapi.StatePending}}
		if err := tx.InsertDeployment(d); err != nil {
			return err
		}
		sharing, err := tx.Sharing("alpha")
		if err == nil && (len(sharing) != 1 || sharing[0].ID != "three") {
			t.Errorf("%+v", sharing)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	used(2, "two", "two", "three")
	_, err = s.Update(t.Context(), "two", func(_ *store.Tx, d *store.Deployment) error { d.State = mocapi.StateRemoved; return nil })
	if err != nil {
		t.Fatal(err)
	}
	used(2, "two", "three")
}

// TestNewerDatabase refuses what a later version has written.
func TestNewerDatabase(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	if err := s.SetSchema(t.Context(), 99); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(dir, store.Options{}); !errors.Is(err, store.ErrNewer) {
		t.Errorf("opening it: %v", err)
	}
}
