// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sealift/internal/platform"
	"sealift/internal/platform/packet"
)

const (
	maxConnections = 32
	requestTime    = 5 * time.Second // for a Broker to send its request, and to take the answer
)

// Serve plays the hardware whose state lies in dir, for Brokers that connect to socket, until ctx ends. Then all its instances
// are killed; they are known, and their secrets are there, when it is called again with the same dir. The program that calls it
// MUST have called sandbox.Init first in main.
func Serve(ctx context.Context, dir, socket string, o Options) error {
	o = o.withDefaults()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m, err := openMachine(ctx, dir, o)
	if err != nil {
		return err
	}
	defer m.stopAll()
	l, err := packet.Listen(socket)
	if err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	m.log.Info("EMULATED hardware serves", "hardware", o.Hardware, "root", fmt.Sprintf("%x", m.device.root))
	if o.Ready != nil {
		o.Ready(m.info())
	}
	err = m.accept(ctx, l)
	cancel()
	return err
}

// accept serves connections until ctx ends, and returns when the last one is done.
func (m *machine) accept(ctx context.Context, l net.Listener) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	slots := make(chan struct{}, maxConnections)
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("emulator: %w", err)
		case err != nil: // out of descriptors, for example: it passes
			m.log.Warn("accepting a connection", "error", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		slots <- struct{}{}
		serving.Go(func() {
			defer func() { <-slots }()
			m.serveConn(conn.(*net.UnixConn))
		})
	}
}

// serveConn answers the one request of a connection.
func (m *machine) serveConn(raw *net.UnixConn) {
	conn := packet.New(raw)
	defer conn.Close()
	if err := checkPeer(raw); err != nil {
		m.log.Warn("connection refused", "error", err)
		return
	}
	var r request
	files, err := conn.Receive(&r, requestTime)
	defer closeAll(files)
	var a answer
	var give []*os.File
	if err == nil {
		a, give, err = m.handle(r, files)
		defer closeAll(give)
	} else if errors.Is(err, packet.ErrMalformed) {
		err = fmt.Errorf("%w: %w", platform.ErrInvalid, err)
	} else {
		return
	}
	if err != nil {
		a = refuse(err)
	}
	if err := conn.Send(a, requestTime, give...); err != nil {
		m.log.Warn("answering the Broker", "error", err)
	}
}

// handle does what a request says. The files that it returns belong to the answer.
func (m *machine) handle(r request, files []*os.File) (answer, []*os.File, error) {
	if want := map[op]int{opLaunch: 1}[r.Op]; len(files) != want && (r.Op != opLaunch || len(files) != 2) {
		return answer{}, nil, fmt.Errorf("%w: %d files came with the request, not %d", platform.ErrInvalid, len(files), want)
	}
	switch r.Op {
	case opInfo:
		i := m.info()
		return answer{Info: &wireInfo{
			Hardware: string(i.Hardware), InstanceTypes: i.InstanceTypes, Lacks: i.Lacks, Capacity: i.Capacity, Root: i.RootFingerprint,
		}}, nil, nil
	case opLaunch:
		return answer{}, nil, m.launch(r.ID, files, r.Config, platform.Limits(r.Limits))
	case opAttach:
		channel, err := m.attach(r.ID)
		if err != nil {
			return answer{}, nil, err
		}
		return answer{}, []*os.File{channel}, nil
	case opStop:
		return answer{}, nil, m.stop(r.ID)
	case opDestroy:
		return answer{}, nil, m.destroy(r.ID)
	case opList:
		return answer{Instances: m.list()}, nil, nil
	}
	return answer{}, nil, fmt.Errorf("%w: unknown request %d", platform.ErrInvalid, r.Op)
}

// checkPeer lets in the user that runs the emulator, and root. The socket's mode says the same; this is for a folder on which modes
// mean nothing.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return errors.Join(err, credErr)
	}
	if int(cred.Uid) != os.Geteuid() && cred.Uid != 0 {
		return fmt.Errorf("emulator: user %d is neither the one that runs the emulator nor root", cred.Uid)
	}
	return nil
}
