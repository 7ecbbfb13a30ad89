// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"sealift/internal/agentconfig"
	"sealift/usecase"
)

// desk asks at the owner's desk, as a caller who holds as (nil: no client certificate).
func (w *world) desk(as *tls.Certificate, request string) (string, error) {
	conn, err := w.client.Connect(w.t.Context(), "app", "ta"+agentconfig.DeskSuffix)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{agentconfig.DeskALPN}}
	if as != nil {
		config.Certificates = []tls.Certificate{*as}
	}
	c := tls.Client(conn, config)
	if _, err := io.WriteString(c, request+"\n"); err != nil {
		return "", err
	}
	data, err := io.ReadAll(c)
	return string(data), err
}

// TestDesk: what a TA prints and takes is told to its owner, whoever else may call the TA, and to nobody else.
func TestDesk(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	ta := w.program(usecase.TA, 1, "echo v1", anyone)
	w.succeeds(w.update(ta), 1)
	w.succeeds(w.update(w.data(1, "secret rows", w.claim().EncKey, ta)), 1)
	owner := certificate(t, w.ownerKey, w.ownerKey.Public())
	eventually(t, func() bool {
		got, err := w.desk(owner, `{"get":"logs"}`)
		return err == nil && strings.Contains(got, "serving echo v1 rows=secret rows")
	})
	got, err := w.desk(owner, `{"get":"usage"}`)
	var u agentconfig.DeskReport
	if err != nil || json.Unmarshal([]byte(got), &u) != nil || u.State != "running" || u.PDFiles != 1 || u.PDBytes != int64(len("secret rows")) {
		t.Fatalf("%q, %v", got, err)
	}
	_, strange := newSigner(t, w.owner.Algorithm())
	for name, as := range map[string]*tls.Certificate{"nobody": nil, "a stranger": certificate(t, strange, strange.Public())} {
		if got, err := w.desk(as, `{"get":"logs"}`); err == nil || got != "" {
			t.Errorf("%s gets %q", name, got)
		}
	}
	for _, bad := range []string{"", "{", `{"get":"pd"}`, strings.Repeat("x", 8<<10)} {
		if got, _ := w.desk(owner, bad); got != "" {
			t.Errorf("%.20q is answered with %q", bad, got)
		}
	}
}
