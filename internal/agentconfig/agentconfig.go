// SPDX-License-Identifier: Apache-2.0

// Package agentconfig holds the measured configuration of one TEE instance: whom the Agent obeys.
//
// The M/OC writes it when it makes a deployment, the platform measures its bytes together with the Agent's binary before the Agent
// starts, and Evidence carries both the digest and the bytes, so that the owner reads which keys the Agent it appraises will obey
// (docs/architecture.md section 4). Nothing in it is secret, and nothing can change it for a running instance: another configuration is
// another instance with other sealing keys.
package agentconfig

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sealift/cose"
	"sealift/teep"
)

// Version is the only version of the format.
const Version = 1

// MaxBytes bounds the encoded configuration.
const MaxBytes = 64 << 10

// AgentKeyOption is the label of the option of a QueryResponse in which an Agent that gives Evidence tells its signing key: the encoded
// COSE_Key. TEEP has no place for it, since it expects keys that are known beforehand, and ours are made in the TEE. A TAM
// that does not know the Agent yet takes the key from here, verifies the message with it, and believes it when the Evidence in the
// message is bound to its thumbprint. Others ignore the option, as they ignore every unknown one.
const AgentKeyOption uint64 = 65537

// ErrInvalid is wrapped by every error about a configuration's content.
var ErrInvalid = errors.New("agentconfig: invalid configuration")

// AnyApp in the place of an application's name makes the instance a shared one: the owner may install any number of applications of its
// own beside each other. No application can be called so, and an Agent that does not know it refuses the configuration. A shared instance
// has one owner: two would each have an Agent in their trust base that obeys the other.
const AnyApp = "*"

// Owner is a manifest signer and the application whose components it may write (its name is the second segment of
// each component identifier).
type Owner struct {
	Key *cose.Key `cbor:"1,keyasint"`
	App string    `cbor:"2,keyasint"` // or AnyApp
	// Rights, if there are any, are all that this owner's manifests may do within App; without them they may do everything there. Several
	// owners of one application can so share it: one for the programs, another for the data.
	Rights []Right `cbor:"3,keyasint,omitempty"`
}

// Writes says whether the components of an application are the owner's to write.
func (o Owner) Writes(app string) bool {
	return ValidName(app) && (o.App == app || o.App == AnyApp)
}

// Right is what the manifests of an owner may do to the components of one kind.
type Right struct {
	// Kind is the first segment of the components' identifiers: ree, tee, pd, enc (ciphertext that is being installed), or manifest
	// (dependencies, and manifests that are stored).
	Kind string `cbor:"1,keyasint"`
	// Commands and Params are the codes of SUIT commands that may be run there, and of parameters that may be set; none means all.
	Commands []int64 `cbor:"2,keyasint,omitempty"`
	Params   []int64 `cbor:"3,keyasint,omitempty"`
}

// Kinds of components.
var kinds = []string{"ree", "tee", "pd", "enc", "manifest"}

func (r Right) valid() bool {
	return slices.Contains(kinds, r.Kind) && len(r.Commands) <= 64 && len(r.Params) <= 64
}

// Limits bound what one Agent holds and does. A zero means the default beside it.
type Limits struct {
	MessageBytes   uint64 `cbor:"1,keyasint,omitempty"`  // one TEEP message; 4 MiB
	Manifests      uint64 `cbor:"2,keyasint,omitempty"`  // installed at one time; 32
	ManifestBytes  uint64 `cbor:"3,keyasint,omitempty"`  // one envelope with what is integrated in it; 1 MiB
	Components     uint64 `cbor:"4,keyasint,omitempty"`  // installed at one time; 256
	PayloadBytes   uint64 `cbor:"5,keyasint,omitempty"`  // one component; 2 GiB
	StoreBytes     uint64 `cbor:"6,keyasint,omitempty"`  // all components; 8 GiB
	TAs            uint64 `cbor:"7,keyasint,omitempty"`  // running at one time; 16
	Connections    uint64 `cbor:"8,keyasint,omitempty"`  // to all TAs at one time; 128
	UpdateSeconds  uint64 `cbor:"9,keyasint,omitempty"`  // processing of one message; 1800
	TAMemoryBytes  uint64 `cbor:"10,keyasint,omitempty"` // upper bound of what a manifest may ask for, and all together; 4 GiB
	TAProcs        uint64 `cbor:"11,keyasint,omitempty"` // likewise; 256
	TALogBytes     uint64 `cbor:"12,keyasint,omitempty"` // of each TA's ring buffer; 64 KiB
	RequestSeconds uint64 `cbor:"13,keyasint,omitempty"` // one request to a stdio TA, and idle time of a connection; 300
	LiveBytes      uint64 `cbor:"14,keyasint,omitempty"` // all components that an owner delivered live, which are in memory only; 256 MiB, and at most a quarter of a guest's memory
}

