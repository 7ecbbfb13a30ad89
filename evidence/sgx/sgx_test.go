// SPDX-License-Identifier: Apache-2.0

package sgx

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealift/evidence/intel"
)

// pki is made once per run, strangers is a self-made one that carries the same names.
var pki, strangers = oncePKI(), oncePKI()

func oncePKI() func() *intel.PKI {
	return sync.OnceValue(func() *intel.PKI {
		p, err := intel.NewPKI(rand.Reader, now.AddDate(-2, 0, 0))
		if err != nil {
			panic(err)
		}
		return p
	})
}

var (
	binding   = [64]byte{0: 0xb1, 63: 0xb2}
	mrEnclave = [32]byte{0: 0x31, 31: 0x32}
	mrSigner  = [32]byte{0: 0x41, 31: 0x42}
	config    = [32]byte{0: 0x51, 31: 0x52}
	baseSpec  = intel.PlatformSpec{PPID: [16]byte{1, 2}, FMSPC: [6]byte{0x00, 0x60, 0x6a}, SVN: [16]uint8{5, 4, 3}, PCESVN: 11, CPUSVN: [16]byte{9, 8}}
)

func newDevice(t testing.TB, p *intel.PKI, change func(*intel.PlatformSpec)) *Device {
	t.Helper()
	s := baseSpec
	if change != nil {
		change(&s)
	}
	d, err := NewDevice(rand.Reader, p, s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mint(t testing.TB, d *Device, change func(*Report)) []byte {
	t.Helper()
	r := d.Report(mrEnclave, mrSigner, config, binding)
	if change != nil {
		change(r)
	}
	data, err := d.Mint(rand.Reader, r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func collateral(t testing.TB, p *intel.PKI, d *Device, change func(*intel.CollateralSpec)) []byte {
	t.Helper()
	s := d.CollateralSpec(now)
	if change != nil {
		change(&s)
	}
	c, err := p.Collateral(rand.Reader, s)
	if err != nil {
		t.Fatal(err)
	}
	return c.Marshal()
}

func TestMintedVerifiesUnderItsOwnRootOnly(t *testing.T) {
	for _, ca := range []intel.CA{intel.PlatformCA, intel.ProcessorCA} {
		d := newDevice(t, pki(), func(s *intel.PlatformSpec) { s.CA = ca })
		quote, c := mint(t, d, nil), [][]byte{collateral(t, pki(), d, nil)}
		v, err := Verify(quote, c, now, intel.VendorRoot(), pki().Root)
		if err != nil {
			t.Fatal(err)
		}
		want := d.Report(mrEnclave, mrSigner, config, binding)
		if !v.Emulated() || *v.Report != *want || v.TCB.Status != intel.UpToDate || v.InstanceID() != d.InstanceID() {
			t.Errorf("%s: verified as %+v, %+v", ca, v.Report, v.TCB)
		}
		if got, ok := v.Report.Config(); !ok || got != config {
			t.Errorf("configuration %x, %v", got, ok)
		}
		for name, roots := range map[string][]*x509.Certificate{"Intel's": {intel.VendorRoot()}, "a self-made": {strangers().Root},
			"both": {strangers().Root, intel.VendorRoot()}} {
			if _, err := Verify(quote, c, now, roots...); !errors.Is(err, intel.ErrChain) {
				t.Errorf("%s: under %s root: %v", ca, name, err)
			}
		}
		if _, err := Verify(quote, c, now); !errors.Is(err, intel.ErrNoRoot) {
			t.Errorf("%s: under no root: %v", ca, err)
		}
	}
	if _, err := Verify(sample(t, "phala_sgx_quote.bin"), nil, inJune, pki().Root, strangers().Root); !errors.Is(err, intel.ErrChain) {
		t.Errorf("a real quote under emulated roots: %v", err)
	}
}

// TestSelfMadeChain puts the chain of another Intel of the same name into a quote, and the other way round.
func TestSelfMadeChain(t *testing.T) {
	d, other := newDevice(t, pki(), nil), newDevice(t, strangers(), nil)
	q, err := Parse(mint(t, d, nil))
	if err != nil {
		t.Fatal(err)
	}
	blocks := func(chain []byte) (out [][]byte) {
		for _, c := range certificates(chain) {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
		}
		return out
	}
	own, theirs := blocks(d.platform.Chain), blocks(other.platform.Chain)
	sibling := blocks(newDevice(t, pki(), func(s *intel.PlatformSpec) { s.PPID[0]++ }).platform.Chain)
	for name, c := range map[string]struct {
		chain [][]byte
		is    error
	}{
		"whole":           {theirs, intel.ErrChain},
		"the root":        {[][]byte{own[0], own[1], theirs[2]}, intel.ErrChain},
		"the CA":          {[][]byte{own[0], theirs[1], own[2]}, intel.ErrChain},
		"the PCK":         {[][]byte{theirs[0], own[1], own[2]}, intel.ErrChain},
		"a sibling's PCK": {[][]byte{sibling[0], own[1], own[2]}, intel.ErrSignature},
		"wrong order":     {[][]byte{own[1], own[0], own[2]}, intel.ErrMalformed},
		"no root":         {own[:2], intel.ErrMalformed},
		"four":            {append(slices.Clone(own), own[2]), intel.ErrMalformed},
		"none":            {nil, intel.ErrMalformed},
	} {
		changed := *q.Signature
		changed.Chain = bytes.Join(c.chain, nil)
		q := &Quote{Header: q.Header, Report: q.Report, Signature: &changed}
		if _, err := Verify(q.Marshal(), nil, now, pki().Root); !errors.Is(err, c.is) {
			t.Errorf("%s: got %v, want %v", name, err, c.is)
		}
	}
}

// fields are the parts of a quote by offset. What a want names stands in the error's claims or text; nothing means: only a
// signature can tell, which is the one that covers the field.
var fields = []struct {
	name     string
	from, to int
	want     []string
}{
	{"version", 0, 2, []string{"version"}},
	{"attestation key type", 2, 4, []string{"attestation key type"}},
	{"reserved", 4, 8, []string{"reserved"}},
	{"QE SVN", 8, 10, []string{"signature of the quote"}},
	{"PCE SVN", 10, 12, []string{"signature of the quote"}},
	{"QE vendor ID", 12, 28, []string{"QE vendor ID"}},
	{"user data", 28, 48, []string{"signature of the quote"}},
	{"CPUSVN", 48, 64, []string{"signature of the quote"}},
	{"MISCSELECT", 64, 68, []string{"signature of the quote"}},
	{"CET_ATTRIBUTES", 68, 69, []string{"CET_ATTRIBUTES"}},
	{"reserved", 69, 80, []string{"reserved"}},
	{"ISVEXTPRODID", 80, 96, []string{"signature of the quote"}},
	{"ATTRIBUTES", 96, 104, []string{"ATTRIBUTES", "CONFIGID", "signature of the quote"}},
	{"XFRM", 104, 112, []string{"XFRM", "signature of the quote"}},
	{"MRENCLAVE", 112, 144, []string{"signature of the quote"}},
	{"reserved", 144, 176, []string{"reserved"}},
	{"MRSIGNER", 176, 208, []string{"signature of the quote"}},
	{"reserved", 208, 240, []string{"reserved"}},
	{"CONFIGID", 240, 304, []string{"signature of the quote"}},
	{"ISVPRODID", 304, 306, []string{"signature of the quote"}},
	{"ISVSVN", 306, 308, []string{"signature of the quote"}},
	{"CONFIGSVN", 308, 310, []string{"signature of the quote"}},
	{"reserved", 310, 352, []string{"reserved"}},
	{"ISVFAMILYID", 352, 368, []string{"signature of the quote"}},
	{"REPORTDATA", 368, 432, []string{"signature of the quote"}},
	{"signature length", 432, 436, []string{"signature data of"}},
	{"signature", 436, 500, []string{"signature of the quote"}},
	{"attestation key", 500, 564, []string{"REPORTDATA of the QE report"}},
	{"QE report", 564, 948, []string{"signature of the QE report", "reserved"}},
	{"QE report signature", 948, 1012, []string{"signature of the QE report"}},
	{"QE auth data length", 1012, 1014, []string{"QE's report or authentication data", "certification data"}},
	{"QE auth data", 1014, 1046, []string{"REPORTDATA of the QE report"}},
	{"certification data type", 1046, 1048, []string{"certification data"}},
	{"certification data length", 1048, 1052, []string{"certification data"}},
}

// TestEveryByteAltered alters each byte of a quote, warm, and wants the field or the signature named. In the PEM of the
// chain, where a byte may mean nothing, it wants no other result than a refusal or the very same quote.
func TestEveryByteAltered(t *testing.T) {
	d := newDevice(t, pki(), nil)
	quote, c := mint(t, d, nil), [][]byte{collateral(t, pki(), d, nil)}
	v := NewVerifier(pki().Root)
	if _, err := v.Verify(quote, c, now); err != nil {
		t.Fatal(err)
	}
	end := 0
	for _, f := range fields {
		if f.from != end {
			t.Fatalf("the table has a gap before %s", f.name)
		}
		end = f.to
		for i := f.from; i < f.to; i++ {
			for _, bit := range []byte{0x01, 0x80} {
				quote[i] ^= bit
				_, err := v.Verify(quote, c, now)
				if err == nil || !slices.ContainsFunc(f.want, func(w string) bool { return strings.Contains(err.Error(), w) }) {
					t.Fatalf("%s altered at %d: %v", f.name, i, err)
				}
				quote[i] ^= bit
			}
		}
	}
	for i := end; i < len(quote); i++ {
		quote[i] ^= 0x01
		if got, err := v.Verify(quote, c, now); err == nil && !bytes.Equal(got.Chain.PCK.Cert.Raw, d.platform.PCK.Cert.Raw) {
			t.Fatalf("chain altered at %d: another platform accepted", i)
		}
		quote[i] ^= 0x01
	}
}

func TestTruncated(t *testing.T) {
	quote := mint(t, newDevice(t, pki(), nil), nil)
	for n := range quote {
		if _, err := Parse(quote[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
		if n < signedSize+4 {
			continue
		}
		short := bytes.Clone(quote[:n]) // with a length that fits
		binary.LittleEndian.PutUint32(short[signedSize:], uint32(n-signedSize-4))
		if _, err := Verify(short, nil, now, pki().Root); !errors.Is(err, ErrMalformed) && !errors.Is(err, intel.ErrMalformed) {
			t.Fatalf("cut to %d bytes, length repaired: %v", n, err)
		}
	}
	if _, err := Parse(append(quote, 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("with a byte too many: %v", err)
	}
}

// TestReports signs reports that no processor makes, and some that it may make and nobody should accept unread.
func TestReports(t *testing.T) {
	d := newDevice(t, pki(), nil)
	for name, c := range map[string]struct {
		change func(*Report)
		want   []string
	}{
		"as it is":            {func(*Report) {}, nil},
		"debug":               {func(r *Report) { r.Attributes |= AttrDebug }, nil},
		"provisioning key":    {func(r *Report) { r.Attributes |= AttrProvisionKey }, nil},
		"launch key":          {func(r *Report) { r.Attributes |= AttrEInitToken }, nil},
		"not initialised":     {func(r *Report) { r.Attributes &^= AttrInit }, []string{"ATTRIBUTES"}},
		"no SSE":              {func(r *Report) { r.XFRM = 1 }, []string{"XFRM"}},
		"CET":                 {func(r *Report) { r.Attributes |= AttrCET; r.CET = 4 }, nil},
		"CET without the bit": {func(r *Report) { r.CET = 4 }, []string{"CET_ATTRIBUTES"}},
		"no KSS":              {func(r *Report) { r.Attributes &^= AttrKSS }, []string{"CONFIGID"}},
		"no KSS, all of it": {func(r *Report) {
			r.Attributes &^= AttrKSS
			r.ConfigSVN, r.ISVFamilyID[3], r.ISVExtProdID[5] = 1, 1, 1
		}, []string{"CONFIGID", "CONFIGSVN", "ISVFAMILYID", "ISVEXTPRODID"}},
		"no KSS, nothing of it": {func(r *Report) { r.Attributes &^= AttrKSS; r.ConfigID = [64]byte{} }, nil},
	} {
		want := d.Report(mrEnclave, mrSigner, config, binding)
		c.change(want)
		v, err := Verify(mint(t, d, c.change), nil, now, pki().Root)
		if got := claims(err); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v: %v", name, got, c.want, err)
			continue
		}
		if err == nil && *v.Report != *want {
			t.Errorf("%s: read as %+v", name, v.Report)
		}
	}
	flags := AttrInit | AttrDebug | AttrProvisionKey
	if s := flags.String(); s != "0x13 INIT DEBUG PROVISION_KEY" || !flags.Debug() || !flags.ProvisionKey() || flags.EInitTokenKey() ||
		flags.Mode64() || flags.KSS() {
		t.Errorf("flags %s", s)
	}
	if _, err := Parse(mint(t, d, func(r *Report) { r.Attributes |= 1 << 3 })); !errors.Is(err, ErrMalformed) {
		t.Errorf("a reserved flag: %v", err)
	}
	long := d.Report(mrEnclave, mrSigner, config, binding)
	long.ConfigID[32] = 1
	if _, ok := long.Config(); ok {
		t.Error("a CONFIGID that is longer than a digest")
	}
}

// TestFaults wants all of several faults reported.
func TestFaults(t *testing.T) {
	d := newDevice(t, strangers(), nil)
	quote := mint(t, d, func(r *Report) { r.XFRM = 0 })
	quote[signedSize-1] ^= 1
	_, err := Verify(quote, nil, now, pki().Root)
	if got := claims(err); !slices.Equal(got, []string{"XFRM", "root certificate", "signature of the quote"}) {
		t.Errorf("got %v: %v", got, err)
	}
}

func TestTimes(t *testing.T) {
	from, to := now.Add(-time.Hour), now.Add(time.Hour)
	d := newDevice(t, pki(), func(s *intel.PlatformSpec) { s.NotBefore, s.NotAfter = from, to })
	quote, v := mint(t, d, nil), NewVerifier(pki().Root)
	for _, c := range []struct {
		at time.Time
		ok bool
	}{{now, true}, {from.Add(-time.Minute), false}, {to.Add(time.Minute), false}, {now, true}, {time.Time{}, false}} {
		got, err := v.Verify(quote, nil, c.at) // the same Verifier: what it remembers must expire too
		if (err == nil) != c.ok || err != nil && !errors.Is(err, intel.ErrTime) {
			t.Errorf("at %v: %v", c.at, err)
		}
		if err == nil {
			if end, what := got.Until(); !end.Equal(to.Truncate(time.Second)) || !strings.Contains(what, "PCK") {
				t.Errorf("until %v (%s)", end, what)
			}
		}
	}
}

func TestCollateral(t *testing.T) {
	d := newDevice(t, pki(), nil)
	quote := mint(t, d, nil)
	other := newDevice(t, pki(), func(s *intel.PlatformSpec) { s.FMSPC[0]++ })
	processor := newDevice(t, pki(), func(s *intel.PlatformSpec) { s.CA = intel.ProcessorCA })
	old := func(s *intel.CollateralSpec) {
		s.TCBInfo.Levels[0].TCB.SGX[2].SVN++
		s.TCBInfo.Levels[0].TCB.SGX[2].Category = "BIOS"
	}
	for name, c := range map[string]struct {
		collateral []byte
		status     intel.TCBStatus
		is         error
	}{
		"up to date":           {collateral(t, pki(), d, nil), intel.UpToDate, nil},
		"out of date":          {collateral(t, pki(), d, func(s *intel.CollateralSpec) { s.TCBInfo.Levels[0].Status = intel.OutOfDate }), intel.OutOfDate, nil},
		"old QE":               {collateral(t, pki(), d, func(s *intel.CollateralSpec) { s.QEIdentity.Levels[0].Status = intel.OutOfDate }), intel.OutOfDate, nil},
		"no level":             {collateral(t, pki(), d, old), "", intel.ErrTCB},
		"revoked PCK":          {collateral(t, pki(), d, func(s *intel.CollateralSpec) { s.RevokedPCKs = []*x509.Certificate{d.platform.PCK.Cert} }), "", intel.ErrRevoked},
		"revoked CA":           {collateral(t, pki(), d, func(s *intel.CollateralSpec) { s.RevokedCAs = []*x509.Certificate{pki().Platform} }), "", intel.ErrRevoked},
		"sibling lost":         {collateral(t, pki(), d, func(s *intel.CollateralSpec) { s.RevokedPCKs = []*x509.Certificate{other.platform.PCK.Cert} }), intel.UpToDate, nil},
		"of another platform":  {collateral(t, pki(), other, nil), "", intel.ErrCollateral},
		"of the other CA":      {collateral(t, pki(), processor, nil), "", intel.ErrCollateral},
		"of another Intel":     {collateral(t, strangers(), d, nil), "", intel.ErrChain},
		"for TDX":              {collateral(t, pki(), d, func(s *intel.CollateralSpec) { *s = d.platform.CollateralSpec(intel.TDX, &intel.TDXPlatform{}, now) }), "", intel.ErrCollateral},
		"another QE's signer":  {collateral(t, pki(), d, func(s *intel.CollateralSpec) { s.QEIdentity.MRSigner = make([]byte, 32) }), "", intel.ErrTCB},
		"expired":              {collateral(t, pki(), d, func(s *intel.CollateralSpec) { s.TCBInfo.NextUpdate = now.Add(-time.Minute) }), "", intel.ErrTime},
		"not yet":              {collateral(t, pki(), d, func(s *intel.CollateralSpec) { s.TCBInfo.IssueDate = now.Add(time.Minute) }), "", intel.ErrTime},
		"list out of date":     {collateral(t, pki(), d, func(s *intel.CollateralSpec) { s.CRLTo = now.Add(-time.Minute) }), "", intel.ErrTime},
		"no collateral at all": {[]byte{0x80}, "", intel.ErrMalformed},
	} {
		v, err := Verify(quote, [][]byte{c.collateral}, now, pki().Root)
		if !errors.Is(err, c.is) {
			t.Errorf("%s: got %v, want %v", name, err, c.is)
			continue
		}
		if err == nil && v.TCB.Status != c.status {
			t.Errorf("%s: status %s, want %s", name, v.TCB.Status, c.status)
		}
	}
	if v, err := Verify(quote, nil, now, pki().Root); err != nil || v.TCB != nil {
		t.Errorf("without collateral: %+v, %v", v, err)
	}
}

// TestAnotherQuotingEnclave signs with a key that a QE of another signer vouches for: only the collateral can tell.
func TestAnotherQuotingEnclave(t *testing.T) {
	d := newDevice(t, pki(), nil)
	c := [][]byte{collateral(t, pki(), d, nil)}
	qe := intel.QE(intel.SGX)
	qe.MRSigner[0] ^= 1
	qe.Attributes[0] |= intel.AttributeDebug
	if err := d.platform.SetQE(rand.Reader, intel.SGX, qe); err != nil {
		t.Fatal(err)
	}
	_, err := Verify(mint(t, d, nil), c, now, pki().Root)
	if got := claims(err); !slices.Equal(got, []string{"MRSIGNER of the QE", "ATTRIBUTES of the QE"}) {
		t.Errorf("got %v: %v", got, err)
	}
}

func TestSavedDevice(t *testing.T) {
	d := newDevice(t, pki(), nil)
	text, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseDevice(text)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Verify(mint(t, again, nil), nil, now, pki().Root)
	if err != nil || v.InstanceID() != d.InstanceID() || !strings.HasPrefix(string(v.Header.UserData[:]), "EMULATED") {
		t.Errorf("got %+v, %v", v, err)
	}
	if _, err := ParseDevice(text[1:]); !errors.Is(err, intel.ErrPKI) {
		t.Errorf("damaged: %v", err)
	}
}
