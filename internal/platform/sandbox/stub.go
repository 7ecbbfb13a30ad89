// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"io"
	"os"
)

type sysCmd struct{}

// Init MUST be the first call in main of every program that starts sandboxes.
func Init() {}

// SealedMemfd copies r into a new memory file and seals it.
func SealedMemfd(name string, r io.Reader) (*os.File, Digest, error) { panic("declared only") }

// Start starts the program and returns when it executes.
func (c *Cmd) Start() error { panic("declared only") }

// Wait waits for its end.
func (c *Cmd) Wait() error { panic("declared only") }

// Run is Start and Wait.
func (c *Cmd) Run() error { panic("declared only") }

// Kill kills it with everything it started.
func (c *Cmd) Kill() error { panic("declared only") }

// Pid is the process ID as the caller sees it.
func (c *Cmd) Pid() int { panic("declared only") }

// Feature is one line of Probe.
type Feature struct {
	Name     string
	OK       bool
	Required bool
	Detail   string
}

// Probe says what this machine offers.
func Probe() []Feature { panic("declared only") }
