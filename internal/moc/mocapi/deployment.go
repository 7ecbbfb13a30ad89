// SPDX-License-Identifier: Apache-2.0

package mocapi

import (
	"time"

	"sealift/cose"
	"sealift/internal/fault"
	"sealift/usecase"
)

// Roles of packages: what the manifest-component-id ["manifest", app, role] ends in.
const (
	PackageUA     = "ua"
	PackageTA     = "ta"
	PackagePD     = "pd"
	PackageBundle = "bundle"
)

// PackageRef names a package in the artifact store.
type PackageRef struct {
	Role       string `json:"role"`       // PackageUA ...
	Repository string `json:"repository"` // "<owner>/<app>/<role>"
	Digest     string `json:"digest"`     // "sha256:<hex>" of the OCI manifest
}

// Which of several devices that fit gets a deployment.
const (
	PlaceSpread = "spread" // that with the fewest deployments of this application, and of those the one with the most room
	PlacePack   = "pack"   // that with the least room left
)

// SharingOwner allows an instance to several applications of one owner: its measured configuration has that owner's key alone, for all of
// that owner's applications.
const SharingOwner = "owner"

// DeploymentRequest asks for a confidential resource. Packages holds those that the mode installs before PD is released
// (UA and TA where they are packages of their own); packages with PD come with the release.
type DeploymentRequest struct {
	App       string   `json:"app"`
	Mode      string   `json:"mode"`      // as in package usecase
	Hardware  []string `json:"hardware"`  // acceptable ones, the preferred first; empty: any
	Instances []string `json:"instances"` // acceptable instance types, the preferred first; empty: any
	Device    string   `json:"device,omitempty"`
	// Labels are those that a device must have, with these values.
	Labels map[string]string `json:"labels,omitempty"`
	// Sharing is SharingOwner where the TEE instance may serve other applications of this owner too, those of further requests; empty: it
	// serves this one alone. Where an instance is there already that fits, the deployment goes into it; with PlaceSpread, only
	// where no device has room for another.
	Sharing string `json:"sharing,omitempty"`
	// ShareWith is a deployment of the same owner, made with Sharing, whose instance this one has to go into.
	ShareWith string `json:"share_with,omitempty"`
	// Place says which of the devices that fit: PlaceSpread (default) or PlacePack.
	Place string `json:"place,omitempty"`
	// Delivery is how what holds PD comes to the TEE, as in package usecase: sealed (default) or channel.
	Delivery string       `json:"delivery,omitempty"`
	Packages []PackageRef `json:"packages"`
	OwnerKey *cose.Key    `json:"owner_key"` // goes into the measured configuration; signs every package
}

// State is where a deployment stands.
type State string

// The states of a deployment.
const (
	StatePending           State = "pending"            // placed; the device has not reported the instance yet
	StateAdmitting         State = "admitting"          // the instance runs; the TAM attests the Agent
	StateInstalling        State = "installing"         // steps before the owner's appraisal
	StateAwaitingAppraisal State = "awaiting-appraisal" // the owner's turn: evidence request, appraisal, release; or, after a start, consent
	StateInstallingPD      State = "installing-pd"      // released; steps after the appraisal
	StateAwaitingDelivery  State = "awaiting-delivery"  // the owner's turn: it delivers PD itself, and has not yet, or the TEE has restarted since
	StateRunning           State = "running"            // every step of the plan is done
	StateFailed            State = "failed"             // Problem says why
	StateStopping          State = "stopping"           // its owner wants it stopped; the device has not said so yet
	StateStopped           State = "stopped"            // the instance does not run, and takes no place; what it has sealed is kept
	StateStarting          State = "starting"           // asked to start again; the instance does not run yet
	StateRemoving          State = "removing"           // deleted; the device still holds something
	StateRemoved           State = "removed"            // the Broker has reported the instance gone
)

