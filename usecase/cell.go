// SPDX-License-Identifier: Apache-2.0

package usecase

import (
	"fmt"
	"slices"
	"strings"
)

// Cell is a pair of instance type and hardware.
type Cell struct {
	Instance Instance `json:"instance"`
	Hardware Hardware `json:"hardware"`
}

// String returns the form that a SUIT class identifier is made of: "hardware/instance type".
func (c Cell) String() string { return string(c.Hardware) + "/" + string(c.Instance) }

// protects lists, for each instance type, the hardware architectures that can protect it (draft section 3; the deck's
// first table lacks SGX containers and CSV, the draft has both).
var protects = map[Instance][]Hardware{
	Process:   {TrustZone, SGX},
	Container: {TrustZone, SGX, SEVSNP, CCA, TDX, CSV},
	VM:        {SEVSNP, CCA, TDX, CSV},
}

// Cells returns the twelve valid cells: by instance type, then by hardware.
func Cells() []Cell {
	var out []Cell
	for _, i := range Instances() {
		for _, h := range protects[i] {
			out = append(out, Cell{i, h})
		}
	}
	return out
}

// InvalidCellError says why an instance type and a hardware architecture do not fit and what would.
type InvalidCellError struct {
	Cell    Cell   `json:"cell"`
	Reason  string `json:"reason"`
	Nearest []Cell `json:"nearest"` // same hardware first, then same instance type
}

// Error names the pair, the reason, and the nearest valid pairs.
func (e *InvalidCellError) Error() string {
	near := make([]string, len(e.Nearest))
	for i, c := range e.Nearest {
		near[i] = c.String()
	}
	return fmt.Sprintf("%s: %s; the nearest that fit are %s", e.Cell, e.Reason, strings.Join(near, ", "))
}

// Unwrap makes errors.Is(err, ErrInvalidCell) true.
func (e *InvalidCellError) Unwrap() error { return ErrInvalidCell }

// Valid reports whether hardware hw can protect an instance of type i. The error is an ErrUnknown for a name that is
// not of the use case, else an [*InvalidCellError].
func Valid(i Instance, hw Hardware) error {
	if _, err := ParseInstance(string(i)); err != nil {
		return err
	}
	if _, err := ParseHardware(string(hw)); err != nil {
		return err
	}
	if slices.Contains(protects[i], hw) {
		return nil
	}
	e := &InvalidCellError{Cell: Cell{i, hw}, Reason: misfit(i, hw)}
	for _, c := range Cells() {
		if c.Hardware == hw {
			e.Nearest = append(e.Nearest, c)
		}
	}
	for _, h := range protects[i] {
		e.Nearest = append(e.Nearest, Cell{i, h})
	}
	return e
}

// misfit explains a pair outside the table. Only two kinds exist: a lone process on hardware that protects whole
// guests, and a guest on hardware that protects less than a guest.
func misfit(i Instance, hw Hardware) string {
	switch {
	case i == Process:
		return fmt.Sprintf("%s protects a whole guest, so one process cannot be told apart from the rest of that guest", hw)
	case hw == SGX:
		return "sgx protects an enclave inside a process, which cannot hold a guest"
	default:
		return "trustzone has one secure world beside the normal one, which cannot hold a guest of its own"
	}
}

// runnableCells are the cells on which this version deploys, in the order of [Cells]. All seven package modes run on each of
// them. Whoever makes another cell work from end to end adds it here, and nowhere else.
var runnableCells = []Cell{
	{Process, TrustZone}, {Process, SGX},
	{Container, TrustZone}, {Container, SGX}, {Container, SEVSNP}, {Container, CCA}, {Container, TDX}, {Container, CSV},
	{VM, SEVSNP}, {VM, CCA}, {VM, TDX}, {VM, CSV},
}

// RunnableCells returns the cells on which this version deploys; the other valid ones can be planned only.
func RunnableCells() []Cell { return slices.Clone(runnableCells) }

// Runnable reports whether this version deploys the mode on that cell. A nil error means it does. The error is an
// ErrUnknown or ErrInvalidCell where the combination does not exist at all, else an ErrNotRunnable: such a deployment
// can be planned and is refused before anything moves. Whether a cell runs does not depend on the mode.
func Runnable(m Mode, i Instance, hw Hardware) error {
	if _, err := ParseMode(string(m)); err != nil {
		return err
	}
	if err := Valid(i, hw); err != nil {
		return err
	}
	cell := Cell{i, hw}
	if slices.Contains(runnableCells, cell) {
		return nil
	}
	names := make([]string, len(runnableCells))
	for k, c := range runnableCells {
		names[k] = c.String()
	}
	return fmt.Errorf("%w: %s (it runs every mode on %s)", ErrNotRunnable, cell, strings.Join(names, ", "))
}