// Config is the measured configuration.
type Config struct {
	Version    uint        `cbor:"1,keyasint"`
	Deployment string      `cbor:"2,keyasint"` // the deployment this instance serves
	Hardware   string      `cbor:"3,keyasint"` // usecase hardware name, for example "trustzone"
	Instance   string      `cbor:"4,keyasint"` // usecase instance type, for example "process"
	TAMKeys    []*cose.Key `cbor:"5,keyasint"` // anchors of TEEP messages
	TAMURI     string      `cbor:"6,keyasint"`
	Owners     []Owner     `cbor:"7,keyasint"` // anchors of manifests
	Limits     Limits      `cbor:"8,keyasint,omitzero"`
	// VerifierKeys are the anchors of Attestation Results about the TAM; RequireTAMAttestation makes the Agent answer
	// ERR_ATTESTATION_REQUIRED to a QueryRequest without one (teep-protocol section 7.2.1).
	VerifierKeys          []*cose.Key `cbor:"9,keyasint,omitempty"`
	RequireTAMAttestation bool        `cbor:"10,keyasint,omitempty"`
	// SigningAlg is the algorithm of the Agent's own key, and so its cipher suite: ESP256, which 0 stands for, or Ed25519.
	SigningAlg cose.Algorithm `cbor:"11,keyasint,omitempty"`
	// TAMEncKey is what Evidence and SUIT Reports are encrypted to (teep-protocol section 8.2). None means that they travel
	// signed only.
	TAMEncKey *cose.Key `cbor:"12,keyasint,omitempty"`
	// FurtherTAMs are visited at policy checks beside the one above, and obeyed like it. What they may install the owners say.
	FurtherTAMs []TAM `cbor:"13,keyasint,omitempty"`
	// TAMRoots are certificates in DER. A TAM whose chain leads to one of them and names the host of a TAM URI of this
	// configuration is obeyed like one whose raw key is listed.
	TAMRoots [][]byte `cbor:"14,keyasint,omitempty"`
	// Profile is how far TAMs may depart from the drafts' text.
	Profile teep.Profile `cbor:"15,keyasint,omitempty"`
	// ResultSeconds is how old an Attestation Result about the TAM may be that is not over the Agent's challenge; 24 hours.
	ResultSeconds uint64 `cbor:"16,keyasint,omitempty"`
	// TAOnRequest makes a TA that comes in one manifest with its UA wait until the UA asks for it (RequestTA, RFC 9397 section 6.2.1):
	// on SGX the UA is there first and has its TA loaded.
	TAOnRequest bool `cbor:"17,keyasint,omitempty"`
	// Layer is the SHA-256 of the guest payload that a vm is booted with, beside its Agent (docs/design/0016); none for most.
	Layer []byte `cbor:"20,keyasint,omitempty"`
}

// TAM is a further TAM.
type TAM struct {
	URI    string      `cbor:"1,keyasint"`
	Keys   []*cose.Key `cbor:"2,keyasint"`
	EncKey *cose.Key   `cbor:"3,keyasint,omitempty"`
}

// TAMs returns all TAMs, the first one first.
func (c Config) TAMs() []TAM {
	return append([]TAM{{c.TAMURI, c.TAMKeys, c.TAMEncKey}}, c.FurtherTAMs...)
}

// Shared says whether the instance may hold more than one application.
func (c Config) Shared() bool {
	return slices.ContainsFunc(c.Owners, func(o Owner) bool { return o.App == AnyApp })
}

// ResultWindow returns how old an Attestation Result may be that is fresh by its time.
func (c Config) ResultWindow() time.Duration {
	if c.ResultSeconds == 0 {
		return 24 * time.Hour
	}
	return time.Duration(c.ResultSeconds) * time.Second
}

// Marshal returns the deterministic CBOR of c: the bytes that are measured.
func (c Config) Marshal() []byte { return cose.MustMarshal(c) }

// Digest returns the SHA-256 of the measured bytes.
func (c Config) Digest() [32]byte { return sha256.Sum256(c.Marshal()) }

// Parse decodes and checks a configuration. Only the deterministic encoding is accepted, so that a configuration has one digest.
func Parse(data []byte) (*Config, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrInvalid, len(data))
	}
	var c Config
	if err := cose.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if !bytes.Equal(c.Marshal(), data) {
		return nil, fmt.Errorf("%w: not in deterministic encoding", ErrInvalid)
	}
	return &c, nil
}

