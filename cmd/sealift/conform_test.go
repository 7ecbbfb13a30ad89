// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealift/cose"
	"sealift/internal/conform"
	"sealift/internal/conform/agenttest"
	"sealift/teep/teephttp"
)

// TestConformAgent: the verb serves a TAM URI, our Agent's Broker comes, and the table says that everything is kept.
func TestConformAgent(t *testing.T) {
	dir := t.TempDir()
	key, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tam, err := cose.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := cose.MarshalPrivatePEM(key)
	if err != nil {
		t.Fatal(err)
	}
	agent := agenttest.New(t, "http://tam.invalid/d1", []*cose.Key{tam.Key()}, tam)
	for name, data := range map[string][]byte{"tam.pem": pem, "ua.suit": agent.Manifest} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var stdout, stderr bytes.Buffer
	ended := make(chan int, 1)
	ready := filepath.Join(dir, "ready")
	go func() {
		ended <- run(ctx, []string{"conform", "agent", "--json", "--tam-key", filepath.Join(dir, "tam.pem"), "--manifest", filepath.Join(dir, "ua.suit"),
			"--ready-file", ready, "--patience", "20s"}, strings.NewReader(""), &stdout, &stderr)
	}()
	for {
		select {
		case code := <-ended:
			var report conform.Report
			if err := json.Unmarshal(stdout.Bytes(), &report); err != nil || code != 0 || !report.OK() || report.NotApplicable > 0 {
				t.Fatalf("exit code %d, %v, %d failed\n%s", code, err, report.Failed, stderr.String())
			}
			return
		default:
		}
		if uri, err := os.ReadFile(ready); err == nil {
			_ = new(teephttp.Client).Session(ctx, strings.TrimSpace(string(uri)), agent, nil) // messages without answer end sessions
			continue
		}
		time.Sleep(time.Millisecond) // no file yet; there is nothing else to wait for
	}
}
