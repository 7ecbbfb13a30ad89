// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"sealift/evidence/eventlog"
)

// Prefix begins the name of everything that a TPM has measured.
const Prefix = "TPM-"

// Names of what was booted. "TPM-PCR" and a number is anything else that was measured into that register.
const (
	Kernel    = "TPM-KERNEL"    // a program that firmware started: its Authenticode digest (PCR4)
	Cmdline   = "TPM-CMDLINE"   // the kernel's load options: SHA-256 over UTF-16, with the zero at its end (PCR9)
	Initramfs = "TPM-INITRAMFS" // SHA-256 of the archive, as the kernel got it (PCR9)
)

// Measurement is something that was started or read in a boot.
type Measurement struct {
	Name   string
	PCR    uint
	Digest [32]byte // SHA-256
}

// Numbers of the tagged events of Linux's EFI stub, and their descriptions (drivers/firmware/efi/libstub/efistub.h).
var tags = map[uint32]struct{ name, text string }{
	0x8f3b22ec: {Initramfs, "Linux initrd\x00"},
	0x8f3b22ed: {Cmdline, "LOADED_IMAGE::LoadOptions\x00"},
}

// actions are the texts that firmware measures when it goes on to boot (section 10.4.4 of the profile of package eventlog).
var actions = []string{"Calling EFI Application from Boot Option", "Returning from EFI Application from Boot Option",
	"Exit Boot Services Invocation", "Exit Boot Services Returned with Failure", "Exit Boot Services Returned with Success"}

// platform are the registers of firmware and its settings: 0 is the firmware itself, which a launch measurement covers, 1 its settings,
// 7 those of Secure Boot. Their values follow from no file in a simple way, so they are claims that a policy may pin, and no measurements.
var platform = []uint32{0, 1, 7}

// measurements lists what was booted. Types and data of events are not signed, so nothing is left out because of what they say:
// separators and actions count as such only where the digest is that of their own well-known text. All else is a measurement, which a
// verifier has to expect; under a wrong name it equals no reference value.
func measurements(l *eventlog.Log, i int) []Measurement {
	var out []Measurement
	for k := range l.Events {
		e := &l.Events[k]
		if e.Type == eventlog.NoAction || slices.Contains(platform, e.Register) || !slices.Contains(registers, uint(e.Register)) || constant(e, i) {
			continue
		}
		m := Measurement{Name: fmt.Sprintf("TPM-PCR%d", e.Register), PCR: uint(e.Register), Digest: [32]byte(e.Digests[i])}
		switch {
		case e.Register == 4 && e.Type == eventlog.BootApplication:
			m.Name = Kernel
		case e.Register == 9 && e.Type == eventlog.EventTag:
			if name := tagged(e.Data); name != "" {
				m.Name = name
			}
		}
		out = append(out, m)
	}
	return out
}

// constant reports whether the event says nothing about this boot.
func constant(e *eventlog.Event, i int) bool {
	switch e.Type {
	case eventlog.Separator:
		return bytes.Equal(e.Data, make([]byte, 4)) && e.Matches(i, sha256.New)
	case eventlog.EFIAction:
		return slices.Contains(actions, string(e.Data)) && e.Matches(i, sha256.New)
	}
	return false
}

// tagged returns the name of what a tagged event describes: a number, a length, a text.
func tagged(data []byte) string {
	if len(data) < 8 {
		return ""
	}
	tag := tags[binary.LittleEndian.Uint32(data)]
	if binary.LittleEndian.Uint32(data[4:]) != uint32(len(tag.text)) || string(data[8:]) != tag.text {
		return ""
	}
	return tag.name
}
