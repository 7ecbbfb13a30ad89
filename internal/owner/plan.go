// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"sealift/internal/fault"
	"sealift/internal/owner/archive"
	"sealift/usecase"
)

// Plans returns the load plan of a mode on each of the cells that are acceptable, in the order of preference.
func Plans(mode usecase.Mode, cells []usecase.Cell) ([]*usecase.LoadPlan, error) {
	var plans []*usecase.LoadPlan
	for _, c := range cells {
		p, err := usecase.Plan(mode, c.Instance, c.Hardware)
		if err != nil {
			return nil, fault.Wrap(fault.BadRequest, err)
		}
		plans = append(plans, p)
	}
	return plans, nil
}

// CellsOf lists the cells that a packed application accepts.
func CellsOf(d *archive.Description) []usecase.Cell {
	var cells []usecase.Cell
	for _, i := range d.Instances {
		for _, h := range d.Hardware {
			if usecase.Valid(i, h) == nil {
				cells = append(cells, usecase.Cell{Instance: i, Hardware: h})
			}
		}
	}
	return cells
}
