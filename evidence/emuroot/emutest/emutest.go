// SPDX-License-Identifier: Apache-2.0

// Package emutest gives tests an emulated vendor of any architecture without the seconds that RSA-4096 keys take: the one
// for SEV-SNP was made once and is a file here. Its private keys are public, so it is for tests only; like every emulated
// root it says EMULATED, and no program trusts it.
package emutest

import (
	"crypto/rand"
	_ "embed"
	"sync"
	"testing"
	"time"

	"sealift/evidence"
	"sealift/evidence/emuroot"
)

// sevSNP is what [emuroot.PKI.Marshal] gave; `go test ./evidence/emuroot/emutest -update` makes another.
//
//go:embed testdata/sev-snp.cbor
var sevSNP []byte

var (
	mu   sync.Mutex
	made = map[key]*emuroot.PKI{}
)

type key struct {
	hw  evidence.Hardware
	now time.Time
}

// PKI returns an emulated vendor whose root is valid at now, the same one for all tests of a program.
func PKI(t testing.TB, hw evidence.Hardware, now time.Time) *emuroot.PKI {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	k := key{hw, now.Truncate(time.Hour)}
	if p := made[k]; p != nil {
		return p
	}
	var p *emuroot.PKI
	var err error
	if hw == evidence.SEVSNP {
		p, err = emuroot.Parse(sevSNP)
	} else {
		p, err = emuroot.New(rand.Reader, hw, k.now)
	}
	if err != nil {
		t.Fatal(err)
	}
	made[k] = p
	return p
}

// Save writes the vendor to dir, where an emulator looks for it (its state folder's "pki").
func Save(t testing.TB, hw evidence.Hardware, now time.Time, dir string) *emuroot.PKI {
	t.Helper()
	p := PKI(t, hw, now)
	if err := p.Save(dir); err != nil {
		t.Fatal(err)
	}
	return p
}
