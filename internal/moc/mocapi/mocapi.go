// SPDX-License-Identifier: Apache-2.0

// Package mocapi is the REST interface of the M/OC as Go types, and a client with one method per endpoint. The Broker,
// the owner's tools and the M/OC itself share it, so that the two ends cannot drift apart; the OpenAPI document at
// /v1/openapi.json says the same for everybody else.
//
// Every request carries a bearer token (RFC 6750). A token has a role and a name:
//
//   - operator: sees devices and all deployments; may delete, may not appraise or release.
//   - owner: the name is the owner; sees and changes only its own deployments, and pushes packages to repositories
//     whose path begins with "<name>/".
//   - device: the name is the device; announces that device, gets its work, fetches payloads of its deployments.
//
// Errors are problem details (RFC 9457) and come back as [*sealift/internal/fault.Error].
//
// # The course of a deployment
//
// The owner pushes packages (internal/artifact) and posts a [DeploymentRequest]. The M/OC places it on a device and bumps
// the device's work generation; the Broker's long poll returns, it launches the instance and runs a TEEP session at the
// instance's TAM URI. When the state is awaiting-appraisal the owner posts an [EvidenceRequest] with a nonce of 32 bytes,
// fetches the [Evidence], appraises it with its own Verifier and posts the signed Attestation Result. After a positive
// one it pushes the packages with PD and posts a [ReleaseRequest]; the M/OC drives the rest. Deleting sends the Agent
// the unneeded manifests, drops the instance from the device's work, and ends in the state removed once the Broker
// has announced that the instance is gone.
package mocapi

import (
	"time"

	"sealift/cose"
)

// Role is what a bearer token may do.
type Role string

// The roles of tokens.
const (
	RoleOperator Role = "operator"
	RoleOwner    Role = "owner"
	RoleDevice   Role = "device"
)

// Identity is who the M/OC takes the caller for.
type Identity struct {
	Role Role   `json:"role"`
	Name string `json:"name"`
}

// TrustAnchors are the operator's public keys: what an Agent's measured configuration pins, and what a reader of the
// operator's Attestation Results needs.
type TrustAnchors struct {
	TAMKeys     []*cose.Key `json:"tam_keys"`     // ESP256 first, then Ed25519
	VerifierKey *cose.Key   `json:"verifier_key"` // signs the operator's Attestation Results (advice)
	TAMURI      string      `json:"tam_uri"`      // prefix of every TAM URI; a deployment's is this + "/" + its id
}

// Health is the answer of /healthz.
type Health struct {
	Status  string `json:"status"` // "ok"
	Version string `json:"version"`
}

// Event is one line of a deployment's history, for people. It never holds PD, keys or Evidence.
type Event struct {
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"`
	Kind     string    `json:"kind"` // "state", "step", "evidence", "appraisal", "release", "problem", "agent"
	Message  string    `json:"message"`
}

// MaxWait is the longest time that a long poll waits; a larger wait parameter is cut to it.
const MaxWait = 60 * time.Second
