// SPDX-License-Identifier: Apache-2.0

// Command host is what of the Agent's program the tests of package wasm need.
package main

import "sealift/internal/agent/runner/wasm"

func main() { wasm.Host() }
