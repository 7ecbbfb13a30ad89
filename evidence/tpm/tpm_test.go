// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"sealift/evidence/eventlog"
)

// The quote of a virtual machine: OVMF 2022.11, swtpm 0.7.1, Linux 6.1 and an initramfs of this project's.
var (
	ovmfBinding = []byte("a binding of a test")
	ovmfBoot    = []string{
		"TPM-KERNEL bd7517a965926f05ad0ec883f04a5d541e40c44bd2adaf3f10a065a138378286",
		"TPM-CMDLINE 32e3b46477fdfae8f5c73c8be43f9cdbe5f52a595787fa8bac534c2a246ff9b9",
		"TPM-INITRAMFS 1db6054b35736fc2688a4943e78423b8e571d59bb84ec53e40571b5789283975",
	}
)

func ovmf(t testing.TB) *Quote {
	t.Helper()
	data, err := os.ReadFile("testdata/ovmf-swtpm.cbor")
	if err != nil {
		t.Fatal(err)
	}
	q, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func boot(v *Verified) (list []string) {
	for _, m := range v.Boot {
		list = append(list, m.Name+" "+hex.EncodeToString(m.Digest[:]))
	}
	return list
}

func TestQuoteOfABoot(t *testing.T) {
	q := ovmf(t)
	v, err := q.Verify(Name(q.Public), Nonce(ovmfBinding))
	if err != nil {
		t.Fatal(err)
	}
	if got := boot(v); !slices.Equal(got, ovmfBoot) {
		t.Errorf("booted: %v", got)
	}
	if len(v.PCRs) != len(registers) || v.PCRs[4] == [32]byte{} || v.PCRs[8] != [32]byte{} || len(v.Events) != 24 {
		t.Errorf("%d events, registers %x", len(v.Events), v.PCRs)
	}
	var other [NameSize]byte
	if _, err := q.Verify(other, Nonce(ovmfBinding)); !errors.Is(err, ErrOtherKey) || errors.Is(err, ErrSignature) {
		t.Errorf("for another key: %v", err)
	}
	if _, err := q.Verify(Name(q.Public), Nonce([]byte("another"))); !errors.Is(err, ErrNonce) || errors.Is(err, ErrSignature) {
		t.Errorf("for another challenge: %v", err)
	}
}

// TestEveryByteAltered alters each byte of a quote. Types and data of the log's events, and its digests by other functions, are not
// signed; all that altering them may do is to give a measurement another name, or to make one of what was none.
func TestEveryByteAltered(t *testing.T) {
	q := ovmf(t)
	name, nonce := Name(q.Public), Nonce(ovmfBinding)
	data := q.Marshal()
	logAt := bytes.Index(data, q.Log)
	accepted := 0
	for i := 0; i < len(data); i++ {
		data[i] ^= 0x10
		changed, err := Parse(data)
		var v *Verified
		if err == nil {
			v, err = changed.Verify(name, nonce)
		}
		data[i] ^= 0x10
		if i >= logAt {
			i += 4 // the log is long
		}
		if err != nil {
			continue
		}
		if accepted++; i < logAt {
			t.Fatalf("altered at byte %d of %d: accepted", i, len(data))
		}
		for _, want := range ovmfBoot {
			_, digest, _ := strings.Cut(want, " ")
			if !slices.ContainsFunc(boot(v), func(m string) bool { return strings.HasSuffix(m, digest) }) {
				t.Fatalf("altered at byte %d: %s is no longer measured", i, want)
			}
		}
	}
	if accepted == 0 {
		t.Error("the descriptions in the log are not signed, and a change of one is refused")
	}
}

// signer plays a TPM that signs what a real one would not.
type signer struct {
	key    crypto.Signer
	public tpm2.TPMTPublic
	scheme tpm2.TPMAlgID
}

var softECC = sync.OnceValue(func() signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	public := template
	raw, err := k.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: raw[1:33]},
		Y: tpm2.TPM2BECCParameter{Buffer: raw[33:]}})
	return signer{k, public, tpm2.TPMAlgECDSA}
})

