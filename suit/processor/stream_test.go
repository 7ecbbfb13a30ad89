// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"sealift/cose"
	"sealift/suit"
)

// streaming is a device that takes plaintext while its ciphertext arrives.
type streaming struct {
	*memPlatform
	streamed []string
	refuse   bool
}

func (p *streaming) CreateFrom(ctx context.Context, c, source suit.ComponentID, sum suit.Digest) (Writer, error) {
	if p.refuse {
		return nil, ErrNotSupported
	}
	p.streamed = append(p.streamed, source.String()+" to "+c.String())
	return p.Create(ctx, c)
}

// TestStreamed runs manifests on a device that streams and on one that does not: what they leave behind and report is the same, also
// where something is wrong. streams says whether the way was really another.
func TestStreamed(t *testing.T) {
	records := bytes.Repeat([]byte("records"), 100_000)
	const uri = "http://x/enc"
	for _, c := range []struct {
		name    string
		alg     cose.Algorithm
		change  func(b *suit.Builder, p *memPlatform)
		streams int
		fails   bool
	}{
		{name: "plain", streams: 1},
		{name: "with its size", streams: 1, change: func(b *suit.Builder, p *memPlatform) {
			b.Install[1].Params[suit.ParamSize] = uint64(len(records))
		}},
		{name: "another size", streams: 1, fails: true, change: func(b *suit.Builder, p *memPlatform) {
			b.Install[1].Params[suit.ParamSize] = uint64(len(records) + 1)
		}},
		{name: "last byte changed", streams: 1, fails: true, change: func(b *suit.Builder, p *memPlatform) {
			p.web[uri][len(records)-1] ^= 1
		}},
		{name: "a byte too many", streams: 1, fails: true, change: func(b *suit.Builder, p *memPlatform) {
			p.web[uri] = append(p.web[uri], 0)
		}},
		{name: "cut short", streams: 1, fails: true, change: func(b *suit.Builder, p *memPlatform) {
			p.web[uri] = p.web[uri][:len(records)-1]
		}},
		{name: "not there", fails: true, change: func(b *suit.Builder, p *memPlatform) { delete(p.web, uri) }},
		{name: "for another key", fails: true, change: func(b *suit.Builder, p *memPlatform) { p.keys = memKeys{} }},
		{name: "disk full", streams: 1, fails: true, change: func(b *suit.Builder, p *memPlatform) { p.failOn = "pd/app/f" }},
		{name: "AEAD", alg: cose.AlgA128GCM},
		{name: "not matched", fails: true, change: func(b *suit.Builder, p *memPlatform) {
			b.Install = slices.Delete(b.Install, 3, 4)
		}},
		{name: "ciphertext kept", change: func(b *suit.Builder, p *memPlatform) { b.Install = b.Install[:7] }},
		{name: "something in between", change: func(b *suit.Builder, p *memPlatform) {
			b.Install = slices.Insert(b.Install, 4, suit.ImageMatch())
		}},
		{name: "second place to fetch from", streams: 2, change: func(b *suit.Builder, p *memPlatform) {
			p.web["http://x/bad"] = []byte("something else")
			first := slices.Clone(b.Install)
			first[1] = suit.Override(maps.Clone(first[1].Params))
			first[1].Params[suit.ParamURI] = "http://x/bad"
			b.Install = suit.Sequence{suit.SetComponentIndex(0), suit.TryEach(first, b.Install)}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			alg := c.alg
			if alg == 0 {
				alg = cose.AlgA128CTR
			}
			plain := ownDevice()
			info, ciphertext := encrypted(t, plain, alg, records)
			plain.web[uri] = bytes.Clone(ciphertext)
			b := encryptedBuilder(info, suit.SHA256(ciphertext), uri)
			if c.change != nil {
				c.change(b, plain)
			}
			envelope := sign(t, b)
			other := *plain
			other.components, other.references, other.accessed = map[string][]byte{}, map[string]int{}, map[string]bool{}
			p := &streaming{memPlatform: &other}
			want, wantErr := New(plain, ownOptions()).Update(context.Background(), envelope)
			got, err := New(p, ownOptions()).Update(context.Background(), envelope)
			if (err != nil) != c.fails || (wantErr != nil) != c.fails {
				t.Fatalf("streamed: %v; not: %v", err, wantErr)
			}
			if len(p.streamed) != c.streams {
				t.Errorf("streamed %v, not %d times", p.streamed, c.streams)
			}
			if !c.fails && !maps.EqualFunc(p.components, plain.components, bytes.Equal) {
				t.Errorf("components %v, without streaming %v", slices.Sorted(maps.Keys(p.components)), slices.Sorted(maps.Keys(plain.components)))
			}
			if got, want := p.components["pd/app/f"], plain.components["pd/app/f"]; !bytes.Equal(got, want) {
				t.Errorf("the target has %d bytes, without streaming %d", len(got), len(want))
			}
			if open := len(p.creates) - p.aborted - p.finished; open != 0 && c.name != "disk full" {
				t.Errorf("%d writers were left open", open)
			}
			if !c.fails {
				a, errA := got.Report.Marshal()
				b, errB := want.Report.Marshal()
				if errA != nil || errB != nil || !bytes.Equal(a, b) {
					t.Errorf("the reports differ: %x and %x, %v %v", a, b, errA, errB)
				}
			} else if reason := got.Report.Failure.Reason; reason != want.Report.Failure.Reason && c.name != "disk full" {
				t.Errorf("reason %v, without streaming %v", reason, want.Report.Failure.Reason)
			}
		})
	}
}

