// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"sealift/evidence/crl"
	"sealift/evidence/csv"
	"sealift/evidence/intel"
	"sealift/evidence/snp"
)

const (
	kindHygon  = csv.KindChain
	hygonBytes = csv.RootSize + csv.CEKSize // HSK, CEK
)

// Identify says what data is, without verifying it: a certificate of a VCEK or VLEK (DER or PEM), Intel's collateral (see
// intel.ParseCollateral), a revocation list (DER or PEM), or the certificates of a Hygon chip, whose serial number the
// caller has to know.
func Identify(data []byte, serial string) (Item, error) {
	if len(data) > maxFile {
		return Item{}, fmt.Errorf("%w: %d bytes", ErrUnknown, len(data))
	}
	if item, err := identifyIntel(data); err == nil {
		return item, nil
	}
	if list, err := crl.Parse(data); err == nil {
		return itemOfCRL(list), nil
	}
	if len(data) == hygonBytes {
		return identifyHygon(data, serial)
	}
	der := data
	if block, _ := pem.Decode(data); block != nil && block.Type == "CERTIFICATE" {
		der = block.Bytes
	}
	kind, key, cert, err := snp.IdentifyEndorsement(der)
	if err != nil {
		return Item{}, fmt.Errorf("%w: neither Intel's collateral, a revocation list, a certificate of AMD's (%w), nor Hygon's",
			ErrUnknown, err)
	}
	return Item{Kind: kind, Key: key, What: "certificate " + cert.Subject.CommonName + " of " + product(key),
		From: cert.NotBefore, Until: cert.NotAfter, Ends: "certificate " + cert.Subject.CommonName}, nil
}

func product(key string) string {
	p, _, _ := strings.Cut(key, "/")
	return p
}

// itemOfCRL names a list by its issuer: the first half of the SHA-256 of the issuer's name, which stays over all editions.
func itemOfCRL(list *x509.RevocationList) Item {
	sum := sha256.Sum256(list.RawIssuer)
	return Item{Kind: KindCRL, Key: hex.EncodeToString(sum[:16]), What: "revocation list of " + list.Issuer.String(),
		From: list.ThisUpdate, Until: list.NextUpdate, Ends: "revocation list of " + list.Issuer.CommonName}
}

func identifyHygon(data []byte, serial string) (Item, error) {
	if !segment.MatchString(serial) {
		return Item{}, fmt.Errorf("%w: certificates of a Hygon chip; they do not name it, so its serial number is needed", ErrUnknown)
	}
	return Item{Kind: kindHygon, Key: serial, What: "certificates HSK and CEK of Hygon chip " + serial}, nil
}

func identifyIntel(data []byte) (Item, error) {
	c, err := intel.ParseCollateral(data)
	if err != nil {
		return Item{}, err
	}
	var info intel.TCBInfo
	if err := json.Unmarshal(c.TCBInfo, &info); err != nil {
		return Item{}, err
	}
	tee := intel.SGX
	if info.ID == intel.TDX.String() {
		tee = intel.TDX
	}
	ca, err := pckCA(c)
	if err != nil || len(info.FMSPC) != 6 {
		return Item{}, fmt.Errorf("%w: TCB info for FMSPC %x: %w", ErrUnknown, []byte(info.FMSPC), err)
	}
	pck := intel.PCK{FMSPC: [6]byte(info.FMSPC), CA: ca}
	item := Item{Kind: intel.EndorsementKind(tee), Key: pck.EndorsementKey(), From: info.IssueDate,
		What: fmt.Sprintf("%s collateral for FMSPC %x (%s CA), evaluation %d", tee, []byte(info.FMSPC), ca, info.EvaluationNumber)}
	item.ends(info.NextUpdate, "TCB info")
	var qe intel.QEIdentity
	if err := json.Unmarshal(c.QEIdentity, &qe); err != nil {
		return Item{}, err
	}
	item.ends(qe.NextUpdate, "QE identity")
	for name, der := range map[string][]byte{"root CRL": c.RootCRL, "PCK CRL": c.PCKCRL} {
		list, err := crl.Parse(der)
		if err != nil {
			return Item{}, err
		}
		item.ends(list.NextUpdate, name)
	}
	return item, nil
}

// ends lowers the item's end.
func (i *Item) ends(at time.Time, what string) {
	if i.Until.IsZero() || at.Before(i.Until) {
		i.Until, i.Ends = at, what
	}
}

// pckCA tells by the issuer of the PCK CRL which CA the platform's certificate is of.
func pckCA(c *intel.Collateral) (intel.CA, error) {
	list, err := crl.Parse(c.PCKCRL)
	if err != nil {
		return "", err
	}
	for _, ca := range []intel.CA{intel.PlatformCA, intel.ProcessorCA} {
		if strings.Contains(strings.ToLower(list.Issuer.CommonName), string(ca)) {
			return ca, nil
		}
	}
	return "", fmt.Errorf("a PCK CRL of %q", list.Issuer.CommonName)
}
