// SPDX-License-Identifier: Apache-2.0

package attester

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/report"

	"sealift/evidence"
	"sealift/evidence/tsm"
	"sealift/internal/platform/hw"
)

// TSMClient is the kernel's report interface as a tree of files.
type TSMClient = configfsi.Client

const tsmPath = "sys/kernel/config/tsm/report"

// MediaTypeCCA is the media type of a CCA token as the kernel hands it out (draft-ffm-rats-cca-token), without the parameter that
// names its profile: firmware of different age signs different ones, and the token says which.
const MediaTypeCCA = "application/eat-collection"

// tsmAttester asks Linux for a report: SEV-SNP, TDX and CCA guests.
type tsmAttester struct{ m Machine }

func (a *tsmAttester) Name() string { return "configfs-tsm" }

var tsmHardware = map[string]evidence.Hardware{
	tsm.ProviderSNP: evidence.SEVSNP, tsm.ProviderTDX: evidence.TDX, tsm.ProviderCCA: evidence.CCA,
}

// Probe makes an entry, asks which driver stands behind it, and removes the entry.
func (a *tsmAttester) Probe(context.Context) Probe {
	p := Probe{Name: a.Name(), Where: filepath.Join(a.m.Root, tsmPath)}
	if a.m.TSM == nil {
		p.Why = "not there: no confidential VM, or a kernel before 6.7, or configfs is not mounted"
		return p
	}
	r, err := report.Create(a.m.TSM, &report.Request{InBlob: make([]byte, 64)})
	if err != nil {
		p.Found = !errors.Is(err, fs.ErrNotExist)
		p.Why = "no entry can be made: " + err.Error()
		return p
	}
	defer destroy(r)
	p.Found = true
	provider, err := r.ReadOption("provider")
	if err != nil {
		p.Why = "there, and no driver of a TEE behind it: " + err.Error()
		return p
	}
	name := strings.TrimSpace(string(provider))
	if p.Hardware = tsmHardware[name]; p.Hardware == "" {
		p.Why = fmt.Sprintf("its driver %q is none that is known here", name)
		return p
	}
	p.Usable, p.Why = true, "driver "+name
	return p
}

// Evidence implements Attester. The library compares the entry's generation before and after, so that nobody else's
// request can come in between.
func (a *tsmAttester) Evidence(_ context.Context, b [64]byte, _ [32]byte) (hw.Evidence, error) {
	if a.m.TSM == nil {
		return hw.Evidence{}, fmt.Errorf("%w: %s", ErrAbsent, tsmPath)
	}
	r, err := report.Create(a.m.TSM, &report.Request{InBlob: b[:]})
	if err != nil {
		return hw.Evidence{}, fmt.Errorf("%w: %s: %w", ErrDevice, a.Name(), err)
	}
	defer destroy(r)
	provider, err := r.ReadOption("provider")
	if err != nil {
		return hw.Evidence{}, fmt.Errorf("%w: %s: provider: %w", ErrDevice, a.Name(), err)
	}
	name := strings.TrimSpace(string(provider))
	r.GetAuxBlob = name == tsm.ProviderSNP // the certificates that the host has; other drivers have no such file
	got, err := r.Get()
	if err != nil {
		return hw.Evidence{}, fmt.Errorf("%w: %s: %w", ErrDevice, a.Name(), err)
	}
	switch tsmHardware[name] {
	case evidence.CCA:
		return hw.Evidence{Token: got.OutBlob, MediaType: MediaTypeCCA}, nil
	case "":
		return hw.Evidence{}, fmt.Errorf("%w: %s: unknown driver %q", ErrDevice, a.Name(), name)
	}
	w := tsm.Report{AuxBlob: got.AuxBlob, OutBlob: got.OutBlob, Provider: name}
	e := hw.Evidence{Token: w.Marshal(), MediaType: tsm.MediaType}
	if log := a.m.eventLog(); name == tsm.ProviderTDX && len(log) > 0 {
		e.Chain = [][]byte{log}
	}
	return e, nil
}

// destroy removes the entry. What cannot be removed is the kernel's; it costs nothing but the entry.
func destroy(r *report.OpenReport) { _ = r.Destroy() }
