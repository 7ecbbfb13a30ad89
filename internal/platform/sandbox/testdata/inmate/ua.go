// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// uas are the verbs of an inmate that is a UA: they serve, and end with an error only.
var uas = map[string]func([]string) error{
	"serve":  func(a []string) error { return serve(a[0], func(c net.Conn) { lines(c, c) }) },
	"relay":  relay,
	"myname": func([]string) error { fmt.Println(os.Args[0]); time.Sleep(time.Hour); return nil },
}

// serve hands each connection to one.
func serve(addr string, one func(net.Conn)) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		one(c)
		c.Close()
	}
}

// relay passes connections on to the TA. With a further word it asks for its TA first, and serves only when it has its answer, as a
// careless UA would.
func relay(a []string) error {
	if len(a) > 1 {
		c, err := net.Dial("unix", os.Getenv("SEALIFT_REQUEST_TA"))
		if err != nil {
			return err
		}
		if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "requested") {
			return errors.New("no answer")
		}
	}
	return serve(a[0], func(c net.Conn) {
		ta, err := net.Dial("unix", os.Getenv("SEALIFT_TA"))
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(ta, c); _ = ta.(*net.UnixConn).CloseWrite() }()
		_, _ = io.Copy(c, ta)
	})
}
