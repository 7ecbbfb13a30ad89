// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"debug/elf"
	"encoding/binary"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sealift/evidence"
	"sealift/evidence/emuroot"
)

var update = flag.Bool("update", false, "rewrite what the scripts compare with")

// TestMain lets the scripts run this test binary as sealift.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sealift": func() {
			initProcess()
			os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// TestScripts runs the stories in testdata/script: one file for each, which begins with what it guards.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("SEALIFT_HOME", env.WorkDir+"/home")
			return nil
		},
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"elf": scriptELF, "emulated-root": scriptRoot},
		RequireExplicitExec: true,
		UpdateScripts:       *update,
	})
}

// scriptELF writes the smallest files that are programs: elf static|dynamic|arm64 FILE.
func scriptELF(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: elf static|dynamic|arm64 FILE")
	}
	header := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	program := elf.Prog64{Type: uint32(elf.PT_LOAD)}
	switch args[0] {
	case "dynamic":
		program.Type = uint32(elf.PT_INTERP)
	case "arm64":
		header.Machine = uint16(elf.EM_AARCH64)
	}
	var b bytes.Buffer
	ts.Check(binary.Write(&b, binary.LittleEndian, header))
	ts.Check(binary.Write(&b, binary.LittleEndian, program))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b.Bytes(), 0o755))
}

// scriptRoot writes the certificate of a new emulated vendor: emulated-root FILE.
func scriptRoot(ts *testscript.TestScript, _ bool, args []string) {
	pki, err := emuroot.New(rand.Reader, evidence.TrustZone, time.Now())
	ts.Check(err)
	data, err := pki.Anchor().PEM()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
}
