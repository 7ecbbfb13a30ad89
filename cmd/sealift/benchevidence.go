// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/emmansun/gmsm/sm2"
	"github.com/spf13/cobra"

	"sealift/evidence"
	"sealift/evidence/all"
	"sealift/evidence/csv"
	"sealift/evidence/emuroot"
	"sealift/evidence/intel"
	"sealift/evidence/sgx"
	"sealift/evidence/snp"
	"sealift/evidence/tdx"
	"sealift/internal/image"
)

// evidenceRow is one line of `bench evidence --json`. Cold is with verifiers that remember nothing, warm with ones that have
// seen the certificates and the collateral. Times are medians.
type evidenceRow struct {
	Hardware   string  `json:"hardware"`
	Sample     string  `json:"sample"` // "emulated", or a file
	Bytes      int     `json:"bytes"`  // of the Evidence, collateral included
	Cold       float64 `json:"cold_ms"`
	ColdKB     float64 `json:"cold_kb"`
	ColdAllocs float64 `json:"cold_allocs"`
	Warm       float64 `json:"warm_ms"`
	WarmKB     float64 `json:"warm_kb"`
	WarmAllocs float64 `json:"warm_allocs"`
	Floor      string  `json:"floor"`    // the kind of signature of the Evidence itself
	FloorMs    float64 `json:"floor_ms"` // one such verification alone, in the same run
	Ratio      float64 `json:"warm_by_floor"`
}

type evidenceResult struct {
	Bench  string             `json:"bench"`
	Floors map[string]float64 `json:"verification_alone_ms"`
	Rows   []evidenceRow      `json:"rows"`
}

