// SPDX-License-Identifier: Apache-2.0

package platform_test

import (
	"strings"
	"testing"

	"sealift/internal/platform"
)

// TestValidID guards that an ID can be the name of a folder and nothing else.
func TestValidID(t *testing.T) {
	for id, want := range map[string]bool{
		"a": true, "0": true, "deployment-1.two_3": true, strings.Repeat("x", 64): true,
		"": false, ".": false, "..": false, ".new-1": false, "-a": false, "a/b": false, "a\x00": false, "a\n": false,
		strings.Repeat("x", 65): false, "é": false,
	} {
		if platform.ValidID(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}
