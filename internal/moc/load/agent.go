// SPDX-License-Identifier: Apache-2.0

// Package load plays devices: TEEP Agents with real keys, real Evidence under an emulated vendor of their own and real
// messages, and a Broker's announcements, but no TEE and no applications. It is for measuring an M/OC, and for testing
// one against peers whose every move the test decides. Its Evidence is EMULATED and its Agents protect nothing.
package load

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/agentconfig"
	"sealift/suit"
	"sealift/suit/report"
	"sealift/teep"
)

// Image is what the played Agents claim to be measured as: SHA-256 of a text that is no program.
var Image = sha256.Sum256([]byte("a played Agent, for load and tests"))

// hardwareName is what stands in the binding of the Evidence.
const hardwareName = "emu:trustzone"

// Agent is a played TEEP Agent of one deployment. It implements teephttp.Agent.
type Agent struct {
	Deployment string
	TAMURI     string
	// Forgetful Agents report nothing as installed, so that every session brings the Update again.
	Forgetful bool
	// Refuse, if not nil, is asked before a manifest is installed; its message becomes an ERR_MANIFEST_PROCESSING_FAILED.
	Refuse func(*suit.Manifest) *report.Failure

	config  []byte
	tamKeys []*cose.Key
	signer  cose.Signer
	encKey  *cose.Key
	device  *emuroot.Device

	mu        sync.Mutex
	installed []installed
	floors    map[string]uint64
	Installs  []string // manifests that were installed anew, by digest: what a test counts
}

// installed is a manifest with its components.
type installed struct {
	id       suit.ComponentID
	manifest *suit.Manifest
	tas      []evidence.TAClaim
}

// NewAgent makes an Agent for a measured configuration, as if a device of the vendor had launched it.
func NewAgent(pki *emuroot.PKI, config []byte) (*Agent, error) {
	c, err := agentconfig.Parse(config)
	if err != nil {
		return nil, err
	}
	a := &Agent{Deployment: c.Deployment, TAMURI: c.TAMURI, config: config, tamKeys: c.TAMKeys, floors: map[string]uint64{}}
	if a.device, err = pki.NewDevice(rand.Reader, c.Deployment); err != nil {
		return nil, err
	}
	key, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		return nil, err
	}
	if a.signer, err = cose.NewSigner(key); err != nil {
		return nil, err
	}
	a.encKey, err = newEncKey()
	return a, err
}

func newEncKey() (*cose.Key, error) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return cose.NewKey(key.PublicKey())
}

// Key is the Agent's public signing key.
func (a *Agent) Key() *cose.Key { return a.signer.Key() }

// Sign protects a message as the Agent does.
func (a *Agent) Sign(m teep.Message) ([]byte, error) { return teep.Sign(rand.Reader, a.signer, m) }

// ProcessError implements teephttp.Agent.
func (a *Agent) ProcessError(context.Context, error) {}

