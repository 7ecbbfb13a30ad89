// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"time"

	"sealift/evidence"
)

// collateralValidity is how long Intel's collateral is valid.
const collateralValidity = 30 * 24 * time.Hour

// CollateralSpec describes collateral to make. [Platform.CollateralSpec] gives one that fits a platform; callers change
// what they want different.
type CollateralSpec struct {
	CA         CA // whose PCK CRL
	TCBInfo    TCBInfo
	QEIdentity QEIdentity

	CRLFrom, CRLTo time.Time           // of both lists
	RevokedPCKs    []*x509.Certificate // in the PCK CRL
	RevokedCAs     []*x509.Certificate // in the root CRL
}

// CollateralSpec describes collateral that finds everything about this platform UpToDate: issued an hour before now, valid
// for 30 days. For TDX, td says what the TD report will say of the module; its version (TEE_TCB_SVN[0]) is the one level
// of the module's identity.
func (p *Platform) CollateralSpec(t TEE, td *TDXPlatform, now time.Time) CollateralSpec {
	issued := now.Add(-time.Hour).UTC().Truncate(time.Second)
	next := issued.Add(collateralValidity)
	pceSVN, qe := p.PCK.PCESVN, p.qes[t].data.QEReport
	l := Level{TCB: TCB{SGX: components(p.PCK.SVN), PCESVN: &pceSVN}, Date: issued, Status: UpToDate}
	s := CollateralSpec{CA: p.PCK.CA, CRLFrom: issued, CRLTo: next}
	s.TCBInfo = TCBInfo{ID: t.String(), Version: tcbInfoVersion, IssueDate: issued, NextUpdate: next, FMSPC: p.PCK.FMSPC[:],
		PCEID: p.PCK.PCEID[:], EvaluationNumber: 1}
	if t == TDX {
		m := Module{MRSigner: td.MRSignerSEAM[:], Attributes: td.SEAMAttributes[:], AttributesMask: ones(8)}
		s.TCBInfo.Module = &m
		if td.TEETCBSVN[1] > 0 {
			s.TCBInfo.ModuleIdentities = []ModuleIdentity{{ID: fmt.Sprintf("TDX_%02X", td.TEETCBSVN[1]), Module: m,
				Levels: []Level{enclaveLevel(uint16(td.TEETCBSVN[0]), issued)}}}
		}
		l.TCB.TDX = components(td.TEETCBSVN)
	}
	s.TCBInfo.Levels = []Level{l}
	s.QEIdentity = QEIdentity{ID: qeID(t), Version: qeIdentityVersion, IssueDate: issued, NextUpdate: next, EvaluationNumber: 1,
		MiscSelect: binary.LittleEndian.AppendUint32(nil, qe.MiscSelect), MiscSelectMask: ones(4), Attributes: qe.Attributes[:],
		AttributesMask: ones(16), MRSigner: qe.MRSigner[:], ISVProdID: qe.ISVProdID, Levels: []Level{enclaveLevel(qe.ISVSVN, issued)}}
	s.QEIdentity.AttributesMask[0] = 0xfb // as in Intel's identities: MODE64BIT is left open
	return s
}

func components(svn [componentCount]uint8) []Component {
	out := make([]Component, componentCount)
	for i, n := range svn {
		out[i].SVN = n
	}
	return out
}

func enclaveLevel(svn uint16, date time.Time) Level {
	return Level{TCB: TCB{ISVSVN: &svn}, Date: date, Status: UpToDate}
}

func ones(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = 0xff
	}
	return out
}

// Collateral makes and signs collateral.
func (p *PKI) Collateral(rand io.Reader, s CollateralSpec) (*Collateral, error) {
	ca, caKey := p.ca(s.CA)
	c := &Collateral{TCBInfoChain: [][]byte{p.TCBSigning.Raw, p.Root.Raw}, QEIdentityChain: [][]byte{p.TCBSigning.Raw, p.Root.Raw},
		PCKCRLChain: [][]byte{ca.Raw, p.Root.Raw}}
	var err error
	if c.TCBInfo, err = json.Marshal(&s.TCBInfo); err != nil {
		return nil, fmt.Errorf("make TCB info: %w", err)
	}
	if c.QEIdentity, err = json.Marshal(&s.QEIdentity); err != nil {
		return nil, fmt.Errorf("make a QE identity: %w", err)
	}
	if c.TCBInfoSignature, err = signP256(rand, p.tcbSigning, c.TCBInfo); err != nil {
		return nil, err
	}
	if c.QEIdentitySignature, err = signP256(rand, p.tcbSigning, c.QEIdentity); err != nil {
		return nil, err
	}
	if c.RootCRL, err = s.crl(rand, s.RevokedCAs, p.Root, p.root); err != nil {
		return nil, err
	}
	c.PCKCRL, err = s.crl(rand, s.RevokedPCKs, ca, caKey)
	return c, err
}

func (s *CollateralSpec) crl(rand io.Reader, revoked []*x509.Certificate, issuer *x509.Certificate,
	key *ecdsa.PrivateKey) ([]byte, error) {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: s.CRLFrom, NextUpdate: s.CRLTo,
		SignatureAlgorithm: x509.ECDSAWithSHA256}
	const keyCompromise = 1
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber,
			RevocationTime: s.CRLFrom, ReasonCode: keyCompromise})
	}
	der, err := x509.CreateRevocationList(rand, list, issuer, key)
	if err != nil {
		return nil, fmt.Errorf("make a revocation list: %w", err)
	}
	return der, nil
}

// Anchor returns the root as a trust anchor, marked as emulated, for one of the two architectures.
func (p *PKI) Anchor(hw evidence.Hardware) evidence.Anchor {
	return evidence.Anchor{Cert: p.Root, Name: evidence.EmulatedMark + " " + cnRoot, Hardware: hw, Emulated: true}
}
