// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"sealift/internal/image"
	"sealift/internal/image/initramfs"
	"sealift/internal/platform"
)

// agentImage is an Agent image that this Broker can launch.
type agentImage struct {
	path   string
	digest string // "sha256:<hex>" of the file
}

// readImages looks into each image for the instance type that it is for. There is at most one for each.
func readImages(paths []string) (map[string]agentImage, error) {
	images := map[string]agentImage{}
	for _, path := range paths {
		instance, digest, err := readImage(path)
		if err != nil {
			return nil, fmt.Errorf("the Agent image %s: %w", path, err)
		}
		if other, found := images[instance]; found {
			return nil, fmt.Errorf("%s and %s are both Agent images for the instance type %s", other.path, path, instance)
		}
		images[instance] = agentImage{path, digest}
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("no Agent image is given")
	}
	return images, nil
}

func readImage(path string) (instance, digest string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", "", err
	}
	img, err := image.Read(f, st.Size())
	if err != nil {
		return "", "", err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", "", err
	}
	return img.Instance, "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// openImage opens the image for an instance type. No type at all is a process: an M/OC of before there were others says so.
func (b *Broker) openImage(instance string) (*os.File, error) {
	if instance == "" {
		instance = image.Process
	}
	img, found := b.images[instance]
	if !found {
		return nil, fmt.Errorf("%w: this Broker has no Agent image for the instance type %q", platform.ErrUnsupported, instance)
	}
	return os.Open(img.path)
}

// errLayer means that the bytes are not those that their name says.
var errLayer = errors.New("broker: the guest payload is damaged")

// fetchLayer gets a guest payload, which is named by its digest, into a file without a name. That it is the right one the Agent and the
// launch measurement say; looking here as well tells a damaged store from a refused instance.
func (b *Broker) fetchLayer(ctx context.Context, uri string) (_ *os.File, err error) {
	want, ok := cacheName(uri)
	if !ok {
		return nil, fmt.Errorf("%w: %.200q names no digest", errLayer, uri)
	}
	body, err := b.fetcher.fetch(ctx, uri, initramfs.MaxLayerBytes, nil)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	f, err := os.CreateTemp(b.cfg.StateDir, "layer-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, h), body); err != nil {
		return nil, err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return nil, fmt.Errorf("%w: it has the digest %s, not %s", errLayer, got, want)
	}
	return f, nil
}

// offered returns the instance types that the platform can run and that there is an image for, the images' digests, and what the others
// lack.
func (b *Broker) offered() (types []string, digests, lacks map[string]string) {
	types, digests, lacks = []string{}, map[string]string{}, maps.Clone(b.info.Lacks)
	for _, t := range b.info.InstanceTypes {
		if img, found := b.images[t]; found && !slices.Contains(types, t) {
			types = append(types, t)
			digests[t] = img.digest
		} else if !found {
			if lacks == nil {
				lacks = map[string]string{}
			}
			lacks[t] = "the Broker has no Agent image for it"
		}
	}
	return types, digests, lacks
}
