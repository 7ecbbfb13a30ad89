// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ree

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sealift/internal/channel"
	"sealift/internal/launch"
	"sealift/internal/supervise"
)

// maxSocketPath is the room for a path in a Unix socket's address, less its closing NUL.
const maxSocketPath = 107

// ua is one untrusted application. mu serialises what is done to it; published is for readers that must not wait.
type ua struct {
	host *Host
	key  key

	mu      sync.Mutex
	encoded []byte      // launch parameters it was started with
	info    os.FileInfo // the program file it was started from
	proc    *supervise.Process
	relay   *relay
	ask     *relay

	published atomic.Pointer[running]
}

// running is what Status shows of a started program.
type running struct {
	proc  *supervise.Process
	ports map[string]string
}

func (u *ua) order() string { return u.key.instance + "\x00" + u.key.app + "\x00" + u.key.name }

// begin starts the program and its relay. The caller holds mu and has called halt.
func (u *ua) begin(encoded []byte) error {
	spec, err := launch.Parse(encoded)
	if err != nil {
		return fmt.Errorf("%w: %w", channel.ErrRefused, err)
	}
	program := u.host.store.path(u.key, programFile)
	if u.info, err = os.Stat(program); err != nil {
		return classify(err)
	}
	ports, err := u.ports(spec.Ports)
	if err != nil {
		return err
	}
	if u.relay, err = u.listen("ta", u.connect); err != nil {
		return err
	}
	if u.ask, err = u.listen("ask", u.request); err != nil {
		u.halt()
		return err
	}
	vars, addrs := u.variables(spec, ports)
	env := []string{"PATH=/", "HOME=" + insideWork}
	for name, value := range vars {
		env = append(env, "SEALIFT_"+name+"="+value)
	}
	var listen []string
	for _, p := range spec.Ports {
		listen = append(listen, addrs[p.Name])
	}
	start, err := u.confined(spec, launch.Expand(spec.Args, vars), append(env, spec.Env...), ports)
	if err != nil {
		u.halt()
		return err
	}
	u.encoded = encoded
	u.proc = supervise.Start(supervise.Spec{
		Name: u.key.id().String(), Start: start, Log: u.host.store.path(u.key, logFile), Listen: listen, Restart: spec.Restart,
	})
	u.published.Store(&running{proc: u.proc, ports: addrs})
	return nil
}

// halt ends the program and its relay. The caller holds mu.
func (u *ua) halt() {
	u.published.Store(nil)
	if u.proc != nil {
		u.proc.Stop()
		u.proc = nil
	}
	for _, r := range []**relay{&u.relay, &u.ask} {
		if *r != nil {
			(*r).close()
			*r = nil
		}
	}
}

func (u *ua) status() (Status, bool) {
	run := u.published.Load()
	if run == nil {
		return Status{}, false
	}
	st := run.proc.Status()
	return Status{
		Component: u.key.id(), Running: st.Running, PID: st.PID, Restarts: st.Restarts, Error: st.Error,
		Ports: maps.Clone(run.ports),
	}, true
}

// variables returns what ${...} and SEALIFT_... stand for, and the published addresses by name.
func (u *ua) variables(spec launch.Spec, ports map[string]int) (vars, addrs map[string]string) {
	host := u.host.cfg.PublishOn
	vars = map[string]string{"TA": insideTA, "REQUEST_TA": insideAsk, "HOST": host}
	addrs = map[string]string{}
	for i, p := range spec.Ports {
		number := strconv.Itoa(ports[p.Name])
		if i == 0 {
			vars["PORT"] = number
		}
		vars[launch.PortVar(p.Name)] = number
		addrs[p.Name] = net.JoinHostPort(host, number)
	}
	return vars, addrs
}

// ports chooses the numbers of the published ports. A number once chosen is kept for as long as it is free, so that callers
// find a UA again after a restart of the Broker.
func (u *ua) ports(wanted []launch.Port) (map[string]int, error) {
	before := map[string]int{}
	if data, err := os.ReadFile(u.host.store.path(u.key, portsFile)); err == nil {
		_ = json.Unmarshal(data, &before) // a damaged file only costs the old numbers
	}
	ports := map[string]int{}
	var held []net.Listener
	defer func() {
		for _, ln := range held {
			ln.Close()
		}
	}()
	for _, p := range wanted {
		tries := []int{int(p.Port)}
		if p.Port == 0 && before[p.Name] != 0 {
			tries = []int{before[p.Name], 0}
		}
		ln, err := u.reserve(tries)
		if err != nil {
			return nil, fmt.Errorf("%w: port %q: %w", channel.ErrBusy, p.Name, err)
		}
		held = append(held, ln)
		ports[p.Name] = ln.Addr().(*net.TCPAddr).Port
	}
	if maps.Equal(ports, before) {
		return ports, nil
	}
	data, err := json.Marshal(ports)
	if err != nil {
		return nil, err
	}
	return ports, u.host.store.put(u.key, portsFile, data)
}

