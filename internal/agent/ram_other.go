// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package agent

// ram is not known.
func ram() uint64 { return 0 }
