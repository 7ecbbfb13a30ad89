// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"sealift/appraisal"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/image"
)

// Launches measures an Agent image as each of the architectures does, and as a TPM does where it has one. A file that is neither an executable nor an image is
// taken for the Agent of a process instance.
func Launches(path string, hardware []evidence.Hardware) ([]appraisal.Launch, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the Agent's image: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("the Agent's image: %w", err)
	}
	img, err := image.Read(f, info.Size())
	if err != nil && !errors.Is(err, image.ErrMalformed) {
		return nil, err
	}
	var list []appraisal.Launch
	for _, hw := range hardware {
		newHash := image.Hash(hw)
		var sum []byte
		if img != nil {
			sum, err = img.Measure(f, newHash)
		} else {
			h := newHash()
			_, err = io.Copy(h, io.NewSectionReader(f, 0, info.Size()))
			sum = h.Sum(nil)
		}
		if err != nil {
			return nil, fmt.Errorf("measuring the Agent's image: %w", err)
		}
		list = append(list, appraisal.Launch{Hardware: hw, Name: image.Measurement(hw), Digest: sum, Source: "the file " + path})
	}
	if img == nil {
		return list, nil
	}
	boot, err := img.Boot(f)
	if err != nil {
		return nil, fmt.Errorf("measuring the Agent's image: %w", err)
	}
	for _, m := range boot {
		list = append(list, appraisal.Launch{Name: m.Name, Digest: m.Value, Source: "the file " + path})
	}
	return list, nil
}

// EmulatedFirmware returns what emulated devices under the emulated ones among these roots measure beside the Agent: their own
// firmware. A vendor's firmware has reference values of the vendor's.
func EmulatedFirmware(roots []evidence.Anchor, hardware []evidence.Hardware) []appraisal.Launch {
	var list []appraisal.Launch
	for _, hw := range hardware {
		if !slices.ContainsFunc(roots, func(r evidence.Anchor) bool { return r.IsEmulated() && (r.Hardware == hw || r.Hardware == "") }) {
			continue
		}
		for _, m := range emuroot.Firmware(hw) {
			list = append(list, appraisal.Launch{Hardware: hw, Name: m.Name, Digest: m.Value, Source: m.Source})
		}
	}
	return list
}