// Deployment is one application on one device.
type Deployment struct {
	ID       string    `json:"id"`
	Version  uint64    `json:"version"` // rises with every change; since= of the long poll
	Owner    string    `json:"owner"`
	App      string    `json:"app"`
	Mode     string    `json:"mode"`
	Hardware string    `json:"hardware"`
	Instance string    `json:"instance"`
	Delivery string    `json:"delivery"`
	Device   string    `json:"device"`
	Emulated bool      `json:"emulated"`
	OwnerKey *cose.Key `json:"owner_key"`
	TEE      string    `json:"tee"`               // the instance on the device: the id of the deployment that it was made for
	Sharing  string    `json:"sharing,omitempty"` // SharingOwner, or empty
	// SharesWith are the other deployments in the instance.
	SharesWith []string `json:"shares_with,omitempty"`

	State     State          `json:"state"`
	Appraised bool           `json:"appraised"` // a positive appraisal of the present Agent key and TAs was posted
	Released  bool           `json:"released"`  // the packages with PD were released
	Problem   *fault.Error   `json:"problem,omitempty"`
	Plan      []usecase.Step `json:"plan"`
	Trace     []TraceStep    `json:"trace"`

	Config   []byte       `json:"config"` // measured configuration (internal/agentconfig)
	TAMURI   string       `json:"tam_uri"`
	AgentKey *cose.Key    `json:"agent_key,omitempty"` // since admit
	Packages []PackageRef `json:"packages"`

	RelayAddr      string               `json:"relay_addr"`                // of the device's Broker
	InstanceStatus *InstanceStatus      `json:"instance_status,omitempty"` // as the Broker announced it last
	Installed      []InstalledComponent `json:"installed"`                 // as the Agent listed it last, in order of installation
	Update         *Update              `json:"update,omitempty"`          // the last one that was asked for
	Removal        [][]byte             `json:"removal,omitempty"`         // SUIT Reports, each signed by the Agent (COSE_Sign1), of what it has removed

	// DeviceSilentSince is when the device was heard of last, if its Broker's lease has run out since.
	DeviceSilentSince time.Time `json:"device_silent_since,omitzero"`

	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// InstalledComponent is one entry of the Agent's tc-list.
type InstalledComponent struct {
	Component string `json:"component"`        // "tee/<app>/ta"
	Digest    string `json:"digest,omitempty"` // "sha256:<hex>"; never of PD
}

// TraceStep is a step of the plan that was done, with the time at which the M/OC saw it done.
type TraceStep struct {
	usecase.Step
	Time   time.Time `json:"time"`
	Detail string    `json:"detail,omitempty"` // what was observed, for people
}

// Trace is a deployment's plan beside what happened.
type Trace struct {
	Deployment string         `json:"deployment"`
	Plan       []usecase.Step `json:"plan"`
	Trace      []TraceStep    `json:"trace"`
	Complete   bool           `json:"complete"` // the trace equals the plan
}

// NonceSize is the length of an owner's nonce.
const NonceSize = 32

// EvidenceRequest asks for Evidence over a fresh challenge that holds the owner's nonce.
type EvidenceRequest struct {
	Nonce []byte `json:"nonce"` // NonceSize random bytes
}

// EvidenceRequested names the request.
type EvidenceRequested struct {
	ID string `json:"id"`
}

// Evidence is the answer to an evidence request, once the Agent gave it. The owner must not believe any member of it:
// it recomputes the challenge from its own nonce, and the bundle proves the rest.
type Evidence struct {
	ID           string    `json:"id"`
	Ready        bool      `json:"ready"`               // false: not answered yet, the members below are empty
	Bundle       []byte    `json:"bundle,omitempty"`    // evidence.Bundle, application/cmw+cbor
	TAMNonce     []byte    `json:"tam_nonce,omitempty"` // the TAM's 32 bytes of the challenge
	Challenge    []byte    `json:"challenge,omitempty"` // evidence.MixChallenge(TAMNonce, owner's nonce)
	AgentKey     *cose.Key `json:"agent_key,omitempty"` // that signed the QueryResponse
	Time         time.Time `json:"time,omitzero"`
	Advice       []byte    `json:"advice,omitempty"`        // Attestation Result of the operator's Verifier (EAT); may be empty
	AdviceStatus string    `json:"advice_status,omitempty"` // its tier, for people
}

// AppraisalRequest hands the owner's verdict over Evidence to the M/OC.
type AppraisalRequest struct {
	Evidence string `json:"evidence"` // id of the evidence request
	Result   []byte `json:"result"`   // Attestation Result (EAT, COSE_Sign1) signed with the deployment's owner key
}

// Appraisal is an owner's appraisal as the M/OC stored it.
type Appraisal struct {
	ID       string    `json:"id"`
	Evidence string    `json:"evidence"`
	Positive bool      `json:"positive"`
	Time     time.Time `json:"time"`
}

// ReleaseRequest releases packages with PD, sealed to keys in the appraised Evidence. With delivery channel nothing of them comes to the
// M/OC: Live says what the owner delivers to the TEE itself, and Packages is empty.
type ReleaseRequest struct {
	Appraisal string        `json:"appraisal"` // id of a positive appraisal of the present Agent key and TAs
	Packages  []PackageRef  `json:"packages"`
	Live      []LivePackage `json:"live,omitempty"`
}

// LivePackage announces a package that its owner delivers itself: how the Agent will list it.
type LivePackage struct {
	Role           string `json:"role"`            // PackagePD or PackageBundle
	ManifestDigest string `json:"manifest_digest"` // "sha256:<hex>" of the SUIT manifest
	Sequence       uint64 `json:"sequence"`
}

// Release is a stored release.
type Release struct {
	ID        string       `json:"id"`
	Appraisal string       `json:"appraisal"`
	Packages  []PackageRef `json:"packages"`
	Time      time.Time    `json:"time"`
}
