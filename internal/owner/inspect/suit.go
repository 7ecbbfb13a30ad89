// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sealift/cose"
	"sealift/suit"
)

func envelope(data []byte) (Node, bool) {
	e, err := suit.ParseEnvelope(data)
	if err != nil {
		return Node{}, false
	}
	n := Node{Name: "SUIT envelope", Value: "signatures were not checked"}
	n.add("authentication blocks", "%d", e.AuthBlocks())
	for _, uri := range e.Payloads() {
		payload, _ := e.Payload(uri)
		n.add("integrated payload "+uri, "%d bytes", len(payload))
	}
	m, err := e.ManifestInsecure()
	if err != nil {
		n.add("manifest", "unreadable: %v", err)
		return n, true
	}
	n.Nodes = append(n.Nodes, manifest(m))
	return n, true
}

func manifest(m *suit.Manifest) Node {
	n := Node{Name: "manifest", Value: m.Digest.String()}
	n.add("sequence number", "%d", m.Sequence)
	if m.ComponentID != nil {
		n.add("stored as", "%s", m.ComponentID)
	}
	if m.ReferenceURI != "" {
		n.add("reference URI", "%s", m.ReferenceURI)
	}
	for _, i := range m.Indices() {
		id, dependency, _ := m.Component(i)
		name := fmt.Sprintf("component %d", i)
		if dependency {
			name = fmt.Sprintf("dependency %d", i)
		}
		n.add(name, "%s", id)
	}
	for _, label := range suit.Sections {
		if seq, ok := m.Section(label); ok {
			n.Nodes = append(n.Nodes, Node{Name: label.String(), Nodes: commands(seq)})
		}
	}
	for label := range m.Missing {
		n.add(label.String(), "severed, and not in the envelope")
	}
	return n
}

func commands(seq suit.Sequence) []Node {
	nodes := make([]Node, 0, len(seq))
	for _, c := range seq {
		n := Node{Name: c.Code.String()}
		switch {
		case c.Index.All:
			n.Value = "all"
		case len(c.Index.List) > 0:
			n.Value = strings.Trim(fmt.Sprint(c.Index.List), "[]")
		}
		for _, p := range slices.Sorted(maps.Keys(c.Params)) {
			n.Nodes = append(n.Nodes, parameter(p, c.Params[p]))
		}
		for i, alternative := range c.Alternatives {
			n.Nodes = append(n.Nodes, Node{Name: fmt.Sprintf("alternative %d", i+1), Nodes: commands(alternative)})
		}
		n.Nodes = append(n.Nodes, commands(c.Sequence)...)
		nodes = append(nodes, n)
	}
	return nodes
}

func parameter(p suit.Param, value any) Node {
	n := Node{Name: p.String()}
	b, isBytes := value.([]byte)
	switch {
	case !isBytes:
		n.Value = fmt.Sprint(value)
	case p == suit.ParamInvokeArgs || p == suit.ParamEncryptionInfo:
		if inner, ok := generic(b); ok {
			n.Value = inner.Value
			break
		}
		n.Value = text(b)
	default:
		n.Value = text(b)
	}
	return n
}

// resultNames are the claims of an Attestation Result in the TEEP profile (draft-ietf-teep-protocol section 5).
var resultNames = map[int64]string{4: "expires", 6: "issued at", 8: "cnf", 10: "nonce", 256: "ueid", 258: "oemid", 259: "hwmodel",
	260: "hwversion", 265: "profile", 266: "submods", 272: "manifests"}

// attestationResult reads the claims of an EAT: a map of integers with a profile.
func attestationResult(data []byte) (Node, bool) {
	var raw map[int64]cose.RawMessage
	if err := cose.Unmarshal(data, &raw); err != nil || raw[265] == nil {
		return Node{}, false
	}
	n := Node{Name: "EAT claims"}
	for _, label := range slices.Sorted(maps.Keys(raw)) {
		name := resultNames[label]
		if name == "" {
			name = fmt.Sprintf("claim %d", label)
		}
		if inner, ok := generic(raw[label]); ok {
			n.add(name, "%s", inner.Value)
		}
	}
	return n, true
}

func certificate(der []byte) Node {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Node{Name: "certificate", Value: "unreadable"}
	}
	return Node{Name: "certificate", Value: fmt.Sprintf("%s, issued by %s", cert.Subject, cert.Issuer)}
}
