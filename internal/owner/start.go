// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"

	"sealift/internal/moc/mocapi"
)

// Start has the device try again to run a deployment that failed: an instance that could not be launched, or a TA that kept ending. Its
// sealed state is what it was, with the TA's keys, so nothing is released again; whoever wants to be sure verifies.
func (o *Owner) Start(ctx context.Context, ref string) (*mocapi.Deployment, error) {
	d, err := o.find(ref)
	if err != nil {
		return nil, err
	}
	s, err := o.connect(d.Context)
	if err != nil {
		return nil, err
	}
	return persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.StartDeployment(ctx, d.ID) })
}
