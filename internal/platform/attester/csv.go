// SPDX-License-Identifier: Apache-2.0

package attester

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/emmansun/gmsm/sm3"

	"sealift/evidence"
	"sealift/internal/platform/hw"
)

const (
	csvPath = "dev/csv-guest"
	// csvGetReport is _IOWR('D', 1, struct csv_report_req {__u8 *report_data; int len;}) (Linux, csv-guest.h).
	csvGetReport = 3<<30 | 16<<16 | 'D'<<8 | 1
	csvPage      = 4096
	csvMagic     = "ATTESTATION_EXT\x00"
	csvFlagV2    = 1
	csvMNonce    = 128 // offset of the nonce in a report of either version
)

// MediaTypeCSV is the media type of a CSV report; that of package evidence/csv, which the Agent does not link.
const MediaTypeCSV = "application/vnd.sealift.csv-report"

// csvGuest asks the Hygon secure processor through the guest driver. The request lies in one page: the binding, a nonce
// (mnonce) that keys the MAC over the signer's block, SM3 over both, and the wish for a version 2 report. The answer takes
// the request's place.
type csvGuest struct{ m Machine }

func (a *csvGuest) Name() string { return "csv-guest" }

func (a *csvGuest) Probe(context.Context) Probe {
	p := Probe{Name: a.Name(), Where: filepath.Join(a.m.Root, csvPath), Hardware: evidence.CSV}
	d, err := a.m.Open(p.Where)
	p.Found, p.Usable, p.Why = opened(err, "not there: no CSV guest, or a kernel without its driver")
	if err == nil {
		d.Close()
		p.Why = "the guest driver's device"
	}
	return p
}

// opened says what the error of opening a device means.
func opened(err error, absent string) (found, usable bool, why string) {
	switch {
	case err == nil:
		return true, true, ""
	case errors.Is(err, fs.ErrNotExist):
		return false, false, absent
	case errors.Is(err, fs.ErrPermission):
		return true, false, "this user may not open it"
	}
	return true, false, err.Error()
}

func (a *csvGuest) Evidence(_ context.Context, b [64]byte, _ [32]byte) (hw.Evidence, error) {
	d, err := a.m.Open(filepath.Join(a.m.Root, csvPath))
	if err != nil {
		return hw.Evidence{}, fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	defer d.Close()
	page, err := csvRequest(b, a.m.Rand)
	if err != nil {
		return hw.Evidence{}, err
	}
	asked := bytes.Clone(page)
	arg := make([]byte, 16)
	binary.NativeEndian.PutUint32(arg[8:], csvPage)
	if _, err := d.Ioctl(csvGetReport, arg, page); err != nil {
		return hw.Evidence{}, fmt.Errorf("%w: csv-guest: %w", ErrDevice, err)
	}
	if bytes.Equal(asked, page) {
		return hw.Evidence{}, fmt.Errorf("%w: csv-guest: the driver left the request as it was", ErrDevice)
	}
	return hw.Evidence{Token: wrapCSV(page, asked[64:80]), MediaType: MediaTypeCSV}, nil
}

// wrapCSV puts a report into the wrapper of the vendor's tools, which says its version. Firmware that knows no version 2
// answers with version 1 whatever the wish; there the nonce comes back masked.
func wrapCSV(page, mnonce []byte) []byte {
	out := make([]byte, 20, 20+csvPage)
	if bytes.Equal(page[csvMNonce:csvMNonce+16], mnonce) {
		copy(out, csvMagic)
		binary.LittleEndian.PutUint32(out[16:], csvFlagV2)
	}
	return append(out, page...)
}

// csvRequest lays out the page.
func csvRequest(b [64]byte, rand io.Reader) ([]byte, error) {
	page := make([]byte, 0, csvPage)
	page = append(page, b[:]...)
	mnonce := make([]byte, 16)
	if _, err := io.ReadFull(rand, mnonce); err != nil {
		return nil, fmt.Errorf("csv-guest: making a nonce: %w", err)
	}
	page = append(page, mnonce...)
	sum := sm3.Sum(page)
	page = append(page, sum[:]...)
	page = append(page, csvMagic...)
	page = binary.LittleEndian.AppendUint32(page, csvFlagV2)
	return page[:csvPage], nil
}
