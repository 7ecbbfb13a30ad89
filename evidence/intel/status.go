// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"encoding/json"
	"fmt"
)

// TCBStatus is Intel's judgement of a TCB level, under Intel's names. The zero value is no status.
type TCBStatus string

// Statuses, PCS API version 4, and those of Intel's Quote Verification Library for a TD that was launched before the
// platform was updated.
const (
	UpToDate                             TCBStatus = "UpToDate"
	SWHardeningNeeded                    TCBStatus = "SWHardeningNeeded"
	ConfigurationNeeded                  TCBStatus = "ConfigurationNeeded"
	ConfigurationAndSWHardeningNeeded    TCBStatus = "ConfigurationAndSWHardeningNeeded"
	TDRelaunchAdvised                    TCBStatus = "TDRelaunchAdvised"
	TDRelaunchAdvisedConfigurationNeeded TCBStatus = "TDRelaunchAdvisedConfigurationNeeded"
	OutOfDate                            TCBStatus = "OutOfDate"
	OutOfDateConfigurationNeeded         TCBStatus = "OutOfDateConfigurationNeeded"
	Revoked                              TCBStatus = "Revoked"
	hardening, configuration, relaunch             = 1 << 0, 1 << 1, 1 << 2
	outOfDate, revoked, noStatus                   = 1 << 3, 1 << 4, 1 << 5
)

// flags are what each status says.
var flags = map[TCBStatus]int{
	UpToDate: 0, SWHardeningNeeded: hardening, ConfigurationNeeded: configuration,
	ConfigurationAndSWHardeningNeeded: hardening | configuration, TDRelaunchAdvised: relaunch,
	TDRelaunchAdvisedConfigurationNeeded: relaunch | configuration, OutOfDate: outOfDate,
	OutOfDateConfigurationNeeded: outOfDate | configuration, Revoked: revoked,
}

// AllTCBStatuses returns the statuses, best first.
func AllTCBStatuses() []TCBStatus {
	return []TCBStatus{UpToDate, SWHardeningNeeded, ConfigurationNeeded, ConfigurationAndSWHardeningNeeded, TDRelaunchAdvised,
		TDRelaunchAdvisedConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded, Revoked}
}

// Worst joins statuses of parts that all count: each need that one of them has, the whole has. So OutOfDate and
// ConfigurationNeeded give OutOfDateConfigurationNeeded. What is out of date needs hardening only once it is updated;
// Intel has no names for that, and none for revoked platforms with needs. A status that is not Intel's gives Revoked: what
// cannot be judged is not good.
func Worst(all ...TCBStatus) TCBStatus {
	need := 0
	for _, s := range all {
		f, known := flags[s]
		if !known {
			f = noStatus
		}
		need |= f
	}
	switch {
	case need&(revoked|noStatus) != 0:
		return Revoked
	case need&outOfDate != 0:
		need &= outOfDate | configuration
	case need&relaunch != 0:
		need &= relaunch | configuration
	}
	for s, f := range flags {
		if f == need {
			return s
		}
	}
	return Revoked // not reached: each remaining combination has a name
}

// OutOfDate reports whether the status says that something is older than it should be.
func (s TCBStatus) OutOfDate() bool { return flags[s]&outOfDate != 0 }

// UnmarshalJSON accepts the names that stand in collateral. The two about relaunching are what verifiers find.
func (s *TCBStatus) UnmarshalJSON(data []byte) error {
	var name string
	if err := json.Unmarshal(data, &name); err != nil {
		return err
	}
	if f, known := flags[TCBStatus(name)]; !known || f&relaunch != 0 {
		return fmt.Errorf("unknown TCB status %q", name)
	}
	*s = TCBStatus(name)
	return nil
}
