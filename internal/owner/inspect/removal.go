// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"sealift/cose"
	"sealift/internal/owner/proof"
)

const kindRemoval = "what is known of a removal"

// readRemoval reads the file that an owner keeps of a removed deployment, and verifies what it says against the reports in it.
func readRemoval(f *File, data []byte, keys *Keys) bool {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || data[0] != '{' || !bytes.Contains(data, []byte(`"deployment"`)) || !bytes.Contains(data, []byte(`"proven"`)) {
		return false
	}
	r, err := proof.Parse(data)
	if err != nil {
		return false
	}
	f.Kind, f.Emulated = kindRemoval, r.Emulated
	fact := func(format string, args ...any) { f.Facts = append(f.Facts, fmt.Sprintf(format, args...)) }
	fact("deployment %s of application %s, removed at %s", r.Deployment, r.App, r.Time.UTC().Format(time.RFC3339))
	if !r.Proven {
		f.Warnings = append(f.Warnings, "there is no proof that anything was destroyed: "+r.Why)
	}
	if r.Key != nil {
		fact("signed by the Agent's key %x", r.Key.KID())
		keys = keys.with("the Agent that the file names", r.Key)
	}
	if e := r.Evidence; e != nil {
		fact("bound to %s/%s with the measured configuration sha-256 %s by the Evidence sha-256 %s", e.Hardware, e.Instance, e.ConfigSHA256, e.SHA256)
		fact("which this owner accepted at %s by policy %q, hash %s", e.Time.UTC().Format(time.RFC3339), e.Policy, e.PolicyHash)
	}
	for _, c := range r.Destroyed {
		fact("destroyed: %s", c)
	}
	if len(r.Reports) > 0 {
		f.Checks = append(f.Checks, checkRemoval(r))
	}
	for i, data := range r.Reports {
		var inner []byte
		if err := cose.Unmarshal(data, &inner); err == nil { // signed reports are wrapped in a byte string
			data = inner
		}
		if it, rest, err := read(data); err == nil && rest == 0 {
			_, s := recognise(it)
			f.add(fmt.Sprintf("report %d of %d", i+1, len(r.Reports)), it, s, keys)
		}
	}
	return true
}

// checkRemoval compares what the file says was destroyed with what the reports in it say.
func checkRemoval(r *proof.Removal) Check {
	c := Check{What: "what was destroyed, against the reports", State: Refused}
	if r.Key == nil {
		c.State, c.Detail = Unverified, "the file does not hold the key that signed them"
		return c
	}
	switch gone, err := proof.Destroyed(r.Reports, r.Key, r.App); {
	case err != nil:
		c.Detail = err.Error()
	case hex.EncodeToString(r.Key.KID()) != r.AgentKey:
		c.Detail = "the key is not the one that the file names"
	case !slices.Equal(slices.Sorted(slices.Values(gone)), slices.Sorted(slices.Values(r.Destroyed))):
		c.Detail = "the reports name " + strings.Join(gone, ", ")
	default:
		c.State, c.Detail = Verified, "that the key is an attested Agent's is what the owner's folder says; the Evidence shows it"
	}
	return c
}