// ProcessTeepMessage implements teephttp.Agent.
func (a *Agent) ProcessTeepMessage(_ context.Context, msg []byte) ([]byte, error) {
	v, err := teep.Verify(msg, a.tamKeys)
	if err != nil {
		return nil, fmt.Errorf("load: the TAM's message: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var reply teep.Message
	switch m := v.Message.(type) {
	case *teep.QueryRequest:
		reply, err = a.Answer(m)
	case *teep.Update:
		reply = a.update(m)
	default:
		err = fmt.Errorf("load: a TAM does not send a %v", m.Type())
	}
	if err != nil {
		return nil, err
	}
	return a.Sign(reply)
}

// Answer makes the QueryResponse to a QueryRequest.
func (a *Agent) Answer(q *teep.QueryRequest) (*teep.QueryResponse, error) {
	r := &teep.QueryResponse{Token: q.Token}
	if q.DataItems.Has(teep.ItemAttestation) {
		bundle, err := a.Evidence(q.Challenge)
		if err != nil {
			return nil, err
		}
		r.AttestationPayload, r.AttestationPayloadFormat = bundle, evidence.MediaType
		r.Extensions = []teep.Option{{Label: agentconfig.AgentKeyOption, Value: a.Key().Marshal()}}
	}
	if a.Forgetful {
		return r, nil
	}
	for _, in := range a.installed {
		r.TCList = append(r.TCList, teep.SystemProperty{Component: in.id, Digest: &in.manifest.Digest})
		for _, id := range in.manifest.Components {
			p := teep.SystemProperty{Component: id}
			if d, ok := digestOf(in.manifest); ok && string(id[0]) != "pd" {
				p.Digest = &d
			}
			r.TCList = append(r.TCList, p)
		}
	}
	return r, nil
}

// Evidence makes Evidence over a challenge.
func (a *Agent) Evidence(challenge []byte) ([]byte, error) {
	c := evidence.Claims{Nonce: challenge, UEID: a.device.InstanceID[:], OEMID: bytes.Repeat([]byte{0x5a}, 16),
		HWModel: []byte(hardwareName), HWVersion: "1", AgentEncKey: a.encKey}
	for _, in := range a.installed {
		c.TAs = append(c.TAs, in.tas...)
		c.Manifests = append(c.Manifests, evidence.ManifestRef{URI: "tag:sealift.invalid,2026:" + in.id.String(), Digest: in.manifest.Digest})
	}
	return evidence.Collect(c, hardwareName, a.Key(), a.config, func(b [64]byte) (evidence.HardwareEvidence, error) {
		return a.device.Evidence(rand.Reader, emuroot.Request{Binding: b, Launch: Image[:], Config: sha256.Sum256(a.config)})
	})
}

// update installs and removes as the message says, without payloads.
func (a *Agent) update(m *teep.Update) teep.Message {
	var reports [][]byte
	for _, id := range m.UnneededManifestList {
		a.installed = slices.DeleteFunc(a.installed, func(in installed) bool { return in.id.Equal(id) })
	}
	for _, envelope := range m.ManifestList {
		rep, err := a.install(envelope)
		if rep != nil {
			rep.Nonce = m.Token
			data, encodeErr := rep.Marshal()
			err = errors.Join(err, encodeErr)
			reports = append(reports, data)
		}
		if err != nil {
			return &teep.Error{Token: m.Token, Code: teep.ErrCodeManifestProcessingFailed, Msg: "refused", SUITReports: reports}
		}
	}
	return &teep.Success{Token: m.Token, SUITReports: reports}
}

// Deliver installs what an owner brings itself, past the TAM.
func (a *Agent) Deliver(envelope []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.install(envelope)
	return err
}

// Lose forgets the manifest of a name, as a restart forgets what is in memory only.
func (a *Agent) Lose(id suit.ComponentID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.installed = slices.DeleteFunc(a.installed, func(in installed) bool { return in.id.Equal(id) })
}

var errRefused = errors.New("load: refused")

func (a *Agent) install(envelope []byte) (*report.Report, error) {
	e, err := suit.ParseEnvelope(envelope)
	if err != nil {
		return nil, err
	}
	m, err := e.ManifestInsecure()
	if err != nil {
		return nil, err
	}
	rep := &report.Report{URI: m.ReferenceURI, Digest: m.Digest}
	name := m.ComponentID.String()
	present := slices.IndexFunc(a.installed, func(in installed) bool { return in.id.Equal(m.ComponentID) })
	if present >= 0 && a.installed[present].manifest.Digest.Equal(m.Digest) {
		return rep, nil // nothing to do, and it is a success
	}
	if m.Sequence < a.floors[name] {
		rep.Failure = &report.Failure{Reason: report.ReasonConditionFailed}
		return rep, errRefused
	}
	if a.Refuse != nil {
		if rep.Failure = a.Refuse(m); rep.Failure != nil {
			return rep, errRefused
		}
	}
	in, err := a.claim(m)
	if err != nil {
		return nil, err
	}
	a.floors[name] = m.Sequence
	a.installed = slices.DeleteFunc(a.installed, func(in installed) bool { return in.id.Equal(m.ComponentID) })
	a.installed = append(a.installed, in)
	if !a.Forgetful {
		a.Installs = append(a.Installs, m.Digest.String())
	}
	for _, id := range m.Components {
		rep.Items = append(rep.Items, &report.SystemProperty{Component: id})
	}
	return rep, nil
}

// claim makes the keys of the TAs in a manifest.
func (a *Agent) claim(m *suit.Manifest) (installed, error) {
	in := installed{id: m.ComponentID, manifest: m}
	digest, ok := digestOf(m)
	for _, id := range m.Components {
		if string(id[0]) != "tee" || !ok || a.Forgetful {
			continue
		}
		enc, err := newEncKey()
		if err != nil {
			return in, err
		}
		in.tas = append(in.tas, evidence.TAClaim{Component: id, Digest: digest, Sequence: m.Sequence,
			Signer: bytes.Repeat([]byte{1}, 32), EncKey: enc, TLSKey: a.Key()})
	}
	return in, nil
}

// digestOf finds the image digest in the shared sequence.
func digestOf(m *suit.Manifest) (suit.Digest, bool) {
	for _, c := range m.Shared {
		if d, ok := c.Params.Digest(); ok {
			return d, true
		}
	}
	return suit.Digest{}, false
}
