// SPDX-License-Identifier: Apache-2.0

// Package inspect shows what is in a file: a TEEP message, a SUIT envelope or report, a COSE message, Evidence in a CMW collection, an
// Attestation Result, a measured configuration, a packed application; anything else that is CBOR in diagnostic notation
// (RFC 8949 section 8). It finds out by itself which of them it is.
//
// It reads and verifies nothing: no signature is checked against any key. Whoever reads the output must not believe it more than
// the file's origin.
package inspect

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/agentconfig"
	"sealift/internal/owner/archive"
	"sealift/suit"
	"sealift/suit/report"
	"sealift/teep"
)

// ErrUnknown says that a file is of none of the kinds that this package reads.
var ErrUnknown = errors.New("neither a format of TEEP, SUIT, COSE or RATS nor other CBOR")

// MaxFile bounds what Bytes reads.
const MaxFile = 64 << 20

// Node is one line of the output: a name with a value, or with what stands under it.
type Node struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
	Nodes []Node `json:"nodes,omitempty"`
}

func (n *Node) add(name, format string, args ...any) {
	n.Nodes = append(n.Nodes, Node{Name: name, Value: fmt.Sprintf(format, args...)})
}

func (n *Node) addBytes(name string, b []byte) {
	if len(b) > 0 {
		n.add(name, "%s", text(b))
	}
}

// Write writes the tree with two spaces for each level.
func (n Node) Write(w io.Writer) error { return n.write(w, "") }

func (n Node) write(w io.Writer, indent string) error {
	line := indent + n.Name
	if n.Value != "" {
		line += ": " + n.Value
	}
	if _, err := fmt.Fprintln(w, line); err != nil {
		return err
	}
	for _, child := range n.Nodes {
		if err := child.write(w, indent+"  "); err != nil {
			return err
		}
	}
	return nil
}

// Bytes describes data.
func Bytes(data []byte) (Node, error) {
	if len(data) > MaxFile {
		return Node{}, fmt.Errorf("%d bytes are more than inspect reads", len(data))
	}
	for _, read := range []func([]byte) (Node, bool){packed, coseMessage, envelope, bundle, teepMessage, config, suitReport, key, generic} {
		if n, ok := read(data); ok {
			return n, nil
		}
	}
	return Node{}, ErrUnknown
}

func packed(data []byte) (Node, bool) {
	f, err := archive.Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return Node{}, false
	}
	d := f.Description
	n := Node{Name: "packed application", Value: d.Name}
	n.add("mode", "%s", d.Mode)
	n.add("sequence", "%d", d.Sequence)
	n.add("hardware", "%v", d.Hardware)
	n.add("instances", "%v", d.Instances)
	n.add("owner key", "%x", d.Owner.KID())
	for _, c := range d.Components {
		where := "in this file"
		if c.Path != "" {
			where = "local file " + c.Path
		}
		n.add("component "+c.ID.String(), "%d bytes, sha-256 %s, %s", c.Size, c.SHA256, where)
	}
	for _, a := range f.Artifacts {
		child := Node{Name: "package " + a.Role, Value: a.Digest()}
		if e, err := a.Envelope(); err == nil {
			if inner, ok := envelope(e); ok {
				child.Nodes = append(child.Nodes, inner)
			}
		}
		n.Nodes = append(n.Nodes, child)
	}
	return n, true
}

// coseMessage reads COSE_Sign1 and COSE_Sign, and what they carry.
func coseMessage(data []byte) (Node, bool) {
	m, err := cose.Parse(data)
	if err != nil {
		return Node{}, false
	}
	n := Node{Name: "COSE signed message", Value: "the signature was not checked"}
	for i, alg := range m.Algorithms() {
		n.add("algorithm", "%d", alg)
		if kids := m.KIDs(); i < len(kids) {
			n.addBytes("kid", kids[i])
		}
	}
	for _, cert := range m.X5Chain() {
		n.add("certificate", "%d bytes", len(cert))
	}
	payload := m.PayloadInsecure()
	for _, read := range []func([]byte) (Node, bool){teepMessage, attestationResult, suitReport, generic} {
		if inner, ok := read(payload); ok {
			n.Nodes = append(n.Nodes, inner)
			return n, true
		}
	}
	n.addBytes("payload", payload)
	return n, true
}

func bundle(data []byte) (Node, bool) {
	b, err := evidence.ParseBundle(data)
	if err != nil {
		return Node{}, false
	}
	n := Node{Name: "Evidence (CMW collection)", Value: "not verified"}
	hw := Node{Name: "hardware", Value: b.HardwareType}
	if inner, ok := coseMessage(b.Hardware); ok {
		hw.Nodes = append(hw.Nodes, inner)
	}
	n.Nodes = append(n.Nodes, hw)
	for _, cert := range b.Collateral {
		n.Nodes = append(n.Nodes, certificate(cert))
	}
	if c, err := evidence.ParseClaims(b.Claims); err == nil {
		n.Nodes = append(n.Nodes, claims(c))
	}
	if inner, ok := config(b.Config); ok {
		n.Nodes = append(n.Nodes, inner)
	}
	return n, true
}

