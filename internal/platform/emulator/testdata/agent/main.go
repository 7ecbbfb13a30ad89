// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command agent is a TEEP Agent for the tests of the platform: it does what the test at the other end of its channel says, one
// JSON object a line.
package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sealift/internal/platform/guest"
	"sealift/internal/platform/hw"
	"sealift/internal/platform/sandbox"
	"sealift/internal/platform/serial"
)

// Order and Report are the protocol of the test.
type Order struct {
	Do     string
	Arg    string
	Number uint64
}

type Report struct {
	Error  string   `json:",omitempty"`
	Text   string   `json:",omitempty"`
	Number uint64   `json:",omitempty"`
	Data   []byte   `json:",omitempty"`
	Chain  [][]byte `json:",omitempty"`
	Info   *hw.Info `json:",omitempty"`
}

func main() {
	sandbox.Init()
	tee, err := open()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, "test agent is up")
	for conn := range tee.Channels() {
		go serve(tee, conn)
	}
	fmt.Fprintln(os.Stderr, "the platform is gone")
}

// store is the folder in the REE of an Agent in a virtual machine.
var store *serial.Folder

func open() (tee hw.TEE, err error) {
	if guest.Inside() {
		g, err := guest.Open()
		if err != nil {
			return nil, err
		}
		store = g.Store
		return g.TEE, nil
	}
	spare, _ = unix.FcntlInt(hw.FD, unix.F_DUPFD_CLOEXEC, 10)
	return hw.Open(hw.FD)
}

// spare is a second descriptor of the hardware interface, to misuse it with.
var spare int

func rawPacket(data []byte) error { return unix.Send(spare, data, 0) }

func serve(tee hw.TEE, conn net.Conn) {
	in, out := json.NewDecoder(conn), json.NewEncoder(conn)
	for {
		var o Order
		if in.Decode(&o) != nil {
			return
		}
		var r Report
		if err := obey(tee, o, &r); err != nil {
			r.Error = err.Error()
		}
		if out.Encode(r) != nil {
			return
		}
	}
}

func obey(tee hw.TEE, o Order, r *Report) (err error) {
	switch o.Do {
	case "info":
		info, err := tee.Info()
		r.Info = &info
		return err
	case "evidence":
		b, err := hex.DecodeString(o.Arg)
		if err != nil {
			return err
		}
		e, err := tee.Evidence(context.Background(), [64]byte(b))
		r.Data, r.Chain, r.Text = e.Token, e.Chain, e.MediaType
		return err
	case "key":
		key, err := tee.SealingKey(o.Arg)
		r.Data = key[:]
		return err
	case "counter":
		r.Number, err = tee.Counter()
	case "increment":
		r.Number, err = tee.Increment(o.Number)
	case "raw": // what no client of package hw would send
		data, err := hex.DecodeString(o.Arg)
		if err != nil {
			return err
		}
		return rawPacket(data)
	case "exit":
		os.Exit(int(o.Number))
	case "give-up":
		err = tee.Close()
	case "hang":
		time.Sleep(time.Hour)
	case "read":
		r.Data, err = os.ReadFile(o.Arg)
	case "write":
		name, data, _ := strings.Cut(o.Arg, "=")
		err = os.WriteFile(name, []byte(data), 0o600)
	case "fill": // so many MiB
		f, err := os.Create(o.Arg)
		if err != nil {
			return err
		}
		mib := make([]byte, 1<<20)
		for range o.Number {
			if _, err = f.Write(mib); err != nil {
				break
			}
		}
		return errors.Join(err, f.Close())
	case "store-write":
		name, data, _ := strings.Cut(o.Arg, "=")
		f, err := store.Create(name)
		if err != nil {
			return err
		}
		_, err = io.WriteString(f, data)
		return errors.Join(err, f.Sync(), f.Close(), store.SyncDir("."))
	case "store-read":
		f, err := store.Open(o.Arg)
		if err != nil {
			return err
		}
		r.Data, err = io.ReadAll(f)
		return errors.Join(err, f.Close())
	case "ls":
		r.Text, err = list(o.Arg)
	case "print":
		for range o.Number {
			fmt.Println(o.Arg)
		}
	case "ta":
		r.Text, err = runTA(o.Arg)
	}
	return err
}

func list(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " "), err
}

// runTA starts the program called ta in the store in a sandbox of its own.
func runTA(args string) (string, error) {
	var f io.ReadCloser
	var err error
	data := "/store"
	if store != nil {
		f, err = store.Open("ta")
		data = "/lib" // of the guest
	} else {
		f, err = os.Open("/store/ta")
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	program, _, err := sandbox.SealedMemfd("ta", io.Reader(f))
	if err != nil {
		return "", err
	}
	defer program.Close()
	var out bytes.Buffer
	cmd := sandbox.Command(context.Background(), sandbox.Spec{
		Program: program, Args: strings.Fields(args), Hostname: "ta",
		ReadOnly: []sandbox.Bind{{Source: data, Target: "/pd"}},
		Limits:   sandbox.Limits{Processes: 64},
	})
	cmd.Stdin = strings.NewReader("nokia\n")
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}
