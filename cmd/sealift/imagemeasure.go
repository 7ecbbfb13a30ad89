// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sealift/appraisal"
	"sealift/internal/image"
	"sealift/internal/image/build"
	"sealift/internal/launch"
	"sealift/internal/owner/archive"
	"sealift/usecase"
)

func newImageMeasureCmd(a *app) *cobra.Command {
	var payload string
	cmd := &cobra.Command{
		Use:   "measure FILE",
		Short: "say what each hardware architecture measures of an Agent image, alone or with a guest payload",
		Long: `Say what each hardware architecture measures of an Agent image. With --payload it is the image of a vm that is booted with the TA of a
package, or with the guest payload of that digest: what a Verifier has to expect that knows neither the package nor this program.`,
		Example: "  sealift image measure bin/images/vm.img --payload oui.sealift",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			ref, err := measureImage(args[0], payload)
			if err != nil {
				return err
			}
			return a.print(ref, func(w io.Writer) {
				tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
				for _, v := range ref.ReferenceValues {
					fmt.Fprintf(tw, "%s\t%s\t%s\n", v.Hardware, v.Name, v.Digests[0])
				}
				tw.Flush()
			})
		},
	}
	cmd.Flags().StringVar(&payload, "payload", "", "package whose TA is a guest payload (NAME.sealift), or sha256:HEX of one")
	return cmd
}

// measureImage reads the image at path. The launch measurements, and no others, become those with the guest payload.
func measureImage(path, payload string) (*build.Reference, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	source := "sealift image measure"
	ref, err := build.NewReference(data, nil, source)
	if err != nil {
		return nil, err
	}
	if payload == "" {
		return ref, nil
	}
	digest, err := payloadDigest(payload)
	if err != nil {
		return nil, err
	}
	if ref.Instance != image.VM || ref.TPM {
		return nil, usageError("", "%s is no image of a vm without a TPM: only such a one is booted with a guest payload", path)
	}
	for i := range ref.ReferenceValues {
		v := &ref.ReferenceValues[i]
		d, err := appraisal.LaunchDigest(v.Hardware, image.LayerLaunch(digest)(v.Hardware, v.Digests[0].Bytes))
		if err != nil {
			return nil, err
		}
		v.Digests, v.Source = []appraisal.Digest{d}, fmt.Sprintf("%s, with the guest payload sha256:%x", source, digest)
	}
	return ref, nil
}

// payloadDigest reads what --payload says.
func payloadDigest(text string) (digest [32]byte, err error) {
	if digits, ok := strings.CutPrefix(text, "sha256:"); ok {
		sum, err := hex.DecodeString(digits)
		if err != nil || len(sum) != len(digest) {
			return digest, usageError("", "%q is not sha256: and 64 hexadecimal digits", text)
		}
		return [32]byte(sum), nil
	}
	file, err := archive.Open(text)
	if err != nil {
		return digest, err
	}
	defer file.Close()
	ta, ok := file.Description.Component(usecase.TA)
	if !ok || ta.Launch == nil || ta.Launch.Kind != launch.KindGuest || len(ta.Digest.Bytes) != len(digest) {
		return digest, errors.New("the TA of " + text + " is no guest payload")
	}
	return [32]byte(ta.Digest.Bytes), nil
}
