// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"net/http"

	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
)

// route is one endpoint of the REST interface. The table of routes is the only place that says which endpoints there
// are: the server and the OpenAPI document are both made from it.
type route struct {
	method  string
	pattern string // as http.ServeMux has it
	name    string // operationId
	summary string
	roles   []mocapi.Role // nil: no token is needed
	query   []param
	request any // a value of the type that the body holds; nil: no body
	status  int // of success
	answer  any // a value of the type of the answer; nil: none, or not JSON
	faults  []string
	serve   func(*Server, *call) (any, error)
}

// param is a query parameter.
type param struct {
	name, schema, description string
}

var (
	anyone    = []mocapi.Role{mocapi.RoleOperator, mocapi.RoleOwner, mocapi.RoleDevice}
	devices   = []mocapi.Role{mocapi.RoleDevice}
	owners    = []mocapi.Role{mocapi.RoleOwner}
	people    = []mocapi.Role{mocapi.RoleOperator, mocapi.RoleOwner}
	waitParam = param{"wait", "string", "how long to wait for a change, as in 25s; at most 60s"}
)

func sinceParam(what string) param {
	return param{"since", "integer", "answer at once if " + what + " differs from this"}
}

// routes is filled by init, since the handler of the OpenAPI document reads it.
var routes []route

func init() {
	routes = append(routes, generalRoutes...)
	routes = append(routes, deviceRoutes...)
	routes = append(routes, deploymentRoutes...)
}

var generalRoutes = []route{
	{method: http.MethodGet, pattern: "/healthz", name: "health", summary: "whether the M/OC is up",
		status: http.StatusOK, answer: mocapi.Health{}, serve: (*Server).health},
	{method: http.MethodGet, pattern: "/v1/openapi.json", name: "openapi", summary: "this description",
		status: http.StatusOK, serve: (*Server).openapi},
	{method: http.MethodGet, pattern: "/v1/whoami", name: "whoAmI", summary: "role and name of the token",
		roles: anyone, status: http.StatusOK, answer: mocapi.Identity{}, serve: (*Server).whoAmI},
	{method: http.MethodGet, pattern: "/v1/trust-anchors", name: "trustAnchors", summary: "the operator's public keys",
		roles: anyone, status: http.StatusOK, answer: mocapi.TrustAnchors{}, serve: (*Server).trustAnchors},
	{method: http.MethodGet, pattern: "/.well-known/ni/sha-256/{value}", name: "payload",
		summary: "a payload by its RFC 6920 name, for the device that it belongs to",
		roles:   devices, status: http.StatusOK, faults: []string{fault.NotFound}, serve: (*Server).payload},
}

var deviceRoutes = []route{
	{method: http.MethodGet, pattern: "/v1/devices", name: "devices", summary: "the devices",
		roles: people, status: http.StatusOK, answer: []mocapi.Device{}, serve: (*Server).listDevices},
	{method: http.MethodPost, pattern: "/v1/devices/{id}/announce", name: "announce",
		summary: "a Broker says what its device is and holds, and renews its lease",
		roles:   devices, request: mocapi.Announcement{}, status: http.StatusNoContent,
		faults: []string{fault.DeviceInUse}, serve: (*Server).announce},
	{method: http.MethodGet, pattern: "/v1/devices/{id}/work", name: "work",
		summary: "what the device should hold; a long poll",
		roles:   devices, query: []param{{"broker", "string", "the Broker's id, as it announced it"}, sinceParam("the generation"), waitParam},
		status: http.StatusOK, answer: mocapi.Work{}, faults: []string{fault.DeviceInUse, fault.DeviceUnknown}, serve: (*Server).work},
	{method: http.MethodPost, pattern: "/v1/devices/{id}/ua-logs", name: "putUALogs",
		summary: "a Broker answers the wish for what the UAs of an instance have printed",
		roles:   devices, request: mocapi.UALogs{}, status: http.StatusNoContent, faults: []string{fault.DeviceInUse}, serve: (*Server).putUALogs},
}