func newBenchEvidenceCmd(a *app) *cobra.Command {
	var d time.Duration
	var samples string
	cmd := &cobra.Command{
		Use:   "evidence",
		Short: "Evidence verified, of each hardware, cold and warm, beside the cost of a signature alone",
		Long: `Verify Evidence of each hardware architecture on one core: certificates, collateral, revocation, signature. Cold is with verifiers
that remember nothing, warm with ones that know the certificates and the collateral. The samples are EMULATED, and real ones where
--samples names a folder with them. Beside each stands what one verification of such a signature costs in the same run.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.benchEvidence(cmd.Context(), d, samples) },
	}
	cmd.Flags().DurationVar(&d, "time", time.Second, "time for each row")
	cmd.Flags().StringVar(&samples, "samples", "", "folder with real Evidence: snp, tdx, sgx, csv as its MANIFEST.tsv lists them")
	return cmd
}

// evidenceSample is something to verify.
type evidenceSample struct {
	name  string
	hw    evidence.Hardware
	e     evidence.HardwareEvidence
	in    evidence.Input
	floor string
}

func (a *app) benchEvidence(ctx context.Context, d time.Duration, dir string) error {
	samples, err := emulatedSamples()
	if err != nil {
		return err
	}
	if dir != "" {
		real, err := realSamples(dir)
		if err != nil {
			return &exitError{code: exitUsage, err: err}
		}
		samples = append(samples, real...)
	}
	floors, err := evidenceFloors()
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(1)
	out := evidenceResult{Bench: "evidence", Floors: map[string]float64{}}
	for name, f := range floors {
		out.Floors[name] = measure(d/4, f).ms
	}
	for _, s := range samples {
		if err := ctx.Err(); err != nil {
			return err
		}
		row, err := s.bench(d, floors[s.floor])
		if err != nil {
			return fmt.Errorf("%s %s: %w", s.hw, s.name, err)
		}
		out.Rows = append(out.Rows, *row)
	}
	return a.print(out, func(w io.Writer) { writeEvidenceBench(w, out) })
}

func writeEvidenceBench(w io.Writer, out evidenceResult) {
	fmt.Fprintf(w, "one verification alone:")
	for _, name := range []string{"P-256", "P-384", "SM2", "RSA-4096"} {
		fmt.Fprintf(w, "  %s %.3f ms", name, out.Floors[name])
	}
	fmt.Fprintf(w, "\n%-10s %-24s %7s %9s %8s %7s %9s %8s %7s  %-6s %8s %6s\n", "hardware", "sample", "bytes", "cold ms", "kB", "allocs", "warm ms",
		"kB", "allocs", "floor", "ms", "ratio")
	for _, r := range out.Rows {
		fmt.Fprintf(w, "%-10s %-24s %7d %9.3f %8.1f %7.0f %9.3f %8.1f %7.0f  %-6s %8.3f %6.2f\n", r.Hardware, r.Sample, r.Bytes, r.Cold, r.ColdKB,
			r.ColdAllocs, r.Warm, r.WarmKB, r.WarmAllocs, r.Floor, r.FloorMs, r.Ratio)
	}
}

// bench measures one sample. The floor takes turns with the warm verification, so that both meet the same machine.
func (s *evidenceSample) bench(d time.Duration, floor func() error) (*evidenceRow, error) {
	size := len(s.e.Data)
	for _, c := range s.e.Collateral {
		size += len(c)
	}
	verify := func() error {
		_, err := evidence.VerifyHardware(s.e, nil, s.in)
		return err
	}
	if err := verify(); err != nil {
		return nil, err
	}
	cold := measure(d/2, func() error {
		s.in.Verifiers = all.New()
		return verify()
	})
	s.in.Verifiers = all.New()
	if err := verify(); err != nil {
		return nil, err
	}
	var warm, alone []measured
	for range 5 {
		warm, alone = append(warm, measure(d/10, verify)), append(alone, measure(d/20, floor))
	}
	w, f := middleOf(warm), middleOf(alone)
	return &evidenceRow{Hardware: string(s.hw), Sample: s.name, Bytes: size, Cold: cold.ms, ColdKB: cold.kb, ColdAllocs: cold.allocs,
		Warm: w.ms, WarmKB: w.kb, WarmAllocs: w.allocs, Floor: s.floor, FloorMs: f.ms, Ratio: w.ms / f.ms}, nil
}

// measured is the cost of one call.
type measured struct{ ms, kb, allocs float64 }

// measure calls f for about d and returns the median time and the mean of what was allocated. f was called before, and its
// errors would have shown.
func measure(d time.Duration, f func() error) measured {
	var times []float64
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for end := time.Now().Add(d); len(times) < 3 || time.Now().Before(end); {
		start := time.Now()
		_ = f()
		times = append(times, float64(time.Since(start).Nanoseconds())/1e6)
	}
	runtime.ReadMemStats(&after)
	slices.Sort(times)
	n := float64(len(times))
	return measured{times[len(times)/2], float64(after.TotalAlloc-before.TotalAlloc) / n / 1e3, float64(after.Mallocs-before.Mallocs) / n}
}

func middleOf(m []measured) measured {
	slices.SortFunc(m, func(x, y measured) int {
		if x.ms < y.ms {
			return -1
		}
		return 1
	})
	return m[len(m)/2]
}

// signatureOf names what the Evidence of each architecture is signed with.
var signatureOf = map[evidence.Hardware]string{evidence.TrustZone: "P-256", evidence.SGX: "P-256", evidence.SEVSNP: "P-384",
	evidence.CCA: "P-384", evidence.TDX: "P-256", evidence.CSV: "SM2"}

// emulatedSamples makes Evidence of each architecture.
func emulatedSamples() ([]evidenceSample, error) {
	now := time.Now()
	var out []evidenceSample
	for _, hw := range evidence.AllHardware() {
		pki, err := emuroot.New(rand.Reader, hw, now)
		if err != nil {
			return nil, err
		}
		device, err := pki.NewDevice(rand.Reader, "bench")
		if err != nil {
			return nil, err
		}
		e, err := device.Evidence(rand.Reader, emuroot.Request{Launch: make([]byte, image.Hash(hw)().Size()), Now: now, BootSeed: make([]byte, 32)})
		if err != nil {
			return nil, err
		}
		out = append(out, evidenceSample{name: "emulated", hw: hw, e: e, floor: signatureOf[hw], in: evidence.Input{Now: now, Verifiers: all.New(),
			Anchors: evidence.Anchors{Roots: []evidence.Anchor{pki.Anchor()}}}})
	}
	return out, nil
}

// realSamples reads those whose anchors are built in or lie beside them.
func realSamples(dir string) ([]evidenceSample, error) {
	var failed error
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		failed = errors.Join(failed, err)
		return data
	}
	amd, err := snp.VendorAnchors()
	if err != nil {
		return nil, err
	}
	whenCollateral := time.Date(2025, 6, 20, 0, 0, 0, 0, time.UTC) // when the collateral of the Intel samples was in force
	now := time.Now()
	collateral := func(name string) [][]byte {
		c, err := intel.ParseCollateral(read(name))
		if err != nil {
			failed = errors.Join(failed, err)
			return nil
		}
		return [][]byte{c.Marshal()}
	}
	sample := func(hw evidence.Hardware, name, mediaType string, at time.Time, collateral [][]byte, anchors ...evidence.Anchor) evidenceSample {
		return evidenceSample{name: filepath.Base(name), hw: hw, floor: signatureOf[hw],
			e:  evidence.HardwareEvidence{Data: read(name), MediaType: mediaType, Collateral: collateral},
			in: evidence.Input{Now: at, Verifiers: all.New(), Anchors: evidence.Anchors{Roots: anchors}}}
	}
	hygon := evidence.Anchor{HRK: read("csv/hrk.cert"), Name: "HRK", Hardware: evidence.CSV}
	out := []evidenceSample{
		sample(evidence.SEVSNP, "snp/milan_v2_google.report.bin", snp.MediaType, now, [][]byte{read("snp/milan_google.vcek.der")}, amd...),
		sample(evidence.TDX, "tdx/phala_tdx_quote.bin", tdx.MediaType, whenCollateral, collateral("tdx/phala_tdx_quote.collateral.json"),
			intel.VendorAnchor(evidence.TDX)),
		sample(evidence.SGX, "sgx/phala_sgx_quote.bin", sgx.MediaType, whenCollateral, collateral("sgx/phala_sgx.collateral.json"),
			intel.VendorAnchor(evidence.SGX)),
		sample(evidence.CSV, "csv/csvrs_report.cert", csv.MediaType, now, [][]byte{read("csv/csvrs_hsk.cert"), read("csv/csvrs_cek.cert")}, hygon),
	}
	return out, failed
}

// evidenceFloors are verifications of single signatures.
func evidenceFloors() (map[string]func() error, error) {
	digest := sha512.Sum384([]byte("floor"))
	floors := map[string]func() error{}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			return nil, err
		}
		sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:curve.Params().BitSize/8])
		if err != nil {
			return nil, err
		}
		floors[curve.Params().Name] = held(func() bool { return ecdsa.VerifyASN1(&key.PublicKey, digest[:curve.Params().BitSize/8], sig) })
	}
	sm, err := sm2.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	sig, err := sm2.SignASN1(rand.Reader, sm, digest[:32], nil)
	if err != nil {
		return nil, err
	}
	floors["SM2"] = held(func() bool { return sm2.VerifyASN1(&sm.PublicKey, digest[:32], sig) })
	key, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		return nil, err
	}
	pss, err := rsa.SignPSS(rand.Reader, key, crypto.SHA384, digest[:], nil)
	floors["RSA-4096"] = func() error { return rsa.VerifyPSS(&key.PublicKey, crypto.SHA384, digest[:], pss, nil) }
	return floors, err
}
