// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sealift/internal/dev"
	"sealift/internal/platform/sandbox"
)

// deviceChecks looks at what an emulated device needs of this machine.
func deviceChecks() []check {
	agent := check{Name: "sealift-agent", Required: true, Hint: "make build writes both programs to bin/"}
	if path, err := dev.FindAgent(); err != nil {
		agent.Detail = err.Error()
	} else {
		agent.OK, agent.Detail = true, path
	}
	checks := []check{agent}
	for _, f := range sandbox.Probe() {
		checks = append(checks, check{Name: f.Name, OK: f.OK, Required: f.Required, Detail: f.Detail})
	}
	return checks
}
