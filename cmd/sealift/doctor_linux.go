// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"sealift/internal/dev"
	"sealift/internal/platform/attester"
	"sealift/internal/platform/sandbox"
)

// deviceChecks looks at what an emulated device needs of this machine, and for real TEEs around this program.
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
	for _, p := range attester.ProbeAll(context.Background(), attester.This()) {
		name := "TEE by " + p.Name
		if p.Hardware != "" {
			name = fmt.Sprintf("%s by %s", p.Hardware, p.Name)
		}
		c := check{Name: name, OK: p.Usable, Detail: p.Where + ": " + p.Why}
		checks = append(checks, c)
	}
	return checks
}
