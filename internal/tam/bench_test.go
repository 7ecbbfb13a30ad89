// SPDX-License-Identifier: Apache-2.0

package tam_test

import (
	"testing"
	"time"

	"sealift/usecase"
)

// BenchmarkSession is the TAM's side of a session with a known Agent that lists nothing: QueryRequest, QueryResponse, Update,
// Success. The Agent's side is not counted.
func BenchmarkSession(b *testing.B) {
	w := newWorld(b, usecase.ModeTAPD, "")
	w.session()
	b.ReportAllocs()
	for b.Loop() {
		query := w.connect()
		b.StopTimer()
		w.clock = w.clock.Add(time.Millisecond)
		w.agent.installed, w.agent.received = nil, nil
		response := w.agent.process(query)
		b.StartTimer()
		update := w.send(response)
		b.StopTimer()
		success := w.agent.process(update)
		b.StartTimer()
		if w.send(success) != nil {
			b.Fatal("the session does not end")
		}
	}
}

// BenchmarkConnect is an empty POST.
func BenchmarkConnect(b *testing.B) {
	w := newWorld(b, usecase.ModeTAPD, "")
	w.session()
	b.ReportAllocs()
	for b.Loop() {
		w.connect()
	}
}