var rsaKeyOnce = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func softRSA(scheme tpm2.TPMAlgID) signer {
	k := rsaKeyOnce()
	public := template
	public.Type = tpm2.TPMAlgRSA
	details := tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})
	if scheme == tpm2.TPMAlgRSAPSS {
		details = tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAPSS, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: tpm2.TPMAlgSHA256})
	}
	public.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048,
		Scheme: tpm2.TPMTRSAScheme{Scheme: scheme, Details: details}})
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: k.N.Bytes()})
	return signer{k, public, scheme}
}

// sign returns the TPMT_SIGNATURE over an attestation.
func (s signer) sign(t testing.TB, attest []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(attest)
	var out tpm2.TPMTSignature
	switch k := s.key.(type) {
	case *ecdsa.PrivateKey:
		r, v, err := ecdsa.Sign(rand.Reader, k, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		out = tpm2.TPMTSignature{SigAlg: s.scheme, Signature: tpm2.NewTPMUSignature(s.scheme, &tpm2.TPMSSignatureECC{Hash: tpm2.TPMAlgSHA256,
			SignatureR: tpm2.TPM2BECCParameter{Buffer: r.Bytes()}, SignatureS: tpm2.TPM2BECCParameter{Buffer: v.Bytes()}})}
	case *rsa.PrivateKey:
		var opts crypto.SignerOpts = crypto.SHA256
		if s.scheme == tpm2.TPMAlgRSAPSS {
			opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
		}
		sig, err := k.Sign(rand.Reader, digest[:], opts)
		if err != nil {
			t.Fatal(err)
		}
		out = tpm2.TPMTSignature{SigAlg: s.scheme, Signature: tpm2.NewTPMUSignature(s.scheme,
			&tpm2.TPMSSignatureRSA{Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: sig}})}
	}
	return tpm2.Marshal(out)
}

// forge makes the quote of the boot again with another key, after a change of what is signed.
func (s signer) forge(t testing.TB, change func(a *tpm2.TPMSAttest, quote *tpm2.TPMSQuoteInfo)) *Quote {
	t.Helper()
	q := ovmf(t)
	a, err := parseAttest(q.Attest)
	if err != nil {
		t.Fatal(err)
	}
	quote, err := a.Attested.Quote()
	if err != nil {
		t.Fatal(err)
	}
	change(a, quote)
	if a.Type == tpm2.TPMSTAttestQuote {
		a.Attested = tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, quote)
	}
	q.Attest = tpm2.Marshal(a)
	q.Public, q.Signature = tpm2.Marshal(s.public), s.sign(t, q.Attest)
	return q
}

func unchanged(*tpm2.TPMSAttest, *tpm2.TPMSQuoteInfo) {}

