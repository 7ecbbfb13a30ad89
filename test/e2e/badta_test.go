// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TAs that misbehave, each in an instance of its own: the owner is told, the operator's logs stay small, the neighbours go on
// serving, and all of it can be removed.
func TestTAsThatMisbehave(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	before := devState(t, u)
	u.must("", "pack", textPackage(t, u, "neighbour", "the neighbour answers"))
	u.must("", "deploy", "--wait", "neighbour.sealift")

	sh := func(name, serve, script string) {
		u.must("", "pack", taPackage(t, u, name, serve, "sh", "-c", script))
	}
	sh("crash", "socket", "exit 7")
	sh("fault", "stdio", "echo half an answer; f() { f; }; f")
	sh("fails", "stdio", "read x; echo \"had $x\"; exit 9")
	sh("loop", "socket", "while :; do :; done")
	sh("hang", "stdio", "while :; do :; done")
	sh("flood", "socket", "yes this is more than anybody wants to read >&2")

	// Deployed at one time: a socket TA that does not listen is waited for.
	var wg sync.WaitGroup
	results := map[string]*result{"neighbour": {}}
	for name, timeout := range map[string]time.Duration{"crash": 12 * time.Second, "fault": time.Minute, "fails": time.Minute, "loop": time.Minute, "hang": time.Minute, "flood": time.Minute} {
		r := new(result)
		results[name] = r
		wg.Go(func() { *r = u.sealift("", "deploy", "--wait", "--timeout", timeout.String(), name+".sealift") })
	}
	wg.Wait()
	for name, r := range results {
		switch {
		case name == "neighbour":
		case name == "crash":
			if text := r.stdout + r.stderr; r.code == 0 || !strings.Contains(text, "the TA ends at once") || !strings.Contains(text, "tee/crash/ta") {
				t.Errorf("crash: exit %d\n%s", r.code, text)
			}
		case r.code != 0:
			t.Errorf("%s: exit %d\n%s\n%s", name, r.code, r.stdout, r.stderr)
		}
	}

	for name, want := range map[string]struct {
		code   int
		answer string
		words  string
		limit  string
	}{
		"fault": {1, "half an answer\n", "killed by signal 11", "30s"},
		"fails": {1, "had ping\n", "the TA ended with exit code 9", "30s"},
		"loop":  {3, "", "did not answer in time", "1s"},
		"hang":  {3, "", "did not answer in time", "1s"},
		"flood": {3, "", "did not answer in time", "1s"},
	} {
		r := u.sealift("ping\n", "call", "--timeout", want.limit, name)
		if r.code != want.code || r.stdout != want.answer || !strings.Contains(r.stderr, want.words) {
			t.Errorf("call %s: exit %d, want %d\n%s\n%s", name, r.code, want.code, r.stdout, r.stderr)
		}
	}
	if r := u.must("neighbour\n", "call", "neighbour"); !strings.Contains(r.stdout, "the neighbour answers") {
		t.Errorf("the neighbour answers %q", r.stdout)
	}
	logsAreSmall(t, u)
	noneDied(t, before, devState(t, u))
	for _, d := range deployments(t, u) {
		wg.Go(func() { *results[d.App] = u.sealift("", "remove", d.ID) })
	}
	wg.Wait()
	for name, r := range results {
		if r.code != 0 {
			t.Errorf("remove %s: exit %d\n%s", name, r.code, r.stderr)
		}
	}
	stillWorks(t, u)
	if t.Failed() {
		t.Log(logs(u))
	}
}

// logsAreSmall fails when a TA could fill the operator's logs, or what it printed is in them: it belongs to the owner.
func logsAreSmall(t *testing.T, u *user) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(u.home, "dev", "log", "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(fmt.Errorf("no logs: %w", err))
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 1<<20 {
			t.Errorf("%s has grown to %d bytes", filepath.Base(file), len(data))
		}
		if strings.Contains(string(data), "more than anybody wants") {
			t.Errorf("%s holds what a TA printed", filepath.Base(file))
		}
	}
}

// A TA that crashes only later is started again, and answers again, while its neighbours do not notice.
func TestTAThatCrashesLater(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.must("", "pack", statsPackage(t, u, "ta,pd"))
	u.must("", "deploy", "--wait", "stats.sealift")
	for range 3 {
		kill(t, u, inTEE("ta", "stats-ta"))
		answers(t, u, "stats")
	}
	u.must("", "remove", "stats")
	stillWorks(t, u)
}
