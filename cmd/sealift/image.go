// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sealift/internal/dev"
	"sealift/internal/image"
	"sealift/internal/image/build"
	"sealift/internal/oci/ociruntime"
)

// imageFlags are the flags of `image build`.
type imageFlags struct {
	instances                   []string
	out, agent, kernel, runtime string
	vm                          build.VM
}

func newImageCmd(a *app) *cobra.Command {
	var f imageFlags
	cmd := &cobra.Command{
		Use:   "build",
		Short: "build Agent images, and the reference values that policies accept them by",
		Long: `Build the images that devices launch as TEE instances, one for each instance type, and reference-values.json: what each hardware
architecture measures of them, in the form that an appraisal policy has. The same inputs give the same bytes, so an owner can build
the images from sources that it trusts and compare.

  process    the Agent itself
  container  the Agent and an OCI runtime program: runc, or with --runtime runsc gVisor's, a kernel of its own for each container
  vm         firmware, a Linux kernel, and an initramfs with the Agent, the OCI runtime program and the modules of that kernel;
             scripts/setup.sh fetches the kernel

Without --instance every type is built for which the inputs are there, and the others are named.`,
		Example: "  sealift image build -o images",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.buildImages(f) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.instances, "instance", nil, "instance type: process, container, vm; repeat for more (default: all that can be built)")
	flags.StringVarP(&f.out, "output", "o", "", "folder to write to")
	flags.StringVar(&f.agent, "agent", "", "the Agent's program (default: sealift-agent beside this program)")
	flags.StringVar(&f.kernel, "kernel", "", "folder with a kernel, its modules and firmware (default: kernel beside this program)")
	flags.StringVar(&f.runtime, "runtime", ociruntime.Runc,
		"OCI runtime program: runc, runsc, or the path of one; it is measured with the Agent, and so are its libraries")
	flags.StringVar(&f.vm.Cmdline, "cmdline", build.DefaultCmdline, "vm: command line of the kernel")
	flags.UintVar(&f.vm.VCPUs, "vcpus", build.DefaultVCPUs, "vm: number of processors")
	flags.BoolVar(&f.vm.TPM, "tpm", false, "vm: with a TPM, and with UEFI firmware (OVMF) that measures into it what it boots")
	flags.UintVar(&f.vm.MemoryMiB, "memory", build.DefaultMemoryMiB, "vm: memory in MiB")
	_ = cmd.MarkFlagRequired("output")
	return newGroupCmd("image", "Agent images and their reference values", cmd, newImageMeasureCmd(a))
}

// builder holds the inputs.
type builder struct {
	imageFlags
	agentData []byte
}

func (a *app) buildImages(f imageFlags) error {
	asked := f.instances
	all := []string{image.Process, image.Container, image.VM}
	for _, instance := range asked {
		if !slices.Contains(all, instance) {
			return usageError("process, container or vm", "there is no instance type %q", instance)
		}
	}
	b, err := newBuilder(f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return err
	}
	refs := build.References{Version: 1, Images: []build.Reference{}}
	for _, instance := range all {
		if len(asked) > 0 && !slices.Contains(asked, instance) {
			continue
		}
		ref, err := b.build(instance)
		chosen := f.runtime != ociruntime.Runc && instance == image.Container // and not to be left out
		if err != nil && len(asked) == 0 && instance != image.Process && !chosen {
			a.say("sealift: no image for the instance type %s: %v", instance, err)
			// What an earlier build left there has other reference values, or none.
			_ = os.Remove(filepath.Join(f.out, image.FileName(instance)))
			continue
		}
		if err != nil {
			return &exitError{code: exitFailure, err: fmt.Errorf("the image for the instance type %s: %w", instance, err), hint: buildHint(err)}
		}
		refs.Images = append(refs.Images, *ref)
	}
	data, err := refs.Marshal()
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(f.out, build.ReferenceFile), data); err != nil {
		return err
	}
	return a.print(refs, func(w io.Writer) { writeReferences(w, f.out, refs) })
}

func buildHint(err error) string {
	if errors.Is(err, build.ErrNoKernel) {
		return "scripts/setup.sh fetches Debian's kernel; --kernel names another folder"
	}
	if errors.Is(err, errRuntime) {
		return "sealift doctor says which runtime programs are here"
	}
	return ""
}

func newBuilder(f imageFlags) (*builder, error) {
	var err error
	if f.agent == "" {
		f.agent, err = dev.FindAgent()
	} else {
		err = dev.CheckAgent(f.agent)
	}
	if err != nil {
		return nil, err
	}
	if f.kernel == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("finding this program: %w", err)
		}
		f.kernel = filepath.Join(filepath.Dir(exe), "kernel")
	}
	agent, err := os.ReadFile(f.agent)
	if err != nil {
		return nil, err
	}
	return &builder{imageFlags: f, agentData: agent}, nil
}

// build writes one image.
func (b *builder) build(instance string) (*build.Reference, error) {
	var out bytes.Buffer
	var packages []build.Package
	var err error
	switch instance {
	case image.Process:
		_, err = build.Process(&out, b.agentData)
	case image.Container:
		var runtime []byte
		if runtime, err = b.readRuntime(); err == nil {
			_, err = build.Container(&out, b.agentData, runtime)
		}
	case image.VM:
		var k *build.Kernel
		var runtime []byte
		if k, err = build.ReadKernel(b.kernel); err != nil {
			break
		}
		packages = k.Sources(b.vm)
		if runtime, err = b.readRuntime(); err == nil && filepath.Base(b.runtime) == ociruntime.Runsc {
			err = fmt.Errorf("%w for a guest: %s runs in containers only", errRuntime, ociruntime.Runsc)
		}
		if err == nil {
			_, err = build.Guest(&out, b.agentData, runtime, k, b.vm)
		}
	}
	if err != nil {
		return nil, err
	}
	ref, err := build.NewReference(out.Bytes(), packages, "sealift image build")
	if err != nil {
		return nil, err
	}
	return ref, replaceFile(filepath.Join(b.out, ref.File), out.Bytes())
}

// errRuntime says that the OCI runtime program is not there.
var errRuntime = errors.New("no OCI runtime program")

// readRuntime reads the OCI runtime program with its libraries. One that was asked for is not replaced by another.
func (b *builder) readRuntime() ([]byte, error) {
	path := b.runtime
	if !strings.ContainsRune(path, filepath.Separator) {
		if !slices.Contains(ociruntime.Known, path) {
			return nil, fmt.Errorf("%w that is driven is called %s: the Agent drives %s", errRuntime, path, strings.Join(ociruntime.Known, ", "))
		}
		var err error
		if path, err = exec.LookPath(path); err != nil {
			return nil, fmt.Errorf("%w: %w (Debian: apt-get install %s)", errRuntime, err, b.runtime)
		}
	}
	return ociruntime.Collect(path)
}

// replaceFile writes a file as a whole or not at all. A program that is being launched from the old one keeps that.
func replaceFile(path string, data []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o755); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func writeReferences(w io.Writer, dir string, refs build.References) {
	for _, r := range refs.Images {
		fmt.Fprintf(w, "%-9s  %s\n           %s\n", r.Instance, filepath.Join(dir, r.File), r.Digest)
		if r.Runtime != "" {
			fmt.Fprintf(w, "           with the OCI runtime program %s\n", r.Runtime)
		}
		for _, v := range r.ReferenceValues {
			fmt.Fprintf(w, "           %-9s %-13s %s\n", v.Hardware, v.Name, v.Digests[0])
		}
	}
	fmt.Fprintf(w, "reference values: %s\n", filepath.Join(dir, build.ReferenceFile))
}
