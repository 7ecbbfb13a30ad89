// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"sealift/internal/dev"
	"sealift/internal/image"
	"sealift/internal/platform/attester"
	"sealift/internal/platform/qemu"
	"sealift/internal/platform/sandbox"
)

// deviceChecks looks at what an emulated device needs of this machine, and for real TEEs around this program.
func deviceChecks() []check {
	agent := check{Name: "sealift-agent", Required: true, Hint: "make build writes both programs to bin/"}
	if path, err := dev.FindAgent(); err != nil {
		agent.Detail = err.Error()
	} else {
		agent.OK, agent.Detail = true, path
	}
	checks := []check{agent}
	for _, f := range sandbox.Probe() {
		checks = append(checks, check{Name: f.Name, OK: f.OK, Required: f.Required, Detail: f.Detail})
	}
	checks = append(checks, machineChecks()...)
	for _, p := range attester.ProbeAll(context.Background(), attester.This()) {
		name := "TEE by " + p.Name
		if p.Hardware != "" {
			name = fmt.Sprintf("%s by %s", p.Hardware, p.Name)
		}
		c := check{Name: name, OK: p.Usable, Detail: p.Where + ": " + p.Why}
		checks = append(checks, c)
	}
	return checks
}

// machineChecks looks at what virtual machines need.
func machineChecks() []check {
	program := check{Name: "QEMU", Hint: "instances of the type vm need it"}
	if path, err := qemu.Find(); err != nil {
		program.Detail = err.Error()
	} else {
		program.OK, program.Detail = true, path
	}
	guest := check{Name: "image of a vm", Hint: "sh scripts/setup.sh fetches a kernel, sealift image build -o bin/images --kernel .cache/kernel makes the image"}
	paths, err := dev.FindImages()
	i := slices.IndexFunc(paths, func(p string) bool { return filepath.Base(p) == image.FileName(image.VM) })
	switch {
	case err != nil:
		guest.Detail = err.Error()
	case i < 0:
		guest.Detail = "not in the folder " + image.Dir + " beside this program"
	default:
		guest.OK, guest.Detail = true, paths[i]
	}
	return []check{program, guest}
}
