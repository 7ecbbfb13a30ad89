// SPDX-License-Identifier: Apache-2.0

package mocapi

import "time"

// Announcement is what a Broker says about its device at start, whenever something changes, and at least every
// [LeaseTime]/3. It renews the Broker's lease: while the lease lives, another BrokerID gets the fault device-in-use.
type Announcement struct {
	BrokerID        string   `json:"broker_id"`        // random, new at each start of a Broker
	Hardware        string   `json:"hardware"`         // "trustzone" ...
	Emulated        bool     `json:"emulated"`         // the platform is the emulator
	RootFingerprint string   `json:"root_fingerprint"` // SHA-256 of the hardware root, hex
	InstanceTypes   []string `json:"instance_types"`   // "process" ...: those that the platform can run and that Images has
	// Lacks says, of instance types that the hardware could protect and that are not among InstanceTypes, what the device lacks.
	Lacks     map[string]string `json:"lacks,omitempty"`
	Capacity  int               `json:"capacity"`   // how many instances the device holds
	RelayAddr string            `json:"relay_addr"` // host:port of the Broker's relay listener
	// Images has the Agent image that the Broker launches for each instance type: "sha256:<hex>" of the file.
	Images map[string]string `json:"images"`
	// Labels are the operator's words about the device, by which requests choose: "region", "zone" ...
	Labels map[string]string `json:"labels,omitempty"`
	// Generation is the newest Work.Generation whose instance list the Broker has applied completely (launched and
	// destroyed). A removed deployment reaches the state removed only when an Announcement with a Generation at or
	// after the drop does not list it.
	Generation uint64           `json:"generation"`
	Leaving    bool             `json:"leaving,omitempty"` // the Broker stops: give up the lease now
	Instances  []InstanceStatus `json:"instances"`         // every TEE instance that exists on the device
}

// Bounds on labels.
const (
	MaxLabels     = 32
	MaxLabelBytes = 63 // of a name, and of a value
)

// LeaseTime is how long an announcement or a poll keeps a device for its Broker.
const LeaseTime = 30 * time.Second

// InstanceStatus is what a Broker knows of one TEE instance and of the UAs beside it.
type InstanceStatus struct {
	ID        string     `json:"id"` // Deployment.TEE of the deployments that it serves
	Running   bool       `json:"running"`
	UAs       []UAStatus `json:"uas,omitempty"`
	LastError string     `json:"last_error,omitempty"` // of launching or of the last TEEP session; empty after a success
	// GaveUp says that the Broker has launched it in vain often enough, and does so again only when it is woken.
	GaveUp bool `json:"gave_up,omitempty"`
	// Stopped says that it does not run because the M/OC wants it stopped: the platform has ended it, and its UAs.
	Stopped bool `json:"stopped,omitempty"`
	// Held says that the Agent runs no TA of it until the owner consents: the owner has stopped it (agentconfig.DeskHold).
	Held bool `json:"held,omitempty"`
	// FailedTA says why a TA is not started again by the Agent; empty if all is well.
	FailedTA string `json:"failed_ta,omitempty"`
	// TAs are those of the Agent's TAs about which there is something to say.
	TAs []TAStatus `json:"tas,omitempty"`
	// Transfers are the large payloads that the Agent is reading now.
	Transfers []Transfer `json:"transfers,omitempty"`
}

// TAStatus is what a Broker knows of one TA.
type TAStatus struct {
	Component string `json:"component"` // "tee/<app>/ta"
	Failed    string `json:"failed,omitempty"`
	Held      bool   `json:"held,omitempty"`
}

// Transfer is a payload on its way to an Agent.
type Transfer struct {
	Payload   string `json:"payload"`             // as the Broker says it, its URI; as the M/OC tells it, "sha256:<hex>" where the URI is a digest
	Component string `json:"component,omitempty"` // that it is for: the M/OC reads that in the manifest
	Bytes     int64  `json:"bytes"`
	Total     int64  `json:"total"`
}

