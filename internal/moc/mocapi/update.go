// SPDX-License-Identifier: Apache-2.0

package mocapi

import (
	"context"
	"net/http"
	"time"

	"sealift/internal/fault"
	"sealift/usecase"
)

// UpdateRequest asks for newer packages in a running deployment: same application, same owner, same mode, higher sequence numbers.
// Packages holds those that may be public and have changed; a package with PD comes with the release that follows the owner's appraisal.
// PD says that such a package comes although no TA has changed.
type UpdateRequest struct {
	Packages []PackageRef `json:"packages"`
	PD       bool         `json:"pd"`
}

// Update is an update of a deployment, with a plan and a trace of its own. The deployment runs on meanwhile in its present version, and
// after an update that failed.
type Update struct {
	ID       string         `json:"id"`
	State    UpdateState    `json:"state"`
	Problem  *fault.Error   `json:"problem,omitempty"` // why it failed
	Plan     []usecase.Step `json:"plan"`
	Trace    []TraceStep    `json:"trace"`
	Packages []PackageRef   `json:"packages"` // the newer ones, as far as they were handed in
	Created  time.Time      `json:"created"`
}

// UpdateState is where an update stands.
type UpdateState string

// The states of an update.
const (
	UpdateInstalling        UpdateState = "installing"         // steps before the owner's appraisal
	UpdateAwaitingAppraisal UpdateState = "awaiting-appraisal" // the owner's turn: evidence request, appraisal, release
	UpdateInstallingPD      UpdateState = "installing-pd"      // released; steps after the appraisal
	UpdateDone              UpdateState = "done"               // every step of its plan is done
	UpdateFailed            UpdateState = "failed"             // Problem says why; the former version serves
)

// Ends reports whether nothing more comes after the state.
func (s UpdateState) Ends() bool { return s == UpdateDone || s == UpdateFailed }

// StopDeployment has the device end the TEE instance and keep what it has sealed; follow it with Deployment until the state is stopped.
func (c *Client) StopDeployment(ctx context.Context, id string) (*Deployment, error) {
	return ptr(call[Deployment](ctx, c, http.MethodPost, deploymentPath(id, "/stop"), nil, nil))
}

// StartDeployment has the device run a deployment again that was stopped or failed. It runs again when the owner has appraised it anew.
func (c *Client) StartDeployment(ctx context.Context, id string) (*Deployment, error) {
	return ptr(call[Deployment](ctx, c, http.MethodPost, deploymentPath(id, "/start"), nil, nil))
}

// CreateUpdate asks for an update.
func (c *Client) CreateUpdate(ctx context.Context, id string, r UpdateRequest) (*Update, error) {
	return ptr(call[Update](ctx, c, http.MethodPost, deploymentPath(id, "/updates"), nil, r))
}
