// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
)

// readPEM shows keys and certificates; of a private key it shows that it is one.
func readPEM(f *File, data []byte, _ *Keys) bool {
	if block, _ := pem.Decode(data); block == nil || bytes.IndexByte(data, 0) >= 0 { // quotes of SGX and TDX hold PEM
		return false
	}
	f.Kind = "PEM"
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return true
		}
		var k Keys
		text := pem.EncodeToMemory(block)
		switch err := k.AddFile("", text); {
		case block.Type == "CERTIFICATE":
			f.Facts = append(f.Facts, certificateName(block.Bytes))
			f.Emulated = f.Emulated || bytes.Contains(block.Bytes, []byte("EMULATED"))
		case err == nil && len(k.Public) == 1:
			f.Facts = append(f.Facts, fmt.Sprintf("%s for %v, thumbprint %x", strings.ToLower(block.Type), k.Public[0].SignatureAlgorithm(), k.Public[0].KID()))
		default:
			f.Facts = append(f.Facts, fmt.Sprintf("%s of %d bytes", strings.ToLower(block.Type), len(block.Bytes)))
		}
	}
}

// readJWT reads a JSON Web Token (RFC 7519), the form of EARs in JSON.
func readJWT(f *File, data []byte, keys *Keys) bool {
	parts := strings.Split(strings.TrimSpace(string(data)), ".")
	if len(parts) != 3 || len(parts[0]) < 2 {
		return false
	}
	var raw [3][]byte
	for i, part := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.DecodeString(part); err != nil {
			return false
		}
	}
	var header struct {
		Alg string `json:"alg"`
		KID string `json:"kid"`
	}
	if json.Unmarshal(raw[0], &header) != nil || header.Alg == "" {
		return false
	}
	claims, err := fromJSON(raw[1])
	if err != nil {
		return false
	}
	f.Kind = "JWT"
	if name := jsonKind(claims); name != "" {
		f.Kind = "JWT, " + name
	}
	f.Facts = append(f.Facts, "header alg "+header.Alg)
	f.result(bytes.TrimSpace(data))
	f.Checks = append(f.Checks, keys.checkJWT(header.Alg, parts[0]+"."+parts[1], raw[2]))
	f.add("", claims, jsonClaims, keys)
	return true
}

func (k *Keys) checkJWT(alg, signed string, signature []byte) Check {
	c := Check{What: "JWT", State: Unverified, Detail: "no key at hand is the signer's"}
	if alg != "ES256" && alg != "EdDSA" && alg != "Ed25519" {
		c.Detail = "algorithm " + alg + " is not supported"
		return c
	}
	sum := sha256.Sum256([]byte(signed))
	for _, key := range k.Public {
		ok := false
		switch pub := key.Public().(type) {
		case *ecdsa.PublicKey:
			ok = alg == "ES256" && len(signature) == 64 &&
				ecdsa.Verify(pub, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
		case ed25519.PublicKey:
			ok = alg != "ES256" && ed25519.Verify(pub, []byte(signed), signature)
		}
		if ok {
			c.State, c.Key, c.Detail = Verified, k.Name(key), alg
			return c
		}
	}
	return c
}

// readJSON reads the JSON that belongs here: EAT and EAR claims, JWKs, and test vectors of the COSE working group.
func readJSON(f *File, data []byte, keys *Keys) bool {
	trimmed := bytes.TrimSpace(data)
	if len(trimmed) == 0 || trimmed[0] != '{' {
		return false
	}
	it, err := fromJSON(trimmed)
	if err != nil {
		return false
	}
	if output := it.getText("output"); it.getText("input") != nil && output.is(Map) && output.getText("cbor").is(Text) {
		return readVector(f, output.getText("cbor").Value, keys)
	}
	if f.Kind = jsonKind(it); f.Kind == "" {
		return false
	}
	f.add("", it, jsonClaims, keys)
	return true
}

func readVector(f *File, encoded string, keys *Keys) bool {
	data, err := hex.DecodeString(encoded)
	if err != nil || !readCBOR(f, data, keys) {
		return false
	}
	f.Kind = "COSE test vector, " + f.Kind
	return true
}

// jsonKind tells what JSON claims are, "" if they are of no kind that is known here.
func jsonKind(it *Item) string {
	isEAR := func(it *Item) bool { return it.getText("ear_status") != nil || it.getText("ear.status") != nil }
	if isEAR(it) || it.getText("ear_verifier_id") != nil || it.getText("ear.verifier-id") != nil {
		return kindResult
	}
	if subs := it.getText("submods"); subs.is(Map) {
		for _, e := range subs.Entries {
			if isEAR(e.Value) {
				return kindResult
			}
		}
	}
	switch {
	case it.getText("kty") != nil && (it.getText("crv") != nil || it.getText("k") != nil):
		return "JWK"
	case it.getText("eat_profile") != nil, it.getText("eat_nonce") != nil, it.getText("ueid") != nil, it.getText("eat-profile") != nil:
		return kindClaims
	case it.getText("__cmwc_t") != nil:
		return kindCMW
	}
	return ""
}

// jsonClaims remarks what the values of well-known names mean, in the spelling since 2026 and the one before.
func jsonClaims(a *annotator, it *Item) {
	for _, e := range it.Entries {
		switch e.Key.Value {
		case "iat", "exp", "nbf":
			if n, err := strconv.ParseInt(e.Value.Value, 10, 64); err == nil && n >= 0 && n < 1<<38 {
				e.Value.Remark = time.Unix(n, 0).UTC().Format(time.RFC3339)
			}
		case "d", "k":
			if it.getText("kty") != nil {
				secret(a, e.Value)
			}
		case "ear_trustworthiness_vector", "ear.trustworthiness-vector":
			for _, c := range e.Value.Entries {
				if n, err := strconv.ParseInt(c.Value.Value, 10, 64); err == nil {
					c.Value.Remark = tierOf(n)
				}
			}
		case "submods":
			for _, sub := range e.Value.Entries {
				jsonClaims(a, sub.Value)
			}
		}
	}
}

// fromJSON makes items of JSON, whose notation is a part of the diagnostic notation.
func fromJSON(data []byte) (*Item, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, fmt.Errorf("more than one value")
	}
	return jsonItem(v), nil
}

func jsonItem(v any) *Item {
	switch v := v.(type) {
	case map[string]any:
		it := &Item{Type: Map}
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			it.Entries = append(it.Entries, Entry{jsonItem(k), jsonItem(v[k])})
		}
		return it
	case []any:
		it := &Item{Type: Array}
		for _, e := range v {
			it.Items = append(it.Items, jsonItem(e))
		}
		return it
	case string:
		return &Item{Type: Text, Value: v, content: []byte(v), raw: []byte(v)}
	case json.Number:
		it := &Item{Type: Float, Value: v.String(), raw: []byte(v)}
		if n, err := v.Int64(); err == nil && n != math.MinInt64 {
			it.Type, it.number, it.small = Integer, n, true
		}
		return it
	}
	return &Item{Type: Simple, Value: map[any]string{true: "true", false: "false", nil: "null"}[v]}
}
