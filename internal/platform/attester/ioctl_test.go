// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attester

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/emmansun/gmsm/sm3"
	"golang.org/x/sys/unix"

	"sealift/evidence/csv"
	"sealift/evidence/optee"
)

// hygon is the guest driver of a CSV guest.
type hygon struct {
	t       *testing.T
	dev     *csv.Device
	version int
	silent  bool
}

func (h *hygon) Close() error { return nil }

func (h *hygon) Ioctl(request uint, arg, page []byte) (int, error) {
	if request != 0xc0104401 || len(arg) != 16 || binary.NativeEndian.Uint32(arg[8:]) != 4096 || len(page) != 4096 {
		return 0, unix.EINVAL
	}
	if sum := sm3.Sum(page[:80]); !bytes.Equal(sum[:], page[80:112]) {
		return 0, unix.EIO
	}
	if h.silent {
		return 0, nil
	}
	r := csv.Report{Version: h.version, ReportData: [64]byte(page[:64]), MNonce: [16]byte(page[64:80]), ANonce: 0x1234567}
	report, err := h.dev.Mint(rand.Reader, r)
	if err != nil {
		h.t.Error(err)
		return 0, unix.EIO
	}
	if h.version == 2 {
		report = report[20:] // the vendor's tools make the wrapper, not the driver
	}
	clear(page)
	copy(page, report)
	return 0, nil
}