func claims(c *evidence.Claims) Node {
	n := Node{Name: "claims"}
	n.addBytes("nonce", c.Nonce)
	n.addBytes("ueid", c.UEID)
	n.addBytes("oemid", c.OEMID)
	n.addBytes("hwmodel", c.HWModel)
	n.add("hwversion", "%s", c.HWVersion)
	n.addBytes("Agent key", c.AgentKID)
	n.add("Agent encryption key", "%x", c.AgentEncKey.KID())
	n.add("configuration digest", "%x", c.ConfigDigest)
	for _, t := range c.TAs {
		n.Nodes = append(n.Nodes, loadedTA(t))
	}
	for _, m := range c.Manifests {
		n.add("manifest", "%s %s", m.Digest, m.URI)
	}
	return n
}

func loadedTA(t evidence.TAClaim) Node {
	ta := Node{Name: "TA " + t.Component.String()}
	ta.add("digest", "%s", t.Digest)
	ta.add("sequence", "%d", t.Sequence)
	ta.addBytes("signer", t.Signer)
	ta.add("encryption key", "%x", t.EncKey.KID())
	ta.add("TLS key", "%x", t.TLSKey.KID())
	return ta
}

func config(data []byte) (Node, bool) {
	c, err := agentconfig.Parse(data)
	if err != nil {
		return Node{}, false
	}
	n := Node{Name: "measured configuration", Value: fmt.Sprintf("sha-256 %x", c.Digest())}
	n.add("deployment", "%s", c.Deployment)
	n.add("place", "%s/%s", c.Hardware, c.Instance)
	n.add("TAM", "%s", c.TAMURI)
	for _, k := range c.TAMKeys {
		n.add("TAM key", "%x", k.KID())
	}
	for _, o := range c.Owners {
		n.add("owner of "+o.App, "%x", o.Key.KID())
	}
	return n, true
}

func suitReport(data []byte) (Node, bool) {
	r, err := report.Parse(data)
	if err != nil {
		return Node{}, false
	}
	n := Node{Name: "SUIT report"}
	n.add("manifest", "%s %s", r.Digest, r.URI)
	n.addBytes("nonce", r.Nonce)
	n.add("items", "%d", len(r.Items))
	if r.Failure != nil {
		n.add("failed", "%v", r.Failure.Reason)
	} else {
		n.add("result", "success")
	}
	return n, true
}

func key(data []byte) (Node, bool) {
	k, err := cose.ParseKey(data)
	if err != nil {
		return Node{}, false
	}
	return Node{Name: "COSE_Key (public)", Value: fmt.Sprintf("thumbprint %x", k.KID())}, true
}

// generic shows any well-formed CBOR in diagnostic notation.
func generic(data []byte) (Node, bool) {
	if len(data) == 0 {
		return Node{}, false
	}
	diagnosis, err := cbor.Diagnose(data)
	if err != nil {
		return Node{}, false
	}
	return Node{Name: "CBOR", Value: diagnosis}, true
}

// text prints bytes as hexadecimal, shortened where they are many.
func text(b []byte) string {
	const most = 64
	if len(b) > most {
		return fmt.Sprintf("%s... (%d bytes)", hex.EncodeToString(b[:most]), len(b))
	}
	return hex.EncodeToString(b)
}

func teepMessage(data []byte) (Node, bool) {
	m, err := teep.Decode(data)
	if err != nil {
		return Node{}, false
	}
	n := Node{Name: "TEEP " + strings.TrimPrefix(fmt.Sprintf("%T", m), "*teep.")}
	n.addBytes("token", m.TokenBytes())
	switch m := m.(type) {
	case *teep.QueryRequest:
		n.addBytes("challenge", m.Challenge)
		n.add("versions", "%v", m.Versions)
		n.add("data items", "%d", m.DataItems)
	case *teep.QueryResponse:
		n.payload(m.AttestationPayload, m.AttestationPayloadFormat)
		for _, p := range m.TCList {
			n.add("Trusted Component", "%s", p.Component)
		}
		for _, r := range m.RequestedTCList {
			n.add("requested", "%s", r.Component)
		}
		n.ids(m.UnneededManifestList)
	case *teep.Update:
		for _, e := range m.ManifestList {
			if inner, ok := envelope(e); ok {
				n.Nodes = append(n.Nodes, inner)
			}
		}
		n.ids(m.UnneededManifestList)
		n.payload(m.AttestationPayload, m.AttestationPayloadFormat)
		if m.ErrCode != nil {
			n.add("error", "%v %s", *m.ErrCode, m.ErrMsg)
		}
	case *teep.Success:
		n.add("message", "%s", m.Msg)
		n.reports(m.SUITReports)
	case *teep.Error:
		n.add("error", "%v %s", m.Code, m.Msg)
		n.reports(m.SUITReports)
	}
	return n, true
}

func (n *Node) payload(data []byte, format string) {
	if len(data) == 0 {
		return
	}
	if inner, ok := bundle(data); ok {
		n.Nodes = append(n.Nodes, inner)
		return
	}
	n.add("attestation payload", "%d bytes, %s", len(data), format)
}

func (n *Node) ids(list []suit.ComponentID) {
	for _, id := range list {
		n.add("unneeded manifest", "%s", id)
	}
}

func (n *Node) reports(list [][]byte) {
	for _, data := range list {
		if inner, ok := suitReport(data); ok {
			n.Nodes = append(n.Nodes, inner)
		} else {
			n.add("SUIT report", "%d bytes", len(data))
		}
	}
}