// UAStatus is one UA in the REE.
type UAStatus struct {
	Component string            `json:"component"` // "ree/<app>/ua"
	Running   bool              `json:"running"`
	Ports     map[string]string `json:"ports,omitempty"` // port name to host:port
}

// Work is what a device should hold. An instance that exists and is not listed is to be destroyed, with its UAs and
// with everything of it in the REE.
type Work struct {
	Generation uint64           `json:"generation"`
	Instances  []WantedInstance `json:"instances"`
	// Logs are the TEE instances of which somebody wants to see what their UAs have printed: see UALogs.
	Logs []string `json:"logs,omitempty"`
}

// MaxUALog bounds what is passed on of what one UA has printed: the last of it.
const MaxUALog = 64 << 10

// UALogs is what the UAs beside a TEE instance have printed last. It comes from the REE: the device's operator sees it, and could have
// written it. The M/OC passes it on and keeps nothing.
type UALogs struct {
	BrokerID string  `json:"broker_id,omitempty"` // to the M/OC only
	Instance string  `json:"instance,omitempty"`  // likewise
	UAs      []UALog `json:"uas"`
}

// UALog is what one UA has printed.
type UALog struct {
	Component string `json:"component"` // "ree/<app>/ua"
	Text      []byte `json:"text"`
}

// WantedInstance is one TEE instance that the device should run.
type WantedInstance struct {
	ID       string `json:"id"`       // Deployment.TEE of the deployments that it serves
	Instance string `json:"instance"` // the instance type: which Agent image to launch
	Config   []byte `json:"config"`   // measured configuration, as it goes to the platform driver
	// Layer is the URI, by its digest, of the guest payload that a vm is booted with; empty for none.
	Layer  string `json:"layer,omitempty"`
	TAMURI string `json:"tam_uri"` // where the instance's TEEP sessions go, as its configuration has it
	// Wake counts the reasons to start a TEEP session. The Broker starts one for an instance whose Wake differs from
	// the one it last served to the end, and retries a failed session with back-off.
	Wake uint64 `json:"wake"`
	App  string `json:"app"`
	// Further are the sessions of further deployments that share the instance.
	Further []WantedSession `json:"further,omitempty"`
	// Stopped says that the instance and its UAs are not to run. What the instance has sealed stays, and so do the UAs' files.
	Stopped bool `json:"stopped,omitempty"`
}

// WantedSession is where the TEEP sessions of one deployment go, and how many reasons there were for one.
type WantedSession struct {
	TAMURI string `json:"tam_uri"`
	Wake   uint64 `json:"wake"`
}

// Device is a confidential computing device as the M/OC knows it.
type Device struct {
	ID              string            `json:"id"`
	Hardware        string            `json:"hardware"`
	Emulated        bool              `json:"emulated"`
	RootFingerprint string            `json:"root_fingerprint"`
	InstanceTypes   []string          `json:"instance_types"`
	Capacity        int               `json:"capacity"`
	Used            int               `json:"used"` // instances that are placed on it
	RelayAddr       string            `json:"relay_addr"`
	Images          map[string]string `json:"images"` // by instance type, "sha256:<hex>" of the Agent image's file
	Labels          map[string]string `json:"labels"`
	Live            bool              `json:"live"` // its Broker's lease has not run out
	LastSeen        time.Time         `json:"last_seen"`
	Generation      uint64            `json:"generation"` // of the Work it should have
	Applied         uint64            `json:"applied"`    // of the Work it says it has
}

// Exclusion says which constraint kept a device, or a TEE instance that is there already, from being chosen. The fault no-device carries
// a list of them as its details.
type Exclusion struct {
	Device string `json:"device"`
	TEE    string `json:"tee,omitempty"` // the instance, where it is one that could be shared
	// Constraint is "device", "live", "hardware", "label", "instance" or "capacity"; of an instance "sharing", "name", "removal", "stopped",
	// "ta-start", "programs" or "memory" as well.
	Constraint string `json:"constraint"`
	Reason     string `json:"reason"`
}
