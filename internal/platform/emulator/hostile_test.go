// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emulator_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sealift/cose"
	"sealift/internal/image"
	"sealift/internal/platform"
	"sealift/internal/platform/emulator"
	"sealift/internal/sharedtest"
)

// TestBadLaunches guards what the Broker can ask for, and that a refusal leaves nothing.
func TestBadLaunches(t *testing.T) {
	dir := t.TempDir()
	w := serve(t, dir, emulator.Options{Capacity: 2})
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	agent := agentPath(t)
	for _, id := range []string{"", ".", "..", "../x", "a/b", "-a", "a\x00b", "a b", strings.Repeat("a", 65), "ä"} {
		wantErr(t, w.tryLaunch(id, agent, "c", platform.Limits{}), platform.ErrInvalid)
	}
	wantErr(t, w.tryLaunch("x", script, "c", platform.Limits{}), platform.ErrInvalid)
	wantErr(t, w.tryLaunch("x", os.TempDir(), "c", platform.Limits{}), platform.ErrInvalid)
	wantErr(t, w.tryLaunch("x", "/dev/zero", "c", platform.Limits{}), platform.ErrInvalid)
	wantErr(t, w.tryLaunch("x", agent, strings.Repeat("c", platform.MaxConfigBytes+1), platform.Limits{}), platform.ErrInvalid)
	wantErr(t, w.driver.Launch(t.Context(), platform.Spec{ID: "x"}), platform.ErrInvalid)
	w.layer = script // a guest payload for a process
	wantErr(t, w.tryLaunch("x", agent, "c", platform.Limits{}), platform.ErrInvalid)
	for name, change := range map[string]func(*image.Image){
		"with 1 MiB of memory": func(i *image.Image) { i.MemoryMiB = 1 }, "not a guest payload": func(*image.Image) {}, "with a TPM": func(i *image.Image) { i.TPM = true },
	} {
		vm := &image.Image{Instance: image.VM, VCPUs: 1, MemoryMiB: 64}
		parts := map[string]io.Reader{}
		for _, part := range []string{image.PartKernel, image.PartInitramfs, image.PartFirmware} {
			vm.Parts, parts[part] = append(vm.Parts, image.Part{Name: part, Size: 4}), strings.NewReader("part")
		}
		change(vm)
		var out bytes.Buffer
		path := filepath.Join(t.TempDir(), "vm.img")
		if err := errors.Join(image.Write(&out, vm, parts), os.WriteFile(path, out.Bytes(), 0o600), os.WriteFile(script, make([]byte, 200<<10), 0o600)); err != nil {
			t.Fatal(err)
		}
		err := w.tryLaunch("x", path, "c", platform.Limits{})
		if wantErr(t, err, platform.ErrInvalid); !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.layer = ""
	if left, err := os.ReadDir(filepath.Join(dir, "instances")); err != nil || len(left) != 0 {
		t.Errorf("refused launches left %v (%v)", left, err)
	}
	w.launch("one", strings.Repeat("c", platform.MaxConfigBytes))
	w.launch("two", "c")
	wantErr(t, w.tryLaunch("three", agent, "c", platform.Limits{}), platform.ErrCapacity)
	if got := w.attach("one").must("info", "", 0).Info.Config; len(got) != platform.MaxConfigBytes {
		t.Errorf("the configuration has %d bytes inside", len(got))
	}
}

// TestImageChangesAfterLaunch guards that the Broker's file and the measured bytes have nothing to do with each other once the
// launch has been answered; and that a restart from changed bytes is another measurement.
func TestImageChangesAfterLaunch(t *testing.T) {
	w := serve(t, t.TempDir(), emulator.Options{})
	image, err := os.ReadFile(agentPath(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(path, image, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := w.tryLaunch("one", path, "c", platform.Limits{}); err != nil {
		t.Fatal(err)
	}
	a := w.attach("one")
	before := a.must("info", "", 0).Info.AgentDigest
	key := a.must("key", "state", 0).Data
	if err := os.WriteFile(path, append(image, 0), 0o755); err != nil { // the running image is not busy: it is a copy
		t.Fatal(err)
	}
	if a.must("info", "", 0).Info.AgentDigest != before {
		t.Error("the measurement of a running instance changed")
	}
	exitAndWait(w, a, "one")
	if err := w.tryLaunch("one", path, "c", platform.Limits{}); err != nil {
		t.Fatal(err)
	}
	a = w.attach("one")
	if a.must("info", "", 0).Info.AgentDigest == before || string(a.must("key", "state", 0).Data) == string(key) {
		t.Error("one more byte in the image changes nothing")
	}
}

// TestGarbage guards that nothing that comes over the Broker's socket can stop the emulator or an instance.
func TestGarbage(t *testing.T) {
	w := serve(t, t.TempDir(), emulator.Options{})
	w.launch("one", "c")
	a := w.attach("one")
	send := func(data []byte, files ...int) {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: w.socket})
		if err != nil {
			t.Fatalf("the emulator does not answer any more: %v", err)
		}
		defer c.Close()
		_, _, _ = c.WriteMsgUnix(data, syscall.UnixRights(files...), nil)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		buf := make([]byte, 1<<17)
		n, oobn, _, _, err := c.ReadMsgUnix(buf, make([]byte, 128))
		if err == nil && n > 0 && (oobn > 0 || buf[1] == 0) {
			t.Errorf("garbage %.40x was answered with %x", data, buf[:n])
		}
	}
	random := rand.New(rand.NewSource(1))
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	fd := int(null.Fd())
	for _, v := range []any{
		map[int]any{1: 99}, map[int]any{1: 2, 2: "one", 3: []byte("c")}, map[int]any{1: 3}, map[int]any{1: -1}, []int{1}, "text", 1,
		map[int]any{1: 3, 2: 7}, map[string]any{"op": 1},
	} {
		send(cose.MustMarshal(v))
		send(cose.MustMarshal(v), fd)
		send(cose.MustMarshal(v), fd, fd, fd, fd, fd, fd)
	}
	valid := cose.MustMarshal(map[int]any{1: 3, 2: "one"})
	send(append(append([]byte{}, valid...), 0)) // trailing byte
	send(append([]byte{0xbf}, append(valid[1:], 0xff)...))
	send(cose.MustMarshal(map[int]any{1: 2, 2: "two", 3: make([]byte, 120<<10)}), fd)
	for range 200 {
		data := make([]byte, random.Intn(300))
		random.Read(data)
		send(data)
	}
	idle, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: w.socket}) // says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	a.must("info", "", 0)
	if list, err := w.driver.List(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestHostileAgent guards that an Agent, which is whatever the Broker launched, can harm only itself.
func TestHostileAgent(t *testing.T) {
	w := serve(t, t.TempDir(), emulator.Options{})
	w.launch("good", "c")
	good := w.attach("good")
	for _, packet := range []string{"ff", "00", "a1", hex.EncodeToString(make([]byte, 1000)), "bf01ff"} {
		w.launch("bad", "c")
		bad := w.attach("bad")
		if _, err := bad.try(order{Do: "raw", Arg: packet}); err != nil {
			t.Logf("%s: %v", packet, err)
		}
		until(t, "the emulator has closed it", func() bool { return !w.state("bad").Running })
		if exit := w.state("bad").Exit; !strings.Contains(exit, "malformed") {
			t.Errorf("exit: %s", exit)
		}
	}
	w.launch("bad", "c")
	bad := w.attach("bad")
	for _, q := range []map[int]any{
		{1: 1 << 40, 2: 99}, {1: 1 << 40, 2: 2}, {1: 1 << 40, 2: 2, 3: make([]byte, 63)}, {1: 1 << 40, 2: 3},
		{1: 1 << 40, 2: 3, 4: strings.Repeat("x", 65)}, {1: 1 << 40, 2: 5, 5: 77},
	} {
		bad.must("raw", hex.EncodeToString(cose.MustMarshal(q)), 0)
	}
	bad.must("info", "", 0) // the answers to those went to nobody, and did no harm
	bad.must("print", strings.Repeat("flood", 100), 20000)
	bad.must("info", "", 0)
	if n := len(w.log.String()); n > 4<<20 {
		t.Errorf("the emulator's log has %d bytes", n)
	}
	if r := bad.do("read", "/etc/passwd", 0); r.Error == "" {
		t.Error("it reads the host's files")
	}
	if r := bad.do("read", filepath.Join(w.dir, "device.cbor"), 0); r.Error == "" {
		t.Error("it reads the device's secret")
	}
	if r := bad.do("read", filepath.Join(w.dir, "instances", "good", "record.cbor"), 0); r.Error == "" {
		t.Error("it reads the other instance's record")
	}
	good.must("info", "", 0)
	for range 64 { // nobody takes these channels away
		conn, err := w.driver.Attach(t.Context(), "bad")
		if err != nil {
			break
		}
		conn.Close()
	}
	good.must("evidence", hexBinding(3), 0)
	bad = w.attach("bad")
	go bad.try(order{Do: "give-up"})
	until(t, "an Agent without hardware is ended", func() bool { return !w.state("bad").Running })
}

// TestNestedTA guards that an Agent can run TAs, in sandboxes inside its own, and what they see.
func TestNestedTA(t *testing.T) {
	w := serve(t, t.TempDir(), emulator.Options{})
	w.launch("one", "c")
	a := w.attach("one")
	give := func(path string) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.dir, "instances", "one", "store", "ta"), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	give(taPath(t))
	if out := a.must("ta", "ta who", 0).Text; !strings.HasPrefix(out, "pid 1 uid 1000 host ta\nCapPrm: 0000000000000000\n") {
		t.Error(out)
	}
	for _, verb := range []string{"inet", "userns", "mount", "ptrace 1", "read /store/ta", "fd3", "forkbomb 400", "write /pd/x"} {
		if out := a.do("ta", "ta "+verb, 0).Text; strings.HasSuffix(out, "allowed\n") || out == "" {
			t.Errorf("%s: %.200s", verb, out)
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("busybox is missing, and CI must not skip its test (Debian: busybox-static)")
		}
		sharedtest.Missing(t, "no busybox here (Debian: busybox-static)")
	}
	give(busybox)
	a.must("write", "/store/oui.csv=08EA44,Extreme Networks\n286FB9,Nokia Shanghai Bell\n", 0)
	if out := a.must("ta", "grep -i -f /dev/stdin /pd/oui.csv", 0).Text; out != "286FB9,Nokia Shanghai Bell\n" {
		t.Errorf("busybox as TA: %q", out)
	}
}

// TestInstancesAreApart guards that two instances do not share a user of the host where the emulator can give them their own, and that
// neither finds the other.
func TestInstancesAreApart(t *testing.T) {
	w := serve(t, t.TempDir(), emulator.Options{})
	w.launch("one", "c")
	w.launch("two", "c")
	one, two := w.attach("one"), w.attach("two")
	one.must("write", "/store/f=of one", 0)
	if r := two.do("read", "/store/f", 0); r.Error == "" {
		t.Error("the stores are the same")
	}
	one.must("write", "/run/f=of one", 0)
	if r := two.do("read", "/run/f", 0); r.Error == "" {
		t.Error("the files in memory are the same")
	}
	if os.Getuid() == 0 {
		owner := func(id string) uint32 {
			st, err := os.Stat(filepath.Join(w.dir, "instances", id, "store"))
			if err != nil {
				t.Fatal(err)
			}
			return st.Sys().(*syscall.Stat_t).Uid
		}
		if owner("one") == owner("two") || owner("one") == 0 {
			t.Errorf("users %d and %d", owner("one"), owner("two"))
		}
	}
}

// TestSocketAndState guards who can come near the emulator's socket and files.
func TestSocketAndState(t *testing.T) {
	dir := t.TempDir()
	w := serve(t, dir, emulator.Options{})
	w.launch("one", "c")
	mode := func(path string) os.FileMode {
		st, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return st.Mode()
	}
	if m := mode(w.socket); m != os.ModeSocket|0o600 {
		t.Errorf("socket: %v", m)
	}
	for _, f := range []string{"device.cbor", "lock", "instances/one/record.cbor"} {
		if m := mode(filepath.Join(dir, f)); m.Perm()&0o077 != 0 {
			t.Errorf("%s: %v", f, m)
		}
	}
	err := emulator.Serve(t.Context(), dir, filepath.Join(t.TempDir(), "other"), emulator.Options{})
	if err == nil || !strings.Contains(err.Error(), "another emulator uses the state folder") {
		t.Errorf("a second emulator with the same state: %v", err)
	}
	err = emulator.Serve(t.Context(), t.TempDir(), w.socket, emulator.Options{})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second emulator on the same socket: %v", err)
	}
	wantErr(t, emulator.Serve(t.Context(), t.TempDir(), w.socket, emulator.Options{Hardware: "other"}), platform.ErrUnsupported)
	if setpriv, err := exec.LookPath("setpriv"); err == nil && os.Getuid() == 0 {
		_ = os.Chmod(w.socket, 0o777) // even so
		for d := filepath.Dir(w.socket); d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
			_ = os.Chmod(d, 0o755)
		}
		cmd := exec.Command(setpriv, "--reuid", "65534", "--regid", "65534", "--clear-groups", taPath(t), "packetdial", w.socket)
		_ = os.Chmod(filepath.Dir(taPath(t)), 0o755)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "denied") {
			t.Errorf("another user: %v, %s", err, out)
		}
	}
	w.stop()
	_, err = w.driver.Info(context.Background())
	wantErr(t, err, platform.ErrUnreachable)
	if err := os.WriteFile(filepath.Join(dir, "instances", "one", "record.cbor"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = emulator.Serve(t.Context(), dir, w.socket, emulator.Options{})
	if err == nil || !strings.Contains(err.Error(), "state folder is damaged") {
		t.Errorf("a damaged record: %v", err)
	}
}

// TestLongPaths guards that a state folder deep in the tree does not keep the socket from working.
func TestLongPaths(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	socket := filepath.Join(dir, "hw")
	go func() {
		done <- emulator.Serve(ctx, filepath.Join(dir, "state"), socket, emulator.Options{Ready: func(platform.Info) { close(ready) }})
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	if _, err := emulator.Dial(socket).Info(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket is left")
	}
}
