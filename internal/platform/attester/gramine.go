// SPDX-License-Identifier: Apache-2.0

package attester

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"sealift/evidence"
	"sealift/internal/platform/hw"
)

// graminePath is where Gramine shows its attestation to the program in the enclave (Gramine, "Attestation and Secret
// Provisioning").
const graminePath = "dev/attestation"

// MediaTypeSGX is the media type of an SGX quote; that of package evidence/sgx, which the Agent does not link.
const MediaTypeSGX = "application/vnd.sealift.sgx-quote"

// maxQuote bounds a quote: one with certification data of type 5 has about 5 KiB.
const maxQuote = 64 << 10

// gramine reads quotes from Gramine's pseudo files. The report data that a quote carries is a file that the whole enclave
// shares, so writing it and reading the quote is one step under a lock.
type gramine struct {
	m  Machine
	mu sync.Mutex
}

func (a *gramine) Name() string { return "gramine" }

func (a *gramine) path(name string) string { return filepath.Join(a.m.Root, graminePath, name) }

func (a *gramine) Probe(context.Context) Probe {
	p := Probe{Name: a.Name(), Where: a.path(""), Hardware: evidence.SGX}
	kind, err := os.ReadFile(a.path("attestation_type"))
	if err != nil {
		p.Why = "not there: not inside an SGX enclave under Gramine"
		return p
	}
	p.Found = true
	switch t := strings.TrimSpace(string(kind)); t {
	case "dcap":
		p.Usable, p.Why = true, "quotes by DCAP"
	case "none":
		p.Why = "this enclave was built without remote attestation (sgx.remote_attestation in its manifest)"
	default:
		p.Why = fmt.Sprintf("attestation of type %q, which is not DCAP", t)
	}
	return p
}

func (a *gramine) Evidence(_ context.Context, b [64]byte, _ [32]byte) (hw.Evidence, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, err := os.OpenFile(a.path("user_report_data"), os.O_WRONLY, 0)
	if err != nil {
		return hw.Evidence{}, fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	_, err = f.Write(b[:])
	if closeErr := f.Close(); err != nil || closeErr != nil {
		return hw.Evidence{}, fmt.Errorf("%w: gramine: report data: %v %v", ErrDevice, err, closeErr)
	}
	quote, err := os.ReadFile(a.path("quote"))
	switch {
	case err != nil:
		return hw.Evidence{}, fmt.Errorf("%w: gramine: quote: %w", ErrDevice, err)
	case len(quote) == 0 || len(quote) > maxQuote || !bytes.Contains(quote, b[:]):
		return hw.Evidence{}, fmt.Errorf("%w: gramine: a quote of %d bytes that does not carry the report data", ErrDevice, len(quote))
	}
	return hw.Evidence{Token: quote, MediaType: MediaTypeSGX}, nil
}
