// SPDX-License-Identifier: Apache-2.0

package recipe

import (
	"encoding/hex"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.yaml.in/yaml/v4"

	"sealift/cose"
	"sealift/suit"
)

// paramCodes finds parameters by their names.
var paramCodes = map[string]suit.Param{}

func init() {
	for p := suit.ParamVendorID; p <= suit.ParamComponentMetadata; p++ {
		if p.Known() {
			paramCodes[p.String()] = p
		}
	}
}

// params reads a mapping of parameters.
func (d *decoder) params(n *yaml.Node, field string) suit.Params {
	out := suit.Params{}
	fields := map[string]reader{}
	for name, p := range paramCodes {
		fields[name] = func(n *yaml.Node, field string) {
			if v := d.param(p, n, field); v != nil {
				out[p] = v
			}
		}
	}
	d.mapping(n, field, fields)
	if len(out) == 0 {
		d.refuse(n, field, "one parameter at least is expected")
	}
	return out
}

// param reads one value in the Go type that suit.Params has for it; nil after a problem.
func (d *decoder) param(p suit.Param, n *yaml.Node, field string) any {
	switch p {
	case suit.ParamVendorID, suit.ParamClassID, suit.ParamDeviceID:
		return d.identifier(p, n, field)
	case suit.ParamDigest:
		return d.digest(n, field)
	case suit.ParamStrictOrder, suit.ParamSoftFailure:
		return d.bool(n, field)
	case suit.ParamURI:
		s, _ := d.scalar(n, field)
		return s
	case suit.ParamSize:
		if n.Kind == yaml.MappingNode {
			return uint64(len(d.bytes(n, field)))
		}
	case suit.ParamUseBefore:
		if t, err := time.Parse(time.RFC3339, n.Value); err == nil && t.Unix() >= 0 {
			return uint64(t.Unix())
		}
	case suit.ParamSource:
		return uint64(d.index(n, field))
	case suit.ParamUpdatePriority:
		v, _ := d.int(n, field)
		return v
	case suit.ParamVersion:
		return d.versionMatch(n, field)
	case suit.ParamWaitInfo:
		return d.waitInfo(n, field)
	case suit.ParamComponentMetadata:
		return d.metadata(n, field)
	case suit.ParamContent, suit.ParamEncryptionInfo, suit.ParamInvokeArgs, suit.ParamFetchArgs:
		return d.bytes(n, field)
	}
	v, _ := d.uint(n, field)
	return v
}

// identifier reads a UUID, or what it is made of: {domain: example.org} for vendors, {pen: 32473} for enterprise numbers,
// {domain: example.org, class: info} for classes (suit-manifest section 8.4.8.1).
func (d *decoder) identifier(p suit.Param, n *yaml.Node, field string) any {
	if n.Kind == yaml.ScalarNode {
		id, err := uuid.Parse(n.Value)
		if err != nil {
			d.refuse(n, field, "%q is not a UUID", n.Value)
		}
		return id[:]
	}
	var domain, class string
	var pen suit.PEN
	word := func(dst *string) reader {
		return func(n *yaml.Node, field string) { *dst, _ = d.scalar(n, field) }
	}
	d.mapping(n, field, map[string]reader{"domain": word(&domain), "class": word(&class), "pen": func(n *yaml.Node, field string) {
		s, _ := d.scalar(n, field)
		b, err := hex.DecodeString(s)
		if err != nil || len(b) == 0 {
			d.refuse(n, field, "an enterprise number is written as the bytes of its encoded OID, in hexadecimal")
		}
		pen = b
	}})
	vendor := suit.VendorID(domain)
	if pen != nil {
		vendor = pen.UUID()
	}
	switch {
	case p == suit.ParamDeviceID, domain == "" && pen == nil, domain != "" && pen != nil:
		d.refuse(n, field, "a UUID is expected, or one of domain and pen for vendors and classes")
	case p == suit.ParamClassID && class != "":
		id := suit.ClassID(vendor, class)
		return id[:]
	case p == suit.ParamClassID || class != "":
		d.refuse(n, field, "class belongs to a class-identifier, and a class-identifier needs it")
	case pen != nil:
		return pen
	default:
		return vendor[:]
	}
	return nil
}

