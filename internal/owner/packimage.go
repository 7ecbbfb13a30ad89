// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"sealift/internal/fault"
	"sealift/internal/oci"
	"sealift/internal/owner/archive"
	"sealift/internal/owner/ociimage"
	"sealift/internal/owner/packfile"
	"sealift/usecase"
)

// pullTime bounds the reading of an image from a registry.
const pullTime = 30 * time.Minute

// packImage makes the payload of a TA that is an image, or that is to run in a container, and returns its path in the owner's
// folder; "" for a TA that stays a single program. The folder keeps it by its digest, since in modes that bundle the TA it is sent
// only when it is released.
func (o *Owner) packImage(f *packfile.File) (string, error) {
	if !f.Contained() {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), pullTime)
	defer cancel()
	var img *ociimage.Image
	var err error
	name := f.TA.Image
	if name != "" {
		img, err = ociimage.Open(ctx, name, f.Arch)
	} else {
		name = f.TA.Binary
		img, err = ociimage.FromProgram(name, f.Arch)
	}
	if err != nil {
		return "", imageError(name, err)
	}
	defer img.Close()
	dir := filepath.Join(o.Home.Dir(), "images")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	path, err := writeImage(dir, img, f.Arch)
	if err != nil {
		return "", imageError(name, err)
	}
	return path, nil
}

// imageError says what is wrong with the image, and what to do about it.
func imageError(name string, err error) error {
	e := fault.Wrap(fault.BadRequest, fmt.Errorf("the image %s: %w", name, err))
	switch {
	case errors.Is(err, oci.ErrPlatform):
		return e.WithHint("build it for the device's architecture, or set arch")
	case errors.Is(err, ociimage.ErrReference):
		return e.WithHint("give a folder or a tar file (skopeo copy docker://NAME oci:DIR), or NAME@sha256:DIGEST")
	}
	return e
}

// writeImage writes the payload under the name of its digest.
func writeImage(dir string, img *ociimage.Image, arch string) (_ string, err error) {
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	h := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(f, h), 1<<20)
	if _, err := oci.Write(w, img, arch); err != nil {
		return "", err
	}
	if err := errors.Join(w.Flush(), f.Sync()); err != nil {
		return "", err
	}
	path := filepath.Join(dir, fmt.Sprintf("%x.oci", h.Sum(nil)))
	if err := os.Rename(f.Name(), path); err != nil {
		return "", err
	}
	return path, f.Close()
}

// dropImage removes a payload from the owner's folder that the package file holds itself.
func (o *Owner) dropImage(d archive.Description, image string) {
	if c, ok := d.Component(usecase.TA); ok && image != "" && c.Path == "" {
		_ = os.Remove(image)
	}
}
