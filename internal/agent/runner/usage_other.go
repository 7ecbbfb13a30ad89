// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package runner

func usageOf([]int) (Usage, bool) { return Usage{}, false }
