// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"sealift/evidence"
	"sealift/evidence/crl"
	"sealift/evidence/intel"
	"sealift/evidence/snp"
)

// Addresses of the vendors' services.
const (
	AMD         = "https://kdsintf.amd.com"
	Intel       = "https://api.trustedservices.intel.com"
	IntelRootCA = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
	Hygon       = "https://cert.hygon.cn"
)

// Errors of a Fetcher.
var (
	// ErrFetch means that a service could not be reached, or answered with something else; the text says which and what.
	ErrFetch = errors.New("collateral: fetching")
	// ErrNoSource means that no service gives this kind.
	ErrNoSource = errors.New("collateral: no service gives this")
)

// Fetcher asks the vendors' services for collateral.
//
// AMD's Key Distribution Service (publication 57230, chapter 4), Intel's Provisioning Certification Service (API version 4)
// or a PCCS with the same paths, Hygon's certificate service.
type Fetcher struct {
	HTTP *http.Client
	// Addresses without a slash at the end; the constants above where empty.
	AMD, Intel, IntelRootCRL, Hygon string
}

// Fetch gets what verifiers ask for under kind and key, and adds it to the store. What comes back has to be just that; its
// signatures are checked by the verifiers.
func (f *Fetcher) Fetch(ctx context.Context, s *Store, kind, key string) ([]Item, error) {
	var bodies [][]byte
	var err error
	serial := ""
	switch kind {
	case snp.KindVCEK:
		bodies, err = f.amd(ctx, key)
	case intel.EndorsementKind(intel.SGX):
		bodies, err = f.intel(ctx, intel.SGX, key)
	case intel.EndorsementKind(intel.TDX):
		bodies, err = f.intel(ctx, intel.TDX, key)
	case kindHygon:
		serial = key
		bodies, err = f.one(ctx, cmp.Or(f.Hygon, Hygon)+"/hsk_cek?snumber="+url.QueryEscape(key), nil)
	default:
		return nil, fmt.Errorf("%w: %s (a VLEK's certificate comes from the cloud provider)", ErrNoSource, kind)
	}
	if err != nil {
		return nil, err
	}
	return f.keep(s, bodies, kind, key, serial)
}

// keep adds what came, after checking that it is what was asked for.
func (f *Fetcher) keep(s *Store, bodies [][]byte, kind, key, serial string) ([]Item, error) {
	var items []Item
	for _, body := range bodies {
		item, err := Identify(body, serial)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFetch, err)
		}
		if item.Kind != KindCRL && (item.Kind != kind || item.Key != key) {
			return nil, fmt.Errorf("%w: asked for %s %s, got %s %s", ErrFetch, kind, key, item.Kind, item.Key)
		}
	}
	for _, body := range bodies {
		item, err := s.Add(body, serial)
		if err != nil {
			return items, err
		}
		items = append(items, item)
	}
	return items, nil
}

// amd gets a VCEK's certificate and the revocation list of its product.
func (f *Fetcher) amd(ctx context.Context, key string) ([][]byte, error) {
	parts := strings.Split(key, "/")
	if len(parts) != 3 {
		return nil, fmt.Errorf("%w: %q", ErrKey, key)
	}
	product := snp.Product(parts[0])
	chip, chipErr := hex.DecodeString(parts[1])
	raw, rawErr := hex.DecodeString(parts[2])
	if chipErr != nil || rawErr != nil || len(chip) != 64 || len(raw) != 8 {
		return nil, fmt.Errorf("%w: %q", ErrKey, key)
	}
	tcb := snp.RawTCB(raw).TCB(product)
	query := fmt.Sprintf("blSPL=%02d&teeSPL=%02d&snpSPL=%02d&ucodeSPL=%02d", tcb.Bootloader, tcb.TEE, tcb.SNP, tcb.Microcode)
	if product == snp.Turin {
		chip = chip[:8]
		query = fmt.Sprintf("fmcSPL=%02d&", tcb.FMC) + query
	}
	base := cmp.Or(f.AMD, AMD) + "/vcek/v1/" + url.PathEscape(parts[0]) + "/"
	cert, err := f.get(ctx, base+hex.EncodeToString(chip)+"?"+query, nil)
	if err != nil {
		return nil, err
	}
	list, err := f.get(ctx, base+"crl", nil)
	if err != nil {
		return nil, err
	}
	return [][]byte{cert, list}, nil
}

