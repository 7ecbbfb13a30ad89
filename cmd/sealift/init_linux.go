// SPDX-License-Identifier: Apache-2.0

package main

import "sealift/internal/platform/sandbox"

// initProcess runs before the command line is read. The sandbox starts programs by executing this program again under
// another name; such a process never gets any further than here.
func initProcess() { sandbox.Init() }
