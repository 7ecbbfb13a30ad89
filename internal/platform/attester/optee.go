// SPDX-License-Identifier: Apache-2.0

package attester

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"math/big"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sealift/evidence"
	"sealift/evidence/optee"
	"sealift/internal/platform/hw"
)

const opteePath = "dev/tee0"

// Requests of linux/tee.h: magic 0xa4, and the sizes of their arguments.
const (
	teeVersion  = 2<<30 | 12<<16 | 0xa4<<8
	teeShmAlloc = 3<<30 | 16<<16 | 0xa4<<8 | 1
	teeOpen     = 2<<30 | 16<<16 | 0xa4<<8 | 2
	teeInvoke   = 2<<30 | 16<<16 | 0xa4<<8 | 3
	teeClose    = 2<<30 | 4<<16 | 0xa4<<8 | 5
)

const (
	teeImplOPTEE   = 1
	teeMemrefIn    = 5
	teeMemrefOut   = 6
	teeValueOut    = 2
	teeShmBytes    = 4096
	opteeHeadOpen  = 56 // struct tee_ioctl_open_session_arg without its parameters
	opteeHeadCall  = 24 // struct tee_ioctl_invoke_arg
	teeParamBytes  = 32
	opteeAlgPSS256 = 0x70414930 // TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256
)

// opteeUUID names the attestation PTA: 39800861-182a-4720-9b67-2bcd622bc0b5.
var opteeUUID = []byte{0x39, 0x80, 0x08, 0x61, 0x18, 0x2a, 0x47, 0x20, 0x9b, 0x67, 0x2b, 0xcd, 0x62, 0x2b, 0xc0, 0xb5}

// opteePTA asks OP-TEE's attestation service by the TEE ioctls. From the normal world it measures the OP-TEE core
// (TEE-MEMORY) and nothing else: the measurement of a TA's own memory, on which everything hangs (package evidence/optee),
// is given to that TA alone. So this Evidence shows which OP-TEE a device runs, enrols the device's key, and no verifier
// accepts it for an Agent.
type opteePTA struct{ m Machine }

func (a *opteePTA) Name() string { return "optee" }

func (a *opteePTA) Probe(context.Context) Probe {
	p := Probe{Name: a.Name(), Where: filepath.Join(a.m.Root, opteePath), Hardware: evidence.TrustZone}
	d, err := a.m.Open(p.Where)
	if p.Found, p.Usable, p.Why = opened(err, "not there: no TrustZone, or no OP-TEE driver"); err != nil {
		return p
	}
	defer d.Close()
	p.Usable = false
	s, err := openPTA(d)
	if err != nil {
		p.Why = err.Error()
		return p
	}
	s.close()
	p.Usable, p.Why = true, "OP-TEE with its attestation PTA; from the normal world it measures the OP-TEE core only"
	return p
}

