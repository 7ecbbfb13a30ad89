// SPDX-License-Identifier: Apache-2.0

// Package tsm is the wrapper in which a confidential virtual machine's Evidence travels as Linux hands it out: the
// "provider", "outblob" and "auxblob" of a report under /sys/kernel/config/tsm/report (Linux,
// Documentation/ABI/testing/configfs-tsm-report), as a CBOR map with these names. The media type is the one that Veraison
// registered for it. One type serves several architectures; the provider tells which.
package tsm

import (
	"errors"
	"fmt"
	"slices"

	"sealift/cose"
)

// MediaType of a report.
const MediaType = "application/vnd.veraison.tsm-report+cbor"

// Providers: the names of the kernel's drivers.
const (
	ProviderSNP = "sev_guest"
	ProviderTDX = "tdx_guest"
	ProviderCCA = "arm_cca_guest"
)

// maxBlob bounds each blob, in bytes.
const maxBlob = 512 << 10

// ErrMalformed reports bytes that are no report.
var ErrMalformed = errors.New("tsm: malformed report")

// Report is a report of the kernel.
type Report struct {
	AuxBlob  []byte `cbor:"auxblob,omitempty"` // SNP: certificate table; else empty
	OutBlob  []byte `cbor:"outblob"`           // what the hardware signed
	Provider string `cbor:"provider"`
}

// Marshal returns the report in deterministic CBOR.
func (r Report) Marshal() []byte {
	m := map[string]any{"outblob": r.OutBlob, "provider": r.Provider}
	if len(r.AuxBlob) > 0 {
		m["auxblob"] = r.AuxBlob
	}
	return cose.MustMarshal(m)
}

// Parse reads a report strictly: its members within bounds, and beside them only "service", which peers write for what a
// service in the guest (an SVSM) adds, also where it is empty; it is not read. Peers do not all sort their maps, so the
// encoding need not be deterministic.
func Parse(data []byte) (*Report, error) {
	var names map[string]any
	if err := cose.Unmarshal(data, &names); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for name := range names {
		if !slices.Contains([]string{"auxblob", "outblob", "provider", "service"}, name) {
			return nil, fmt.Errorf("%w: unknown member %q", ErrMalformed, name)
		}
	}
	var r Report
	if err := cose.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if r.Provider == "" || len(r.OutBlob) == 0 || len(r.OutBlob) > maxBlob || len(r.AuxBlob) > maxBlob {
		return nil, fmt.Errorf("%w: provider %q, outblob of %d bytes, auxblob of %d bytes", ErrMalformed, r.Provider,
			len(r.OutBlob), len(r.AuxBlob))
	}
	return &r, nil
}
