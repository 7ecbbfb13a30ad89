// SPDX-License-Identifier: Apache-2.0

package tam

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sealift/cose"
)

// Keys are the operator's secrets.
type Keys struct {
	Signers  []cose.Signer // of TEEP messages: ESP256 and Ed25519, both mandatory for a TAM (teep-protocol section 8.1)
	Verifier cose.Signer   // of Attestation Results
	MAC      []byte        // of tokens and challenges
	// Decrypt opens Evidence and SUIT Reports that Agents encrypt to this TAM. It signs nothing (teep-protocol section 8.1).
	Decrypt *ecdh.PrivateKey
	// Chains are the certificates of the signers, by algorithm, for Agents that know roots instead of keys.
	Chains map[cose.Algorithm][]*x509.Certificate
}

// chainsAt are the certificates to send: those that have not expired.
func (k *Keys) chainsAt(now time.Time) map[cose.Algorithm][][]byte {
	out := map[cose.Algorithm][][]byte{}
	for alg, chain := range k.Chains {
		var der [][]byte
		for _, c := range chain {
			if now.After(c.NotAfter) {
				der = nil
				break
			}
			der = append(der, c.Raw)
		}
		if der != nil {
			out[alg] = der
		}
	}
	return out
}

// EncKey returns the key that Agents may encrypt to, nil if there is none.
func (k *Keys) EncKey() (*cose.Key, error) {
	if k.Decrypt == nil {
		return nil, nil
	}
	return cose.NewKey(k.Decrypt.PublicKey())
}

// ECDH implements cose.Recipients.
func (k *Keys) ECDH([]byte) []*ecdh.PrivateKey {
	if k.Decrypt == nil {
		return nil
	}
	return []*ecdh.PrivateKey{k.Decrypt}
}

// KEK implements cose.Recipients. There are no shared keys.
func (k *Keys) KEK([]byte) [][]byte { return nil }

// open decrypts what is a COSE_Encrypt, and returns everything else as it is: encryption is the Agent's choice.
func (k *Keys) open(data []byte, purpose string) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte{0xd8, 0x60}) { // tag 96
		return data, nil
	}
	return cose.Decrypt(data, k, purpose)
}

// Public returns the keys that Agents must know.
func (k *Keys) Public() []*cose.Key {
	var out []*cose.Key
	for _, s := range k.Signers {
		out = append(out, s.Key())
	}
	return out
}

// LoadKeys reads the keys in the folder dir, and makes those that are not there yet.
func LoadKeys(dir string) (*Keys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("tam: keys: %w", err)
	}
	k := &Keys{}
	for _, f := range []struct {
		name string
		alg  cose.Algorithm
		put  func(cose.Signer)
	}{
		{"tam-esp256.pem", cose.AlgESP256, func(s cose.Signer) { k.Signers = append(k.Signers, s) }},
		{"tam-ed25519.pem", cose.AlgEd25519, func(s cose.Signer) { k.Signers = append(k.Signers, s) }},
		{"verifier-esp256.pem", cose.AlgESP256, func(s cose.Signer) { k.Verifier = s }},
	} {
		pem, err := loadOrMake(filepath.Join(dir, f.name), func() ([]byte, error) {
			key, err := cose.GenerateKey(f.alg, rand.Reader)
			if err != nil {
				return nil, err
			}
			return cose.MarshalPrivatePEM(key)
		})
		if err != nil {
			return nil, err
		}
		var key crypto.Signer
		if key, err = cose.ParsePrivatePEM(pem); err != nil {
			return nil, fmt.Errorf("tam: %s: %w", f.name, err)
		}
		signer, err := cose.NewSigner(key)
		if err != nil {
			return nil, fmt.Errorf("tam: %s: %w", f.name, err)
		}
		f.put(signer)
	}
	if err := k.loadChains(dir); err != nil {
		return nil, err
	}
	var err error
	if k.Decrypt, err = loadDecryption(filepath.Join(dir, "tam-ecdh.pem")); err != nil {
		return nil, err
	}
	mac, err := loadOrMake(filepath.Join(dir, "token-mac.key"), func() ([]byte, error) {
		key := make([]byte, 32)
		rand.Read(key)
		return key, nil
	})
	if err == nil && len(mac) != 32 {
		err = errors.New("tam: token-mac.key: not 32 bytes")
	}
	k.MAC = mac
	return k, err
}

// loadChains reads the certificates that the operator has put beside the keys, the signer's first: tam-esp256.crt, tam-ed25519.crt.
func (k *Keys) loadChains(dir string) error {
	k.Chains = map[cose.Algorithm][]*x509.Certificate{}
	for _, s := range k.Signers {
		name := "tam-" + strings.ToLower(s.Algorithm().String()) + ".crt"
		text, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("tam: %w", err)
		}
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return fmt.Errorf("tam: %s: %w", name, err)
			}
			k.Chains[s.Algorithm()] = append(k.Chains[s.Algorithm()], c)
		}
		chain := k.Chains[s.Algorithm()]
		if len(chain) == 0 {
			return fmt.Errorf("tam: %s: no certificate", name)
		}
		if key, err := cose.NewKey(chain[0].PublicKey); err != nil || !key.Equal(s.Key()) {
			return fmt.Errorf("tam: %s: not a certificate of the key beside it", name)
		}
	}
	return nil
}

// loadDecryption reads the P-256 key for ECDH. PKCS #8 does not tell ECDH from ECDSA on P-256; the parser answers with the latter.
func loadDecryption(path string) (*ecdh.PrivateKey, error) {
	text, err := loadOrMake(path, func() ([]byte, error) {
		key, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
	})
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("tam: %s: no PEM", filepath.Base(path))
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("tam: %s: %w", filepath.Base(path), err)
	}
	p256, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("tam: %s: not a P-256 key", filepath.Base(path))
	}
	return p256.ECDH()
}

// loadOrMake reads a file, or makes it so that it is there whole or not at all.
func loadOrMake(path string, generate func() ([]byte, error)) ([]byte, error) {
	data, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	if data, err = generate(); err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, err
	}
	// A link does not replace: if another process was faster, its key is the key.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(path)
}