var deploymentRoutes = []route{
	{method: http.MethodPost, pattern: "/v1/deployments", name: "createDeployment", summary: "ask for a confidential resource",
		roles: owners, request: mocapi.DeploymentRequest{}, status: http.StatusCreated, answer: mocapi.Deployment{},
		faults: []string{fault.NoDevice, fault.InvalidCell, fault.NotRunnable, fault.BadPackage}, serve: (*Server).createDeployment},
	{method: http.MethodGet, pattern: "/v1/deployments", name: "deployments", summary: "the deployments that the token may see",
		roles: people, status: http.StatusOK, answer: []mocapi.Deployment{}, serve: (*Server).listDeployments},
	{method: http.MethodGet, pattern: "/v1/deployments/{id}", name: "deployment", summary: "a deployment; a long poll",
		roles: people, query: []param{sinceParam("the version"), waitParam}, status: http.StatusOK, answer: mocapi.Deployment{},
		faults: []string{fault.NotFound}, serve: (*Server).getDeployment},
	{method: http.MethodDelete, pattern: "/v1/deployments/{id}", name: "deleteDeployment", summary: "remove a deployment",
		roles: people, query: []param{{"lost", "boolean", "do not wait for the device: it is silent, and gone for good"}},
		status: http.StatusAccepted, answer: mocapi.Deployment{}, faults: []string{fault.NotFound, fault.Conflict}, serve: (*Server).deleteDeployment},
	{method: http.MethodGet, pattern: "/v1/deployments/{id}/trace", name: "trace", summary: "the plan and what happened of it",
		roles: people, status: http.StatusOK, answer: mocapi.Trace{}, faults: []string{fault.NotFound}, serve: (*Server).trace},
	{method: http.MethodGet, pattern: "/v1/deployments/{id}/events", name: "events", summary: "the deployment's history",
		roles: people, status: http.StatusOK, answer: []mocapi.Event{}, faults: []string{fault.NotFound}, serve: (*Server).events},
	{method: http.MethodGet, pattern: "/v1/deployments/{id}/ua-logs", name: "uaLogs",
		summary: "what the UAs of a deployment have printed last, as their device says",
		roles:   people, status: http.StatusOK, answer: mocapi.UALogs{}, faults: []string{fault.NotFound, fault.Unavailable}, serve: (*Server).getUALogs},
	{method: http.MethodPost, pattern: "/v1/deployments/{id}/evidence-requests", name: "requestEvidence",
		summary: "ask the Agent for Evidence over the owner's nonce",
		roles:   owners, request: mocapi.EvidenceRequest{}, status: http.StatusCreated, answer: mocapi.EvidenceRequested{},
		faults: []string{fault.NotFound, fault.Conflict, fault.DeploymentRemoved, fault.DeploymentStopped}, serve: (*Server).requestEvidence},
	{method: http.MethodGet, pattern: "/v1/deployments/{id}/evidence/{request}", name: "evidence",
		summary: "the answer to an evidence request; a long poll",
		roles:   owners, query: []param{waitParam}, status: http.StatusOK, answer: mocapi.Evidence{},
		faults: []string{fault.NotFound}, serve: (*Server).getEvidence},
	{method: http.MethodPost, pattern: "/v1/deployments/{id}/appraisals", name: "postAppraisal",
		summary: "the owner's Attestation Result",
		roles:   owners, request: mocapi.AppraisalRequest{}, status: http.StatusCreated, answer: mocapi.Appraisal{},
		faults: []string{fault.NotFound, fault.BadAppraisal, fault.DeploymentRemoved}, serve: (*Server).postAppraisal},
	{method: http.MethodPost, pattern: "/v1/deployments/{id}/releases", name: "release",
		summary: "release packages with PD, after a positive appraisal",
		roles:   owners, request: mocapi.ReleaseRequest{}, status: http.StatusCreated, answer: mocapi.Release{},
		faults: []string{fault.NotFound, fault.ReleaseBeforeAppraisal, fault.BadPackage, fault.DeploymentRemoved, fault.DeploymentStopped}, serve: (*Server).release},
	{method: http.MethodPost, pattern: "/v1/deployments/{id}/stop", name: "stopDeployment",
		summary: "stop the instance of a deployment and keep what it has sealed",
		roles:   owners, status: http.StatusAccepted, answer: mocapi.Deployment{},
		faults: []string{fault.NotFound, fault.DeploymentRemoved}, serve: (*Server).stopDeployment},
	{method: http.MethodPost, pattern: "/v1/deployments/{id}/start", name: "startDeployment",
		summary: "run a deployment again that was stopped or has failed; the owner appraises it again",
		roles:   owners, status: http.StatusAccepted, answer: mocapi.Deployment{},
		faults: []string{fault.NotFound, fault.NoDevice, fault.DeploymentRemoved}, serve: (*Server).startDeployment},
	{method: http.MethodPost, pattern: "/v1/deployments/{id}/updates", name: "createUpdate",
		summary: "update a deployment to newer packages, while its present version serves",
		roles:   owners, request: mocapi.UpdateRequest{}, status: http.StatusCreated, answer: mocapi.Update{},
		faults: []string{fault.NotFound, fault.RollbackRefused, fault.BadPackage, fault.Conflict, fault.DeploymentRemoved,
			fault.DeploymentStopped}, serve: (*Server).createUpdate},
}
