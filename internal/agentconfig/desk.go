// SPDX-License-Identifier: Apache-2.0

package agentconfig

import "time"

// The owner's desk of a TA: what an owner and an Agent agree on for logs, resource use and stopping. The owner connects to the TA's name with
// DeskSuffix, in TLS 1.3 with the application protocol DeskALPN, and sends a DeskRequest as one line of JSON. The answer is text for
// DeskLogs and a DeskReport in JSON for the others.
const (
	DeskSuffix = "+owner" // no TA's name has a plus
	DeskALPN   = "sealift-owner/1"
	DeskLogs   = "logs"
	DeskUsage  = "usage"
	// DeskHold stops the TA: it does not run and sees no PD, after a restart of its instance neither, until DeskConsent. Both are answered
	// with a DeskReport once what was asked for is sealed.
	DeskHold    = "hold"
	DeskConsent = "consent"
)

// DeskRequest is what an owner asks.
type DeskRequest struct {
	Get    string `json:"get"`              // DeskLogs, DeskUsage, DeskHold or DeskConsent
	Follow bool   `json:"follow,omitempty"` // DeskLogs: until the TA is stopped
}

// DeskReport is the resource use of a TA.
type DeskReport struct {
	Component   string        `json:"component"`
	State       string        `json:"state"`
	Restarts    uint64        `json:"restarts"`
	LastExit    string        `json:"last_exit,omitempty"`
	PDFiles     int           `json:"pd_files"`
	PDBytes     int64         `json:"pd_bytes"`
	Measured    bool          `json:"measured"` // the members below are known: not in every instance type are they
	Processes   int           `json:"processes"`
	MemoryBytes uint64        `json:"memory_bytes"` // resident, of all its processes that run now
	CPU         time.Duration `json:"cpu_ns"`       // user and system time of those
}
