// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/manifest"
	"sealift/suit"
	"sealift/usecase"
)

// Operator is the kit as the M/OC of one device: a real Broker that is pointed at it, with the bearer token that it makes, launches a real
// Agent on its TEE platform, under a configuration that names the kit's TAM. The Agent that is probed is then the one in the
// instance, with everything that lies between. The instance is dropped at the end.
type Operator struct {
	*Server
	// Token is the device's bearer token.
	Token string
	// Device is the device's name in requests.
	Device string

	tam, owner cose.Signer

	mu        sync.Mutex
	changed   chan struct{} // closed and made anew when work changes
	announced chan struct{} // closed by the first announcement
	work      mocapi.Work
	cell      usecase.Cell  // what the instance is
	dropped   uint64        // the generation without the instance; 0: it is wanted
	gone      chan struct{} // closed when the device says that it is gone
}

// probeApp is the application of the kit's own manifest.
const probeApp = "conform"

// ListenAsOperator serves an M/OC's interface for the device and a TAM URI at the address. base is the address as the device reaches it,
// empty for the address itself; patience is as for Listen.
func ListenAsOperator(address, base, device string, patience time.Duration, tam cose.Signer) (*Operator, error) {
	key, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		return nil, err
	}
	owner, err := cose.NewSigner(key)
	if err != nil {
		return nil, err
	}
	s, ln, err := newServer(address, base, patience)
	if err != nil {
		return nil, err
	}
	o := &Operator{Server: s, Token: base64.RawURLEncoding.EncodeToString(random(32)), Device: device, tam: tam, owner: owner,
		changed: make(chan struct{}), announced: make(chan struct{}), gone: make(chan struct{})}
	s.wake = o.wakeBroker
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/devices/{id}/announce", o.authorized(o.announce))
	mux.HandleFunc("GET /v1/devices/{id}/work", o.authorized(o.serveWork))
	mux.HandleFunc(tamPath, s.serve)
	mux.HandleFunc(elsewherePath, s.serve)
	s.start(ln, mux)
	return o, nil
}

// URL is the M/OC's address for the Broker.
func (o *Operator) URL() string { return strings.TrimSuffix(o.uri, tamPath) }

// authorized lets the one device in.
func (o *Operator) authorized(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		switch {
		case subtle.ConstantTimeCompare([]byte(token), []byte(o.Token)) != 1:
			refuse(w, fault.New(fault.Unauthorized, "the bearer token is not known"))
		case r.PathValue("id") != o.Device:
			refuse(w, fault.New(fault.Forbidden, "the token is that of device %s", o.Device))
		default:
			serve(w, r)
		}
	}
}

// refuse answers with problem details (RFC 9457), as an M/OC does.
func refuse(w http.ResponseWriter, err *fault.Error) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(err.Status())
	_ = json.NewEncoder(w).Encode(err) // a broken connection is the Broker's to notice
}

// maxAnnouncement bounds what a Broker says of its device.
const maxAnnouncement = 1 << 20

