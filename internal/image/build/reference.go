// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"sealift/appraisal"
	"sealift/internal/image"
	"sealift/internal/oci/ociruntime"
	"sealift/usecase"
)

// ReferenceFile is the name of the file with References.
const ReferenceFile = "reference-values.json"

// References say what hardware measures of images: what an appraisal policy accepts.
type References struct {
	Version int         `json:"version"` // 1
	Images  []Reference `json:"images"`
}

// Reference is about one image.
type Reference struct {
	Instance  string `json:"instance"`
	File      string `json:"file"`   // beside this file
	Digest    string `json:"digest"` // "sha256:<hex>" of the file, as a device announces it
	Parts     []Part `json:"parts"`
	Runtime   string `json:"runtime,omitempty"`    // container: name of the OCI runtime program
	Cmdline   string `json:"cmdline,omitempty"`    // vm: of the kernel
	VCPUs     uint   `json:"vcpus,omitempty"`      // vm
	MemoryMiB uint   `json:"memory_mib,omitempty"` // vm
	TPM       bool   `json:"tpm,omitempty"`        // vm: it has a TPM
	// Packages are where kernel and firmware of a vm are from.
	Packages []Package `json:"packages,omitempty"`
	// ReferenceValues are as a policy has them, one for each architecture that can protect this instance type, and those of a TPM.
	ReferenceValues []appraisal.ReferenceValue `json:"reference_values"`
}

// Part is one file in an image.
type Part struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Digest string `json:"digest"` // "sha256:<hex>"
}

// NewReference measures the image that data is, as each architecture does.
func NewReference(data []byte, packages []Package, source string) (*Reference, error) {
	r := bytes.NewReader(data)
	img, err := image.Read(r, int64(len(data)))
	if err != nil {
		return nil, err
	}
	ref := &Reference{
		Instance: img.Instance, File: image.FileName(img.Instance), Digest: digest(data),
		Cmdline: img.Cmdline, VCPUs: img.VCPUs, MemoryMiB: img.MemoryMiB, TPM: img.TPM, Packages: packages,
	}
	for _, p := range img.Parts {
		content, err := io.ReadAll(img.Open(r, p.Name))
		if err != nil {
			return nil, fmt.Errorf("build: %w", err)
		}
		ref.Parts = append(ref.Parts, Part{p.Name, p.Size, digest(content)})
		if p.Name == image.PartRuntime {
			if ref.Runtime, err = ociruntime.Name(bytes.NewReader(content)); err != nil {
				return nil, err
			}
		}
	}
	for _, cell := range usecase.Cells() {
		if string(cell.Instance) != img.Instance {
			continue
		}
		sum, err := img.Measure(r, image.Hash(cell.Hardware))
		if err != nil {
			return nil, err
		}
		d, err := appraisal.LaunchDigest(cell.Hardware, sum)
		if err != nil {
			return nil, fmt.Errorf("build: %w", err)
		}
		ref.ReferenceValues = append(ref.ReferenceValues, appraisal.ReferenceValue{
			Name: image.Measurement(cell.Hardware), Hardware: cell.Hardware, Digests: []appraisal.Digest{d}, Source: source,
		})
	}
	boot, err := img.Boot(r)
	if err != nil {
		return nil, err
	}
	for _, m := range boot {
		ref.ReferenceValues = append(ref.ReferenceValues, appraisal.ReferenceValue{
			Name: m.Name, Digests: []appraisal.Digest{appraisal.SHA256Digest([32]byte(m.Value))}, Source: source,
		})
	}
	return ref, nil
}

// Marshal returns the JSON form, indented and with a final newline.
func (r References) Marshal() ([]byte, error) {
	out, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	return append(out, '\n'), nil
}
