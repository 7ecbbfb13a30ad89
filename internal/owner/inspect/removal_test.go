// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sealift/cose"
	"sealift/internal/owner/proof"
	"sealift/suit"
	"sealift/suit/report"
)

// removal makes what an owner keeps of a removed deployment: the Agent has signed that it destroyed the TA and a file of PD.
func removal(t testing.TB) *proof.Removal {
	t.Helper()
	key, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := cose.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	r := &proof.Removal{Deployment: "d1", App: "app", Time: time.Unix(1e9, 0), Proven: true, Emulated: true,
		Key: signer.Key(), AgentKey: hex.EncodeToString(signer.Key().KID()), Destroyed: []string{"pd/app/rows", "tee/app/ta"},
		Evidence: &proof.Evidence{SHA256: "e0e1", Policy: "mine", Hardware: "sgx", Instance: "process"}}
	for _, id := range []suit.ComponentID{suit.NewComponentID("pd", "app", "rows"), suit.NewComponentID("tee", "app", "ta")} {
		rep := report.Report{Nonce: []byte("token"), Digest: suit.Digest{Alg: cose.AlgSHA256, Bytes: make([]byte, 32)},
			Items: []report.Item{&report.SystemProperty{Component: id, Params: suit.Params{suit.ParamSize: uint64(0)}}}}
		data, err := rep.Protect(rand.Reader, report.Protection{Signer: signer})
		if err != nil {
			t.Fatal(err)
		}
		r.Reports = append(r.Reports, data)
	}
	return r
}

// TestRemoval: the file of a removal says who signed, by which Evidence that is known, and what was destroyed; what it says beyond its
// reports is refused.
func TestRemoval(t *testing.T) {
	const compared = "what was destroyed, against the reports"
	for name, c := range map[string]struct {
		change func(*proof.Removal)
		want   []string
	}{
		"good": {func(*proof.Removal) {}, []string{"EMULATED", "deployment d1 of application app", "verified: " + compared, "destroyed: tee/app/ta",
			"Evidence sha-256 e0e1", `policy "mine"`, "report 2 of 2", "verified: COSE_Sign1 of SUIT report, key the Agent that the file names"}},
		"more than was signed": {func(r *proof.Removal) { r.Destroyed = append(r.Destroyed, "pd/app/more") }, []string{"REFUSED: " + compared}},
		"less than was signed": {func(r *proof.Removal) { r.Destroyed = r.Destroyed[1:] }, []string{"REFUSED: " + compared}},
		"another key":          {func(r *proof.Removal) { r.Key = removal(t).Key }, []string{"REFUSED: " + compared}},
		"another thumbprint":   {func(r *proof.Removal) { r.AgentKey = "00" }, []string{"REFUSED: " + compared}},
		"another application":  {func(r *proof.Removal) { r.App = "other" }, []string{"REFUSED: " + compared}},
		"damaged report":       {func(r *proof.Removal) { r.Reports[0][len(r.Reports[0])-1] ^= 1 }, []string{"REFUSED: " + compared}},
		"no key":               {func(r *proof.Removal) { r.Key = nil }, []string{"not verified: " + compared}},
		"no proof": {func(r *proof.Removal) { *r = proof.Removal{Deployment: "d1", Time: r.Time, Why: "the device was gone"} },
			[]string{"warning: there is no proof that anything was destroyed: the device was gone"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := removal(t)
			c.change(r)
			data, err := json.MarshalIndent(r, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got := show(t, data, nil)
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("it does not say %q:\n%s", want, got)
				}
			}
			if _, err := proof.Parse(data); err != nil {
				t.Error(err)
			}
		})
	}
	for _, bad := range []string{"", "{", "[]", `{"deployment":"d","proven":true}`, `{"deployment":"d","proven":false,"time":"2026-01-01T00:00:00Z"}`,
		`{"deployment":"d","proven":true,"why":"not","time":"2026-01-01T00:00:00Z"}`, `{"deployment":"d","proven":true,"time":"2026-01-01T00:00:00Z","key":"AA=="}`} {
		if _, err := proof.Parse([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
