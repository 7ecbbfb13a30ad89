// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wasm

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"io"
	"math/big"
	"net"
	"os"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"sealift/internal/launch"
)

// ImportModule is the name of the import module with the host functions.
const ImportModule = "sealift"

var randReader = rand.Reader

// errMemory traps: a module named memory that it does not have.
var errMemory = errors.New("a pointer outside of the module's memory")

// call is one call of a host function: its parameters in order, and the module's memory. Buffers come as two parameters,
// pointer and length.
type call struct {
	mem   api.Memory
	stack []uint64
	next  int
}

func (c *call) number() uint32 {
	v := uint32(c.stack[c.next])
	c.next++
	return v
}

// bytes returns a buffer of the module, which it may change: nothing here keeps it.
func (c *call) bytes() []byte { return c.at(c.number(), c.number()) }

func (c *call) at(ptr, n uint32) []byte {
	b, ok := c.mem.Read(ptr, n)
	if !ok {
		panic(errMemory)
	}
	return b
}

// out writes to the place that the next parameter names.
func (c *call) out(data []byte) {
	if !c.mem.Write(c.number(), data) {
		panic(errMemory)
	}
}

// function is a host function with params parameters, all i32. Its result is an i32: 0 or a length for success, negative for
// failure.
type function struct {
	params int
	f      func(c *call) int32
}

const failed = -1

// functions of the import module. The comments give the parameters; each "(p, n)" is a buffer.
var functions = map[string]function{
	"sha256":         {3, func(c *call) int32 { s := sha256.Sum256(c.bytes()); c.out(s[:]); return 0 }}, // (p, n), out 32
	"sha384":         {3, func(c *call) int32 { s := sha512.Sum384(c.bytes()); c.out(s[:]); return 0 }}, // (p, n), out 48
	"sha512":         {3, func(c *call) int32 { s := sha512.Sum512(c.bytes()); c.out(s[:]); return 0 }}, // (p, n), out 64
	"hmac_sha256":    {5, hmacSHA256},                                                                   // key (p, n), data (p, n), out 32
	"hkdf_sha256":    {8, hkdfSHA256},                                                                   // secret, salt, info (p, n each), out (p, n)
	"aes_gcm_seal":   {8, aesSeal},                                                                      // key (p, n), nonce p of 12, aad (p, n), text (p, n), out n+16
	"aes_gcm_open":   {8, aesOpen},                                                                      // the same; out n-16
	"ed25519_verify": {4, ed25519Verify},                                                                // key p of 32, message (p, n), signature p of 64
	"p256_verify":    {3, p256Verify},                                                                   // key p of 64 (x, y), SHA-256 p of 32, signature p of 64 (r, s)
	"attest":         {4, attest},                                                                       // nonce (p, n), out (p, n): the length of the Evidence
}

func hmacSHA256(c *call) int32 {
	h := hmac.New(sha256.New, c.bytes())
	h.Write(c.bytes())
	c.out(h.Sum(nil))
	return 0
}

func hkdfSHA256(c *call) int32 {
	secret, salt, info, out := c.bytes(), c.bytes(), c.bytes(), c.bytes()
	key, err := hkdf.Key(sha256.New, secret, salt, string(info), len(out))
	if err != nil {
		return failed
	}
	copy(out, key)
	return int32(len(key))
}

// gcm reads key, nonce, additional data and text.
func gcm(c *call) (aead cipher.AEAD, nonce, aad, text []byte) {
	key := c.bytes()
	nonce = c.at(c.number(), 12)
	aad, text = c.bytes(), c.bytes()
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, nil, nil
	}
	aead, err = cipher.NewGCM(block)
	if err != nil {
		return nil, nil, nil, nil
	}
	return aead, nonce, aad, text
}

func aesSeal(c *call) int32 {
	aead, nonce, aad, text := gcm(c)
	if aead == nil {
		return failed
	}
	sealed := aead.Seal(nil, nonce, text, aad)
	c.out(sealed)
	return int32(len(sealed))
}

func aesOpen(c *call) int32 {
	aead, nonce, aad, text := gcm(c)
	if aead == nil {
		return failed
	}
	plain, err := aead.Open(nil, nonce, text, aad)
	if err != nil {
		return failed
	}
	c.out(plain)
	return int32(len(plain))
}

func ed25519Verify(c *call) int32 {
	key := c.at(c.number(), ed25519.PublicKeySize)
	message := c.bytes()
	if !ed25519.Verify(key, message, c.at(c.number(), ed25519.SignatureSize)) {
		return failed
	}
	return 0
}

func p256Verify(c *call) int32 {
	key := c.at(c.number(), 64)
	digest := c.at(c.number(), 32)
	sig := c.at(c.number(), 64)
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, key...))
	if err != nil || !ecdsa.Verify(pub, digest, new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return failed
	}
	return 0
}

// attest asks the Agent for Evidence over the module's own nonce (SEALIFT_ATTEST).
func attest(c *call) int32 {
	nonce, out := c.bytes(), c.bytes()
	conn, err := net.Dial("unix", os.Getenv(launch.EnvAttest))
	if err != nil {
		return failed
	}
	defer conn.Close()
	if _, err := conn.Write(nonce); err != nil {
		return failed
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		return failed
	}
	got, err := io.ReadAll(io.LimitReader(conn, int64(len(out))+1))
	if err != nil || len(got) == 0 || len(got) > len(out) {
		return failed
	}
	copy(out, got)
	return int32(len(got))
}

// hostFunctions makes the import module.
func hostFunctions(ctx context.Context, r wazero.Runtime) error {
	b := r.NewHostModuleBuilder(ImportModule)
	for name, f := range functions {
		params := make([]api.ValueType, f.params)
		for i := range params {
			params[i] = api.ValueTypeI32
		}
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, m api.Module, stack []uint64) {
			stack[0] = api.EncodeI32(f.f(&call{mem: m.Memory(), stack: stack}))
		}), params, []api.ValueType{api.ValueTypeI32}).Export(name)
	}
	_, err := b.Instantiate(ctx)
	return err
}
