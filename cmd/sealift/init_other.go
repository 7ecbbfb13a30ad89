// SPDX-License-Identifier: Apache-2.0

package main

// initProcess runs before the command line is read.
func initProcess() {}
