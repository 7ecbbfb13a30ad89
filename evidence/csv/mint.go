// SPDX-License-Identifier: Apache-2.0

package csv

import (
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"

	"github.com/emmansun/gmsm/sm2"

	"sealift/evidence"
)

// ErrPKI reports a saved PKI that cannot be used.
var ErrPKI = errors.New("csv: saved emulated PKI")

// maxSerial is the longest serial number of a chip, in bytes.
const maxSerial = 64

// PKI is an emulated Hygon: root key and signing key with their certificates. The user ids, by which signatures are made,
// carry the word EMULATED.
type PKI struct {
	Root     *Root
	HSK      []byte // certificate
	hrk, hsk *sm2.PrivateKey
	hskUID   []byte
}

// NewPKI makes a PKI.
func NewPKI(rand io.Reader) (*PKI, error) {
	p := &PKI{hskUID: uid("HSK")}
	var err error
	if p.hrk, err = sm2.GenerateKey(rand); err != nil {
		return nil, fmt.Errorf("make an emulated root: %w", err)
	}
	if p.hsk, err = sm2.GenerateKey(rand); err != nil {
		return nil, fmt.Errorf("make an emulated root: %w", err)
	}
	var ids [2][16]byte
	for i := range ids {
		if _, err := io.ReadFull(rand, ids[i][:]); err != nil {
			return nil, fmt.Errorf("make an emulated root: %w", err)
		}
	}
	hrk, err := p.issueCA(rand, wireCA{Version: 1, KeyID: ids[0], Issuer: ids[0], Usage: usageHRK, Key: encodeKey(p.hrk, uid("HRK"))})
	if err != nil {
		return nil, err
	}
	if p.HSK, err = p.issueCA(rand, wireCA{Version: 1, KeyID: ids[1], Issuer: ids[0], Usage: usageHSK, Key: encodeKey(p.hsk, p.hskUID)}); err != nil {
		return nil, err
	}
	p.Root, err = ParseRoot(hrk)
	return p, err
}

func uid(role string) []byte { return []byte("SEALIFT-" + evidence.EmulatedMark + "-" + role) }

func (p *PKI) issueCA(rand io.Reader, w wireCA) ([]byte, error) {
	var err error
	if w.Signature, err = sign(rand, p.hrk, uid("HRK"), encode(&w)[:caSigned]); err != nil {
		return nil, fmt.Errorf("certify an %v: %w", w.Usage, err)
	}
	return encode(&w), nil
}

// Marshal returns the PKI's certificates and private keys, to be kept where only their owner can read them.
func (p *PKI) Marshal() []byte {
	out := append(p.Root.Raw(), p.HSK...)
	for _, k := range []*sm2.PrivateKey{p.hrk, p.hsk} {
		out = append(out, k.D.FillBytes(make([]byte, sm2Size))...)
	}
	return out
}

// ParsePKI reads what [PKI.Marshal] wrote.
func ParsePKI(data []byte) (*PKI, error) {
	if len(data) != 2*RootSize+2*sm2Size {
		return nil, fmt.Errorf("%w: %d bytes", ErrPKI, len(data))
	}
	root, err := ParseRoot(data[:RootSize])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPKI, err)
	}
	hsk, err := parseCA(data[RootSize:2*RootSize], usageHSK)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPKI, err)
	}
	p := &PKI{Root: root, HSK: hsk.raw, hskUID: hsk.uid}
	keys := data[2*RootSize:]
	p.hrk, err = sm2.NewPrivateKey(keys[:sm2Size])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPKI, err)
	}
	if p.hsk, err = sm2.NewPrivateKey(keys[sm2Size:]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPKI, err)
	}
	if !root.Emulated() || hsk.issued(root.cert) != nil || !p.hrk.PublicKey.Equal(root.cert.key) || !p.hsk.PublicKey.Equal(hsk.key) {
		return nil, fmt.Errorf("%w: keys and certificates do not belong together", ErrPKI)
	}
	return p, nil
}

// Device is what an emulated chip signs with.
type Device struct {
	Serial string
	Chain  [][]byte // certificates of HSK and CEK
	pek    *sm2.PrivateKey
	cert   []byte // of the PEK
}

// NewDevice makes a chip with that serial number: a CEK under the HSK, and a PEK under the CEK.
func (p *PKI) NewDevice(rand io.Reader, serial string) (*Device, error) {
	cek, err := sm2.GenerateKey(rand)
	if err != nil {
		return nil, fmt.Errorf("make a CEK: %w", err)
	}
	pek, err := sm2.GenerateKey(rand)
	if err != nil {
		return nil, fmt.Errorf("make a PEK: %w", err)
	}
	hsk, err := parseCA(p.HSK, usageHSK)
	if err != nil {
		return nil, err
	}
	cekCert, err := issueCSV(rand, wireCSV{Version: 2, Usage: usageCEK, Key: encodeKey(cek, uid("CEK")), Issuer: hsk.keyID}, usageHSK, p.hsk, p.hskUID)
	if err != nil {
		return nil, err
	}
	pekCert, err := issueCSV(rand, wireCSV{Version: 1, Usage: usagePEK, Key: encodeKey(pek, uid("PEK"))}, usageCEK, cek, uid("CEK"))
	if err != nil {
		return nil, err
	}
	return &Device{Serial: serial, Chain: [][]byte{p.HSK, cekCert}, pek: pek, cert: pekCert}, nil
}

