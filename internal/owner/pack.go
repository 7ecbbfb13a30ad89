// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"sealift/internal/fault"
	"sealift/internal/launch"
	"sealift/internal/owner/archive"
	"sealift/internal/owner/home"
	"sealift/internal/owner/manifest"
	"sealift/internal/owner/packfile"
	"sealift/suit"
	"sealift/usecase"
)

// PackRequest says what to pack and where to.
type PackRequest struct {
	File *packfile.File // the description
	Out  string         // the package file; empty: NAME.sealift in the working directory
	Key  string         // name of the signing key; empty: home.DefaultKey
}

// Packed is what [Owner.Pack] made.
type Packed struct {
	File        string              `json:"file"`
	Key         string              `json:"key"`
	KeyMade     bool                `json:"key_made,omitempty"` // the signing key did not exist before
	Description archive.Description `json:"description"`
}

// Pack checks a description, signs a manifest for each program that travels in the clear, and writes the package file. PD, and in bundled
// modes the programs, stay where they are: the file names them by path, size and digest, and they leave this machine only
// encrypted, in a release.
func (o *Owner) Pack(r PackRequest) (*Packed, error) {
	f := r.File
	if err := f.Check(); err != nil {
		return nil, fault.Wrap(fault.BadRequest, err)
	}
	if err := anyRuns(f); err != nil {
		return nil, fault.Wrap(fault.NotRunnable, err).WithHint("sealift plan shows what it would be")
	}
	if r.Key == "" {
		r.Key = home.DefaultKey
	}
	key, made, err := o.Home.EnsureKey(r.Key, o.Rand)
	if err != nil {
		return nil, err
	}
	if r.Out == "" {
		r.Out = f.Name + ".sealift"
	}
	d := archive.Description{Version: 1, Name: f.Name, Mode: f.Mode, Arch: f.Arch, Hardware: f.Hardware, Instances: f.Instances,
		Owner: key.Public()}
	image, err := o.packImage(f)
	if err == nil && image == "" {
		image, err = o.packGuest(f)
	}
	if err != nil {
		return nil, err
	}
	if d.Components, err = components(f, image); err != nil {
		return nil, err
	}
	if d.Sequence, err = o.Home.NextSequence(f.Name); err != nil {
		return nil, err
	}
	artifacts, err := o.signPrograms(&d, key, f.Cells())
	if err != nil {
		return nil, err
	}
	if err := archive.Write(r.Out, d, artifacts); err != nil {
		return nil, err
	}
	o.dropImage(d, image)
	o.tell("pack", "owner", fmt.Sprintf("packed %s (mode %s, sequence %d) into %s", d.Name, d.Mode, d.Sequence, r.Out))
	return &Packed{File: r.Out, Key: key.Name, KeyMade: made, Description: d}, nil
}

// anyRuns returns nil when this version runs the mode on one of the accepted cells.
func anyRuns(f *packfile.File) error {
	var why error
	for _, c := range f.Cells() {
		if why = usecase.Runnable(f.Mode, c.Instance, c.Hardware); why == nil {
			return nil
		}
	}
	return why
}

// components measures every file that the description names. image is the payload of the TA if it is an image or a guest payload.
func components(f *packfile.File, image string) ([]archive.Component, error) {
	var list []archive.Component
	add := func(kind usecase.Payload, name, path string, spec *launch.Spec) error {
		abs, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		size, sum, err := measure(path)
		if err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
		list = append(list, archive.Component{Kind: kind, Name: name, ID: manifest.Component(f.Name, kind, name), Size: size,
			Digest: suit.Digest{Alg: suit.AlgSHA256, Bytes: sum}, SHA256: hex.EncodeToString(sum), Path: abs, Launch: spec})
		return nil
	}
	if f.TA != nil {
		path, spec := f.TA.Binary, taSpec(f.TA)
		if image != "" {
			path, spec.Kind, spec.Name = image, launch.KindOCI, ""
			if f.TA.Guest != "" {
				spec.Kind, spec.Entrypoint = launch.KindGuest, guestEntrypoint(f.TA)
			}
		} else if packfile.IsModule(path) {
			spec.Kind = launch.KindWASM
		}
		if err := add(usecase.TA, manifest.RoleTA, path, spec); err != nil {
			return nil, err
		}
	}
	for _, p := range f.PD {
		if err := add(usecase.PD, p.Name, p.Path, nil); err != nil {
			return nil, err
		}
	}
	if f.UA != nil {
		spec := &launch.Spec{Name: programName(f.UA.Binary), Args: f.UA.Args, MemoryBytes: f.UA.Memory, MaxProcs: f.UA.Procs}
		for _, p := range f.UA.Ports {
			spec.Ports = append(spec.Ports, launch.Port{Name: p.Name, Port: p.Number})
		}
		if err := add(usecase.UA, manifest.RoleUA, f.UA.Binary, spec); err != nil {
			return nil, err
		}
	}
	for _, c := range list {
		if c.Launch == nil {
			continue
		}
		if err := c.Launch.Validate(); err != nil {
			return nil, fault.Wrap(fault.BadRequest, err)
		}
	}
	return list, nil
}

