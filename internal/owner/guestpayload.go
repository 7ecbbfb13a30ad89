// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"encoding/hex"
	"fmt"

	"sealift/appraisal"
	"sealift/internal/image"
	"sealift/internal/launch"
	"sealift/internal/owner/archive"
	"sealift/usecase"
)

// CodeConfigLayer is the code of the finding about the guest payload that the measured configuration names.
const CodeConfigLayer = "owner.config.guest-payload"

// bootedWith returns the SHA-256 of the guest payload that an instance of this package is booted with; nil for none. It is so for a guest
// payload in a mode whose attestation covers the TA: in the others the TA comes later (docs/design/0016).
func bootedWith(d *archive.Description, instance usecase.Instance) []byte {
	ta, ok := d.Component(usecase.TA)
	if !ok || instance != usecase.VM || d.Mode.Bundled() || ta.Launch == nil || ta.Launch.Kind != launch.KindGuest {
		return nil
	}
	return ta.Digest.Bytes
}

func payloadText(digest []byte) string {
	if len(digest) == 0 {
		return "none"
	}
	return "sha256:" + hex.EncodeToString(digest)
}

// expectLaunch makes the reference value of the Agent's image one of the image with the guest payload that this owner signed.
func expectLaunch(e *appraisal.Expect, app string, layer []byte) {
	if len(layer) == 32 {
		e.Launch = image.LayerLaunch([32]byte(layer))
		e.LaunchSource = fmt.Sprintf("the guest payload %s of the package %s that this owner signed", payloadText(layer), app)
	}
}