// TestStreamRefused: a device that does not want a stream gets the ciphertext staged.
func TestStreamRefused(t *testing.T) {
	p := &streaming{memPlatform: ownDevice(), refuse: true}
	info, ciphertext := encrypted(t, p.memPlatform, cose.AlgA128CTR, []byte("records"))
	p.web["http://x/enc"] = ciphertext
	_, err := New(p, ownOptions()).Update(context.Background(), sign(t, encryptedBuilder(info, suit.SHA256(ciphertext), "http://x/enc")))
	if err != nil || string(p.components["pd/app/f"]) != "records" || !slices.Equal(p.creates, []string{"enc/app/f", "pd/app/f"}) {
		t.Fatalf("%v, created %v", err, p.creates)
	}
}

// hashing is a device whose writers hash.
type hashing struct{ *memPlatform }

type hashingWriter struct{ Writer }

func (hashingWriter) Algorithm() cose.Algorithm { return suit.AlgSHA256 }
func (w hashingWriter) Sum() []byte             { return suit.SHA256(w.Writer.(*memWriter).Bytes()).Bytes }

func (p hashing) Create(ctx context.Context, c suit.ComponentID) (Writer, error) {
	w, err := p.memPlatform.Create(ctx, c)
	return hashingWriter{w}, err
}

// TestDigester: the digest that the platform computed is the one that conditions and URIs are compared with.
func TestDigester(t *testing.T) {
	p := hashing{ownDevice()}
	b := taBuilder(1, []byte("binary"))
	if _, err := New(p, ownOptions()).Update(context.Background(), sign(t, b)); err != nil {
		t.Fatal(err)
	}
	delete(p.components, "tee/app/ta")
	b.Sequence, b.Payloads = 2, map[string][]byte{"#ta": []byte("bin-ry")}
	if _, err := New(p, ownOptions()).Update(context.Background(), sign(t, b)); err == nil {
		t.Fatal("another payload was taken")
	}
	b = encryptedBuilder(nil, suit.SHA256([]byte("x")), "ni:///sha-256;LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ")
	b.Install = b.Install[:4]
	p.web["ni:///sha-256;LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ"] = []byte("x")
	if _, err := New(p, ownOptions()).Update(context.Background(), sign(t, b)); !errors.Is(err, suit.ErrDigest) {
		t.Fatalf("bytes with another name than the URI's: %v", err)
	}
}