// reserve binds the first free number of tries, so that two ports chosen together differ.
func (u *ua) reserve(tries []int) (net.Listener, error) {
	var last error
	for _, n := range tries {
		ln, err := net.Listen("tcp", net.JoinHostPort(u.host.cfg.PublishOn, strconv.Itoa(n)))
		if err == nil {
			return ln, nil
		}
		last = err
	}
	return nil, last
}

// connect carries one connection of the UA to the TLS endpoint of its TA.
func (u *ua) connect(ctx context.Context, conn net.Conn) {
	if err := u.host.cfg.TA(ctx, u.key.instance, u.key.app, taName, conn); err != nil && ctx.Err() == nil {
		u.host.cfg.Log.Warn("a connection to a TA has failed", "instance", u.key.instance, "app", u.key.app,
			"error", strings.TrimSpace(err.Error()))
	}
}

// requestNoted is what a UA is told that has asked for its TA. That the TA is there, it learns by connecting to it.
const requestNoted = "requested\n"

// request takes the UA's request for its TA (RFC 9397 section 6.2.1, RequestTA): the connection itself is the request, so that nothing
// has to be parsed. It is answered before it is passed on: the Agent may be waiting for this very UA to serve its ports.
func (u *ua) request(ctx context.Context, conn net.Conn) {
	if u.host.cfg.Request != nil {
		u.host.cfg.Request(ctx, u.key.instance, u.key.app, taName)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(conn, requestNoted)
}

// taName is the last segment of the identifier of the TA of a UA's application.
const taName = "ta"

// relay is a Unix socket through which a UA reaches its TA, or asks for it.
type relay struct {
	path   string
	dir    string // to be removed with it; empty within the state folder
	ln     net.Listener
	cancel context.CancelFunc
	done   chan struct{}
}

// listen opens a socket whose connections are served by serve. Its address must be short, so it is named by a hash, and where the state
// folder itself is too deep it lies in a folder for temporary files.
func (u *ua) listen(purpose string, serve func(context.Context, net.Conn)) (*relay, error) {
	sum := fnv.New64a()
	sum.Write([]byte(u.order() + "\x00" + purpose))
	dir, own := filepath.Join(u.host.cfg.Dir, "s"), ""
	path := filepath.Join(dir, hex.EncodeToString(sum.Sum(nil)))
	if len(path) > maxSocketPath {
		tmp, err := os.MkdirTemp("", "sealift-")
		if err != nil {
			return nil, classify(err)
		}
		dir, own, path = tmp, tmp, filepath.Join(tmp, purpose)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, classify(err)
	}
	_ = os.Remove(path) // left by a Broker that was killed; the lock on the state folder says that it is gone
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, classify(err)
	}
	if err := os.Chmod(path, 0o666); err != nil { // the UA's user is another one; nobody else gets through the folder
		ln.Close()
		return nil, classify(err)
	}
	ctx, cancel := context.WithCancel(u.host.ctx)
	r := &relay{path: path, dir: own, ln: ln, cancel: cancel, done: make(chan struct{})}
	go r.serve(ctx, u.host.cfg.MaxPerTA, serve)
	return r, nil
}

// serve hands each connection to one, most of them at a time.
func (r *relay) serve(ctx context.Context, most int, one func(context.Context, net.Conn)) {
	defer close(r.done)
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, most)
	for {
		conn, err := r.ln.Accept()
		if err != nil {
			return
		}
		select {
		case slots <- struct{}{}:
		default: // the UA asks for more than one TA can serve: it is told by a closed connection
			conn.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			one(ctx, conn)
		})
	}
}

func (r *relay) close() {
	r.cancel()
	r.ln.Close()
	<-r.done
	if r.dir != "" {
		os.RemoveAll(r.dir)
	}
}
