// SPDX-License-Identifier: Apache-2.0

package all_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/appraisal"
	"sealift/evidence"
	"sealift/evidence/cca"
	"sealift/evidence/tdx"
)

var update = flag.Bool("update", false, "write the golden files")

// pinned makes a policy that accepts exactly what v says: every measurement and every field.
func pinned(t testing.TB, v *evidence.Verified) *appraisal.Policy {
	t.Helper()
	in := appraisal.NewPolicyInput{Name: "pinned", Hardware: []evidence.Hardware{v.Hardware}, Roots: []evidence.Anchor{v.Root}}
	for _, m := range v.Measurements {
		in.Launch = append(in.Launch, appraisal.Launch{Hardware: v.Hardware, Name: m.Name, Digest: m.Value, Source: "the unchanged Evidence"})
	}
	p, err := appraisal.NewPolicy(in)
	must(t, err)
	pin := func(name string, value any) {
		p.Rules = append(p.Rules, appraisal.Rule{Name: name, Field: name, Op: appraisal.OpEquals, Value: appraisal.TextValue(textOf(value))})
	}
	for _, name := range slices.Sorted(maps.Keys(v.Fields)) {
		value := v.Fields[name]
		r := reflect.ValueOf(value)
		if _, list := value.([]string); list {
			continue // Intel's advisories, none here
		}
		if _, plain := value.(fmt.Stringer); plain || r.Kind() != reflect.Struct {
			pin(name, value)
			continue
		}
		for i := range r.NumField() {
			pin(name+"."+r.Type().Field(i).Name, r.Field(i).Interface())
		}
	}
	must(t, p.Validate())
	return p
}

// textOf prints a field as policies write it.
func textOf(v any) string {
	switch x := v.(type) {
	case time.Time:
		return x.UTC().Format(time.RFC3339)
	case fmt.Stringer:
		return x.String()
	case []byte:
		return hex.EncodeToString(x)
	}
	return fmt.Sprint(v)
}

// leaves calls visit for every part of what the hardware signs, with its name and a function that alters it.
func leaves(v reflect.Value, name string, visit func(name string, alter func())) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				leaves(v.Field(i), strings.TrimPrefix(name+"."+f.Name, "."), visit)
			}
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if v.Len() > 0 {
				visit(name, func() {
					b := make([]byte, v.Len())
					reflect.Copy(reflect.ValueOf(b), v)
					b[len(b)/2] ^= 1
					if v.Kind() == reflect.Slice {
						v.SetBytes(b)
						return
					}
					reflect.Copy(v, reflect.ValueOf(b))
				})
			}
			return
		}
		for i := range v.Len() {
			leaves(v.Index(i), fmt.Sprintf("%s[%d]", name, i), visit)
		}
	case reflect.Bool:
		visit(name, func() { v.SetBool(!v.Bool()) })
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		visit(name, func() { v.SetUint(v.Uint() ^ 1) })
	case reflect.Int, reflect.Int32:
		visit(name, func() { v.SetInt(v.Int() + 1) })
	case reflect.String:
		visit(name, func() { v.SetString(v.String() + "x") })
	}
}

// outcome verifies and appraises, and says which claims were named.
func (w *world) outcome(data []byte, p *appraisal.Policy) string {
	result, _ := appraisal.AppraiseBundle(data, w.input(), p, appraisal.Expect{ConfigDigest: &w.claims.ConfigDigest, ConfigSource: "the test"})
	if result.OK() {
		return "ACCEPTED"
	}
	var out []string
	for _, f := range result.Failed() {
		out = append(out, f.Claim+" ["+f.Code+"]")
	}
	return strings.Join(slices.Compact(out), "; ")
}

// mintedAnew are the fields that a device does not take from its caller, or that its report does not have.
var mintedAnew = map[evidence.Hardware][]string{
	evidence.SEVSNP: {"Signature"},
	evidence.CCA:    {"Wrapper", "Realm.Profile"},                      // the tag is known, the profile follows from the platform's
	evidence.TDX:    {"TEETCBSVN2", "MRServiceTD"},                     // of TD reports 1.5, which are a form of their own
	evidence.CSV:    {"MNonce", "ANonce", "RTMR[0]", "SerialInsecure"}, // of each report anew; of version 1; MEASURE; the chip's
}

// forms are what devices sign: one for each architecture, and TD reports 1.5 beside those of 1.0.
var forms = map[string]struct {
	hw   evidence.Hardware
	base func(content any) // makes the form; nil: what the emulated device signs
}{
	"trustzone": {evidence.TrustZone, nil}, "sgx": {evidence.SGX, nil}, "sev-snp": {evidence.SEVSNP, nil}, "cca": {evidence.CCA, nil},
	"tdx": {evidence.TDX, nil}, "csv": {evidence.CSV, nil},
	"tdx-1.5": {evidence.TDX, func(content any) {
		r := content.(*tdx.Report)
		r.Extended, r.TEETCBSVN2 = true, r.TEETCBSVN
	}},
}

