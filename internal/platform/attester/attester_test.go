// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attester

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sealift/evidence/cca"
	"sealift/evidence/csv"
	"sealift/evidence/sgx"
	"sealift/evidence/snp"
	"sealift/evidence/tdx"
	"sealift/evidence/tsm"
	"sealift/internal/sharedtest"
)

var binding = [64]byte(bytes.Repeat([]byte("binding!"), 8))

// nothing is a machine without any TEE.
func nothing(t *testing.T) Machine {
	return Machine{Root: t.TempDir(), Rand: rand.Reader, Open: func(string) (Device, error) { return nil, fs.ErrNotExist }}
}

// TestNothing guards that a machine without a TEE says so line by line, and that Open names all of it.
func TestNothing(t *testing.T) {
	m := nothing(t)
	_, _, err := Open(t.Context(), m)
	if !errors.Is(err, ErrAbsent) {
		t.Fatal(err)
	}
	for _, p := range ProbeAll(t.Context(), m) {
		if p.Found || p.Usable || p.Why == "" || !strings.Contains(err.Error(), p.Name) {
			t.Errorf("%+v", p)
		}
	}
	for _, a := range All(m) {
		if _, err := a.Evidence(t.Context(), binding, [32]byte{}); !errors.Is(err, ErrAbsent) {
			t.Errorf("%s: %v", a.Name(), err)
		}
	}
}

// TestNotAllowed guards that a device that is there and closed to this user is told from one that is not there.
func TestNotAllowed(t *testing.T) {
	m := nothing(t)
	m.Open = func(string) (Device, error) { return nil, &fs.PathError{Op: "open", Err: unix.EACCES} }
	for _, a := range []Attester{&csvGuest{m}, &opteePTA{m}} {
		if p := a.Probe(t.Context()); !p.Found || p.Usable || !strings.Contains(p.Why, "may not open") {
			t.Errorf("%+v", p)
		}
	}
}

// kernelTSM is configfs as Linux serves it: a folder appears with its files, each write raises the generation, and the
// driver is asked when the result is read.
type kernelTSM struct {
	provider string
	quote    func(inblob []byte) ([]byte, error)
	aux      []byte
	entries  map[string]*tsmEntry
	meddle   bool // somebody else writes to the entry between two reads
	made     int
}

type tsmEntry struct {
	inblob     []byte
	generation int
}

func (k *kernelTSM) MkdirTemp(dir, _ string) (string, error) {
	k.made++
	path := fmt.Sprintf("%s/entry%d", dir, k.made)
	k.entries[path] = &tsmEntry{}
	return path, nil
}