func TestSchemes(t *testing.T) {
	all := map[string]signer{"ECDSA": softECC(), "RSASSA": softRSA(tpm2.TPMAlgRSASSA), "RSAPSS": softRSA(tpm2.TPMAlgRSAPSS)}
	for name, s := range all {
		q := s.forge(t, unchanged)
		if _, err := q.Verify(Name(q.Public), Nonce(ovmfBinding)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for other, o := range all {
			if other == name {
				continue
			}
			q.Signature = o.sign(t, q.Attest)
			if _, err := q.Verify(Name(q.Public), Nonce(ovmfBinding)); !errors.Is(err, ErrSignature) {
				t.Errorf("%s with the signature of %s: %v", name, other, err)
			}
		}
	}
}

// TestSignedFields alters each field that is signed, and signs it: what is wrong then is the field.
func TestSignedFields(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*tpm2.TPMSAttest, *tpm2.TPMSQuoteInfo)
		is     error // nil: the field is a claim, and shows
	}{
		"magic": {func(a *tpm2.TPMSAttest, _ *tpm2.TPMSQuoteInfo) { a.Magic = 0x12345678 }, ErrMalformed},
		"type": {func(a *tpm2.TPMSAttest, _ *tpm2.TPMSQuoteInfo) {
			a.Type = tpm2.TPMSTAttestTime
			a.Attested = tpm2.NewTPMUAttest(tpm2.TPMSTAttestTime, &tpm2.TPMSTimeAttestInfo{})
		}, ErrMalformed},
		"nonce":          {func(a *tpm2.TPMSAttest, _ *tpm2.TPMSQuoteInfo) { a.ExtraData.Buffer[0] ^= 1 }, ErrNonce},
		"a longer nonce": {func(a *tpm2.TPMSAttest, _ *tpm2.TPMSQuoteInfo) { a.ExtraData.Buffer = append(a.ExtraData.Buffer, 0) }, ErrNonce},
		"digest":         {func(_ *tpm2.TPMSAttest, q *tpm2.TPMSQuoteInfo) { q.PCRDigest.Buffer[0] ^= 1 }, ErrPCR},
		"bank":           {func(_ *tpm2.TPMSAttest, q *tpm2.TPMSQuoteInfo) { q.PCRSelect.PCRSelections[0].Hash = tpm2.TPMAlgSHA1 }, ErrPCR},
		"registers":      {func(_ *tpm2.TPMSAttest, q *tpm2.TPMSQuoteInfo) { q.PCRSelect.PCRSelections[0].PCRSelect[0] = 0xef }, ErrPCR},
		"two banks": {func(_ *tpm2.TPMSAttest, q *tpm2.TPMSQuoteInfo) {
			q.PCRSelect.PCRSelections = append(q.PCRSelect.PCRSelections, q.PCRSelect.PCRSelections[0])
		}, ErrPCR},
		"clock":    {func(a *tpm2.TPMSAttest, _ *tpm2.TPMSQuoteInfo) { a.ClockInfo.Clock = 77 }, nil},
		"resets":   {func(a *tpm2.TPMSAttest, _ *tpm2.TPMSQuoteInfo) { a.ClockInfo.ResetCount = 77 }, nil},
		"restarts": {func(a *tpm2.TPMSAttest, _ *tpm2.TPMSQuoteInfo) { a.ClockInfo.RestartCount = 77 }, nil},
		"firmware": {func(a *tpm2.TPMSAttest, _ *tpm2.TPMSQuoteInfo) { a.FirmwareVersion = 77 }, nil},
	} {
		q := softECC().forge(t, c.change)
		v, err := q.Verify(Name(q.Public), Nonce(ovmfBinding))
		if !errors.Is(err, c.is) || errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v, want %v", name, err, c.is)
		}
		if c.is == nil && (v == nil || v.Clock != 77 && v.Resets != 77 && v.Restarts != 77 && v.Firmware != 77) {
			t.Errorf("%s does not show: %+v", name, v)
		}
		if _, err := Parse(q.Marshal()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRegisters: values and log that are not those of the quote, each named.
func TestRegisters(t *testing.T) {
	for k, r := range registers {
		q := ovmf(t)
		q.PCRs[k][3] ^= 1
		_, err := q.Verify(Name(q.Public), Nonce(ovmfBinding))
		if !errors.Is(err, ErrPCR) || !errors.Is(err, ErrLog) || errors.Is(err, ErrSignature) || !strings.Contains(err.Error(), "PCR"+itoa(r)+":") {
			t.Errorf("register %d: %v", r, err)
		}
	}
	q := ovmf(t)
	l, err := eventlog.Parse(q.Log)
	if err != nil {
		t.Fatal(err)
	}
	last := l.Events[len(l.Events)-1]
	q.Log = q.Log[:len(q.Log)-len(last.Data)-4-(20+32+48+64+8)-12]
	if _, err := q.Verify(Name(q.Public), Nonce(ovmfBinding)); !errors.Is(err, ErrLog) || !strings.Contains(err.Error(), "PCR5:") {
		t.Errorf("a log without its last event: %v", err)
	}
}

func itoa(n uint) string { return string(slices.Concat([]byte("1")[:n/10], []byte{byte('0' + n%10)})) }

// TestKeys refuses keys that sign more than a TPM's own structures, that exist elsewhere, or are of another kind.
func TestKeys(t *testing.T) {
	ecc, rsassa := softECC(), softRSA(tpm2.TPMAlgRSASSA)
	for name, change := range map[string]func(s *signer){
		"not restricted":   func(s *signer) { s.public.ObjectAttributes.Restricted = false },
		"for decryption":   func(s *signer) { s.public.ObjectAttributes.Decrypt = true },
		"not for signing":  func(s *signer) { s.public.ObjectAttributes.SignEncrypt = false },
		"not of the TPM":   func(s *signer) { s.public.ObjectAttributes.FixedTPM = false },
		"of other parents": func(s *signer) { s.public.ObjectAttributes.FixedParent = false },
		"imported":         func(s *signer) { s.public.ObjectAttributes.SensitiveDataOrigin = false },
		"named by SHA-384": func(s *signer) { s.public.NameAlg = tpm2.TPMAlgSHA384 },
		"P-384": func(s *signer) {
			s.public.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP384,
				Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
					Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}})
		},
		"no point of the curve": func(s *signer) {
			s.public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: []byte{1}},
				Y: tpm2.TPM2BECCParameter{Buffer: []byte{1}}})
		},
		"without a scheme": func(s *signer) {
			s.public.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256})
		},
		"RSA by SHA-1": func(s *signer) {
			*s = rsassa
			s.public.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048, Scheme: tpm2.TPMTRSAScheme{
				Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA1})}})
		},
		"RSA of 1024 bits": func(s *signer) {
			*s = rsassa
			s.public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: rsaKeyOnce().N.Bytes()[:128]})
		},
		"a keyed hash": func(s *signer) { s.public.Type = tpm2.TPMAlgKeyedHash },
	} {
		s := ecc
		change(&s)
		q := ecc.forge(t, unchanged)
		func() {
			defer func() { _ = recover() }() // of the library that is to write what makes no sense
			q.Public = tpm2.Marshal(s.public)
		}()
		if bytes.Equal(q.Public, tpm2.Marshal(ecc.public)) {
			q.Public[1] = 8 // what cannot be written: a keyed hash
		}
		if _, err := q.Verify(Name(q.Public), Nonce(ovmfBinding)); !errors.Is(err, ErrKey) && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMalformed cuts each part, and adds a byte to it.
func TestMalformed(t *testing.T) {
	for name, part := range map[string]func(q *Quote) *[]byte{
		"public": func(q *Quote) *[]byte { return &q.Public }, "attest": func(q *Quote) *[]byte { return &q.Attest },
		"signature": func(q *Quote) *[]byte { return &q.Signature }, "log": func(q *Quote) *[]byte { return &q.Log },
	} {
		q := ovmf(t)
		p := part(q)
		whole := *p
		for n := 0; n < len(whole); n += 1 + len(whole)/300 {
			*p = whole[:n]
			if _, err := q.Verify(Name(q.Public), Nonce(ovmfBinding)); err == nil {
				t.Fatalf("%s cut to %d bytes: accepted", name, n)
			}
		}
		*p = append(bytes.Clone(whole), 0)
		if _, err := q.Verify(Name(q.Public), Nonce(ovmfBinding)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s with a byte too many: %v", name, err)
		}
	}
	data := ovmf(t).Marshal()
	for n := range data {
		if _, err := Parse(data[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	q := ovmf(t)
	q.PCRs = q.PCRs[1:]
	if _, err := Parse(q.Marshal()); !errors.Is(err, ErrMalformed) {
		t.Errorf("a register less: %v", err)
	}
}

// TestBoot reads logs that say other things of the same digests: nothing that was started goes unnamed.
func TestBoot(t *testing.T) {
	zeros := sha256.Sum256(make([]byte, 4))
	action := sha256.Sum256([]byte("Exit Boot Services Invocation"))
	other := sha256.Sum256([]byte("something"))
	initrd := []byte("\xec\x22\x3b\x8f\x0d\x00\x00\x00Linux initrd\x00")
	for name, c := range map[string]struct {
		event eventlog.Event
		want  string
	}{
		"a separator":             {eventlog.Event{Register: 4, Type: eventlog.Separator, Data: make([]byte, 4), Digests: [][]byte{zeros[:]}}, ""},
		"a program as separator":  {eventlog.Event{Register: 4, Type: eventlog.Separator, Data: make([]byte, 4), Digests: [][]byte{other[:]}}, "TPM-PCR4"},
		"an action":               {eventlog.Event{Register: 5, Type: eventlog.EFIAction, Data: []byte("Exit Boot Services Invocation"), Digests: [][]byte{action[:]}}, ""},
		"an action of its own":    {eventlog.Event{Register: 5, Type: eventlog.EFIAction, Data: []byte("something"), Digests: [][]byte{other[:]}}, "TPM-PCR5"},
		"a program":               {eventlog.Event{Register: 4, Type: eventlog.BootApplication, Digests: [][]byte{other[:]}}, Kernel},
		"a program elsewhere":     {eventlog.Event{Register: 2, Type: eventlog.BootApplication, Digests: [][]byte{other[:]}}, "TPM-PCR2"},
		"an archive":              {eventlog.Event{Register: 9, Type: eventlog.EventTag, Data: initrd, Digests: [][]byte{other[:]}}, Initramfs},
		"an archive, longer text": {eventlog.Event{Register: 9, Type: eventlog.EventTag, Data: append(bytes.Clone(initrd), 0), Digests: [][]byte{other[:]}}, "TPM-PCR9"},
		"an archive elsewhere":    {eventlog.Event{Register: 8, Type: eventlog.EventTag, Data: initrd, Digests: [][]byte{other[:]}}, "TPM-PCR8"},
		"a tag without a number":  {eventlog.Event{Register: 9, Type: eventlog.EventTag, Data: initrd[:7], Digests: [][]byte{other[:]}}, "TPM-PCR9"},
		"a setting":               {eventlog.Event{Register: 7, Type: 0x80000001, Digests: [][]byte{other[:]}}, ""},
		"nothing":                 {eventlog.Event{Register: 4, Type: eventlog.NoAction, Digests: [][]byte{other[:]}}, ""},
	} {
		got := measurements(&eventlog.Log{Events: []eventlog.Event{c.event}}, 0)
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || got[0].Name != c.want || got[0].Digest != other) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(ovmf(f).Marshal())
	f.Add(softECC().forge(f, unchanged).Marshal())
	f.Add(softRSA(tpm2.TPMAlgRSAPSS).forge(f, unchanged).Marshal())
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := Parse(data)
		if err != nil {
			return
		}
		if !bytes.Equal(q.Marshal(), data) {
			t.Error("it re-encodes to other bytes")
		}
		_, _ = q.Verify(Name(q.Public), Nonce(ovmfBinding))
	})
}

// FuzzVerify alters the parts that the TPM makes, behind the array's bounds.
func FuzzVerify(f *testing.F) {
	for _, q := range []*Quote{ovmf(f), softECC().forge(f, unchanged), softRSA(tpm2.TPMAlgRSASSA).forge(f, unchanged)} {
		f.Add(q.Public, q.Attest, q.Signature)
	}
	base := ovmf(f)
	f.Fuzz(func(t *testing.T, public, attest, signature []byte) {
		q := &Quote{Public: public, Attest: attest, Signature: signature, PCRs: base.PCRs, Log: base.Log}
		v, err := q.Verify(Name(base.Public), Nonce(ovmfBinding))
		if err == nil && (!bytes.Equal(public, base.Public) || !bytes.Equal(attest, base.Attest)) {
			t.Errorf("accepted: %+v", v)
		}
	})
}
