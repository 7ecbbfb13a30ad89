// SPDX-License-Identifier: Apache-2.0

package optee

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"

	"sealift/cose"
)

// The devices are made once per run. genuine has a key as OP-TEE makes them; the others say that they are emulated.
var (
	emulated = onceDevice(false, 2048)
	stranger = onceDevice(false, 2048)
	genuine  = onceDevice(true, 2048)
)

func onceDevice(asOPTEE bool, size int) func() *Device {
	return sync.OnceValue(func() *Device {
		if asOPTEE {
			k, err := rsa.GenerateKey(rand.Reader, size)
			if err != nil {
				panic(err)
			}
			return &Device{Name: "device", key: k}
		}
		d, err := newDevice(rand.Reader, "device", size)
		if err != nil {
			panic(err)
		}
		return d
	})
}

var (
	binding = [64]byte{0: 0xb1, 63: 0xb2}
	config  = [32]byte{0: 0xc1, 31: 0xc2}
	digests = map[Command][32]byte{TAHeader: {1}, TAMemory: {2}, TEEMemory: {3}}
)

func mint(t testing.TB, d *Device) []byte {
	t.Helper()
	data, err := d.Mint(rand.Reader, binding, config, digests)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestMintedVerifiesUnderItsOwnKeyOnly(t *testing.T) {
	for name, c := range map[string]struct {
		device   *Device
		emulated bool
	}{"emulated": {emulated(), true}, "as OP-TEE's own": {genuine(), false}} {
		data := mint(t, c.device)
		others := []*Key{stranger().Key()}
		if c.emulated {
			others = append(others, genuine().Key())
		} else {
			others = append(others, emulated().Key())
		}
		v, err := Verify(data, append(others, c.device.Key())...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if v.Emulated() != c.emulated || strings.Contains(v.Key.String(), "EMULATED") != c.emulated ||
			v.Report.Binding != binding || v.Report.Config != config {
			t.Errorf("%s: verified as %+v under %v", name, v.Report, v.Key)
		}
		for i, m := range v.Measurements() {
			want := digests[Command(i+1)]
			if m.Name != Command(i+1).String() || !bytes.Equal(m.Value, want[:]) {
				t.Errorf("%s: measurement %v", name, m)
			}
		}
		if _, err := Verify(data, others...); !errors.Is(err, ErrNotEnrolled) {
			t.Errorf("%s, under other keys: %v", name, err)
		}
		if _, err := Verify(data); !errors.Is(err, ErrNotEnrolled) {
			t.Errorf("%s, under no key: %v", name, err)
		}
	}
	if emulated().Key().InstanceID() == stranger().Key().InstanceID() {
		t.Error("two devices with one identity")
	}
}

// TestKeyOfAnother puts the fingerprint of an enrolled key onto Evidence that another key signed.
func TestKeyOfAnother(t *testing.T) {
	r, err := Parse(mint(t, stranger()))
	if err != nil {
		t.Fatal(err)
	}
	r.Key = emulated().Key().Fingerprint()
	if _, err := Verify(r.Marshal(), emulated().Key(), stranger().Key()); !errors.Is(err, ErrSignature) {
		t.Errorf("got %v", err)
	}
}

// TestEveryFieldAltered alters each field and wants it named, or all the outputs whose signature it breaks.
func TestEveryFieldAltered(t *testing.T) {
	data := mint(t, emulated())
	all := []string{"TA-HEADER", "TA-MEMORY", "TEE-MEMORY"}
	for name, c := range map[string]struct {
		change func(*Report)
		is     error
		named  []string // these stand in the error, and of all no other
	}{
		"key":               {func(r *Report) { r.Key[0] ^= 1 }, ErrNotEnrolled, nil},
		"binding":           {func(r *Report) { r.Binding[0] ^= 1 }, ErrSignature, all},
		"configuration":     {func(r *Report) { r.Config[31] ^= 1 }, ErrSignature, all},
		"digest of header":  {func(r *Report) { r.Outputs[0].Digest[0] ^= 1 }, ErrSignature, all[:1]},
		"digest of memory":  {func(r *Report) { r.Outputs[1].Digest[0] ^= 1 }, ErrSignature, all[1:2]},
		"digest of the TEE": {func(r *Report) { r.Outputs[2].Digest[0] ^= 1 }, ErrSignature, all[2:]},
		"signature":         {func(r *Report) { r.Outputs[1].Signature[9] ^= 1 }, ErrSignature, all[1:2]},
		"long signature": {func(r *Report) { r.Outputs[1].Signature = append(r.Outputs[1].Signature, 0) }, ErrSignature,
			all[1:2]},
		"short signature":   {func(r *Report) { r.Outputs[1].Signature = r.Outputs[1].Signature[:255] }, ErrMalformed, all[1:2]},
		"command":           {func(r *Report) { r.Outputs[0].Command = 0 }, ErrMalformed, nil},
		"command 4":         {func(r *Report) { r.Outputs[2].Command = 4 }, ErrMalformed, nil},
		"order":             {func(r *Report) { slices.Reverse(r.Outputs) }, ErrMalformed, all[1:]},
		"a command twice":   {func(r *Report) { r.Outputs[0] = r.Outputs[1] }, ErrMalformed, all[1:2]},
		"two in one's name": {func(r *Report) { r.Outputs = r.Outputs[1:]; r.Outputs[0].Command = TAHeader }, ErrUnbound, all[:1]},
		"header as memory": {func(r *Report) { r.Outputs = r.Outputs[:1]; r.Outputs[0].Command = TAMemory }, ErrSignature,
			all[1:2]},
		"no output": {func(r *Report) { r.Outputs = nil }, ErrMalformed, nil},
	} {
		r, err := Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		c.change(r)
		_, err = Verify(r.Marshal(), emulated().Key())
		if !errors.Is(err, c.is) {
			t.Errorf("%s: got %v, want %v", name, err, c.is)
			continue
		}
		for _, command := range all {
			text := strings.ReplaceAll(err.Error(), ErrUnbound.Error(), "")
			if strings.Contains(text, command) != slices.Contains(c.named, command) {
				t.Errorf("%s: %v: want %v named", name, err, c.named)
			}
		}
	}
}

// TestEveryByteAltered alters each byte: refused, whatever it is.
func TestEveryByteAltered(t *testing.T) {
	data, key := mint(t, emulated()), emulated().Key()
	for i := range data {
		data[i] ^= 0x10
		if _, err := Verify(data, key); err == nil {
			t.Fatalf("altered at byte %d: accepted", i)
		}
		data[i] ^= 0x10
	}
}

func TestTruncated(t *testing.T) {
	data := mint(t, emulated())
	for n := range data {
		if _, err := Parse(data[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := Parse(append(data, 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("with a byte too many: %v", err)
	}
	if _, err := Parse(make([]byte, maxEvidence+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("too long: %v", err)
	}
}

// TestOtherEncoding writes the same in a longer way, and another label.
func TestOtherEncoding(t *testing.T) {
	data := mint(t, emulated())
	for name, c := range map[string][2][]byte{
		"a number in two bytes": {{0x82, byte(TAMemory), 0x59}, {0x82, 0x18, byte(TAMemory), 0x59}},
		"another label":         {[]byte(label), []byte("sealift-optee-pta-v2")},
		"one element more":      {{0x85, 0x74}, {0x86, 0xf6, 0x74}},
	} {
		changed := bytes.Replace(data, c[0], c[1], 1)
		if _, err := Parse(changed); bytes.Equal(changed, data) || !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnbound wants TA-MEMORY: the nonces of the other commands are anybody's choice.
func TestUnbound(t *testing.T) {
	data, err := emulated().Mint(rand.Reader, binding, config, map[Command][32]byte{TAHeader: {1}, TEEMemory: {3}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(data, emulated().Key()); !errors.Is(err, ErrUnbound) || errors.Is(err, ErrSignature) {
		t.Errorf("got %v", err)
	}
	if _, err := Verify(data, stranger().Key()); !errors.Is(err, ErrUnbound) || !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("two faults, but: %v", err)
	}
}

// TestCommandIsNotSigned writes down what the PTA's format cannot do: who calls command 1 with the nonce of command 2 gets
// an output that verifies as TA-MEMORY. It holds the digest of a header, which no reference value for TA-MEMORY equals.
func TestCommandIsNotSigned(t *testing.T) {
	nonce := Nonce(TAMemory, binding, config)
	o, err := emulated().Invoke(rand.Reader, TAHeader, nonce[:], digests[TAHeader])
	if err != nil {
		t.Fatal(err)
	}
	o.Command = TAMemory
	r := &Report{Key: emulated().Key().Fingerprint(), Binding: binding, Config: config, Outputs: []Output{o}}
	v, err := Verify(r.Marshal(), emulated().Key())
	if err != nil {
		t.Fatalf("the format became stronger: %v", err)
	}
	if v.Report.Outputs[0].Digest == digests[TAMemory] {
		t.Error("the digest is that of the TA's memory")
	}
}

// TestNonce pins the form of the nonce: whoever writes a TA has to make the same.
func TestNonce(t *testing.T) {
	seen := map[[32]byte]bool{}
	for _, n := range [][32]byte{Nonce(TAHeader, binding, config), Nonce(TAMemory, binding, config), Nonce(TAMemory, binding, [32]byte{}),
		Nonce(TAMemory, [64]byte{}, config)} {
		seen[n] = true
	}
	if len(seen) != 4 {
		t.Error("two inputs with one nonce")
	}
	want := slices.Concat([]byte{0x84, 0x74}, []byte("sealift-optee-pta-v1"), []byte{2, 0x58, 64}, binding[:], []byte{0x58, 32}, config[:])
	if Nonce(TAMemory, binding, config) != sha256.Sum256(want) {
		t.Error("the nonce is not the SHA-256 of the deterministic CBOR array")
	}
}

// TestSaltLength wants the PTA's form of PSS and no other.
func TestSaltLength(t *testing.T) {
	r, err := Parse(mint(t, emulated()))
	if err != nil {
		t.Fatal(err)
	}
	o := &r.Outputs[1]
	nonce := Nonce(TAMemory, binding, config)
	h := sha256.Sum256(append(nonce[:], o.Digest[:]...))
	for name, sign := range map[string]func() ([]byte, error){
		"salt of 20 bytes": func() ([]byte, error) {
			return rsa.SignPSS(rand.Reader, emulated().key, 5, h[:], &rsa.PSSOptions{SaltLength: 20})
		},
		"PKCS #1 v1.5": func() ([]byte, error) { return rsa.SignPKCS1v15(rand.Reader, emulated().key, 5, h[:]) },
	} {
		if o.Signature, err = sign(); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(r.Marshal(), emulated().Key()); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeys(t *testing.T) {
	k := genuine().Key()
	der, err := x509.MarshalPKIXPublicKey(k.Public)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	got, err := ParseKey(text, "x")
	if err != nil || got.Fingerprint() != k.Fingerprint() || got.Emulated() {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := ParseKey(append(text, 'x'), ""); !errors.Is(err, ErrKey) {
		t.Errorf("with something behind it: %v", err)
	}
	if _, err := ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der[1:]}), ""); !errors.Is(err, ErrKey) {
		t.Errorf("damaged: %v", err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short := new(big.Int).Rsh(k.Public.N, 1024)
	for name, pub := range map[string]any{
		"P-256": &ec.PublicKey, "1024 bits": &rsa.PublicKey{N: short, E: exponent}, "exponent 3": &rsa.PublicKey{N: k.Public.N, E: 3},
		"2047 bits": &rsa.PublicKey{N: new(big.Int).Rsh(k.Public.N, 1), E: exponent}, "8192 bits": &rsa.PublicKey{N: new(big.Int).Lsh(k.Public.N, 6144), E: exponent},
	} {
		if _, err := NewKey(pub, ""); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSavedDevice(t *testing.T) {
	text, err := emulated().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	d, err := ParseDevice(text, "again")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(mint(t, d), emulated().Key()); err != nil {
		t.Error(err)
	}
	if text, err = genuine().Marshal(); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseDevice(text, ""); !errors.Is(err, ErrKey) {
		t.Errorf("a key that does not say that it is emulated: %v", err)
	}
	if _, err := ParseDevice([]byte("x"), ""); !errors.Is(err, ErrKey) {
		t.Errorf("no key: %v", err)
	}
}

// TestFullSize makes one key of OP-TEE's default size.
func TestFullSize(t *testing.T) {
	d, err := NewDevice(rand.Reader, "device")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := Verify(mint(t, d), d.Key()); err != nil || len(v.Report.Outputs[0].Signature) != 384 {
		t.Errorf("got %+v, %v", v, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(mint(f, emulated()))
	f.Add(cose.MustMarshal([]any{label, make([]byte, 32), binding[:], config[:], []any{[]any{2, make([]byte, 32+256)}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("an error without the sentinel: %v", err)
			}
			return
		}
		if !bytes.Equal(r.Marshal(), data) {
			t.Errorf("%x does not encode again to the same", data)
		}
		_, _ = Verify(data, stranger().Key())
	})
}

func BenchmarkVerify(b *testing.B) {
	d := emulated()
	data, err := d.Mint(rand.Reader, binding, config, map[Command][32]byte{TAMemory: {2}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Verify(data, d.Key()); err != nil {
			b.Fatal(err)
		}
	}
}
