// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"io"
	"testing"

	"sealift/internal/delivery"
)

// TestDelivery: after an owner has delivered something, the TAM hears of it, also one that is away at that time; after a session in which
// nothing came, there is nothing to say.
func TestDelivery(t *testing.T) {
	m, tee := newFakeMOC(t), &fakeTEE{instances: map[string]*fakeAgent{}}
	b, _ := start(t, m, tee, t.TempDir())
	m.want(1, "d1")
	sessions := func() int { _, n := m.state(); return n }
	eventually(t, "a session", func() bool { return sessions() == 1 })
	deliver := func(data string) {
		t.Helper()
		conn, err := b.connect(t.Context(), "d1", "app", delivery.Suffix)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, data)
		_ = closeWrite(conn)
		if got, err := io.ReadAll(conn); err != nil || string(got) != data {
			t.Fatalf("%q, %v", got, err)
		}
		conn.Close()
		conn.Close() // once is enough
	}
	deliver("")
	deliver("a package")
	eventually(t, "a session after a delivery", func() bool { return sessions() == 2 })
	m.setDown(true)
	deliver("another")
	m.setDown(false)
	eventually(t, "a session when the M/OC is back", func() bool { return sessions() >= 3 })
}
