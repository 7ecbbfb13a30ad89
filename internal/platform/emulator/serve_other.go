// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package emulator

import (
	"context"
	"fmt"
	"runtime"

	"sealift/internal/platform"
)

// Serve needs Linux.
func Serve(context.Context, string, string, Options) error {
	return fmt.Errorf("%w: the emulator needs Linux, this is %s", platform.ErrUnsupported, runtime.GOOS)
}
