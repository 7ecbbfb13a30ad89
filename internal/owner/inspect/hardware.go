// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"encoding/hex"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"sealift/appraisal"
	"sealift/appraisal/corim"
	"sealift/appraisal/ear"
	"sealift/evidence"
	"sealift/evidence/all"
	"sealift/internal/owner/exhibit"
)

// readHardware shows what hardware signed, in the formats that are no CBOR: reports of SEV-SNP and CSV, quotes of SGX and TDX.
func readHardware(f *File, data []byte, _ *Keys) bool {
	x, err := exhibit.Read(data)
	if err != nil || x.Bundle != nil {
		return false
	}
	f.Kind = x.Form
	f.hardware(x)
	return true
}

// hardware adds what Evidence of hardware says. Nothing of it is verified: no anchor is trusted here.
func (f *File) hardware(x *exhibit.Exhibit) {
	f.Checks = append(f.Checks, Check{What: x.Form, State: Unverified, Detail: "that needs the vendor's root: sealift verify does it"})
	for _, v := range append(all.New(), evidence.PSA()) {
		if !slices.Contains(v.MediaTypes(), x.Hardware.MediaType) || !v.Reads(x.Hardware) {
			continue
		}
		s, _ := v.VerifyHardware(x.Hardware, evidence.HardwareInput{Now: time.Unix(0, 0)})
		if s == nil {
			return
		}
		f.Facts = append(f.Facts, "hardware "+string(v.Hardware()))
		for _, m := range s.Measurements {
			f.Facts = append(f.Facts, fmt.Sprintf("measurement %s %x (%s)", m.Name, m.Value, m.Source))
		}
		if len(s.Config) > 0 {
			f.Facts = append(f.Facts, fmt.Sprintf("configuration %s %x", s.ConfigField, s.Config))
		}
		f.Facts = append(f.Facts, "report data "+hex.EncodeToString(s.ReportData))
		for _, name := range slices.Sorted(maps.Keys(s.Fields)) {
			f.Facts = append(f.Facts, "field "+name+": "+fieldText(s.Fields[name]))
		}
		return
	}
}

// fieldText prints a field as rules compare it.
func fieldText(v any) string {
	if s, ok := v.(fmt.Stringer); ok {
		return s.String()
	}
	r := reflect.ValueOf(v)
	if k := r.Kind(); (k == reflect.Slice || k == reflect.Array) && r.Type().Elem().Kind() == reflect.Uint8 {
		return fmt.Sprintf("%x", v)
	}
	if r.Kind() == reflect.Struct {
		var parts []string
		for i := range r.NumField() {
			if t := r.Type().Field(i); t.IsExported() {
				parts = append(parts, t.Name+" "+fieldText(r.Field(i).Interface()))
			}
		}
		return strings.Join(parts, ", ")
	}
	return fmt.Sprint(v)
}

// result adds what an EAR says.
func (f *File) result(data []byte) {
	e, err := ear.ParseInsecure(data)
	if err != nil {
		return
	}
	f.Facts = append(f.Facts, fmt.Sprintf("EAR of %s, build %s, issued %s, profile %s", e.Verifier.Developer, e.Verifier.Build,
		e.IssuedAt.Format(time.RFC3339), e.Profile))
	for _, name := range slices.Sorted(maps.Keys(e.Submods)) {
		a := e.Submods[name]
		var parts []string
		for _, claim := range appraisal.VectorClaims() {
			if v := a.Vector[claim]; v != 0 {
				parts = append(parts, fmt.Sprintf("%s %d", claim, v))
			}
		}
		f.Facts = append(f.Facts, strings.TrimSuffix(fmt.Sprintf("submodule %s: %s; %s", name, a.Status, strings.Join(parts, ", ")), "; "))
	}
}

// manifest adds what of a CoRIM can be imported into a policy.
func (f *File) manifest(data []byte) bool {
	m, err := corim.Parse(data)
	if err != nil {
		return false
	}
	f.Facts = append(f.Facts, fmt.Sprintf("CoRIM %s, profiles %v", m.ID, m.Profiles))
	for i := range m.References {
		f.Facts = append(f.Facts, "reference value "+m.References[i].String())
	}
	for _, line := range m.Ignored {
		f.Facts = append(f.Facts, "not for policies: "+line)
	}
	return true
}
