// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"context"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/report"
)

// Limits bound what a manifest can make the processor do. A zero field means its default.
type Limits struct {
	Components    int   // components and dependencies of one manifest; default suit.MaxComponents
	Nested        int   // levels of try-each and run-sequence; default suit.MaxNesting
	Written       int   // commands written in one manifest; default suit.MaxCommands
	EnvelopeBytes int64 // size of an envelope with its integrated payloads; default 16 MiB
	PayloadBytes  int64 // size of one fetched payload without parameter image-size; default 1 GiB
	TotalBytes    int64 // bytes written in one run; default 8 GiB
	Commands      int   // commands executed in one run, dependencies included; default 10000
	Dependencies  int   // manifests in one run, the root included; default 16
	Depth         int   // levels of dependencies; default 4
}

// Options configures a Processor.
type Options struct {
	// Keys are the trust anchors of manifests, MACKeys those of manifests authenticated by HMAC.
	Keys    []*cose.Key
	MACKeys [][]byte
	Limits  Limits
	// Schemes are the URI schemes that may be fetched; default http, https and ni. "#" payloads are always allowed.
	Schemes []string
	// RequireIdentityConditions refuses manifests whose shared sequence checks neither vendor nor class.
	RequireIdentityConditions bool
	// StrictAlgorithms refuses manifests signed with the deprecated polymorphic algorithms -7 and -8.
	StrictAlgorithms bool
	// Access decides who may do what to which component, beyond Platform.Authorize, which decides who may name it; nil
	// allows all. It is asked before anything runs. See ACL.
	Access AccessFunc
	// UpdateManagement allows the commands and parameters of draft-ietf-suit-update-management, each as far as the Platform
	// has the optional interface that it needs. Without it manifests that use them are refused in whole.
	UpdateManagement bool
	// LenientDependencies accepts process-dependency without dependency-integrity before it (the full check is made all
	// the same) and dependents that do not process a dependency in every section. Published examples need it.
	LenientDependencies bool
	// Observe, if not nil, is told of each command as it begins and as it ends, in the goroutine that runs them. It is for tools that show
	// what a manifest does; what a TAM is told the manifest's reporting policies decide.
	Observe func(Event)
}

// Outcome is what a run did. It is complete only if the run returned no error; the Report is always there.
type Outcome struct {
	Report *report.Report
	// Manifest is the root manifest; nil if it was not authentic.
	Manifest *suit.Verified
	// Manifests are all manifests of the run, dependencies before their dependents, the root last. After an Update the
	// caller stores each under its Name, with its sequence number and references.
	Manifests []Ran
	// Touched lists the components written or found already up to date, in the order of their first write.
	Touched []Touched
	// Unlinked lists what was deleted because its last reference went.
	Unlinked []suit.ComponentID
	// Invoked lists the components started.
	Invoked []suit.ComponentID
}

// Ran is one manifest of a run.
type Ran struct {
	Manifest *suit.Verified
	// Name identifies the manifest: its manifest-component-id, or the identifier its dependent gave it.
	Name suit.ComponentID
	// Root is false for dependencies. Stored says that the manifest came out of Platform.Dependency.
	Root, Stored bool
	// Components are those the manifest lists and did not unlink in this run, in its order: what it holds references to.
	Components []suit.ComponentID
	// Dependencies are the names of the manifests it depends on.
	Dependencies []suit.ComponentID
}

// Touched is one component that a run wrote.
type Touched struct {
	Component suit.ComponentID
	Size      int64
	// Digest was computed while writing where the manifest had an image-digest to compare with; zero else.
	Digest suit.Digest
	// Unchanged says that the component already had the wanted content and was not written.
	Unchanged bool
}

// Processor runs the procedures of suit-manifest section 6 against a Platform.
type Processor struct {
	platform Platform
	options  Options
}

// New returns a Processor. It holds no state between runs.
func New(p Platform, o Options) *Processor {
	return &Processor{platform: p, options: o.withDefaults()}
}

// Update runs the update procedure: dependency-resolution, payload-fetch, candidate-verification, install, validate.
func (p *Processor) Update(ctx context.Context, envelope []byte) (*Outcome, error) {
	return p.run(ctx, envelope, procedureUpdate)
}

// Invocation runs the invocation procedure: validate, load, invoke.
func (p *Processor) Invocation(ctx context.Context, envelope []byte) (*Outcome, error) {
	return p.run(ctx, envelope, procedureInvocation)
}

// Uninstall runs the uninstall section (suit-trust-domains section 5.6.5). A manifest without one unlinks nothing:
// Outcome.Manifests says which components the caller may then drop.
func (p *Processor) Uninstall(ctx context.Context, envelope []byte) (*Outcome, error) {
	return p.run(ctx, envelope, procedureUninstall)
}
