// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sealift/internal/dev"
	"sealift/internal/image"
	"sealift/internal/oci/ociruntime"
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
	checks = append(checks, runtimeChecks()...)
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

// runtimeChecks looks for the OCI runtime programs that an image of a container can have.
func runtimeChecks() (checks []check) {
	what := map[string]string{ociruntime.Runc: "for images of containers", ociruntime.Runsc: "gVisor, for images of containers: sealift image build --runtime runsc"}
	for _, name := range ociruntime.Known {
		c := check{Name: name, Hint: "Debian: apt-get install " + name}
		if path, err := exec.LookPath(name); err != nil {
			c.Detail = "not here; " + what[name]
		} else {
			c.OK, c.Detail = true, path+"; "+what[name]
		}
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
	tpm := check{Name: "TPM of a vm", Hint: "only images made by sealift image build --tpm need it; Debian: apt-get install " + qemu.ProgramTPM}
	if path, err := exec.LookPath(qemu.ProgramTPM); err != nil {
		tpm.Detail = qemu.ProgramTPM + " is not here"
	} else {
		tpm.OK, tpm.Detail = true, path
	}
	return []check{program, kvmCheck(), guest, tpm}
}

// kvmCheck says whether guests run under KVM, and why not.
func kvmCheck() check {
	c := check{Name: "KVM", Hint: "without it guests are emulated, and take seconds to boot"}
	if err := qemu.CheckKVM(0); err != nil {
		c.Detail = strings.TrimPrefix(err.Error(), qemu.ErrUnsupported.Error()+": ")
		return c
	}
	trials := qemu.DefaultTrials("").All()
	i := slices.IndexFunc(trials, func(t qemu.Trial) bool { return t.Host == qemu.Host() })
	switch {
	case i < 0:
		c.Detail = "not tried yet on this machine: the first guest of an emulator is emulated, and followed by a trial boot"
	case trials[i].KVM:
		c.OK, c.Detail = true, fmt.Sprintf("a trial boot on %s came up in %d ms: guests with the kernel %.12s run under it",
			trials[i].Time.Local().Format("2006-01-02"), trials[i].Millis, trials[i].Kernel)
	default:
		c.Detail = fmt.Sprintf("a trial boot on %s did not come up: %s", trials[i].Time.Local().Format("2006-01-02"), trials[i].Why)
	}
	return c
}
