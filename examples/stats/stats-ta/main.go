// SPDX-License-Identifier: Apache-2.0

// Command stats-ta is an example of a TA: it answers statistical questions over a table of personal records that its owner
// releases to it, and nothing that would show a single record.
//
// It shows all that a TA has to know of Sealift: it serves on the Unix socket SEALIFT_LISTEN, and finds the released data
// (PD) in the directory SEALIFT_PD, which lies in TEE memory. TLS has ended before the bytes reach the socket. One line is
// one question; the answer is a few lines and an empty one.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sealift/examples/stats/table"
)

// Limits on one caller.
const (
	maxQuestion   = 4096
	maxInput      = 1 << 20
	maxCallers    = 64
	callerTimeout = 30 * time.Second
)

func main() {
	fmt.Fprintln(os.Stderr, "stats-ta:", serve(os.Getenv("SEALIFT_LISTEN"), os.Getenv("SEALIFT_PD")))
	os.Exit(1)
}

// serve answers callers until something is wrong. It does not end otherwise: the Agent ends it.
func serve(socket, pd string) error {
	if socket == "" || pd == "" {
		return errors.New("SEALIFT_LISTEN and SEALIFT_PD must be set: this program is started by a TEEP Agent")
	}
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	data := &source{dir: pd}
	slots := make(chan struct{}, maxCallers)
	for {
		slots <- struct{}{}
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { <-slots }()
			defer conn.Close()
			answer(conn, data)
		}()
	}
}

// answer serves one caller: question by question, until it closes its half of the connection.
func answer(conn net.Conn, data *source) {
	limited := io.LimitReader(conn, maxInput)
	in := bufio.NewScanner(limited)
	in.Buffer(make([]byte, maxQuestion), maxQuestion)
	for {
		_ = conn.SetDeadline(time.Now().Add(callerTimeout))
		if !in.Scan() {
			if errors.Is(in.Err(), bufio.ErrTooLong) {
				fmt.Fprintf(conn, "error: a question has at most %d bytes\n\n", maxQuestion)
				_, _ = io.Copy(io.Discard, limited) // closing with unread input would take the answer back
			}
			return
		}
		if in.Text() == "" {
			continue
		}
		text, err := reply(in.Text(), data)
		switch {
		case errors.Is(err, table.ErrTooSmall):
			text = err.Error() + "\n"
		case err != nil:
			text = fmt.Sprintf("error: %v\n", err)
		}
		if _, err := io.WriteString(conn, text+"\n"); err != nil {
			return
		}
	}
}

func reply(line string, data *source) (string, error) {
	q, err := table.ParseQuestion(line)
	if err != nil {
		return "", err
	}
	t, err := data.table()
	if err != nil {
		return "", err
	}
	a, err := t.Answer(q)
	if err != nil {
		return "", err
	}
	return a.String(), nil
}

// source holds the released table. The PD arrives after the TA has started, and a newer one may replace it, so the
// directory is looked at before each answer.
type source struct {
	dir string

	mu     sync.Mutex
	loaded *table.Table
	stamp  string
}

func (s *source) table() (*table.Table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := filepath.Glob(filepath.Join(s.dir, "*.csv"))
	if err != nil || len(files) == 0 {
		return nil, errors.New("the owner has not released any data to this TA yet")
	}
	f, err := os.Open(files[0])
	if err != nil {
		return nil, errors.New("the released data cannot be opened")
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, errors.New("the released data cannot be read")
	}
	stamp := fmt.Sprint(files[0], st.Size(), st.ModTime().UnixNano())
	if s.loaded != nil && s.stamp == stamp {
		return s.loaded, nil
	}
	t, err := table.Read(f)
	if err != nil {
		return nil, err
	}
	s.loaded, s.stamp = t, stamp
	return t, nil
}