// intel gets the four documents of a platform and puts them together.
func (f *Fetcher) intel(ctx context.Context, tee intel.TEE, key string) ([][]byte, error) {
	fmspc, ca, ok := strings.Cut(key, ".")
	if b, err := hex.DecodeString(fmspc); err != nil || len(b) != 6 || !ok {
		return nil, fmt.Errorf("%w: %q", ErrKey, key)
	}
	base := cmp.Or(f.Intel, Intel)
	own := fmt.Sprintf("%s/%s/certification/v4/", base, strings.ToLower(tee.String()))
	var r intel.PCSResponses
	for _, part := range []struct {
		url         string
		body, chain *[]byte
		header      string
	}{
		{own + "tcb?fmspc=" + fmspc, &r.TCBInfo, &r.TCBInfoChain, "TCB-Info-Issuer-Chain"},
		{own + "qe/identity", &r.QEIdentity, &r.QEIdentityChain, "SGX-Enclave-Identity-Issuer-Chain"},
		{base + "/sgx/certification/v4/pckcrl?encoding=der&ca=" + url.QueryEscape(ca), &r.PCKCRL, &r.PCKCRLChain, "SGX-PCK-CRL-Issuer-Chain"},
		{f.intelRootCRL(), &r.RootCRL, nil, ""},
	} {
		var header http.Header
		var err error
		if *part.body, err = f.get(ctx, part.url, &header); err != nil {
			return nil, err
		}
		if part.chain != nil {
			*part.chain = []byte(header.Get(part.header))
		}
	}
	c, err := r.Collateral()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	return [][]byte{c.Marshal()}, nil
}

// intelRootCRL is a file of Intel's, or the PCCS's copy.
func (f *Fetcher) intelRootCRL() string {
	switch {
	case f.IntelRootCRL != "":
		return f.IntelRootCRL
	case f.Intel != "":
		return f.Intel + "/sgx/certification/v4/rootcacrl"
	}
	return IntelRootCA
}

func (f *Fetcher) one(ctx context.Context, address string, header *http.Header) ([][]byte, error) {
	body, err := f.get(ctx, address, header)
	return [][]byte{body}, err
}

// get makes one request. Bodies are bounded.
func (f *Fetcher) get(ctx context.Context, address string, header *http.Header) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	resp, err := f.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %s answers %s", ErrFetch, address, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, crl.MaxSize+1))
	if err != nil || len(body) > crl.MaxSize {
		return nil, fmt.Errorf("%w: %s: %d bytes: %v", ErrFetch, address, len(body), err)
	}
	if header != nil {
		*header = resp.Header
	}
	return body, nil
}

// Wanted records what verifiers ask for and do not get. It implements evidence.Endorsements around another one, for one
// goroutine.
type Wanted struct {
	From  evidence.Endorsements
	Asked []Asked // each once
	All   bool    // record also what is there
}

// Asked is what a verifier asked for.
type Asked struct {
	Kind string `json:"kind"`
	Key  string `json:"key"`
}

// Find asks the other one.
func (w *Wanted) Find(kind, key string) [][]byte {
	found := w.From.Find(kind, key)
	if a := (Asked{kind, key}); (len(found) == 0 || w.All) && !slices.Contains(w.Asked, a) {
		w.Asked = append(w.Asked, a)
	}
	return found
}

// RevocationLists implements evidence.RevocationLists.
func (w *Wanted) RevocationLists() []*x509.RevocationList {
	if kept, ok := w.From.(evidence.RevocationLists); ok {
		return kept.RevocationLists()
	}
	return nil
}
