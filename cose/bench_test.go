// SPDX-License-Identifier: Apache-2.0

package cose_test

import (
	"crypto/rand"
	"io"
	"testing"

	"sealift/cose"
)

func BenchmarkSign1(b *testing.B) {
	for _, alg := range signatureAlgorithms {
		b.Run(alg.String(), func(b *testing.B) {
			s, payload := fixedSigner(b, alg, "a"), make([]byte, 512)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := cose.Sign1(rand.Reader, s, payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseAndVerify(b *testing.B) {
	for _, alg := range signatureAlgorithms {
		b.Run(alg.String(), func(b *testing.B) {
			s := fixedSigner(b, alg, "a")
			data, err := cose.Sign1(rand.Reader, s, make([]byte, 512))
			if err != nil {
				b.Fatal(err)
			}
			keys := keysOf(fixedSigner(b, alg, "b"), s)
			b.ReportAllocs()
			for b.Loop() {
				m, err := cose.Parse(data)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := m.Verify(keys, cose.VerifyOptions{RequireKID: true}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	data, err := cose.Sign1(rand.Reader, fixedSigner(b, cose.AlgEd25519, "a"), make([]byte, 512))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cose.Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkContent(b *testing.B) {
	rc := receivers(b)[0]
	for alg, size := range map[cose.Algorithm]int64{cose.AlgA128CTR: 64 << 20, cose.AlgA128GCM: 16 << 20} {
		b.Run(alg.String(), func(b *testing.B) {
			info, _, err := cose.NewEncrypter(nil, cose.AlgA128CTR, rc.to, "")
			if err != nil {
				b.Fatal(err)
			}
			if alg == cose.AlgA128CTR {
				c, err := cose.OpenInfo(info, rc.ring, "")
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(size)
				for b.Loop() {
					if _, err := c.Open(io.Discard, io.LimitReader(zeros{}, size)); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			b.SetBytes(size)
			for b.Loop() {
				_, enc, err := cose.NewEncrypter(nil, alg, rc.to, "")
				if err != nil {
					b.Fatal(err)
				}
				if _, err := enc.Seal(io.Discard, io.LimitReader(zeros{}, size)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpenInfo(b *testing.B) {
	rc := receivers(b)[0]
	info, _, err := cose.NewEncrypter(nil, cose.AlgA128CTR, rc.to, cose.ContextSUITPayload)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cose.OpenInfo(info, rc.ring, cose.ContextSUITPayload); err != nil {
			b.Fatal(err)
		}
	}
}
