// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/artifact"
	"sealift/internal/moc/mocapi"
	"sealift/suit"
	"sealift/teep/teephttp"
)

// Operator returns a policy by which an M/OC admits the Agents of a vendor.
func Operator(pki *emuroot.PKI) (*appraisal.Policy, error) {
	return appraisal.NewPolicy(appraisal.NewPolicyInput{Name: "operator of played devices", Hardware: []evidence.Hardware{pki.Hardware},
		Roots: []evidence.Anchor{pki.Anchor()}, AgentDigest: Image, AgentSource: "package load"})
}

// Announcement is what a Broker of a played device announces.
func Announcement(pki *emuroot.PKI, broker string, capacity int) mocapi.Announcement {
	fp := pki.Fingerprint()
	return mocapi.Announcement{BrokerID: broker, Hardware: string(pki.Hardware), Emulated: true, RootFingerprint: hex.EncodeToString(fp[:]),
		InstanceTypes: []string{"process"}, Capacity: capacity, RelayAddr: "127.0.0.1:1", Instances: []mocapi.InstanceStatus{}}
}

// Manifest makes a signed package manifest: one component whose payload has the given content.
func Manifest(owner cose.Signer, app, role string, id suit.ComponentID, sequence uint64, payload []byte) ([]byte, error) {
	digest := suit.SHA256(payload)
	b := &suit.Builder{Sequence: sequence, ComponentID: suit.NewComponentID("manifest", app, role)}
	b.AddComponent(id)
	b.Shared = suit.Sequence{suit.Override(suit.Params{suit.ParamDigest: digest, suit.ParamSize: uint64(len(payload))})}
	b.Install = suit.Sequence{
		suit.Override(suit.Params{suit.ParamURI: "ni:///sha-256;" + base64.RawURLEncoding.EncodeToString(digest.Bytes)}),
		suit.Fetch(), suit.ImageMatch(),
	}
	b.Validate = suit.Sequence{suit.ImageMatch()}
	return b.Build(rand.Reader, owner)
}

// Push puts a package into the M/OC's registry.
func Push(ctx context.Context, c *mocapi.Client, role, repository string, envelope []byte, payloads ...[]byte) (mocapi.PackageRef, error) {
	empty := []byte("{}")
	type descriptor = artifact.Descriptor
	layers := []descriptor{{MediaType: artifact.TypeEnvelope, Digest: artifact.DigestOf(envelope), Size: int64(len(envelope))}}
	for _, p := range payloads {
		layers = append(layers, descriptor{MediaType: artifact.TypePayload, Digest: artifact.DigestOf(p), Size: int64(len(p))})
	}
	for _, blob := range append([][]byte{empty, envelope}, payloads...) {
		path := "/v2/" + repository + "/blobs/uploads/?digest=" + artifact.DigestOf(blob)
		if err := put(ctx, c, http.MethodPost, path, "application/octet-stream", blob); err != nil {
			return mocapi.PackageRef{}, err
		}
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": artifact.TypeManifest, "artifactType": artifact.TypePackage,
		"config": descriptor{MediaType: "application/vnd.oci.empty.v1+json", Digest: artifact.DigestOf(empty), Size: 2}, "layers": layers,
	})
	if err != nil {
		return mocapi.PackageRef{}, err
	}
	ref := mocapi.PackageRef{Role: role, Repository: repository, Digest: artifact.DigestOf(manifest)}
	return ref, put(ctx, c, http.MethodPut, "/v2/"+repository+"/manifests/"+ref.Digest, artifact.TypeManifest, manifest)
}

func put(ctx context.Context, c *mocapi.Client, method, path, mediaType string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, method, c.BaseURL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", mediaType)
	req.Header.Set("Authorization", "Bearer "+c.Token)
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("load: %s %s: %s: %s", method, path, resp.Status, text)
	}
	return nil
}

// Fleet is one played device with one deployment and admitted Agent for each place on it.
type Fleet struct {
	Agents []*Agent
	Owner  cose.Signer
}

// Launch announces a device and brings up n deployments on it, each up to the owner's appraisal: the Agent admitted, the
// TA installed. owner and device are clients with those roles; names are those of their tokens.
func Launch(ctx context.Context, pki *emuroot.PKI, owner, device *mocapi.Client, ownerName, deviceName string, n int) (*Fleet, error) {
	if err := device.Announce(ctx, deviceName, Announcement(pki, "played", n)); err != nil {
		return nil, err
	}
	key, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		return nil, err
	}
	f := &Fleet{}
	if f.Owner, err = cose.NewSigner(key); err != nil {
		return nil, err
	}
	payload := []byte("a TA that nobody runs")
	envelope, err := Manifest(f.Owner, "load", mocapi.PackageTA, suit.NewComponentID("tee", "load", "ta"), 1, payload)
	if err != nil {
		return nil, err
	}
	ref, err := Push(ctx, owner, mocapi.PackageTA, ownerName+"/load/ta", envelope, payload)
	if err != nil {
		return nil, err
	}
	for range n {
		d, err := owner.CreateDeployment(ctx, mocapi.DeploymentRequest{App: "load", Mode: "ta,pd", OwnerKey: f.Owner.Key(),
			Packages: []mocapi.PackageRef{ref}})
		if err != nil {
			return nil, err
		}
		a, err := NewAgent(pki, d.Config)
		if err != nil {
			return nil, err
		}
		if err := new(teephttp.Client).Session(ctx, a.TAMURI, a, nil); err != nil {
			return nil, err
		}
		f.Agents = append(f.Agents, a)
	}
	return f, nil
}