// digest reads sha-256:HEX, {file: ...} for the digest of a file, or {manifest: ...} for that of a dependency's manifest.
func (d *decoder) digest(n *yaml.Node, field string) any {
	if n.Kind == yaml.ScalarNode {
		sum, ok := strings.CutPrefix(n.Value, "sha-256:")
		b, err := hex.DecodeString(sum)
		if !ok || err != nil || len(b) != 32 {
			d.refuse(n, field, "a digest is written as sha-256: and 64 hexadecimal digits, or as {file: ...} or {manifest: ...}")
			return nil
		}
		return suit.Digest{Alg: cose.AlgSHA256, Bytes: b}
	}
	var out any
	content := func(use func(n *yaml.Node, field string, data []byte)) reader {
		return func(n *yaml.Node, field string) {
			before := len(d.problems)
			if name, ok := d.scalar(n, field); ok {
				if data := d.file(n, field, name); len(d.problems) == before {
					use(n, field, data)
				}
			}
		}
	}
	d.mapping(n, field, map[string]reader{
		"file": content(func(_ *yaml.Node, _ string, data []byte) { out = suit.SHA256(data) }),
		"manifest": content(func(n *yaml.Node, field string, data []byte) {
			e, err := suit.ParseEnvelope(data)
			var m *suit.Manifest
			if err == nil {
				m, err = e.ManifestInsecure()
			}
			if err != nil {
				d.refuse(n, field, "%v", err)
				return
			}
			out = m.Digest
		}),
	})
	return out
}

// versionMatch reads ">= 1.2".
func (d *decoder) versionMatch(n *yaml.Node, field string) any {
	s, ok := d.scalar(n, field)
	if !ok {
		return nil
	}
	sign, number, _ := strings.Cut(s, " ")
	for c := suit.VersionGreater; c <= suit.VersionLesser; c++ {
		if c.String() != sign {
			continue
		}
		v, err := parseVersion(number)
		if err != nil {
			d.refuse(n, field, "%v", err)
			return nil
		}
		return suit.VersionMatch{Comparison: c, Version: v}.Encode()
	}
	d.refuse(n, field, "%q is not a comparison such as \">= 1.2\" (>, >=, =, <=, <)", s)
	return nil
}

// waitInfo reads a mapping of events to their arguments.
func (d *decoder) waitInfo(n *yaml.Node, field string) any {
	var info suit.WaitInfo
	fields := map[string]reader{}
	for e := suit.WaitAuthorization; e <= suit.WaitDayOfWeekUTC; e++ {
		if e == suit.WaitOtherDeviceVersion {
			continue
		}
		fields[e.String()] = func(n *yaml.Node, field string) {
			v, _ := d.int(n, field)
			info = append(info, suit.WaitCondition{Event: e, Value: v})
		}
	}
	fields[suit.WaitOtherDeviceVersion.String()] = func(n *yaml.Node, field string) {
		c := suit.WaitCondition{Event: suit.WaitOtherDeviceVersion}
		d.mapping(n, field, map[string]reader{
			"device": func(n *yaml.Node, field string) { c.Device = d.bytes(n, field) },
			"versions": func(n *yaml.Node, field string) {
				d.list(n, field, func(n *yaml.Node, field string) {
					if b, ok := d.versionMatch(n, field).([]byte); ok {
						m, _ := suit.ParseVersionMatch(b)
						c.Versions = append(c.Versions, m)
					}
				})
			},
		})
		info = append(info, c)
	}
	d.mapping(n, field, fields)
	encoded := info.Encode()
	if _, err := suit.ParseWaitInfo(encoded); err != nil {
		d.refuse(n, field, "%v", err)
	}
	return encoded
}

// metadata reads permissions, file type, times and creator of a component.
func (d *decoder) metadata(n *yaml.Node, field string) any {
	var m suit.Metadata
	moment := func(dst *time.Time) reader {
		return func(n *yaml.Node, field string) {
			t, err := time.Parse(time.RFC3339, n.Value)
			if err != nil {
				d.refuse(n, field, "a time is written as 2026-01-31T12:00:00Z")
			}
			*dst = t
		}
	}
	actors := func(dst *[]suit.ActorPermissions) reader {
		return func(n *yaml.Node, field string) {
			if n.Kind != yaml.MappingNode {
				d.refuse(n, field, "a mapping of names to permissions is expected")
				return
			}
			for i := 0; i+1 < len(n.Content); i += 2 {
				v, _ := d.uint(n.Content[i+1], field)
				*dst = append(*dst, suit.ActorPermissions{Actor: n.Content[i].Value, Permissions: suit.Permissions(v)})
			}
		}
	}
	d.mapping(n, field, map[string]reader{
		"permissions": func(n *yaml.Node, field string) {
			v, _ := d.uint(n, field)
			p := suit.Permissions(v)
			m.Permissions = &p
		},
		"users": actors(&m.User), "groups": actors(&m.Group), "roles": actors(&m.Role),
		"file-type": func(n *yaml.Node, field string) {
			types := map[string]suit.FileType{"regular": suit.FileRegular, "directory": suit.FileDirectory, "symlink": suit.FileSymlink}
			if m.Type = types[n.Value]; m.Type == 0 {
				d.refuse(n, field, "known: regular, directory, symlink")
			}
		},
		"modified": moment(&m.Modified), "created": moment(&m.Created),
		"creator": func(n *yaml.Node, field string) {
			if s, ok := d.scalar(n, field); ok {
				m.Creator = s
			}
		},
	})
	b, err := m.Encode()
	if err != nil {
		d.refuse(n, field, "%v", err)
	}
	return b
}
