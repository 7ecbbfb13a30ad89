// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sealift/internal/owner"
	"sealift/internal/owner/packfile"
	"sealift/usecase"
)

// packFlags describe a package without a package file.
type packFlags struct {
	name, mode, arch           string
	ta, serve, callers, memory string
	image, guest               string
	ua                         string
	taArgs, uaArgs, ports, pd  []string
	entrypoint                 []string
	hardware, instances        []string
}

// describing are the flags that stand in for a package file, by the field that each one sets.
var describing = map[string]string{
	"name": "--name", "mode": "--mode", "arch": "--arch", "hardware": "--hardware", "instances": "--instance",
	"ta": "--ta", "ta.binary": "--ta", "ta.args": "--ta-arg", "ta.serve": "--serve", "ta.callers": "--callers", "ta.memory": "--memory", "ta.image": "--ta-image",
	"ta.guest": "--ta-guest", "ta.entrypoint": "--entrypoint",
	"ua": "--ua", "ua.binary": "--ua", "ua.args": "--ua-arg", "ua.ports": "--port", "pd": "--pd",
}

func (f *packFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.name, "name", "", "name of the application")
	fl.StringVar(&f.mode, "mode", "", "package mode, as in ua,ta,pd")
	fl.StringVar(&f.arch, "arch", "", "GOARCH of the device (default: this machine's)")
	fl.StringVar(&f.ta, "ta", "", "the TA: a static ELF program")
	fl.StringVar(&f.image, "ta-image", "", "the TA as a container image: OCI layout, tar file, or NAME@sha256:DIGEST")
	fl.StringVar(&f.guest, "ta-guest", "", "the TA as a guest payload that a vm is booted with: folder, cpio archive, or static program")
	fl.StringArrayVar(&f.entrypoint, "entrypoint", nil, "program of an image or a guest payload, by its absolute path; repeat for its first arguments")
	fl.StringArrayVar(&f.taArgs, "ta-arg", nil, "argument of the TA; may hold ${PD}, ${LISTEN}, ${ATTEST}; repeat for more")
	fl.StringVar(&f.serve, "serve", "", "how the TA serves: socket (default) or stdio")
	fl.StringVar(&f.callers, "callers", "", "who may call the TA: owner (default) or any")
	fl.StringVar(&f.memory, "memory", "", "memory of the TA, as in 64MiB")
	fl.StringVar(&f.ua, "ua", "", "the UA: a static ELF program")
	fl.StringArrayVar(&f.uaArgs, "ua-arg", nil, "argument of the UA; may hold ${TA}, ${REQUEST_TA}, ${HOST}, ${PORT}, ${PORT_NAME}; repeat for more")
	fl.StringArrayVar(&f.ports, "port", nil, "port that the UA publishes: NAME or NAME=NUMBER; repeat for more")
	fl.StringArrayVar(&f.pd, "pd", nil, "file of PD: PATH or NAME=PATH; repeat for more")
	fl.StringSliceVar(&f.hardware, "hardware", nil, "accepted hardware: trustzone|sgx|sev-snp|cca|tdx|csv; repeat for more")
	fl.StringSliceVar(&f.instances, "instance", nil, "accepted instance type: process|container|vm; repeat for more")
}

// given lists the describing flags that stand on the command line.
func (f *packFlags) given(cmd *cobra.Command) []string {
	var list []string
	for _, flag := range []string{"name", "mode", "arch", "ta", "ta-image", "ta-guest", "entrypoint", "ta-arg", "serve", "callers", "memory", "ua", "ua-arg", "port", "pd", "hardware", "instance"} {
		if cmd.Flags().Changed(flag) {
			list = append(list, "--"+flag)
		}
	}
	return list
}