func taSpec(ta *packfile.TA) *launch.Spec {
	return &launch.Spec{Name: programName(ta.Binary), Args: ta.Args, Serve: ta.Serve, Callers: ta.Callers, MemoryBytes: ta.Memory,
		Entrypoint: ta.Entrypoint, Env: ta.Env, Dir: ta.Dir, CPUMillis: ta.CPUs, Restart: ta.Restart, MaxProcs: ta.Procs,
		CPUSeconds: ta.CPUSeconds}
}

// programName is the name under which a program is started: that of its file, since some (busybox) choose by it what they do.
func programName(path string) string {
	if name := filepath.Base(path); len(name) <= 64 {
		return name
	}
	return ""
}

func measure(path string) (size int64, sum []byte, err error) {
	r, err := os.Open(path)
	if err != nil {
		return 0, nil, err
	}
	defer r.Close()
	h := sha256.New()
	size, err = io.Copy(h, r)
	return size, h.Sum(nil), err
}

// signPrograms makes a package of each package of the mode that holds no PD, and drops the local paths of what is in it from the
// description: its content is in the file.
func (o *Owner) signPrograms(d *archive.Description, key *home.SigningKey, cells []usecase.Cell) ([]archive.Artifact, error) {
	var artifacts []archive.Artifact
	for _, kinds := range d.Mode.Packages() {
		if slices.Contains(kinds, usecase.PD) {
			continue
		}
		var programs []manifest.Program
		var payloads []archive.Blob
		for _, kind := range kinds {
			i := slices.IndexFunc(d.Components, func(c archive.Component) bool { return c.Kind == kind })
			if i < 0 {
				return nil, fmt.Errorf("mode %s has a %s and the package has none", d.Mode, kind)
			}
			c := &d.Components[i]
			programs = append(programs, manifest.Program{App: d.Name, Kind: c.Kind, Sequence: d.Sequence, Cells: cells,
				Digest: c.Digest, Size: c.Size, Launch: *c.Launch})
			payloads = append(payloads, archive.FileBlob(archive.MediaTypePayload, c.Path, c.Size, c.SHA256))
			c.Path = ""
		}
		role := roleOf(kinds)
		envelope, digest, err := o.sign(manifest.Programs(programs...), key)
		if err != nil {
			return nil, fmt.Errorf("the manifest of the package %s: %w", role, err)
		}
		a, err := archive.NewArtifact(role, envelope, payloads)
		if err != nil {
			return nil, err
		}
		artifacts = append(artifacts, a)
		d.Packages = append(d.Packages, archive.Package{Role: a.Role, Digest: a.Digest(), ManifestSHA256: hex.EncodeToString(digest.Bytes)})
	}
	return artifacts, nil
}

// roleOf returns the role of a package that holds these kinds.
func roleOf(kinds []usecase.Payload) string {
	if len(kinds) == 1 {
		return string(kinds[0])
	}
	return manifest.RoleBundle
}

// sign builds an envelope and returns it with the digest of its manifest.
func (o *Owner) sign(b *suit.Builder, key *home.SigningKey) ([]byte, suit.Digest, error) {
	envelope, err := b.Build(o.Rand, key.Signer)
	if err != nil {
		return nil, suit.Digest{}, err
	}
	parsed, err := suit.ParseEnvelope(envelope)
	if err != nil {
		return nil, suit.Digest{}, err
	}
	digest, err := parsed.DigestInsecure() // insecure is fine: these are the bytes that were signed one line above
	return envelope, digest, err
}
