// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"fmt"
	"io"
	"syscall"
	"time"
)

// cryptoFloors is what the cryptography of an installation reaches alone on one core, in MB (10^6 bytes) per second of processor time.
type cryptoFloors struct {
	SHA256 float64 `json:"sha256_mb_per_s"`
	CTR    float64 `json:"aes_128_ctr_mb_per_s"`
	GCM    float64 `json:"aes_256_gcm_mb_per_s"`
}

// floorTime is how long each is measured.
const floorTime = 300 * time.Millisecond

// measureFloors runs each algorithm over a buffer that fits into the cache, as the pieces of a payload do.
func measureFloors() cryptoFloors {
	buf := make([]byte, 256<<10, 256<<10+16)
	h := sha256.New()
	block, _ := aes.NewCipher(make([]byte, 16)) // a key of this length is never refused
	stream := cipher.NewCTR(block, make([]byte, aes.BlockSize))
	large, _ := aes.NewCipher(make([]byte, 32))
	gcm, _ := cipher.NewGCM(large)
	nonce := make([]byte, 12)
	return cryptoFloors{
		SHA256: perSecond(len(buf), func() { h.Write(buf) }),
		CTR:    perSecond(len(buf), func() { stream.XORKeyStream(buf, buf) }),
		GCM:    perSecond(len(buf), func() { gcm.Seal(buf[:0], nonce, buf, nil) }),
	}
}

// perSecond divides by processor time, so that what else the machine does counts as little as it can.
func perSecond(n int, f func()) float64 {
	begun, used, total := time.Now(), ownCPU(), 0
	for time.Since(begun) < floorTime {
		f()
		total += n
	}
	return float64(total) / 1e6 / max(ownCPU()-used, time.Millisecond).Seconds()
}

// ownCPU is the processor time that this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// together is the rate of what an installation cannot do without, one after the other on one core: the digest of the payload and its
// sealing, and for an encrypted one decryption and a second digest.
func (f cryptoFloors) together(encrypted bool) float64 {
	seconds := 1/f.SHA256 + 1/f.GCM
	if encrypted {
		seconds += 1/f.SHA256 + 1/f.CTR
	}
	return 1 / seconds
}

func (f cryptoFloors) write(w io.Writer) {
	fmt.Fprintf(w, "alone, by processor time: SHA-256 %.0f MB/s, AES-128-CTR %.0f MB/s, AES-256-GCM %.0f MB/s; needed one after the other: "+
		"encrypted %.0f MB/s, in the clear %.0f MB/s\n", f.SHA256, f.CTR, f.GCM, f.together(true), f.together(false))
}