// Marshal returns certificates and private key, to be kept where only their owner can read them.
func (d *Device) Marshal() []byte {
	out := slices.Concat(d.Chain[0], d.Chain[1], d.cert, d.pek.D.FillBytes(make([]byte, sm2Size)))
	return append(out, d.Serial...)
}

// ParseDevice reads what [Device.Marshal] wrote.
func ParseDevice(data []byte) (*Device, error) {
	const certs = RootSize + 2*CEKSize
	if len(data) < certs+sm2Size || len(data) > certs+sm2Size+maxSerial {
		return nil, fmt.Errorf("%w: device of %d bytes", ErrPKI, len(data))
	}
	pek, err := sm2.NewPrivateKey(data[certs : certs+sm2Size])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPKI, err)
	}
	d := &Device{Chain: [][]byte{data[:RootSize], data[RootSize : RootSize+CEKSize]}, cert: data[RootSize+CEKSize : certs], pek: pek,
		Serial: string(data[certs+sm2Size:])}
	cert, err := parseCSV(d.cert, usagePEK)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPKI, err)
	}
	if !pek.PublicKey.Equal(cert.key) {
		return nil, fmt.Errorf("%w: keys and certificates do not belong together", ErrPKI)
	}
	return d, nil
}

// Chip is the identity of the chip; see [Verified.Chip].
func (d *Device) Chip() [32]byte { return sha256.Sum256(d.Chain[1]) }

func issueCSV(rand io.Reader, w wireCSV, by usage, key *sm2.PrivateKey, uid []byte) ([]byte, error) {
	w.Alg = algSM2Sign
	signature, err := sign(rand, key, uid, encode(&w)[:csvSigned])
	if err != nil {
		return nil, fmt.Errorf("certify a %v: %w", w.Usage, err)
	}
	w.Signatures = [2]wireSlot{{Usage: by, Alg: algSM2Sign, Signature: signature}, {Usage: usageNone}}
	return encode(&w), nil
}

// Mint signs a report as the secure processor does: version 1 bare, version 2 in its wrapper. The serial number is the
// device's; register 0 of version 2 is Measure.
func (d *Device) Mint(rand io.Reader, r Report) ([]byte, error) {
	if len(d.Serial) > maxSerial || r.Version != 1 && r.Version != 2 {
		return nil, fmt.Errorf("%w: version %d, serial number %q", ErrMalformed, r.Version, d.Serial)
	}
	m := &Message{report: r}
	copy(m.signer.PEK[:], d.cert)
	copy(m.signer.Serial[:], d.Serial)
	head := wireHead{UserKeyDigest: r.UserKeyDigest, VMID: r.VMID, VMVersion: r.VMVersion, ReportData: r.ReportData, MNonce: r.MNonce,
		Measure: r.Measure, Policy: uint32(r.Policy), SigUsage: usagePEK, SigAlg: algSM2Sign}
	if r.Version == 2 {
		return d.mintV2(rand, m, head)
	}
	mask := [4]byte(binary.LittleEndian.AppendUint32(nil, r.ANonce))
	xor(m.signer.PEK[:], mask)
	xor(m.signer.Serial[:], mask)
	m.signer.MAC = [32]byte(m.mac())
	out := encode(&wireV1{wireHead: head, ANonce: r.ANonce, Signer: m.signer})
	xor(out[:signedV1+8], mask)
	return d.finish(rand, out, signedV1, signedV1+12)
}

func (d *Device) mintV2(rand io.Reader, m *Message, head wireHead) ([]byte, error) {
	r := &m.report
	m.signer.MAC = [32]byte(m.mac())
	r.RTMR[0] = r.Measure
	out, err := d.finish(rand, encode(&wireV2{wireHead: head, Build: r.Build, RTMRVersion: r.RTMRVersion, RTMR: r.RTMR, Signer: m.signer}),
		signedV2, signedV2)
	if err != nil {
		return nil, err
	}
	wrapped := make([]byte, wrappedSize)
	copy(wrapped, magicExt[:])
	wrapped[16] = 1
	copy(wrapped[20:], out)
	return wrapped, nil
}

// finish signs the first bytes of a report and puts the signature where it belongs.
func (d *Device) finish(rand io.Reader, report []byte, signed, at int) ([]byte, error) {
	signature, err := sign(rand, d.pek, uid("PEK"), report[:signed])
	if err != nil {
		return nil, fmt.Errorf("sign a CSV report: %w", err)
	}
	copy(report[at:], encode(&signature))
	return report, nil
}

func sign(rand io.Reader, key *sm2.PrivateKey, uid, msg []byte) (wireSignature, error) {
	der, err := key.SignWithSM2(rand, uid, msg)
	if err != nil {
		return wireSignature{}, err
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		return wireSignature{}, fmt.Errorf("signer's output: %w", err)
	}
	return wireSignature{R: littleEndian(rs.R), S: littleEndian(rs.S)}, nil
}

func encodeKey(key *sm2.PrivateKey, uid []byte) wireKey {
	w := wireKey{Curve: curveSM2, X: littleEndian(key.X), Y: littleEndian(key.Y), UIDSize: uint16(len(uid))}
	copy(w.UID[:], uid)
	return w
}

// encode returns the bytes of a structure of fixed size.
func encode(w any) []byte {
	out, err := binary.Append(nil, binary.LittleEndian, w)
	if err != nil {
		panic(err) // all structures of this package have a fixed size
	}
	return out
}