func (a *opteePTA) Evidence(_ context.Context, b [64]byte, config [32]byte) (hw.Evidence, error) {
	d, err := a.m.Open(filepath.Join(a.m.Root, opteePath))
	if err != nil {
		return hw.Evidence{}, fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	defer d.Close()
	s, err := openPTA(d)
	if err != nil {
		return hw.Evidence{}, err
	}
	defer s.close()
	key, err := s.publicKey()
	if err != nil {
		return hw.Evidence{}, err
	}
	nonce := optee.Nonce(optee.TEEMemory, b, config)
	signed, err := s.call(uint32(optee.TEEMemory), teeRef{data: nonce[:]}, teeRef{out: 1024})
	if err != nil {
		return hw.Evidence{}, err
	}
	output, err := optee.ParseOutput(optee.TEEMemory, signed[1])
	if err != nil {
		return hw.Evidence{}, fmt.Errorf("%w: optee: %w", ErrDevice, err)
	}
	r := optee.Report{Key: key.Fingerprint(), Binding: b, Config: config, Outputs: []optee.Output{output}}
	return hw.Evidence{Token: r.Marshal(), MediaType: optee.MediaType}, nil
}

// ptaSession is an open session with the PTA and the memory that is shared with the secure world.
type ptaSession struct {
	d       Device
	session uint32
	shmID   uint32
	shmFD   int
	shm     []byte
}

// openPTA checks that the driver speaks for OP-TEE, allocates shared memory and opens a session.
func openPTA(d Device) (*ptaSession, error) {
	version := make([]byte, 12)
	if _, err := d.Ioctl(teeVersion, version, nil); err != nil {
		return nil, fmt.Errorf("%w: optee: version: %w", ErrDevice, err)
	}
	if id := binary.NativeEndian.Uint32(version); id != teeImplOPTEE {
		return nil, fmt.Errorf("%w: optee: the driver speaks for TEE implementation %d", ErrDevice, id)
	}
	s := &ptaSession{d: d}
	arg := make([]byte, 16)
	binary.NativeEndian.PutUint64(arg, teeShmBytes)
	fd, err := d.Ioctl(teeShmAlloc, arg, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: optee: shared memory: %w", ErrDevice, err)
	}
	s.shmFD, s.shmID = fd, binary.NativeEndian.Uint32(arg[12:])
	if s.shm, err = unix.Mmap(fd, 0, teeShmBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("%w: optee: shared memory: %w", ErrDevice, err)
	}
	open := make([]byte, opteeHeadOpen)
	copy(open, opteeUUID)
	if err := s.ioctl(teeOpen, open); err != nil {
		s.free()
		return nil, err
	}
	s.session = binary.NativeEndian.Uint32(open[40:])
	if code := binary.NativeEndian.Uint32(open[44:]); code != 0 {
		s.free()
		return nil, fmt.Errorf("%w: OP-TEE without its attestation PTA (code %#x; CFG_ATTESTATION_PTA)", ErrDevice, code)
	}
	return s, nil
}

// ioctl makes a request whose argument lies in a buffer of its own (struct tee_ioctl_buf_data).
func (s *ptaSession) ioctl(request uint, buf []byte) error {
	arg := make([]byte, 16)
	binary.NativeEndian.PutUint64(arg[8:], uint64(len(buf)))
	if _, err := s.d.Ioctl(request, arg, buf); err != nil {
		return fmt.Errorf("%w: optee: %w", ErrDevice, err)
	}
	return nil
}

func (s *ptaSession) close() {
	arg := make([]byte, 4)
	binary.NativeEndian.PutUint32(arg, s.session)
	_, _ = s.d.Ioctl(teeClose, arg, nil) // closing the device ends it as well
	s.free()
}

func (s *ptaSession) free() {
	_ = unix.Munmap(s.shm)
	_ = unix.Close(s.shmFD)
}

// teeRef is a parameter: bytes in, room for bytes out, or, where both are empty, a value out.
type teeRef struct {
	data []byte
	out  int
}

// call invokes a command. It returns what came out, by parameter; a value as its 8 bytes.
func (s *ptaSession) call(command uint32, refs ...teeRef) ([][]byte, error) {
	buf := make([]byte, opteeHeadCall+teeParamBytes*len(refs))
	binary.NativeEndian.PutUint32(buf, command)
	binary.NativeEndian.PutUint32(buf[4:], s.session)
	binary.NativeEndian.PutUint32(buf[20:], uint32(len(refs)))
	offset := 0
	for i, r := range refs {
		size := max(len(r.data), r.out)
		if offset+size > len(s.shm) {
			return nil, fmt.Errorf("%w: optee: parameters of more than %d bytes", ErrDevice, len(s.shm))
		}
		copy(s.shm[offset:], r.data)
		attr := uint64(teeMemrefIn)
		if r.data == nil {
			attr = teeMemrefOut
		}
		if size == 0 {
			attr = teeValueOut
		}
		p := buf[opteeHeadCall+teeParamBytes*i:]
		for k, v := range []uint64{attr, uint64(offset), uint64(size), uint64(s.shmID)} {
			binary.NativeEndian.PutUint64(p[8*k:], v)
		}
		offset += size
	}
	if err := s.ioctl(teeInvoke, buf); err != nil {
		return nil, err
	}
	if code := binary.NativeEndian.Uint32(buf[12:]); code != 0 {
		return nil, fmt.Errorf("%w: optee: the attestation PTA refused command %d with code %#x", ErrDevice, command, code)
	}
	return s.results(buf, refs)
}

// results reads the parameters that came back. The secure world is trusted, the driver in between is not: sizes are checked.
func (s *ptaSession) results(buf []byte, refs []teeRef) ([][]byte, error) {
	out := make([][]byte, len(refs))
	offset := 0
	for i, r := range refs {
		p := buf[opteeHeadCall+teeParamBytes*i:]
		size := max(len(r.data), r.out)
		switch {
		case size == 0:
			out[i] = bytes.Clone(p[8:16])
		case r.data == nil:
			n := binary.NativeEndian.Uint64(p[16:])
			if n > uint64(size) {
				return nil, fmt.Errorf("%w: optee: %d bytes came out where %d fit", ErrDevice, n, size)
			}
			out[i] = bytes.Clone(s.shm[offset : offset+int(n)])
		}
		offset += size
	}
	return out, nil
}

// publicKey asks for the device's key: exponent, modulus, algorithm.
func (s *ptaSession) publicKey() (*optee.Key, error) {
	got, err := s.call(0, teeRef{out: 64}, teeRef{out: 1024}, teeRef{})
	if err != nil {
		return nil, err
	}
	if alg := binary.NativeEndian.Uint64(got[2]); alg != opteeAlgPSS256 {
		return nil, fmt.Errorf("%w: optee: it signs with algorithm %#x", ErrDevice, alg)
	}
	e := new(big.Int).SetBytes(got[0])
	if !e.IsInt64() || e.Int64() > 1<<31-1 {
		return nil, fmt.Errorf("%w: optee: an exponent of %d bits", ErrDevice, e.BitLen())
	}
	key, err := optee.NewKey(&rsa.PublicKey{N: new(big.Int).SetBytes(got[1]), E: int(e.Int64())}, "this device")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDevice, err)
	}
	return key, nil
}
