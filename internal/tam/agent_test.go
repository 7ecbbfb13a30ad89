// SPDX-License-Identifier: Apache-2.0

package tam_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"testing"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/agentconfig"
	"sealift/suit"
	"sealift/suit/report"
	"sealift/teep"
)

// agentImage stands for the digest of the Agent's binary.
var agentImage = sha256.Sum256([]byte("agent"))

// fakeAgent is an Agent with real keys, Evidence and messages that installs nothing. A test can make it lie.
type fakeAgent struct {
	t      testing.TB
	tam    []*cose.Key
	owner  *cose.Key
	signer cose.Signer
	enc    *cose.Key
	device *emuroot.Device
	config []byte

	installed []install
	received  []teep.Message // from the TAM

	image     [32]byte                         // what is measured
	boundKey  *cose.Key                        // in the Evidence; nil: its own
	challenge func([]byte) []byte              // that the hardware signs; nil: the TAM's
	order     func([]teep.SystemProperty)      // changes the tc-list
	refuse    func(*suit.Manifest) *teep.Error // answers an Update instead of installing
	report    func(*report.Report)             // changes a report
	tamper    func(teep.Message)               // changes an answer before it is signed
}

// install is an installed manifest.
type install struct {
	id         suit.ComponentID
	digest     suit.Digest
	components []suit.ComponentID
}

func newAgent(w *world, alg cose.Algorithm) *fakeAgent {
	w.t.Helper()
	device, err := w.pki.NewDevice(rand.Reader, "device")
	must(w.t, err)
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	must(w.t, err)
	enc, err := cose.NewKey(key.PublicKey())
	must(w.t, err)
	return &fakeAgent{t: w.t, tam: w.keys.Public(), owner: w.owner.Key(), signer: newSigner(w.t, alg), enc: enc, device: device,
		config: w.config, image: agentImage}
}

// process answers a message of the TAM.
func (a *fakeAgent) process(msg []byte) []byte {
	a.t.Helper()
	return a.sign(a.answer(msg))
}

func (a *fakeAgent) sign(m teep.Message) []byte {
	a.t.Helper()
	out, err := teep.Sign(rand.Reader, a.signer, m)
	must(a.t, err)
	return out
}

// answer makes the answer and does not sign it.
func (a *fakeAgent) answer(msg []byte) (reply teep.Message) {
	a.t.Helper()
	v, err := teep.Verify(msg, a.tam)
	must(a.t, err)
	a.received = append(a.received, v.Message)
	switch m := v.Message.(type) {
	case *teep.QueryRequest:
		reply = a.query(m)
	case *teep.Update:
		reply = a.update(m)
	default:
		a.t.Fatalf("a TAM does not send a %v", m.Type())
	}
	if a.tamper != nil {
		a.tamper(reply)
	}
	return reply
}

func (a *fakeAgent) query(q *teep.QueryRequest) *teep.QueryResponse {
	a.t.Helper()
	r := &teep.QueryResponse{Token: q.Token, TCList: a.tcList()}
	if q.DataItems.Has(teep.ItemAttestation) {
		r.AttestationPayload, r.AttestationPayloadFormat = a.evidence(q.Challenge), evidence.MediaType
		r.Extensions = []teep.Option{{Label: agentconfig.AgentKeyOption, Value: a.signer.Key().Marshal()}}
	}
	return r
}

func (a *fakeAgent) tcList() (list []teep.SystemProperty) {
	for _, in := range a.installed {
		list = append(list, teep.SystemProperty{Component: in.id, Digest: &in.digest})
		for _, id := range in.components {
			p := teep.SystemProperty{Component: id}
			if string(id[0]) != "pd" {
				p.Digest = &suit.Digest{Alg: cose.AlgSHA256, Bytes: make([]byte, 32)}
			}
			list = append(list, p)
		}
	}
	if a.order != nil {
		a.order(list)
	}
	return list
}