// TestAlteredField alters each field of what the hardware signs, before it signs it, and compares what the explanation names
// with a golden file. The policy pins every measurement and every field, so nothing may be accepted.
func TestAlteredField(t *testing.T) {
	for form, c := range forms {
		t.Run(form, func(t *testing.T) {
			w := newWorld(t, c.hw)
			var names []string
			w.change = func(content any) {
				if c.base != nil {
					c.base(content)
				}
				leaves(reflect.ValueOf(content).Elem(), "", func(name string, _ func()) { names = append(names, name) })
			}
			data := w.bundle(t)
			v, err := evidence.Verify(data, w.input())
			must(t, err)
			w.claims.ConfigDigest = v.Claims.ConfigDigest
			policy := pinned(t, v)
			if got := w.outcome(data, policy); got != "ACCEPTED" {
				t.Fatalf("unchanged: %s", got)
			}
			var lines strings.Builder
			for _, name := range names {
				got := w.altered(name, policy, c.base)
				fmt.Fprintf(&lines, "%s: %s\n", name, got)
				if (got == "ACCEPTED") != (c.base == nil && slices.Contains(mintedAnew[c.hw], name)) {
					t.Errorf("%s altered: %s", name, got)
				}
			}
			golden(t, filepath.Join("testdata", "altered-"+form+".txt"), lines.String())
		})
	}
}

// altered is the outcome where the one field is another.
func (w *world) altered(field string, p *appraisal.Policy, base func(any)) string {
	w.change = func(content any) {
		if base != nil {
			base(content)
		}
		leaves(reflect.ValueOf(content).Elem(), "", func(name string, alter func()) {
			if name == field {
				alter()
			}
		})
	}
	defer func() { w.change = nil }()
	data, err := w.collect()
	if err != nil {
		return "cannot be made"
	}
	return w.outcome(data, p)
}

// golden compares with a file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s differs; run with -update and read the difference\n%s", file, got)
	}
}

// TestDamaged flips bits all over the bundle, after the hardware signed it: refused, wherever it is. Intel's collateral that is not
// recognised any more is none; the quote verifies without, and the appraisal refuses it.
func TestDamaged(t *testing.T) {
	for _, hw := range evidence.AllHardware() {
		t.Run(string(hw), func(t *testing.T) {
			w := newWorld(t, hw)
			data := w.bundle(t)
			in := w.input()
			v, err := evidence.Verify(data, in)
			must(t, err)
			w.claims.ConfigDigest = v.Claims.ConfigDigest
			policy := pinned(t, v)
			for i := 0; i < len(data); i += 1 + len(data)/200 {
				changed := bytes.Clone(data)
				changed[i] ^= 0x01
				if got := w.outcome(changed, policy); got == "ACCEPTED" || got == "" {
					t.Errorf("byte %d of %d changed: %s", i, len(data), got)
				}
			}
			for n := 0; n < len(data); n += 1 + len(data)/50 {
				if _, err := evidence.Verify(data[:n], in); !slices.Contains(codes(err), evidence.CodeMalformed) {
					t.Errorf("cut to %d bytes: %v", n, err)
				}
			}
		})
	}
}

// TestSwapped puts the parts of two devices of one vendor together.
func TestSwapped(t *testing.T) {
	for _, hw := range evidence.AllHardware() {
		t.Run(string(hw), func(t *testing.T) {
			a, b := newWorld(t, hw), newWorld(t, hw)
			one, err := evidence.ParseBundle(a.bundle(t))
			must(t, err)
			two, err := evidence.ParseBundle(b.bundle(t))
			must(t, err)
			mixed := *one
			mixed.Hardware = two.Hardware
			if _, err := evidence.Verify(mixed.Marshal(), a.input()); !slices.Contains(codes(err), evidence.CodeBinding) {
				t.Errorf("Evidence of another device: %v", err)
			}
			mixed = *one
			mixed.Config = []byte("another")
			if _, err := evidence.Verify(mixed.Marshal(), a.input()); !slices.Equal(codes(err), []string{evidence.CodeConfig}) {
				t.Errorf("another configuration: %v", err)
			}
			if len(one.Collateral) == 0 {
				return
			}
			// Collateral of Intel is for all platforms of a model; certificates are of one device.
			mixed = *one
			mixed.Collateral = two.Collateral
			_, err = evidence.Verify(mixed.Marshal(), a.input())
			if ofDevice := hw == evidence.TrustZone || hw == evidence.CCA || hw == evidence.CSV; ofDevice == (err == nil) {
				t.Errorf("collateral of another device: %v", err)
			}
		})
	}
}

// TestEmulatedPassesForNothingElse has each emulator say that it is real, and another architecture.
func TestEmulatedPassesForNothingElse(t *testing.T) {
	for _, hw := range evidence.AllHardware() {
		w := newWorld(t, hw)
		data, err := evidence.Collect(w.claims, string(hw), w.agentKey, w.config, w.sign)
		must(t, err)
		if _, err := evidence.Verify(data, w.input()); !slices.Contains(codes(err), evidence.CodeHardware) {
			t.Errorf("%s that says it is real: %v", hw, err)
		}
		for _, other := range evidence.AllHardware() {
			if other == hw {
				continue
			}
			data, err := evidence.Collect(w.claims, other.BindingName(true), w.agentKey, w.config, w.sign)
			must(t, err)
			if _, err := evidence.Verify(data, w.input()); err == nil {
				t.Errorf("%s passes for %s", hw, other)
			}
		}
	}
}

// TestWrappers reads CCA tokens in both collections.
func TestWrappers(t *testing.T) {
	w := newWorld(t, evidence.CCA)
	for _, wrapper := range []cca.Wrapper{cca.WrapperCCA, cca.WrapperCMW} {
		w.change = func(content any) { content.(*cca.Token).Wrapper = wrapper }
		v, err := evidence.Verify(w.bundle(t), w.input())
		if err != nil || v.Fields["wrapper"] != wrapper {
			t.Errorf("tag %d: %v", wrapper, err)
		}
	}
}
