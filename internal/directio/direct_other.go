// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package directio

import "errors"

// setDirect: only Linux has it like this.
func setDirect(uintptr, bool) error { return errors.ErrUnsupported }

func startSync(uintptr, int64, int64) {}
