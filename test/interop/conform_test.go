// SPDX-License-Identifier: Apache-2.0

//go:build interop

package interop

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/internal/conform"
	"sealift/teep"
)

// serveVerifier plays the Verifier of AttesTAM, with the challenge-response interface of Veraison: whatever comes is affirming, and the
// result bears no valid signature.
func serveVerifier(t *testing.T, address string) {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	result := strings.Join([]string{b64([]byte(`{"alg":"ES256"}`)), b64([]byte(`{"submods":{"GENERIC_EAT":{"ear.status":"affirming"}}}`)), "AAAA"}, ".")
	mux := http.NewServeMux()
	mux.HandleFunc("POST /challenge-response/v1/newSession", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/challenge-response/v1/session/1")
		w.WriteHeader(http.StatusCreated)
	})
	mux.HandleFunc("POST /challenge-response/v1/session/1", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"status":"complete","accept":[],"evidence":{"type":"eat","value":"oA=="},"result":%q}`, result)
	})
	ln, err := net.Listen("tcp", address)
	must(t, err)
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { server.Close() })
}

// knownDefects are the requirements that AttesTAM (a8bed7d) does not keep. docs/interop.md says more about each.
var knownDefects = []string{
	"an empty POST without Content-Type opens a session",
	"no Cache-Control, cookies or redirects",
	"only POST is allowed",
	"Accept with ranges includes TEEP messages (RFC 9110 12.5.1)",
	"the first QueryRequest bears one signature for each suite",
	"both mandatory cipher suites are offered",
	"all four SUIT profiles are offered",
	"a payload without format is an Attestation Result; one that no Verifier signed is not acted on",
	"an unneeded-manifest-list of component identifiers is accepted",
	"have-binary without tc-manifest-sequence-number is not acted on",
	"an empty tc-list is not acted on",
	"a selected-version that was not offered is not acted on",
	"a critical header nobody knows is not acted on",
	"a message with a bad signature does not use up the token",
	"a stranger's message does not use up the token",
	"a QueryResponse with the token of an Update is not acted on",
	"Error 7 (attestation required) is answered with a QueryRequest that has an attestation-payload",
}

// TestConformAttesTAM: the kit finds what is known of AttesTAM, and nothing else.
func TestConformAttesTAM(t *testing.T) {
	a := environment(t)
	verifier := os.Getenv("ATTESTAM_VERIFIER")
	if verifier == "" {
		t.Skip("ATTESTAM_VERIFIER is not the address where AttesTAM expects its Verifier; see docs/interop.md")
	}
	serveVerifier(t, verifier)
	priv, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	must(t, err)
	agent, err := cose.NewSigner(priv)
	must(t, err)
	rep, err := conform.TAM(t.Context(), conform.TAMOptions{URL: a.url + "/tam", TAMKeys: []*cose.Key{a.signer(t, "tam_priv.cbor").Key()},
		Agent: agent, Attester: conform.SelfSigned{}, Request: []teep.ComponentID{{[]byte("hello.txt")}}})
	must(t, err)
	var failed []string
	for _, r := range rep.Results {
		if r.Status == conform.Failed {
			failed = append(failed, r.Title)
		}
	}
	if !slices.Equal(failed, knownDefects) {
		var out strings.Builder
		_ = rep.Write(&out, false)
		t.Errorf("failed:\n%s\n\n%s", strings.Join(failed, "\n"), out.String())
	}
	t.Logf("%d passed, %d failed, %d not applicable", rep.Passed, rep.Failed, rep.NotApplicable)
}