// Validate reports everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...))
	}
	if c.Version != Version {
		bad("version %d, expected %d", c.Version, Version)
	}
	for name, v := range map[string]string{"deployment": c.Deployment, "hardware": c.Hardware, "instance": c.Instance, "TAM URI": c.TAMURI} {
		if v == "" || len(v) > 1024 {
			bad("the %s is missing or too long", name)
		}
	}
	if len(c.TAMKeys) == 0 || len(c.TAMKeys) > 16 || len(c.Owners) == 0 || len(c.Owners) > 16 || len(c.VerifierKeys) > 16 {
		bad("%d TAM keys, %d owners, %d verifier keys", len(c.TAMKeys), len(c.Owners), len(c.VerifierKeys))
	}
	for _, k := range append(append([]*cose.Key{}, c.TAMKeys...), c.VerifierKeys...) {
		if k == nil {
			bad("a key is null")
		}
	}
	for _, o := range c.Owners {
		if o.Key == nil || !ValidName(o.App) && o.App != AnyApp {
			bad("owner of application %q has no key or the name is not allowed", o.App)
		}
		for _, r := range o.Rights {
			if !r.valid() || len(o.Rights) > 16 {
				bad("owner of application %q: a right over components of kind %.16q", o.App, r.Kind)
			}
		}
	}
	if c.Shared() && len(c.Owners) != 1 {
		bad("a shared instance has one owner, not %d", len(c.Owners))
	}
	if c.RequireTAMAttestation && len(c.VerifierKeys) == 0 {
		bad("TAM attestation is required but no Verifier is trusted")
	}
	if c.SigningAlg != 0 && c.SigningAlg != cose.AlgESP256 && c.SigningAlg != cose.AlgEd25519 {
		bad("the Agent cannot sign with %v", c.SigningAlg)
	}
	if _, err := c.Profile.Options(); err != nil {
		bad("%w", err)
	}
	if len(c.Layer) != 0 && (len(c.Layer) != sha256.Size || c.Instance != "vm") {
		bad("a guest payload with a digest of %d bytes for a %s", len(c.Layer), c.Instance)
	}
	if c.ResultSeconds > 30*24*3600 {
		bad("Attestation Results may be %d seconds old", c.ResultSeconds)
	}
	return errors.Join(append(errs, c.validateTAMs())...)
}

// validateTAMs checks what is about further TAMs, encryption keys and certificates.
func (c Config) validateTAMs() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...))
	}
	if len(c.FurtherTAMs) > 15 || len(c.TAMRoots) > 16 {
		bad("%d further TAMs, %d roots", len(c.FurtherTAMs), len(c.TAMRoots))
	}
	for _, t := range c.TAMs() {
		if t.URI == "" || len(t.URI) > 1024 || len(t.Keys) == 0 || len(t.Keys) > 16 || slices.Contains(t.Keys, nil) {
			bad("TAM %.64q has %d keys", t.URI, len(t.Keys))
			continue
		}
		if t.EncKey == nil {
			continue
		}
		if _, err := t.EncKey.ECDH(); err != nil {
			bad("encryption key of %s: %w", t.URI, err)
		}
		// teep-protocol sections 4.2 and 8.1: messages and what is inside them are protected with different keys.
		if slices.ContainsFunc(t.Keys, t.EncKey.Equal) {
			bad("%s uses one key for signatures and for encryption", t.URI)
		}
	}
	for i, der := range c.TAMRoots {
		if _, err := x509.ParseCertificate(der); err != nil {
			bad("root %d: %w", i+1, err)
		}
	}
	return errors.Join(errs...)
}

// ValidName says whether s can be the name of an application or component: 1 to 64 letters, digits, dot, dash and underscore, not
// beginning with a dot. Such a name is safe as a file name and in a host name's label.
func ValidName(s string) bool {
	if s == "" || len(s) > 64 || s[0] == '.' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == ""
}

// WithDefaults returns l with every zero replaced by its default.
func (l Limits) WithDefaults() Limits {
	for _, f := range []struct {
		v *uint64
		d uint64
	}{
		{&l.MessageBytes, 4 << 20}, {&l.Manifests, 32}, {&l.ManifestBytes, 1 << 20}, {&l.Components, 256},
		{&l.PayloadBytes, 2 << 30}, {&l.StoreBytes, 8 << 30}, {&l.TAs, 16}, {&l.Connections, 128}, {&l.UpdateSeconds, 1800},
		{&l.TAMemoryBytes, 4 << 30}, {&l.TAProcs, 256}, {&l.TALogBytes, 64 << 10}, {&l.RequestSeconds, 300},
		{&l.LiveBytes, 256 << 20},
	} {
		if *f.v == 0 {
			*f.v = f.d
		}
	}
	return l
}

// UpdateTimeout returns the processing time of one message.
func (l Limits) UpdateTimeout() time.Duration { return time.Duration(l.UpdateSeconds) * time.Second }

// RequestTimeout returns the time of one request to a stdio TA.
func (l Limits) RequestTimeout() time.Duration { return time.Duration(l.RequestSeconds) * time.Second }

// CandidateSegment is the fourth segment of the identifiers under which an Agent lists a newer version of a TA that waits for its PD,
// in its tc-list, its Evidence and its Status: [tee, app, name, next], and its manifest as [manifest, app, name, next].
const CandidateSegment = "next"

// CandidateID returns the identifier under which the candidate for a component or a manifest is listed.
func CandidateID(id teep.ComponentID) teep.ComponentID {
	return append(slices.Clone(id), []byte(CandidateSegment))
}