// TestCSV guards the request that the driver gets, and that reports of both versions verify.
func TestCSV(t *testing.T) {
	pki, err := csv.NewPKI(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := pki.NewDevice(rand.Reader, "TEST0001")
	if err != nil {
		t.Fatal(err)
	}
	h := &hygon{t: t, dev: dev, version: 1}
	m := nothing(t)
	m.Open = func(path string) (Device, error) {
		if strings.HasSuffix(path, "dev/csv-guest") {
			return h, nil
		}
		return nil, fs.ErrNotExist
	}
	a, p, err := Open(t.Context(), m)
	if err != nil || p.Hardware != "csv" {
		t.Fatal(p, err)
	}
	for version := 1; version <= 2; version++ {
		h.version = version
		e, err := a.Evidence(t.Context(), binding, [32]byte{})
		if err != nil || e.MediaType != MediaTypeCSV {
			t.Fatal(e.MediaType, err)
		}
		v, err := csv.Verify(e.Token, dev.Chain, time.Now(), pki.Root)
		if err != nil || v.Report.Version != version || v.Report.ReportData != binding {
			t.Errorf("version %d: %v", version, err)
		}
	}
	h.silent = true
	if _, err := a.Evidence(t.Context(), binding, [32]byte{}); !errors.Is(err, ErrDevice) {
		t.Error(err)
	}
}

// opTEE is the TEE driver with OP-TEE behind it. Memory is shared by a memory file, as the driver shares it.
type opTEE struct {
	t      *testing.T
	dev    *optee.Device
	shm    *os.File
	impl   uint32
	refuse uint32 // code with which sessions are refused
	calls  []uint32
	open   int
}

func (o *opTEE) Close() error { return nil }

func (o *opTEE) Ioctl(request uint, arg, buf []byte) (int, error) {
	switch request {
	case 0x800ca400:
		binary.NativeEndian.PutUint32(arg, o.impl)
	case 0xc010a401:
		fd, err := unix.MemfdCreate("shm", 0)
		if err != nil || unix.Ftruncate(fd, int64(binary.NativeEndian.Uint64(arg))) != nil {
			return 0, unix.ENOMEM
		}
		own, _ := unix.Dup(fd)
		o.shm = os.NewFile(uintptr(own), "shm")
		binary.NativeEndian.PutUint32(arg[12:], 7)
		return fd, nil
	case 0x8010a402:
		if !bytes.Equal(buf[:16], opteeUUID) {
			return 0, unix.EINVAL
		}
		o.open++
		binary.NativeEndian.PutUint32(buf[40:], 99)
		binary.NativeEndian.PutUint32(buf[44:], o.refuse)
	case 0x8010a403:
		if binary.NativeEndian.Uint32(buf[4:]) != 99 {
			return 0, unix.EINVAL
		}
		binary.NativeEndian.PutUint32(buf[12:], o.invoke(binary.NativeEndian.Uint32(buf), buf[24:]))
	case 0x8004a405:
		o.open--
	default:
		return 0, unix.ENOTTY
	}
	return 0, nil
}

// put writes an output parameter.
func (o *opTEE) put(param, data []byte) {
	if binary.NativeEndian.Uint64(param) != 6 || binary.NativeEndian.Uint64(param[24:]) != 7 {
		o.t.Error("a parameter that is no output of the shared memory")
	}
	if _, err := o.shm.WriteAt(data, int64(binary.NativeEndian.Uint64(param[8:]))); err != nil {
		o.t.Error(err)
	}
	binary.NativeEndian.PutUint64(param[16:], uint64(len(data)))
}

func (o *opTEE) invoke(command uint32, params []byte) (code uint32) {
	o.calls = append(o.calls, command)
	switch command {
	case 0:
		key := o.dev.Key().Public
		o.put(params, []byte{byte(key.E >> 24), byte(key.E >> 16), byte(key.E >> 8), byte(key.E)})
		o.put(params[32:], key.N.Bytes())
		binary.NativeEndian.PutUint64(params[64+8:], 0x70414930)
	case 3:
		nonce := make([]byte, binary.NativeEndian.Uint64(params[16:]))
		if _, err := o.shm.ReadAt(nonce, int64(binary.NativeEndian.Uint64(params[8:]))); err != nil {
			o.t.Error(err)
		}
		out, err := o.dev.Invoke(rand.Reader, optee.TEEMemory, nonce, sha256.Sum256([]byte("the core")))
		if err != nil {
			o.t.Error(err)
		}
		o.put(params[32:], append(out.Digest[:], out.Signature...))
	default:
		return 0xffff0006
	}
	return 0
}

// TestOPTEE guards the ioctls to the attestation PTA: the output verifies with the device's key, and no verifier takes it for
// the Evidence of an Agent.
func TestOPTEE(t *testing.T) {
	dev, err := optee.NewDevice(rand.Reader, "test")
	if err != nil {
		t.Fatal(err)
	}
	o := &opTEE{t: t, dev: dev, impl: 1}
	m := nothing(t)
	m.Open = func(path string) (Device, error) {
		if strings.HasSuffix(path, "dev/tee0") {
			return o, nil
		}
		return nil, fs.ErrNotExist
	}
	a, p, err := Open(t.Context(), m)
	if err != nil || p.Hardware != "trustzone" {
		t.Fatal(p, err)
	}
	config := sha256.Sum256([]byte("config"))
	e, err := a.Evidence(context.Background(), binding, config)
	if err != nil {
		t.Fatal(err)
	}
	r, err := optee.Parse(e.Token)
	if err != nil || r.Key != dev.Key().Fingerprint() || r.Binding != binding {
		t.Fatal(r, err)
	}
	nonce := optee.Nonce(optee.TEEMemory, binding, config)
	if err := r.Outputs[0].Verify(dev.Key(), nonce[:]); err != nil {
		t.Error(err)
	}
	if _, err := optee.Verify(e.Token, dev.Key()); !errors.Is(err, optee.ErrUnbound) {
		t.Errorf("what the normal world can ask for passes for an Agent's Evidence: %v", err)
	}
	if o.open != 0 {
		t.Errorf("%d sessions are left open", o.open)
	}
	o.refuse = 0xffff0008
	if p := a.Probe(t.Context()); !p.Found || p.Usable || !strings.Contains(p.Why, "CFG_ATTESTATION_PTA") {
		t.Errorf("%+v", p)
	}
	o.impl = 2
	if p := a.Probe(t.Context()); p.Usable || !strings.Contains(p.Why, "implementation 2") {
		t.Errorf("%+v", p)
	}
}
