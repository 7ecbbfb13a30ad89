// SPDX-License-Identifier: Apache-2.0

//go:build interop

// Package interop runs Sealift against other implementations of TEEP and SUIT that are built and started beside it. docs/interop.md
// tells how. Each test is skipped unless the environment says where its peer is.
package interop

import (
	"bytes"
	"crypto/rand"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // AttesTAM's database is SQLite too

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/internal/conform"
	"sealift/internal/conform/agenttest"
	"sealift/suit/report"
	"sealift/teep"
	"sealift/teep/teephttp"
)

// attesTAM is a running AttesTAM in demo mode.
type attesTAM struct {
	url, source, db string
}

func environment(t *testing.T) attesTAM {
	t.Helper()
	a := attesTAM{os.Getenv("ATTESTAM_URL"), os.Getenv("ATTESTAM_SOURCE"), os.Getenv("ATTESTAM_DB")}
	if a.url == "" || a.source == "" || a.db == "" {
		t.Skip("ATTESTAM_URL, ATTESTAM_SOURCE and ATTESTAM_DB name no running AttesTAM; see docs/interop.md")
	}
	return a
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// signer reads one of the example keys that AttesTAM publishes.
func (a attesTAM) signer(t *testing.T, name string) cose.Signer {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(a.source, "doc", "examples", name))
	must(t, err)
	s, err := conform.ParseSigner(data)
	must(t, err)
	return s
}

// learn asks the Agent for its key, as a TAM that trusts its Evidence would: AttesTAM cannot read our Evidence.
func learn(t *testing.T, agent *agenttest.Agent, tam cose.Signer) *cose.Key {
	t.Helper()
	challenge := make([]byte, 32)
	rand.Read(challenge)
	msg, err := teep.Sign(rand.Reader, tam, &teep.QueryRequest{Challenge: challenge, CipherSuites: teep.DefaultCipherSuites,
		SUITProfiles: teep.DefaultSUITProfiles, DataItems: teep.ItemAttestation})
	must(t, err)
	out, err := agent.ProcessTeepMessage(t.Context(), msg)
	must(t, err)
	signed, err := teep.Parse(out)
	must(t, err)
	m, err := signed.MessageInsecure()
	must(t, err)
	for _, o := range m.(*teep.QueryResponse).Extensions {
		if o.Label == agentconfig.AgentKeyOption {
			key, err := cose.ParseKey(o.Value)
			must(t, err)
			return key
		}
	}
	t.Fatal("the Agent does not name its key")
	return nil
}

// know makes the Agent's key known: AttesTAM has no interface for that but attestation in its own format.
func (a attesTAM) know(t *testing.T, key *cose.Key) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+a.db+"?_pragma=busy_timeout(5000)")
	must(t, err)
	defer db.Close()
	var members map[int64]any
	must(t, cose.Unmarshal(key.Marshal(), &members))
	members[3] = int64(key.SignatureAlgorithm()) // AttesTAM takes no key without alg
	_, err = db.ExecContext(t.Context(), "INSERT INTO agents(kid, public_key, expired_at) VALUES(?, ?, ?)",
		key.KID(), cose.MustMarshal(members), time.Now().Add(24*time.Hour).UTC().Format("2006-01-02 15:04:05+00:00"))
	must(t, err)
}

// register hands AttesTAM a manifest. One that it has already is no failure of this test.
func (a attesTAM) register(t *testing.T, envelope []byte) {
	t.Helper()
	resp, err := http.Post(a.url+"/SUITManifestService/RegisterManifest", "application/suit-envelope+cose", bytes.NewReader(envelope))
	must(t, err)
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("RegisterManifest: %s: %s", resp.Status, text)
	}
}

// typed adds the Content-Type that AttesTAM wants on an empty body too, and keeps the messages.
type typed struct {
	t    *testing.T
	seen []teep.Message
	keys []*cose.Key
	last int
}

func (p *typed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Content-Type", teep.MediaType)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	p.see(body)
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	p.last = resp.StatusCode
	p.see(answer)
	return resp, err
}

func (p *typed) see(data []byte) {
	if len(data) == 0 {
		return
	}
	v, err := teep.Verify(data, p.keys)
	if err != nil {
		p.t.Errorf("a message that is not valid: %v", err)
		return
	}
	p.t.Logf("%v: %+v", v.Message.Type(), v.Message)
	p.seen = append(p.seen, v.Message)
}

// TestAgentAgainstAttesTAM: our Agent asks AttesTAM for a component, gets the manifest, installs it and reports.
func TestAgentAgainstAttesTAM(t *testing.T) {
	a := environment(t)
	tam := a.signer(t, "tam_priv.cbor")
	agent := agenttest.New(t, a.url+"/tam", []*cose.Key{tam.Key()}, a.signer(t, "developer_priv.pem"))
	key := learn(t, agent, tam)
	a.know(t, key)
	a.register(t, agent.Manifest)
	session, err := agent.Client.RequestTA(t.Context(), agenttest.UA(), "")
	must(t, err)
	p := &typed{t: t, keys: []*cose.Key{tam.Key(), key}}
	client := &teephttp.Client{HTTP: &http.Client{Transport: p}}
	must(t, client.Session(t.Context(), session.TAMURI, agent, session.Message))

	var types []string
	for _, m := range p.seen {
		types = append(types, fmt.Sprint(m.Type()))
	}
	if got := strings.Join(types, " "); got != "QueryRequest QueryResponse Update Success" || p.last != http.StatusNoContent {
		t.Fatalf("%s, then HTTP status %d", got, p.last)
	}
	s := p.seen[3].(*teep.Success)
	if len(s.SUITReports) != 1 {
		t.Fatalf("%d reports", len(s.SUITReports))
	}
	rep, err := report.Parse(s.SUITReports[0])
	must(t, err)
	if !rep.OK() || !bytes.Equal(rep.Nonce, s.Token) {
		t.Errorf("report %+v", rep)
	}
}
