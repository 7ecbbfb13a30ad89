// SPDX-License-Identifier: Apache-2.0

package hw_test

import (
	"errors"
	"io"
	"net"
	"testing"

	"sealift/internal/platform/hw"
	"sealift/internal/platform/serial"
)

// TestSerial: the interface over two ports does what the one over a socket pair does: answers, channels that supersede each
// other, and its end.
func TestSerial(t *testing.T) {
	guestHW, hostHW := net.Pipe()
	guestChannel, hostChannel := net.Pipe()
	messages, line := serial.NewMessages(hostHW), serial.NewLine(hostChannel)
	first := make(chan bool, 1)
	go func() {
		alive, err := messages.Receive(&hw.Request{})
		first <- alive && err == nil
		for {
			var q hw.Request
			alive, err := messages.Receive(&q)
			if err != nil {
				return
			}
			if alive {
				continue
			}
			a := hw.Answer{ID: q.ID, Counter: 9}
			if q.Op == hw.OpSealingKey {
				a = hw.Answer{ID: q.ID, Code: hw.CodeRefused, Text: "no"}
			}
			if messages.Send(a) != nil {
				return
			}
		}
	}()
	tee, err := hw.OpenSerial(guestHW, guestChannel)
	if err != nil {
		t.Fatal(err)
	}
	defer tee.Close()
	if !<-first {
		t.Error("the first thing sent is no sign of life")
	}
	if n, err := tee.Counter(); n != 9 || err != nil {
		t.Error(n, err)
	}
	if _, err := tee.SealingKey("x"); !errors.Is(err, hw.ErrRefused) {
		t.Error(err)
	}
	var current net.Conn
	for _, text := range []string{"the first", "the second"} {
		broker, given := net.Pipe()
		defer broker.Close()
		if err := line.Open(given); err != nil {
			t.Fatal(err)
		}
		conn := <-tee.Channels()
		if current != nil {
			if _, err := current.Read(make([]byte, 1)); err == nil {
				t.Error("the superseded channel is open")
			}
		}
		current = conn
		go func() { _, _ = io.WriteString(broker, text) }()
		got := make([]byte, len(text))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
		go func() { _, _ = io.WriteString(conn, text) }()
		if _, err := io.ReadFull(broker, got); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	messages.Close()
	if _, ok := <-tee.Channels(); ok {
		t.Error("a channel from nowhere")
	}
	if _, err := tee.Counter(); !errors.Is(err, hw.ErrGone) {
		t.Error(err)
	}
}
