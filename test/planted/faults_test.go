// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package planted

var faults = []fault{}
