// SPDX-License-Identifier: Apache-2.0

// Package fault is the one error that crosses a process border or reaches a person. Inside a process, packages use
// sentinels and %w; where an error leaves (a REST answer, the state of a deployment, the last line of a command) it
// becomes an [Error] with a stable code. The code decides the HTTP status and the exit code, so both sides of a
// connection agree without matching text.
//
// On the wire an Error is a problem details object (RFC 9457) with the additional members code, hint and details.
package fault

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Exit codes of the command line that a fault can ask for.
const (
	ExitFailure     = 1 // any error without an exit code of its own
	ExitUsage       = 2 // the request or the command line is wrong
	ExitUnreachable = 3 // a peer does not answer
	ExitAttestation = 4 // Evidence is not authentic or not acceptable
	ExitPolicy      = 5 // a policy, or the owner's missing consent, forbids it
	ExitDrift       = 6 // what runs is not what was planned
)

// Codes. They are part of the interface between processes and never change their meaning.
const (
	BadRequest             = "bad-request"
	Unauthorized           = "unauthorized"
	Forbidden              = "forbidden"
	NotFound               = "not-found"
	MethodNotAllowed       = "method-not-allowed"
	NotAcceptable          = "not-acceptable"
	UnsupportedMedia       = "unsupported-media-type"
	TooLarge               = "too-large"
	Conflict               = "conflict"
	DeviceInUse            = "device-in-use"            // another live Broker announces the same device
	DeviceUnknown          = "device-unknown"           // the device has never announced itself
	NoDevice               = "no-device"                // placement found no device; Details lists why, device by device
	InvalidCell            = "invalid-cell"             // instance type and hardware do not fit
	NotRunnable            = "not-runnable"             // planned, but this version does not run it
	BadPackage             = "bad-package"              // a package that is missing, malformed or not signed by the owner
	ReleaseBeforeAppraisal = "release-before-appraisal" // no positive appraisal of this Agent and these TAs
	BadAppraisal           = "bad-appraisal"            // the owner's Attestation Result does not verify or does not fit
	AppraisalRefused       = "appraisal-refused"        // the owner's appraisal is negative
	OperatorAppraisal      = "operator-appraisal-refused"
	EvidenceInvalid        = "evidence-invalid"     // Evidence that is not authentic
	AgentChanged           = "agent-changed"        // another Agent answers for an admitted deployment
	ManifestRefused        = "manifest-refused"     // the Agent reports manifest processing failed (TEEP error 17)
	RollbackRefused        = "rollback-refused"     // the Agent refused a manifest because a newer one is installed
	AgentError             = "agent-error"          // any other TEEP Error message
	ComponentMissing       = "component-missing"    // the Agent said Success and does not list the component
	PlanViolated           = "plan-violated"        // the Agent lists components in another order than the plan's
	DeploymentRemoved      = "deployment-removed"   // the deployment is being removed or is gone
	DeploymentStopped      = "deployment-stopped"   // the deployment is stopped, on its owner's wish
	PayloadDamaged         = "payload-damaged"      // the operator's store does not have a payload as it was pushed
	InstanceFailed         = "instance-failed"      // the device cannot launch or keep the TEE instance
	TAEnded                = "ta-ended"             // a TA's process ended with an error in or after its answer
	StorageFull            = "storage-full"         // no space is left where the M/OC keeps its state
	DeliveryInterrupted    = "delivery-interrupted" // what the owner delivers to the TEE was cut off: try again
	DeliveryDue            = "delivery-due"         // the TEE waits for what its owner delivers
	Unreachable            = "unreachable"
	Unavailable            = "unavailable" // shutting down, or too busy: try again
	Internal               = "internal"
)

// kind is what a code implies.
type kind struct {
	status int
	exit   int
	title  string
}

