// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"sealift/internal/fault"
	"sealift/internal/owner/archive"
	"sealift/usecase"
)

// Plans returns the load plan of a mode on each of the cells that are acceptable, in the order of preference, for a delivery (empty: sealed).
func Plans(mode usecase.Mode, cells []usecase.Cell, delivery string) ([]*usecase.LoadPlan, error) {
	var plans []*usecase.LoadPlan
	for _, c := range cells {
		p, err := planOf(mode, c, delivery)
		if err != nil {
			return nil, fault.Wrap(fault.BadRequest, err)
		}
		plans = append(plans, p)
	}
	return plans, nil
}

// planOf is the load plan that an owner and its M/OC have to agree on.
func planOf(mode usecase.Mode, c usecase.Cell, delivery string) (*usecase.LoadPlan, error) {
	p, err := usecase.Plan(mode, c.Instance, c.Hardware)
	if err != nil {
		return nil, err
	}
	return p.Through(delivery)
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
