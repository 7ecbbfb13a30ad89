// SPDX-License-Identifier: Apache-2.0

// Package store keeps the M/OC's state in SQLite: devices, deployments with their plan and trace, packages, Evidence,
// appraisals, releases, bearer tokens, and which TEEP tokens were answered.
//
// The database is in WAL mode with synchronous=FULL: what a call has returned survives a kill of the process at any
// instant, and a transaction is there as a whole or not at all. All writes go through one goroutine, which takes
// whatever is waiting into one transaction and so pays one sync for many (group commit); each write is a savepoint, so
// one that fails takes nothing with it. Reads run beside it on connections of their own. Statements are prepared once.
//
// State is a value. A [Deployment] that was read is never changed by this package or by its readers; a change is a
// function over a copy ([Store.Update]) whose result replaces the version it was made from, compare-and-swap. Whoever
// waits for a change watches its topic ([Store.Watch]).
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite" // registers the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors of the store.
var (
	ErrNotFound = errors.New("store: no such record")
	ErrConflict = errors.New("store: the record has changed meanwhile")
	ErrClosed   = errors.New("store: closed")
	ErrNewer    = errors.New("store: the database was written by a newer version")
	ErrFull     = errors.New("store: no space is left for the database")
)

//go:embed migrations/*.sql
var migrations embed.FS

// Options adjust a Store. The zero value is good.
type Options struct {
	Now         func() time.Time // nil: time.Now
	TokensKept  int              // answered TEEP tokens kept per deployment; 0: 4096
	EventsKept  int              // events kept per deployment; 0: 500
	EvidenceMax int              // answers to evidence requests kept per deployment; 0: 32
}

// Store is an open database. Its methods may be called concurrently.
type Store struct {
	opts  Options
	wdb   *sql.DB // one connection: the writer's
	rdb   *sql.DB
	read  stmts
	queue chan *request
	stop  chan struct{}
	done  chan struct{}
	hub   hub
	cache cache

	forgot bool // the writer's: something was deleted whose traces have to leave the log
}

// Open opens or makes the database in the folder dir and brings its schema up to date.
func Open(dir string, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.TokensKept = orElse(o.TokensKept, 4096)
	o.EventsKept = orElse(o.EventsKept, 500)
	o.EvidenceMax = orElse(o.EvidenceMax, 32)
	path := filepath.Join(dir, "moc.db")
	if err := touch(path); err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	wdb, err := open(path, 1)
	if err != nil {
		return nil, err
	}
	if err := migrate(wdb); err != nil {
		wdb.Close()
		return nil, err
	}
	rdb, err := open(path, 4)
	if err != nil {
		wdb.Close()
		return nil, err
	}
	s := &Store{opts: o, wdb: wdb, rdb: rdb, queue: make(chan *request), stop: make(chan struct{}), done: make(chan struct{})}
	s.read.prepare = rdb.PrepareContext
	conn, err := wdb.Conn(context.Background())
	if err != nil {
		wdb.Close()
		rdb.Close()
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	go s.writer(conn)
	return s, nil
}

// touch makes the file with tight permissions before SQLite does with the umask's.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func open(path string, conns int) (*sql.DB, error) {
	q := url.Values{"_pragma": {
		"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)", "foreign_keys(ON)", "journal_size_limit(8388608)",
		"secure_delete(ON)",
	}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// migrate applies the embedded migrations that the database has not seen, each in a transaction of its own.
func migrate(db *sql.DB) error {
	var have int
	if err := db.QueryRow("PRAGMA user_version").Scan(&have); err != nil {
		return fmt.Errorf("reading the database: %w", err)
	}
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	slices.Sort(names)
	if have > len(names) {
		return fmt.Errorf("%w: schema %d, this version knows %d", ErrNewer, have, len(names))
	}
	for i := have; i < len(names); i++ {
		if err := apply(db, names[i], i+1); err != nil {
			return fmt.Errorf("migrating the database with %s: %w", names[i], err)
		}
	}
	return nil
}

func apply(db *sql.DB, name string, version int) error {
	text, err := migrations.ReadFile(name)
	if err != nil {
		return err
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	// Another process (the command that makes tokens) may have been faster.
	var have int
	if err := tx.QueryRow("PRAGMA user_version").Scan(&have); err != nil || have >= version {
		return err
	}
	if _, err := tx.Exec(string(text)); err != nil {
		return err
	}
	if _, err := tx.Exec(fmt.Sprintf("PRAGMA user_version = %d", version)); err != nil {
		return err
	}
	return tx.Commit()
}

// Close ends the writer after the writes that wait, and closes the database.
func (s *Store) Close() error {
	select {
	case <-s.stop:
		return ErrClosed
	default:
	}
	close(s.stop)
	<-s.done
	s.read.close()
	return errors.Join(s.rdb.Close(), s.wdb.Close())
}

// Now returns the time as the store's clock has it.
func (s *Store) Now() time.Time { return s.opts.Now() }

// stmts prepares each statement once.
type stmts struct {
	prepare func(context.Context, string) (*sql.Stmt, error)
	mu      sync.Mutex
	byText  map[string]*sql.Stmt
}

// close gives the statements back. No other may be prepared afterwards.
func (p *stmts) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, st := range p.byText {
		st.Close()
	}
	p.byText = nil
}

func (p *stmts) get(ctx context.Context, text string) (*sql.Stmt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if st := p.byText[text]; st != nil {
		return st, nil
	}
	// The statement outlives the call that needed it first.
	st, err := p.prepare(context.WithoutCancel(ctx), text)
	if err != nil {
		return nil, fmt.Errorf("preparing %q: %w", strings.Join(strings.Fields(text), " "), err)
	}
	if p.byText == nil {
		p.byText = map[string]*sql.Stmt{}
	}
	p.byText[text] = st
	return st, nil
}

// row runs a query of one row on a reading connection; no row is ErrNotFound.
func (s *Store) row(ctx context.Context, text string, args []any, into ...any) error {
	st, err := s.read.get(ctx, text)
	if err != nil {
		return err
	}
	return notFound(st.QueryRowContext(ctx, args...).Scan(into...))
}

// rows runs a query and calls each for every row.
func (s *Store) rows(ctx context.Context, text string, args []any, each func(scan func(...any) error) error) error {
	st, err := s.read.get(ctx, text)
	if err != nil {
		return err
	}
	return eachRow(ctx, st, args, each)
}

func eachRow(ctx context.Context, st *sql.Stmt, args []any, each func(scan func(...any) error) error) error {
	rows, err := st.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// full marks an error that says that the disk is full.
func full(err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code()&0xff == sqlite3.SQLITE_FULL {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

func orElse(v, standard int) int {
	if v <= 0 {
		return standard
	}
	return v
}
