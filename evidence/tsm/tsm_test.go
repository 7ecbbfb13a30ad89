// SPDX-License-Identifier: Apache-2.0

package tsm_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"sealift/cose"
	"sealift/evidence/tsm"
)

// TestReport guards the names of the members, which are the kernel's, and that what is written is read.
func TestReport(t *testing.T) {
	data := tsm.Report{OutBlob: []byte{1, 2}, AuxBlob: []byte{3}, Provider: tsm.ProviderSNP}.Marshal()
	const want = "a36761757862 6c6f624103676f7574626c6f624201026870726f7669646572697365765f6775657374"
	if got := hex.EncodeToString(data); got != string(bytes.ReplaceAll([]byte(want), []byte(" "), nil)) {
		t.Error(got)
	}
	r, err := tsm.Parse(data)
	if err != nil || r.Provider != tsm.ProviderSNP || !bytes.Equal(r.OutBlob, []byte{1, 2}) || !bytes.Equal(r.AuxBlob, []byte{3}) {
		t.Errorf("%+v %v", r, err)
	}
}

// TestPeers guards that a report with an empty service, as peers write it, is read, and that nothing else is.
func TestPeers(t *testing.T) {
	ok := map[string]any{"outblob": []byte{1}, "provider": "tdx_guest", "service": map[string]any{}}
	if _, err := tsm.Parse(cose.MustMarshal(ok)); err != nil {
		t.Error(err)
	}
	for name, m := range map[string]map[string]any{
		"no provider": {"outblob": []byte{1}},
		"no outblob":  {"provider": "tdx_guest"},
		"more":        {"outblob": []byte{1}, "provider": "tdx_guest", "x": 1},
		"large":       {"outblob": make([]byte, 1<<20), "provider": "tdx_guest"},
		"type":        {"outblob": "text", "provider": "tdx_guest"},
	} {
		if _, err := tsm.Parse(cose.MustMarshal(m)); !errors.Is(err, tsm.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(tsm.Report{OutBlob: []byte{1, 2}, AuxBlob: []byte{3}, Provider: tsm.ProviderTDX}.Marshal())
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := tsm.Parse(data)
		if err != nil {
			return
		}
		again, err := tsm.Parse(r.Marshal())
		if err != nil || again.Provider != r.Provider || !bytes.Equal(again.OutBlob, r.OutBlob) || !bytes.Equal(again.AuxBlob, r.AuxBlob) {
			t.Errorf("%+v is read again as %+v, %v", r, again, err)
		}
	})
}