func (k *kernelTSM) entry(name string) (*tsmEntry, string, error) {
	e := k.entries[filepath.Dir(name)]
	if e == nil {
		return nil, "", &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return e, filepath.Base(name), nil
}

func (k *kernelTSM) ReadFile(name string) ([]byte, error) {
	e, file, err := k.entry(name)
	if err != nil {
		return nil, err
	}
	switch file {
	case "generation":
		return fmt.Appendf(nil, "%d\n", e.generation), nil
	case "provider":
		return []byte(k.provider + "\n"), nil
	case "outblob":
		if k.meddle {
			e.generation++
		}
		return k.quote(e.inblob)
	case "auxblob":
		if k.aux != nil {
			return k.aux, nil
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func (k *kernelTSM) ReadDir(string) ([]os.DirEntry, error) { return nil, errors.New("not asked for") }

func (k *kernelTSM) WriteFile(name string, contents []byte) error {
	e, file, err := k.entry(name)
	if err != nil {
		return err
	}
	if file != "inblob" || len(contents) != 64 {
		return unix.EINVAL
	}
	e.inblob = bytes.Clone(contents)
	e.generation++
	return nil
}

func (k *kernelTSM) RemoveAll(path string) error {
	delete(k.entries, path)
	return nil
}

func newTSM(provider string, quote func([]byte) ([]byte, error)) *kernelTSM {
	return &kernelTSM{provider: provider, quote: quote, entries: map[string]*tsmEntry{}}
}

// TestTSM guards the way through the kernel's reports: CCA tokens bare and verifiable, the others in their wrapper with the
// host's certificates, and no entry left behind.
func TestTSM(t *testing.T) {
	now := time.Now()
	pki, err := cca.NewPKI(rand.Reader, now)
	if err != nil {
		t.Fatal(err)
	}
	cpak, chain, err := pki.IssueCPAK(rand.Reader, now.Add(-time.Hour), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	k := newTSM(tsm.ProviderCCA, func(b []byte) ([]byte, error) { return mintCCA(t, cpak, b) })
	m := nothing(t)
	m.TSM = k
	a, p, err := Open(t.Context(), m)
	if err != nil || p.Hardware != "cca" || a.Name() != "configfs-tsm" {
		t.Fatal(p, err)
	}
	e, err := a.Evidence(t.Context(), binding, [32]byte{})
	if err != nil || e.MediaType != MediaTypeCCA {
		t.Fatal(e.MediaType, err)
	}
	v, err := cca.Verify(e.Token, chain, now, pki.Anchor())
	if err != nil || !bytes.Equal(v.Token.Realm.Challenge, binding[:]) {
		t.Error(err)
	}
	k.provider, k.aux = tsm.ProviderSNP, []byte("certificates")
	if e, err = a.Evidence(t.Context(), binding, [32]byte{}); err != nil || e.MediaType != tsm.MediaType {
		t.Fatal(e.MediaType, err)
	}
	r, err := tsm.Parse(e.Token)
	if err != nil || r.Provider != tsm.ProviderSNP || string(r.AuxBlob) != "certificates" {
		t.Errorf("%+v %v", r, err)
	}
	if len(k.entries) != 0 {
		t.Errorf("%d entries are left in the kernel", len(k.entries))
	}
}

func mintCCA(t *testing.T, cpak *ecdsa.PrivateKey, b []byte) ([]byte, error) {
	rak, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	id, err := cca.InstanceID(&cpak.PublicKey)
	if err != nil {
		return nil, err
	}
	word := make([]byte, 32)
	return cca.Mint(rand.Reader, cpak, rak, cca.Token{Wrapper: cca.WrapperCCA,
		Platform: cca.Platform{Profile: cca.ProfilePlatform, ImplementationID: word, InstanceID: id[:], Config: []byte{1},
			Lifecycle: 0x3000, HashAlg: "sha-256", Components: []cca.Component{{Type: "RMM", Value: word, SignerID: word}}},
		Realm: cca.Realm{Profile: cca.ProfileRealm, Challenge: b, Personalization: make([]byte, 64), Initial: word,
			Extensible: [4][]byte{word, word, word, word}, HashAlg: "sha-256", PublicKeyHash: "sha-256"}})
}

// TestTSMTrouble guards what is said when the kernel, or somebody else on the machine, does something else.
func TestTSMTrouble(t *testing.T) {
	quote := func(b []byte) ([]byte, error) { return b, nil }
	m := nothing(t)
	meddled := newTSM(tsm.ProviderTDX, quote)
	meddled.meddle = true
	busy := newTSM(tsm.ProviderTDX, func([]byte) ([]byte, error) { return nil, unix.EBUSY })
	for name, k := range map[string]*kernelTSM{"meddled with": meddled, "busy": busy, "unknown": newTSM("vax_guest", quote)} {
		m.TSM = k
		if _, err := (&tsmAttester{m}).Evidence(t.Context(), binding, [32]byte{}); !errors.Is(err, ErrDevice) {
			t.Errorf("%s: %v", name, err)
		}
		if len(k.entries) != 0 {
			t.Errorf("%s: an entry is left in the kernel", name)
		}
	}
	m.TSM = newTSM("vax_guest", quote)
	if p := (&tsmAttester{m}).Probe(t.Context()); !p.Found || p.Usable || !strings.Contains(p.Why, "vax_guest") {
		t.Errorf("%+v", p)
	}
}

// enclave is a file tree as Gramine shows it. The quote is made when it is read, over what was written before: a named pipe
// whose other end the test serves.
func enclave(t *testing.T, kind string, quote func(reportData []byte) []byte) Machine {
	t.Helper()
	m := nothing(t)
	dir := filepath.Join(m.Root, graminePath)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"attestation_type": kind + "\n", "user_report_data": strings.Repeat("\x00", 64)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pipe := filepath.Join(dir, "quote")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		f, err := os.OpenFile(pipe, os.O_WRONLY, 0)
		if err != nil {
			return
		}
		defer f.Close()
		data, _ := os.ReadFile(filepath.Join(dir, "user_report_data"))
		_, _ = f.Write(quote(data))
	}()
	t.Cleanup(func() { // lets a goroutine go that nobody read from
		if f, err := os.OpenFile(pipe, os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
			f.Close()
		}
	})
	return m
}

// TestGramine guards the pseudo files of an enclave.
func TestGramine(t *testing.T) {
	m := enclave(t, "dcap", func(b []byte) []byte { return append([]byte("quote over "), b...) })
	a, p, err := Open(t.Context(), m)
	if err != nil || p.Hardware != "sgx" {
		t.Fatal(p, err)
	}
	e, err := a.Evidence(t.Context(), binding, [32]byte{})
	if err != nil || e.MediaType != MediaTypeSGX || !bytes.HasSuffix(e.Token, binding[:]) {
		t.Errorf("%q %v", e.Token, err)
	}
	m = enclave(t, "dcap", func([]byte) []byte { return []byte("a quote over something else") })
	if _, err := (&gramine{m: m}).Evidence(t.Context(), binding, [32]byte{}); !errors.Is(err, ErrDevice) {
		t.Error(err)
	}
	for _, kind := range []string{"none", "epid"} {
		m = enclave(t, kind, func([]byte) []byte { return nil })
		if p := (&gramine{m: m}).Probe(t.Context()); !p.Found || p.Usable {
			t.Errorf("%+v", p)
		}
	}
}

// TestMediaTypes guards that the names which this package repeats, so that the Agent links no verifier, are those of the verifiers.
func TestMediaTypes(t *testing.T) {
	if MediaTypeSGX != sgx.MediaType || MediaTypeCSV != csv.MediaType || !slices.Contains(snp.NewHardware().MediaTypes(), tsm.MediaType) ||
		!slices.Contains(tdx.NewHardware().MediaTypes(), tsm.MediaType) {
		t.Errorf("%s, %s; the verifiers read %s, %s", MediaTypeSGX, MediaTypeCSV, sgx.MediaType, csv.MediaType)
	}
	if MediaTypeCCA != cca.MediaType { // without a profile, which a token of other firmware would contradict
		t.Errorf("%s, the verifier reads %s", MediaTypeCCA, cca.MediaType)
	}
}

// TestEventLog guards that a TD's event log goes with its Evidence, whole and without the filling behind it.
func TestEventLog(t *testing.T) {
	table := sharedtest.Read(t, "evidence", "tdx/cos113_ccel_data.bin")
	m := nothing(t)
	m.TSM = newTSM(tsm.ProviderTDX, func(b []byte) ([]byte, error) { return b, nil })
	a := &tsmAttester{m}
	take := func() [][]byte {
		e, err := a.Evidence(t.Context(), binding, [32]byte{})
		if err != nil {
			t.Fatal(err)
		}
		return e.Chain
	}
	if got := take(); got != nil {
		t.Errorf("a log of %d bytes where there is none", len(got[0]))
	}
	path := filepath.Join(m.Root, ccelPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	whole, err := tdx.ParseEventLog(table)
	if err != nil {
		t.Fatal(err)
	}
	var log []byte
	for _, filling := range []string{"as it is", "\x00", "\xff", ""} {
		data := table
		if filling != "as it is" {
			data = append(bytes.Clone(log), bytes.Repeat([]byte(filling), 5000)...)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got := take()
		if len(got) != 1 || len(got[0]) > len(table)/2 || log != nil && !bytes.Equal(got[0], log) {
			t.Fatalf("filling %q: %d items", filling, len(got))
		}
		log = got[0]
		l, err := tdx.ParseEventLog(log)
		if err != nil || l.Replay() != whole.Replay() || len(l.EventsInsecure()) != len(whole.EventsInsecure()) {
			t.Errorf("filling %q: %v", filling, err)
		}
	}
	for n := range 100 { // rubbish and cut logs do no harm
		if size := logSize(log[:n]); size > n {
			t.Errorf("%d of %d bytes", size, n)
		}
	}
}

func FuzzLogSize(f *testing.F) {
	f.Add(bytes.Repeat([]byte{1, 0, 0, 0}, 40))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n := logSize(data); n < 0 || n > len(data) {
			t.Errorf("%d of %d bytes", n, len(data))
		}
	})
}