// evidence makes Evidence over the challenge; where the agent lies, the claims record repeats the TAM's challenge and the
// hardware has signed something else.
func (a *fakeAgent) evidence(challenge []byte) []byte {
	a.t.Helper()
	c := evidence.Claims{Nonce: challenge, UEID: a.device.InstanceID[:], OEMID: bytes.Repeat([]byte{0x5a}, 16),
		HWModel: []byte("emu:trustzone"), HWVersion: "1", AgentEncKey: a.enc}
	for _, in := range a.installed {
		c.Manifests = append(c.Manifests, evidence.ManifestRef{URI: "tag:sealift.invalid,2026:" + in.id.String(), Digest: in.digest})
	}
	key := a.signer.Key()
	if a.boundKey != nil {
		key = a.boundKey
	}
	signed := challenge
	if a.challenge != nil {
		signed = a.challenge(challenge)
	}
	config := sha256.Sum256(a.config)
	bundle, err := evidence.Collect(c, "emu:trustzone", key, a.config, func(b [64]byte) (evidence.HardwareEvidence, error) {
		if !bytes.Equal(signed, challenge) {
			c := c
			c.AgentKID, c.ConfigDigest = key.KID(), config
			b = evidence.Binding("emu:trustzone", signed, key.Thumbprint(), sha256.Sum256(c.Marshal()))
		}
		return a.device.Evidence(rand.Reader, emuroot.Request{Binding: b, Launch: a.image[:], Config: config})
	})
	must(a.t, err)
	return bundle
}

func (a *fakeAgent) update(m *teep.Update) teep.Message {
	a.t.Helper()
	for _, id := range m.UnneededManifestList {
		a.installed = slices.DeleteFunc(a.installed, func(in install) bool { return in.id.Equal(id) })
	}
	s := &teep.Success{Token: m.Token}
	for _, envelope := range m.ManifestList {
		e, err := suit.ParseEnvelope(envelope)
		must(a.t, err)
		v, err := e.Verify([]*cose.Key{a.owner}, suit.VerifyOptions{StrictAlgorithms: true})
		must(a.t, err)
		if a.refuse != nil {
			if e := a.refuse(v.Manifest); e != nil {
				e.Token = m.Token
				return e
			}
		}
		s.SUITReports = append(s.SUITReports, a.install(v.Manifest, m.Token))
	}
	return s
}

// install notes the manifest as installed and reports it as the processor does, staged ciphertexts included.
func (a *fakeAgent) install(m *suit.Manifest, token []byte) []byte {
	a.t.Helper()
	in := install{id: m.ComponentID, digest: m.Digest}
	r := &report.Report{Digest: m.Digest, Nonce: token}
	for _, id := range m.Components {
		if string(id[0]) == "manifest" {
			continue // a dependency
		}
		r.Items = append(r.Items, &report.SystemProperty{Component: id, Params: suit.Params{suit.ParamSize: uint64(1)}})
		if string(id[0]) != "enc" {
			in.components = append(in.components, id)
		}
	}
	if a.report != nil {
		a.report(r)
	}
	if i := slices.IndexFunc(a.installed, func(x install) bool { return x.id.Equal(in.id) }); i >= 0 {
		a.installed[i] = in
	} else {
		a.installed = append(a.installed, in)
	}
	data, err := r.Marshal()
	must(a.t, err)
	return data
}

// manifests lists the identifiers of the manifests that the TAM has sent, in order.
func (a *fakeAgent) manifests() (ids []string) {
	for _, m := range a.received {
		u, ok := m.(*teep.Update)
		if !ok {
			continue
		}
		for _, envelope := range u.ManifestList {
			e, err := suit.ParseEnvelope(envelope)
			must(a.t, err)
			m, err := e.ManifestInsecure()
			must(a.t, err)
			ids = append(ids, m.ComponentID.String())
		}
	}
	return ids
}
