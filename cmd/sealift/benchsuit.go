// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/processor"
)

// suitRow is one line of `bench suit --json`. Times are medians over batches, in which manifests and bare verifications
// take turns, so that both meet the same machine.
type suitRow struct {
	Authentication string  `json:"authentication"`
	Bytes          int     `json:"envelope_bytes"`
	Micros         float64 `json:"us_per_manifest"`
	Floor          float64 `json:"us_verification_alone"`
	Rest           float64 `json:"us_rest"`
	Allocs         float64 `json:"allocs_per_manifest"`
	Manifests      int     `json:"manifests"`
}

type suitResult struct {
	Bench string    `json:"bench"`
	Rows  []suitRow `json:"rows"`
}

func newBenchSuitCmd(a *app) *cobra.Command {
	var d time.Duration
	cmd := &cobra.Command{
		Use:   "suit",
		Short: "SUIT manifests decoded, verified and run, beside the cost of the verification alone",
		Long: `Decode, verify and run manifests of one component on a device in memory, on one core: vendor and class conditions, an
integrated payload fetched, hashed and matched, and a report. The rows are P-256, Ed25519 and HMAC; beside each stands what
the bare verification of such a signature or MAC costs in the same run.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.benchSuit(cmd.Context(), d) },
	}
	cmd.Flags().DurationVar(&d, "time", time.Second, "time for each row")
	return cmd
}

func (a *app) benchSuit(ctx context.Context, d time.Duration) error {
	if d < 10*time.Millisecond || d > time.Minute {
		return usageError("", "a row takes from 10ms to 1m")
	}
	out := suitResult{Bench: "suit"}
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519, cose.AlgHMAC256} {
		row, err := benchSuitRow(ctx, alg, d)
		if err != nil {
			return fmt.Errorf("%v: %w", alg, err)
		}
		out.Rows = append(out.Rows, *row)
	}
	return a.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "%-14s %6s %10s %16s %8s %9s %11s\n", "authentication", "bytes", "us", "verification us", "rest us", "allocs", "manifests")
		for _, r := range out.Rows {
			fmt.Fprintf(w, "%-14s %6d %10.1f %16.1f %8.1f %9.0f %11d\n", r.Authentication, r.Bytes, r.Micros, r.Floor, r.Rest, r.Allocs, r.Manifests)
		}
	})
}

// benchSuitRow measures one kind of authentication.
func benchSuitRow(ctx context.Context, alg cose.Algorithm, d time.Duration) (*suitRow, error) {
	envelope, options, floor, err := benchSuitSubject(alg)
	if err != nil {
		return nil, err
	}
	device := &benchDevice{}
	p := processor.New(device, options)
	manifest := func() error {
		device.written = false
		_, err := p.Update(ctx, envelope)
		return err
	}
	const batch = 50
	row := &suitRow{Authentication: alg.String(), Bytes: len(envelope)}
	var runs, floors []float64
	for begun := time.Now(); time.Since(begun) < d || len(runs) < 3; {
		for list, f := range map[*[]float64]func() error{&runs: manifest, &floors: floor} {
			start := time.Now()
			for range batch {
				if err := f(); err != nil {
					return nil, err
				}
			}
			*list = append(*list, float64(time.Since(start).Nanoseconds())/batch/1e3)
		}
		row.Manifests += batch
	}
	row.Micros, row.Floor = middle(runs), middle(floors)
	row.Rest = row.Micros - row.Floor
	row.Allocs, err = allocations(manifest)
	return row, err
}

// middle is the median.
func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// allocations counts the heap objects that one call makes.
func allocations(f func() error) (float64, error) {
	const rounds = 100
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range rounds {
		if err := f(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / rounds, nil
}

// benchSuitSubject makes a manifest, the options to run it with, and the bare verification of what authenticates it.
func benchSuitSubject(alg cose.Algorithm) (envelope []byte, o processor.Options, floor func() error, err error) {
	b := benchManifest()
	message := []byte("the bytes that a signature of a manifest covers are about so many")
	if alg == cose.AlgHMAC256 {
		key := make([]byte, 32)
		rand.Read(key)
		envelope, err = b.BuildMAC(key, nil)
		mac := func() []byte {
			h := hmac.New(sha256.New, key)
			h.Write(message)
			return h.Sum(nil)
		}
		want := mac()
		return envelope, processor.Options{MACKeys: [][]byte{key}}, held(func() bool { return hmac.Equal(mac(), want) }), err
	}
	priv, err := cose.GenerateKey(alg, rand.Reader)
	if err != nil {
		return nil, o, nil, err
	}
	signer, err := cose.NewSigner(priv)
	if err != nil {
		return nil, o, nil, err
	}
	o.Keys = []*cose.Key{signer.Key()}
	if envelope, err = b.Build(rand.Reader, signer); err != nil {
		return nil, o, nil, err
	}
	switch key := priv.(type) {
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256(message)
		sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		pub := &key.PublicKey
		return envelope, o, held(func() bool { return ecdsa.VerifyASN1(pub, digest[:], sig) }), err
	case ed25519.PrivateKey:
		sig := ed25519.Sign(key, message)
		pub := key.Public().(ed25519.PublicKey)
		return envelope, o, held(func() bool { return ed25519.Verify(pub, message, sig) }), nil
	}
	return nil, o, nil, fmt.Errorf("no floor for a key of type %T", priv)
}

func held(f func() bool) func() error {
	return func() error {
		if !f() {
			return errors.New("the verification fails")
		}
		return nil
	}
}

// benchManifest has the shape of the TEEP draft's example with an integrated payload.
func benchManifest() *suit.Builder {
	payload := []byte("Hello, Secure World!")
	vendor := suit.VendorID(suit.SealiftVendorDomain)
	class := suit.ClassID(vendor, benchClass)
	return &suit.Builder{
		Sequence: 3, ComponentID: suit.NewComponentID("manifest", "bench", "ta"),
		Components: []suit.ComponentID{suit.NewComponentID("tee", "bench", "ta")},
		Shared: suit.Sequence{
			suit.Override(suit.Params{
				suit.ParamVendorID: vendor[:], suit.ParamClassID: class[:], suit.ParamDigest: suit.SHA256(payload), suit.ParamSize: len(payload),
			}),
			suit.VendorIdentifier(), suit.ClassIdentifier(),
		},
		Install:   suit.Sequence{suit.Override(suit.Params{suit.ParamURI: "#ta"}), suit.Fetch(), suit.ImageMatch()},
		Uninstall: suit.Sequence{suit.Unlink()},
		Payloads:  map[string][]byte{"#ta": payload},
	}
}

const benchClass = "bench/memory"

// benchDevice is a processor.Platform with one component in memory, which costs next to nothing.
type benchDevice struct {
	content []byte
	written bool
}

var (
	benchVendors = func() [][]byte { v := suit.VendorID(suit.SealiftVendorDomain); return [][]byte{v[:]} }()
	benchClasses = func() [][]byte {
		c := suit.ClassID(suit.VendorID(suit.SealiftVendorDomain), benchClass)
		return [][]byte{c[:]}
	}()
)

func (d *benchDevice) VendorIDs(suit.ComponentID) [][]byte                    { return benchVendors }
func (d *benchDevice) ClassIDs(suit.ComponentID) [][]byte                     { return benchClasses }
func (d *benchDevice) DeviceIDs(suit.ComponentID) [][]byte                    { return nil }
func (d *benchDevice) Authorize(*cose.Key, suit.ComponentID) error            { return nil }
func (d *benchDevice) InstalledSequence(suit.ComponentID) (uint64, bool)      { return 0, false }
func (d *benchDevice) Remove(context.Context, suit.ComponentID) error         { return nil }
func (d *benchDevice) Keys() cose.Recipients                                  { return cose.KeyRing{} }
func (d *benchDevice) Invoke(context.Context, suit.ComponentID, []byte) error { return nil }

func (d *benchDevice) Size(context.Context, suit.ComponentID) (int64, error) {
	if !d.written {
		return 0, fs.ErrNotExist
	}
	return int64(len(d.content)), nil
}

func (d *benchDevice) Digest(_ context.Context, _ suit.ComponentID, alg cose.Algorithm) (suit.Digest, error) {
	return suit.Digest{Alg: alg}.Of(d.content)
}

func (d *benchDevice) Open(context.Context, suit.ComponentID) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(d.content)), nil
}

func (d *benchDevice) Create(context.Context, suit.ComponentID) (processor.Writer, error) {
	d.content, d.written = d.content[:0], true
	return d, nil
}

// Write, Close and Abort make it its own processor.Writer.
func (d *benchDevice) Write(b []byte) (int, error) {
	d.content = append(d.content, b...)
	return len(b), nil
}

func (d *benchDevice) Close() error { return nil }
func (d *benchDevice) Abort() error { return nil }

func (d *benchDevice) Unlink(context.Context, suit.ComponentID, suit.ComponentID) (int, error) {
	return 0, nil
}

func (d *benchDevice) Fetch(context.Context, string, int64) (io.ReadCloser, error) {
	return nil, fs.ErrNotExist
}

func (d *benchDevice) Dependency(context.Context, suit.ComponentID) ([]byte, error) {
	return nil, fs.ErrNotExist
}
