// SPDX-License-Identifier: Apache-2.0

// Package manifest holds the shapes of the SUIT manifests that a data owner signs.
//
// A program in the clear (UA, TA) has a manifest of its own with one component: fetched by the digest that names it, matched, started with
// the start parameters of package launch (draft-ietf-suit-manifest section 7 has the templates). Where UA and TA are one package, one
// manifest has both, the UA first.
//
// Everything secret comes in a sealed manifest: for each item a staging component ["enc", app, name], whose image-digest covers the
// ciphertext, and the component itself, into which the staged bytes are copied with decryption
// (draft-ietf-suit-firmware-encryption section 7). The ciphertext is matched before anything is decrypted, and no digest of a plaintext
// leaves the owner (docs/design/0003). PD that comes after its TA names the TA's manifest as a dependency by digest
// (draft-ietf-suit-trust-domains), so that the Agent refuses it where another TA is installed.
//
// Which device the manifest fits is said by vendor and class identifiers: a class is "hardware/instance type" (docs/architecture.md section 3).
package manifest

import (
	"encoding/base64"
	"fmt"
	"strings"

	"sealift/internal/launch"
	"sealift/suit"
	"sealift/usecase"
)

// Roles: the last segment of a manifest's own identifier ["manifest", app, role].
const (
	RoleUA     = "ua"
	RoleTA     = "ta"
	RolePD     = "pd"
	RoleBundle = "bundle"
)

// ID returns the identifier of the manifest with a role.
func ID(app, role string) suit.ComponentID { return suit.NewComponentID("manifest", app, role) }

// Component returns the identifier of a component: ["ree", app, "ua"], ["tee", app, "ta"] or ["pd", app, name].
func Component(app string, kind usecase.Payload, name string) suit.ComponentID {
	switch kind {
	case usecase.UA:
		return suit.NewComponentID("ree", app, "ua")
	case usecase.TA:
		return suit.NewComponentID("tee", app, "ta")
	}
	return suit.NewComponentID("pd", app, name)
}

// staging returns the identifier of the component that holds the ciphertext of an item while it is installed.
func staging(app, name string) suit.ComponentID { return suit.NewComponentID("enc", app, name) }

// URI returns the RFC 6920 name of the bytes with a digest. The Broker resolves it at its M/OC (docs/design/0004).
func URI(d suit.Digest) string {
	return "ni:///sha-256;" + base64.RawURLEncoding.EncodeToString(d.Bytes)
}

// Program is a UA or a TA that travels in the clear.
type Program struct {
	App      string
	Kind     usecase.Payload // usecase.UA or usecase.TA
	Sequence uint64
	Cells    []usecase.Cell
	Digest   suit.Digest // of the binary
	Size     int64
	Launch   launch.Spec
}

// Build returns the manifest of p, ready to be signed.
func (p Program) Build() *suit.Builder {
	b := &suit.Builder{Sequence: p.Sequence, ComponentID: ID(p.App, string(p.Kind))}
	b.AddComponent(Component(p.App, p.Kind, ""))
	b.Shared = append(suit.Sequence{
		suit.Override(suit.Params{suit.ParamDigest: p.Digest, suit.ParamSize: uint64(p.Size)}),
	}, fits(p.Cells)...)
	b.Install = suit.Sequence{
		suit.Override(suit.Params{suit.ParamURI: URI(p.Digest)}),
		suit.Fetch(),
		suit.ImageMatch(),
	}
	b.Validate = suit.Sequence{suit.ImageMatch()}
	b.Invoke = suit.Sequence{
		suit.Override(suit.Params{suit.ParamInvokeArgs: p.Launch.Marshal()}),
		suit.Invoke(),
	}
	b.Uninstall = suit.Sequence{suit.Unlink()}
	return b
}

// Programs returns the manifest of a package of programs in the clear, which are installed and started in their order. All have the
// application, sequence number and cells of the first.
func Programs(list ...Program) *suit.Builder {
	if len(list) == 1 {
		return list[0].Build()
	}
	first := list[0]
	b := &suit.Builder{Sequence: first.Sequence, ComponentID: ID(first.App, RoleBundle)}
	var all []int
	for _, p := range list {
		i := b.AddComponent(Component(p.App, p.Kind, ""))
		all = append(all, i)
		b.Shared = append(b.Shared, suit.SetComponentIndex(i),
			suit.Override(suit.Params{suit.ParamDigest: p.Digest, suit.ParamSize: uint64(p.Size)}))
		b.Install = append(b.Install, suit.SetComponentIndex(i), suit.Override(suit.Params{suit.ParamURI: URI(p.Digest)}),
			suit.Fetch(), suit.ImageMatch())
		b.Validate = append(b.Validate, suit.SetComponentIndex(i), suit.ImageMatch())
		b.Invoke = append(b.Invoke, suit.SetComponentIndex(i),
			suit.Override(suit.Params{suit.ParamInvokeArgs: p.Launch.Marshal()}), suit.Invoke())
	}
	b.Shared = append(append(b.Shared, suit.SetComponentIndex(all...)), fits(first.Cells)...)
	b.Uninstall = suit.Sequence{suit.SetComponentIndex(all...), suit.Unlink()}
	return b
}