// announce takes what the Broker says of its device. The first time it decides which configuration the instance gets.
func (o *Operator) announce(w http.ResponseWriter, r *http.Request) {
	var a mocapi.Announcement
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAnnouncement))
	if err == nil {
		err = json.Unmarshal(body, &a)
	}
	if err != nil {
		refuse(w, fault.New(fault.BadRequest, "the announcement: %w", err))
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.work.Generation == 0 {
		if err := o.place(&a); err != nil {
			refuse(w, fault.New(fault.BadRequest, "%w", err))
			return
		}
		close(o.announced)
	}
	if o.dropped > 0 && a.Generation >= o.dropped && len(a.Instances) == 0 {
		select {
		case <-o.gone:
		default:
			close(o.gone)
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// place makes the one instance of the run. The caller holds mu.
func (o *Operator) place(a *mocapi.Announcement) error {
	if len(a.InstanceTypes) == 0 {
		return errors.New("the device runs no instances")
	}
	instance := instanceOf(a)
	id := "conform-" + hex.EncodeToString(random(8))
	config := agentconfig.Config{Version: agentconfig.Version, Deployment: id, Hardware: a.Hardware, Instance: instance,
		TAMKeys: []*cose.Key{o.tam.Key()}, TAMURI: o.uri, Owners: []agentconfig.Owner{{Key: o.owner.Key(), App: probeApp}}}
	if err := config.Validate(); err != nil {
		return err
	}
	o.work = mocapi.Work{Generation: 1, Instances: []mocapi.WantedInstance{{ID: id, Config: config.Marshal(), TAMURI: o.uri, Wake: 1, App: probeApp}}}
	o.cell = usecase.Cell{Instance: usecase.Instance(instance), Hardware: usecase.Hardware(a.Hardware)}
	o.notify()
	return nil
}

// instanceOf chooses the instance type: processes where the device runs them, as they need the least.
func instanceOf(a *mocapi.Announcement) string {
	if slices.Contains(a.InstanceTypes, string(usecase.Process)) {
		return string(usecase.Process)
	}
	return a.InstanceTypes[0]
}

// notify answers who waits for work. The caller holds mu.
func (o *Operator) notify() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// wakeBroker asks for another session.
func (o *Operator) wakeBroker() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.work.Instances) == 0 {
		return
	}
	next := o.work.Instances[0]
	next.Wake++
	o.work = mocapi.Work{Generation: o.work.Generation + 1, Instances: []mocapi.WantedInstance{next}}
	o.notify()
}

// maxWait bounds a long poll.
const maxWait = 25 * time.Second

// serveWork says what the device should hold, as soon as that is another than the Broker knows.
func (o *Operator) serveWork(w http.ResponseWriter, r *http.Request) {
	wait, err := time.ParseDuration(r.URL.Query().Get("wait"))
	if err != nil || wait > maxWait {
		wait = maxWait
	}
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for {
		o.mu.Lock()
		work, changed := o.work, o.changed
		o.mu.Unlock()
		if fmt.Sprint(work.Generation) != r.URL.Query().Get("since") {
			writeWork(w, work)
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			writeWork(w, work)
			return
		case <-o.done:
			w.WriteHeader(http.StatusNoContent)
			return
		case <-r.Context().Done():
			return
		}
	}
}

func writeWork(w http.ResponseWriter, work mocapi.Work) {
	if work.Instances == nil {
		work.Instances = []mocapi.WantedInstance{}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(work)
}

// Await waits for the Broker and returns a manifest that its Agent can install: a file for the REE that is never started, from a payload
// that travels in the envelope.
func (o *Operator) Await(ctx context.Context) ([]byte, error) {
	timer := time.NewTimer(o.patience)
	defer timer.Stop()
	select {
	case <-o.announced:
	case <-timer.C:
		return nil, fmt.Errorf("%w: no Broker has announced device %s for %v", ErrPeer, o.Device, o.patience)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	o.mu.Lock()
	cell := o.cell
	o.mu.Unlock()
	const payload = "installed by sealift conform, never started\n"
	p := manifest.Program{App: probeApp, Kind: usecase.UA, Sequence: 1, Digest: suit.SHA256([]byte(payload)), Size: int64(len(payload)),
		Cells: []usecase.Cell{cell}}.Build()
	p.Invoke = nil
	p.Install = suit.Sequence{suit.Override(suit.Params{suit.ParamURI: "#payload"}), suit.Fetch(), suit.ImageMatch()}
	p.Payloads = map[string][]byte{"#payload": []byte(payload)}
	envelope, err := p.Build(rand.Reader, o.owner)
	return suit.WithoutTag(envelope), err
}

// instanceGone bounds how long the device may take to destroy the instance.
const instanceGone = 20 * time.Second

// Close has the device destroy the instance, if a Broker has come at all, and ends the server.
func (o *Operator) Close() error {
	o.mu.Lock()
	wanted := len(o.work.Instances) > 0
	if wanted {
		o.work = mocapi.Work{Generation: o.work.Generation + 1}
		o.dropped = o.work.Generation
		o.notify()
	}
	o.mu.Unlock()
	var err error
	if wanted {
		timer := time.NewTimer(instanceGone)
		defer timer.Stop()
		select {
		case <-o.gone:
		case <-timer.C:
			err = fmt.Errorf("%w: the device has not destroyed the instance of this run", ErrPeer)
		}
	}
	return errors.Join(err, o.Server.Close())
}