var kinds = map[string]kind{
	BadRequest:             {http.StatusBadRequest, ExitUsage, "the request is malformed"},
	Unauthorized:           {http.StatusUnauthorized, ExitFailure, "a valid bearer token is required"},
	Forbidden:              {http.StatusForbidden, ExitPolicy, "the token's role or name does not allow this"},
	NotFound:               {http.StatusNotFound, ExitFailure, "there is no such thing"},
	MethodNotAllowed:       {http.StatusMethodNotAllowed, ExitUsage, "the method is not allowed here"},
	NotAcceptable:          {http.StatusNotAcceptable, ExitUsage, "the representation asked for does not exist"},
	UnsupportedMedia:       {http.StatusUnsupportedMediaType, ExitUsage, "the content type is not supported"},
	TooLarge:               {http.StatusRequestEntityTooLarge, ExitUsage, "the request is too large"},
	Conflict:               {http.StatusConflict, ExitFailure, "the state does not allow this"},
	DeviceInUse:            {http.StatusConflict, ExitFailure, "another Broker already serves this device"},
	DeviceUnknown:          {http.StatusConflict, ExitFailure, "the device has not announced itself"},
	NoDevice:               {http.StatusConflict, ExitPolicy, "no device fits the request"},
	InvalidCell:            {http.StatusUnprocessableEntity, ExitUsage, "instance type and hardware do not fit"},
	NotRunnable:            {http.StatusUnprocessableEntity, ExitUsage, "this version does not run that combination"},
	BadPackage:             {http.StatusUnprocessableEntity, ExitUsage, "the package is not acceptable"},
	ReleaseBeforeAppraisal: {http.StatusConflict, ExitPolicy, "no positive appraisal allows this release"},
	BadAppraisal:           {http.StatusUnprocessableEntity, ExitAttestation, "the Attestation Result is not acceptable"},
	AppraisalRefused:       {http.StatusConflict, ExitAttestation, "the owner refused the Evidence"},
	OperatorAppraisal:      {http.StatusConflict, ExitAttestation, "the operator's Verifier refused the Evidence"},
	EvidenceInvalid:        {http.StatusConflict, ExitAttestation, "the Evidence is not authentic"},
	AgentChanged:           {http.StatusConflict, ExitDrift, "another Agent answers for this deployment"},
	ManifestRefused:        {http.StatusConflict, ExitFailure, "the Agent refused a manifest"},
	RollbackRefused:        {http.StatusConflict, ExitPolicy, "an older version does not replace a newer one"},
	AgentError:             {http.StatusConflict, ExitFailure, "the Agent reported an error"},
	ComponentMissing:       {http.StatusConflict, ExitDrift, "a component is not where the plan has it"},
	PlanViolated:           {http.StatusConflict, ExitDrift, "the steps were not done in the order of the plan"},
	DeploymentRemoved:      {http.StatusConflict, ExitFailure, "the deployment is being removed"},
	DeploymentStopped:      {http.StatusConflict, ExitFailure, "the deployment is stopped"},
	PayloadDamaged:         {http.StatusConflict, ExitFailure, "a payload is damaged in the operator's store"},
	InstanceFailed:         {http.StatusConflict, ExitFailure, "the device cannot run the TEE instance"},
	TAEnded:                {http.StatusBadGateway, ExitFailure, "the TA ended with an error"},
	StorageFull:            {http.StatusInsufficientStorage, ExitFailure, "no space is left"},
	DeliveryInterrupted:    {http.StatusBadGateway, ExitUnreachable, "the delivery to the TEE was cut off"},
	DeliveryDue:            {http.StatusConflict, ExitFailure, "the TEE waits for its owner's delivery"},
	Unreachable:            {http.StatusBadGateway, ExitUnreachable, "a peer does not answer"},
	Unavailable:            {http.StatusServiceUnavailable, ExitUnreachable, "the service cannot answer now"},
	Internal:               {http.StatusInternalServerError, ExitFailure, "an internal error"},
}

// Error is a failure with a stable code. Its zero value is not useful; make one with [New] or [Wrap].
type Error struct {
	Code    string // one of this package's codes
	Message string // what was being done and why it failed, lower case
	Hint    string // what the reader can do about it; may be empty
	Exit    int    // exit code of a command that ends with this error
	Details any    // JSON-able; its shape depends on the code; may be nil

	wrapped error
}

// New returns an Error with the given code. An unknown code is kept and treated like Internal.
func New(code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Exit: Exit(code), wrapped: errors.Unwrap(err)}
}

// Wrap returns err as an Error with the given code and err's text; it stays reachable for errors.Is and errors.As. If err
// already is (or wraps) an Error, that one is returned unchanged: the first code that was given is the right one.
func Wrap(code string, err error) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	return &Error{Code: code, Message: err.Error(), Exit: Exit(code), wrapped: err}
}

// From returns the Error in err's chain, or err as an Internal one. It returns nil for nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	return Wrap(Internal, err)
}

// WithHint sets the hint and returns e.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// WithDetails sets the details and returns e.
func (e *Error) WithDetails(details any) *Error {
	e.Details = details
	return e
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the error that New's %w or Wrap was given.
func (e *Error) Unwrap() error { return e.wrapped }

// Status returns the HTTP status of e's code.
func (e *Error) Status() int { return Status(e.Code) }

// Is reports whether err's chain holds an Error with that code.
func Is(err error, code string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// Codes returns every code with its title; the API description lists them.
func Codes() map[string]string {
	out := make(map[string]string, len(kinds))
	for code, k := range kinds {
		out[code] = k.title
	}
	return out
}

// Status returns the HTTP status of a code, 500 for one that is not known.
func Status(code string) int {
	if k, ok := kinds[code]; ok {
		return k.status
	}
	return http.StatusInternalServerError
}

// Exit returns the exit code of a code, ExitFailure for one that is not known.
func Exit(code string) int {
	if k, ok := kinds[code]; ok {
		return k.exit
	}
	return ExitFailure
}

// problem is the wire form: RFC 9457 section 3 with extension members.
type problem struct {
	Type    string          `json:"type"`
	Title   string          `json:"title"`
	Status  int             `json:"status"`
	Detail  string          `json:"detail"`
	Code    string          `json:"code"`
	Hint    string          `json:"hint,omitempty"`
	Details json.RawMessage `json:"details,omitempty"`
}

// typePrefix makes problem types without claiming a host name.
const typePrefix = "urn:sealift:problem:"

// MarshalJSON returns the problem details object.
func (e *Error) MarshalJSON() ([]byte, error) {
	p := problem{
		Type: typePrefix + e.Code, Title: kinds[e.Code].title, Status: e.Status(),
		Detail: e.Message, Code: e.Code, Hint: e.Hint,
	}
	if e.Details != nil {
		details, err := json.Marshal(e.Details)
		if err != nil {
			return nil, fmt.Errorf("encoding the details of %s: %w", e.Code, err)
		}
		p.Details = details
	}
	return json.Marshal(p)
}

// UnmarshalJSON reads a problem details object. Details become a json.RawMessage.
func (e *Error) UnmarshalJSON(data []byte) error {
	var p problem
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	*e = Error{Code: p.Code, Message: p.Detail, Hint: p.Hint, Exit: Exit(p.Code)}
	if e.Code == "" {
		e.Code = Internal
	}
	if e.Message == "" {
		e.Message = p.Title
	}
	if len(p.Details) > 0 {
		e.Details = p.Details
	}
	return nil
}