// Item is one encrypted component of a sealed manifest.
type Item struct {
	Kind       usecase.Payload
	Name       string       // "ua", "ta", or the name of a file of PD
	Ciphertext suit.Digest  // of the encrypted bytes
	Size       int64        // of the encrypted bytes
	Encryption []byte       // COSE_Encrypt: who can decrypt (suit-firmware-encryption section 6)
	Launch     *launch.Spec // of a program
}

// Dependency names the manifest that must be installed already.
type Dependency struct {
	ID     suit.ComponentID
	Digest suit.Digest // of the manifest
}

// Sealed is a package whose content only an attested key opens. Items are installed in order; programs are started in that order too,
// after everything is installed.
type Sealed struct {
	App       string
	Role      string // RolePD or RoleBundle
	Sequence  uint64
	Cells     []usecase.Cell
	Items     []Item
	DependsOn *Dependency // the manifest that brings the TA; nil where Items has the TA
}

// Build returns the manifest of s, ready to be signed.
func (s Sealed) Build() (*suit.Builder, error) {
	if len(s.Items) == 0 {
		return nil, fmt.Errorf("a sealed package of %s holds nothing", s.App)
	}
	b := &suit.Builder{Sequence: s.Sequence, ComponentID: ID(s.App, s.Role)}
	seen := make(map[string]bool)
	var all, targets []int
	for _, it := range s.Items {
		if seen[it.Name] {
			return nil, fmt.Errorf("two items of a sealed package are called %q", it.Name)
		}
		seen[it.Name] = true
		staged := b.AddComponent(staging(s.App, it.Name))
		target := b.AddComponent(Component(s.App, it.Kind, it.Name))
		all = append(all, staged, target)
		targets = append(targets, target)
		b.Install = append(b.Install, it.install(staged, target)...)
		if it.Launch != nil {
			b.Invoke = append(b.Invoke, suit.SetComponentIndex(target),
				suit.Override(suit.Params{suit.ParamInvokeArgs: it.Launch.Marshal()}), suit.Invoke())
		}
	}
	b.Shared = append(suit.Sequence{suit.SetComponentIndex(all...)}, fits(s.Cells)...)
	b.Uninstall = suit.Sequence{suit.SetComponentIndex(targets...), suit.Unlink()}
	if s.DependsOn != nil {
		s.depend(b)
	}
	return b, nil
}

// install fetches the ciphertext, matches it, and copies it with decryption to its place. The staged bytes are dropped.
func (it Item) install(staged, target int) suit.Sequence {
	return suit.Sequence{
		suit.SetComponentIndex(staged),
		suit.Override(suit.Params{suit.ParamURI: URI(it.Ciphertext), suit.ParamDigest: it.Ciphertext, suit.ParamSize: uint64(it.Size)}),
		suit.Fetch(),
		suit.ImageMatch(),
		suit.SetComponentIndex(target),
		suit.Override(suit.Params{suit.ParamSource: staged, suit.ParamEncryptionInfo: it.Encryption}),
		suit.Copy(),
		suit.SetComponentIndex(staged),
		suit.Unlink(),
	}
}

// depend makes every section that the TA's manifest has begin with that manifest's own section, after its integrity was
// checked against the digest: another TA, or another version of it, stops the installation before a byte is fetched.
func (s Sealed) depend(b *suit.Builder) {
	dep := b.AddDependency(s.DependsOn.ID)
	b.Shared = append(b.Shared, suit.SetComponentIndex(dep), suit.Override(suit.Params{suit.ParamDigest: s.DependsOn.Digest}))
	check := suit.Sequence{suit.SetComponentIndex(dep), suit.DependencyIntegrity()}
	process := append(check[:2:2], suit.ProcessDependency())
	b.DependencyResolution = check
	b.Install = append(process[:3:3], b.Install...)
	b.Validate = process
	b.Invoke = append(process[:3:3], b.Invoke...)
	b.Uninstall = append(b.Uninstall, suit.SetComponentIndex(dep), suit.Unlink())
}

// fits checks that the device is of one of the accepted cells. A manifest for several cells tries each class.
func fits(cells []usecase.Cell) suit.Sequence {
	vendor := suit.VendorID(suit.SealiftVendorDomain)
	seq := suit.Sequence{suit.Override(suit.Params{suit.ParamVendorID: vendor[:]}), suit.VendorIdentifier()}
	var each []suit.Sequence
	for _, c := range cells {
		class := suit.ClassID(vendor, c.String())
		each = append(each, suit.Sequence{suit.Override(suit.Params{suit.ParamClassID: class[:]}), suit.ClassIdentifier()})
	}
	if len(each) == 1 {
		return append(seq, each[0]...)
	}
	return append(seq, suit.TryEach(each...))
}

// RoleOf returns the role in a manifest's own identifier, "" if it is not one of ours.
func RoleOf(id suit.ComponentID) string {
	parts := strings.Split(id.String(), "/")
	if len(parts) != 3 || parts[0] != "manifest" {
		return ""
	}
	return parts[2]
}
