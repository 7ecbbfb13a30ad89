// SPDX-License-Identifier: Apache-2.0

//go:build wasip1

// Package tee binds the host functions that a WebAssembly TA finds beside WASI: cryptography at the machine's own speed, and
// Evidence. Copy it into a TA written in Go; for other languages the parameters are in internal/agent/runner/wasm/hostfuncs.go.
package tee

import (
	"errors"
	"unsafe"
)

// ErrFailed means that the host refused: a wrong key length, a tag that does not verify, no Evidence.
var ErrFailed = errors.New("tee: the host function failed")

//go:wasmimport sealift sha256
func sha256(p unsafe.Pointer, n uint32, out unsafe.Pointer) int32

//go:wasmimport sealift hmac_sha256
func hmacSHA256(key unsafe.Pointer, keyLen uint32, p unsafe.Pointer, n uint32, out unsafe.Pointer) int32

//go:wasmimport sealift aes_gcm_seal
func aesGCMSeal(key unsafe.Pointer, keyLen uint32, nonce, aad unsafe.Pointer, aadLen uint32, p unsafe.Pointer, n uint32, out unsafe.Pointer) int32

//go:wasmimport sealift aes_gcm_open
func aesGCMOpen(key unsafe.Pointer, keyLen uint32, nonce, aad unsafe.Pointer, aadLen uint32, p unsafe.Pointer, n uint32, out unsafe.Pointer) int32

//go:wasmimport sealift ed25519_verify
func ed25519Verify(key, p unsafe.Pointer, n uint32, sig unsafe.Pointer) int32

//go:wasmimport sealift attest
func attest(nonce unsafe.Pointer, n uint32, out unsafe.Pointer, cap uint32) int32

func ptr(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

// SHA256 returns the digest of data.
func SHA256(data []byte) (sum [32]byte) {
	sha256(ptr(data), uint32(len(data)), unsafe.Pointer(&sum))
	return sum
}

// HMACSHA256 returns the MAC of data.
func HMACSHA256(key, data []byte) (mac [32]byte) {
	hmacSHA256(ptr(key), uint32(len(key)), ptr(data), uint32(len(data)), unsafe.Pointer(&mac))
	return mac
}

// Seal encrypts with AES-GCM; the nonce has 12 bytes, the key 16 or 32.
func Seal(key []byte, nonce [12]byte, text, aad []byte) ([]byte, error) {
	out := make([]byte, len(text)+16)
	n := aesGCMSeal(ptr(key), uint32(len(key)), unsafe.Pointer(&nonce), ptr(aad), uint32(len(aad)), ptr(text), uint32(len(text)), ptr(out))
	if n < 0 {
		return nil, ErrFailed
	}
	return out[:n], nil
}

// Open decrypts what Seal made.
func Open(key []byte, nonce [12]byte, sealed, aad []byte) ([]byte, error) {
	out := make([]byte, len(sealed))
	n := aesGCMOpen(ptr(key), uint32(len(key)), unsafe.Pointer(&nonce), ptr(aad), uint32(len(aad)), ptr(sealed), uint32(len(sealed)), ptr(out))
	if n < 0 {
		return nil, ErrFailed
	}
	return out[:n], nil
}

// VerifyEd25519 reports whether the signature is the key's.
func VerifyEd25519(key [32]byte, message []byte, sig [64]byte) bool {
	return ed25519Verify(unsafe.Pointer(&key), ptr(message), uint32(len(message)), unsafe.Pointer(&sig)) == 0
}

// Attest returns Evidence over a nonce of 8 to 64 bytes.
func Attest(nonce []byte) ([]byte, error) {
	out := make([]byte, 1<<20)
	n := attest(ptr(nonce), uint32(len(nonce)), ptr(out), uint32(len(out)))
	if n < 0 {
		return nil, ErrFailed
	}
	return out[:n], nil
}
