// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"context"
	"errors"
	"io"
	"time"

	"sealift/cose"
	"sealift/suit"
)

// ErrUnsupportedComponent is what Platform.Authorize returns (wrapped) for a component that this device cannot hold at
// all, as opposed to one that the signer may not touch.
var ErrUnsupportedComponent = errors.New("processor: component not supported")

// Platform is the device as the abstract machine of suit-manifest section 6.4 sees it. The processor calls it from one
// goroutine at a time.
//
// All changes are staged: Create, Remove and Unlink MUST NOT be visible outside the run before the caller commits, and
// reads (Size, Digest, Open) MUST see what was staged earlier in the same run. The processor never commits. A caller
// makes one transaction per run, hands it in as the Platform, and commits it when the run returned no error.
type Platform interface {
	// VendorIDs, ClassIDs and DeviceIDs return the identities of a component; a condition holds if the manifest's
	// parameter is one of them. An identity made from a PEN is the encoded item, tag 112 included.
	VendorIDs(c suit.ComponentID) [][]byte
	ClassIDs(c suit.ComponentID) [][]byte
	DeviceIDs(c suit.ComponentID) [][]byte

	// Authorize decides whether the signer (nil for a manifest authenticated by MAC) may name the component, or store
	// its manifest under that identifier. It is asked for every component of a manifest before anything runs.
	Authorize(signer *cose.Key, c suit.ComponentID) error
	// InstalledSequence returns the sequence number of the installed manifest of that name (see suit.Verified.Name).
	InstalledSequence(manifest suit.ComponentID) (sequence uint64, installed bool)

	// Size returns the length of a component, or an error that is fs.ErrNotExist.
	Size(ctx context.Context, c suit.ComponentID) (int64, error)
	// Digest returns the digest of a component's content; fs.ErrNotExist as Size. It MUST be that of the bytes which
	// Open delivers, but need not read them if it was kept since they were written, in storage that is authenticated.
	Digest(ctx context.Context, c suit.ComponentID, alg cose.Algorithm) (suit.Digest, error)
	// Open reads a component.
	Open(ctx context.Context, c suit.ComponentID) (io.ReadCloser, error)
	// Create stages new content. The content counts from Close on; Abort drops it and keeps what was there before.
	Create(ctx context.Context, c suit.ComponentID) (Writer, error)
	// Remove stages the deletion of a component, or of a stored manifest. Removing what does not exist is no error.
	Remove(ctx context.Context, c suit.ComponentID) error

	// Unlink stages the loss of the manifest's reference to a component or to a dependency's manifest and returns how
	// many references remain. A component that was never linked has none.
	Unlink(ctx context.Context, manifest, c suit.ComponentID) (remaining int, err error)

	// Fetch opens what a URI names. Whoever answers is not trusted: the processor reads at most limit bytes and the
	// manifest's conditions check them.
	Fetch(ctx context.Context, uri string, limit int64) (io.ReadCloser, error)
	// Keys are the keys that may open encrypted payloads.
	Keys() cose.Recipients
	// Dependency returns the stored envelope of the manifest with that manifest-component-id; fs.ErrNotExist if none.
	Dependency(ctx context.Context, manifest suit.ComponentID) (envelope []byte, err error)
	// Invoke starts a component.
	Invoke(ctx context.Context, c suit.ComponentID, args []byte) error
}

// Writer takes the new content of a component. Exactly one of Close and Abort is called, once.
type Writer interface {
	io.Writer
	Close() error
	Abort() error
}

// Swapper is a Platform that can exchange two components. Without it, directive swap is not supported.
type Swapper interface {
	Swap(ctx context.Context, a, b suit.ComponentID) error
}

// Slotter is a Platform whose components lie in slots. Without it, condition component-slot is not supported.
type Slotter interface {
	Slot(c suit.ComponentID) (slot uint64, ok bool)
}

// The rest are optional interfaces for the commands of suit-update-management.

// Clock is a Platform with a time that nobody can set back. Without it, condition use-before is not supported.
type Clock interface {
	// Now returns the time; ok is false while it is not known.
	Now() (now time.Time, ok bool)
}

// Battery is a Platform that runs on one. Without it, condition minimum-battery is not supported.
type Battery interface {
	// BatteryLevel returns the charge in mWh.
	BatteryLevel() (level uint64, ok bool)
}

// UpdateAuthorizer is a Platform whose owner may decline updates. Without it, condition update-authorized is not supported.
type UpdateAuthorizer interface {
	// AuthorizeUpdate returns why an update of this priority is declined; smaller priorities are more urgent.
	AuthorizeUpdate(ctx context.Context, manifest *suit.Verified, priority int64) error
}

// Versioner is a Platform that knows the versions of its components. Without it, condition version is not supported.
type Versioner interface {
	Version(c suit.ComponentID) (version suit.Version, ok bool)
}

// Waiter is a Platform that can wait. Without it, directive wait is not supported.
type Waiter interface {
	// CanWait reports whether the platform sees this kind of event.
	CanWait(e suit.WaitEvent) bool
	// Wait returns nil when all conditions hold at once, or an error when it gives up: that fails the run, which may be
	// repeated. It MUST return when ctx ends.
	Wait(ctx context.Context, all suit.WaitInfo) error
}

// MetadataWriter is a Platform that keeps metadata of components. Without it, parameter component-metadata is not supported.
type MetadataWriter interface {
	// CreateWith is Create for a component that has parameter component-metadata. It returns an error for metadata that
	// it does not apply; a symbolic link's target is the content and MUST be treated as hostile.
	CreateWith(ctx context.Context, c suit.ComponentID, m *suit.Metadata) (Writer, error)
}