// file makes a package description of the flags.
func (f *packFlags) file() (*packfile.File, error) {
	p := packfile.New(describing)
	p.Name, p.Mode, p.Arch = f.name, usecase.Mode(f.mode), f.arch
	for _, h := range f.hardware {
		p.Hardware = append(p.Hardware, usecase.Hardware(h))
	}
	for _, i := range f.instances {
		p.Instances = append(p.Instances, usecase.Instance(i))
	}
	if f.ta != "" || f.image != "" || f.guest != "" || len(f.taArgs)+len(f.entrypoint) > 0 || f.serve != "" || f.callers != "" || f.memory != "" {
		p.TA = &packfile.TA{Binary: f.ta, Image: f.image, Guest: f.guest, Entrypoint: f.entrypoint, Args: f.taArgs, Serve: f.serve, Callers: f.callers}
		if f.memory != "" {
			size, err := packfile.ParseSize(f.memory)
			if err != nil {
				return nil, usageError("write it as 64MiB", "--memory: %w", err)
			}
			p.TA.Memory = size
		}
	}
	if f.ua != "" || len(f.uaArgs) > 0 || len(f.ports) > 0 {
		p.UA = &packfile.UA{Binary: f.ua, Args: f.uaArgs}
		for _, s := range f.ports {
			port, err := packfile.ParsePort(s)
			if err != nil {
				return nil, usageError("write it as http or http=8080", "--port: %w", err)
			}
			p.UA.Ports = append(p.UA.Ports, port)
		}
	}
	for _, s := range f.pd {
		p.PD = append(p.PD, packfile.ParseData(s))
	}
	return p, nil
}

// readPackFile reads a package file; everything wrong with it is a usage error.
func readPackFile(path string) (*packfile.File, error) {
	p, err := packfile.Read(path)
	if err != nil {
		hint := ""
		if errors.Is(err, fs.ErrNotExist) {
			hint = "a package file is YAML; or describe the package by flags: sealift pack --help"
		}
		return nil, usageError(hint, "%w", err)
	}
	return p, nil
}

func newPackCmd(a *app) *cobra.Command {
	var f packFlags
	var out, key string
	cmd := &cobra.Command{
		Use:   "pack [FILE]",
		Short: "sign an application's manifests and write NAME.sealift",
		Long: `Pack an application that a package file (YAML), or flags, describe. What travels in the clear in its mode goes into
NAME.sealift with signed manifests. PD stays where it is, and in bundled modes so do the programs: the package names them by path, size and
digest, and they leave this machine only encrypted, when they are released.`,
		Example: `  sealift pack stats.yaml
  sealift pack --name oui --mode ta,pd --ta /bin/busybox --serve stdio --hardware trustzone --instance process \
    --ta-arg grep --ta-arg -i --ta-arg -f --ta-arg /dev/stdin --ta-arg '${PD}/oui.csv' --pd oui.csv`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := f.describe(cmd, args)
			if err != nil {
				return err
			}
			o, err := a.openOwner(ownerFlags{})
			if err != nil {
				return err
			}
			o.Events = nil
			packed, err := o.Pack(owner.PackRequest{File: file, Out: out, Key: key})
			if err != nil {
				return err
			}
			if packed.KeyMade {
				a.say("sealift: made the signing key %q", packed.Key)
			}
			return a.print(packed, func(w io.Writer) { writePacked(w, packed) })
		},
	}
	f.add(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "", "the package file to write (default: NAME.sealift)")
	cmd.Flags().StringVar(&key, "key", "", "name of the signing key (default: owner)")
	return cmd
}

// describe takes the package from a file or from flags, not from both.
func (f *packFlags) describe(cmd *cobra.Command, args []string) (*packfile.File, error) {
	given := f.given(cmd)
	if len(args) == 0 {
		if len(given) == 0 {
			return nil, usageError("sealift pack FILE, or sealift pack --name ... ; see sealift pack --help", "nothing describes the package")
		}
		return f.file()
	}
	if len(given) > 0 {
		return nil, usageError("write it into the package file", "a package file and %s do not go together", strings.Join(given, ", "))
	}
	return readPackFile(args[0])
}

func writePacked(w io.Writer, p *owner.Packed) {
	d := p.Description
	fmt.Fprintf(w, "%s: %s, mode %s, sequence %d, signed by %.16s\n", p.File, d.Name, d.Mode, d.Sequence, fmt.Sprintf("%x", d.Owner.KID()))
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, c := range d.Components {
		where := "in the package file, in the clear"
		if c.Path != "" {
			where = "stays at " + c.Path + " until it is released, encrypted"
		}
		fmt.Fprintf(tw, "  %s\t%s\t%d bytes\t%s\n", c.Kind, c.Name, c.Size, where)
	}
	tw.Flush()
}
