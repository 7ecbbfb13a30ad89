// SPDX-License-Identifier: Apache-2.0

package moc_test

import (
	"testing"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/internal/moc"
	"sealift/internal/tam"
)

// TestMeasuredChoices: what the operator chooses for Agents stands in their measured configuration, and what it does not choose is left
// out; the key for encryption is always there and signs nothing.
func TestMeasuredChoices(t *testing.T) {
	w := newWorld(t)
	parse := func() *agentconfig.Config {
		t.Helper()
		d, _ := w.deploy()
		c, err := agentconfig.Parse(d.Config)
		must(t, err)
		return c
	}
	plain := parse()
	if plain.SigningAlg != 0 || plain.RequireTAMAttestation || plain.VerifierKeys != nil || plain.TAMEncKey == nil {
		t.Errorf("%+v", plain)
	}
	verifier := w.signer.Key()
	w.change = func(c *moc.Config) { c.AgentSuite, c.TAMVerifiers = cose.AlgEd25519, []*cose.Key{verifier} }
	w.restart()
	chosen := parse()
	if chosen.SigningAlg != cose.AlgEd25519 || !chosen.RequireTAMAttestation || len(chosen.VerifierKeys) != 1 ||
		!chosen.VerifierKeys[0].Equal(verifier) || !chosen.TAMEncKey.Equal(plain.TAMEncKey) {
		t.Errorf("%+v", chosen)
	}
}

// TestGenericURI: with the operator's leave a device finds its TAM without a deployment in the URI.
func TestGenericURI(t *testing.T) {
	w := newWorld(t)
	w.change = func(c *moc.Config) { c.Protocol = tam.Protocol{Generic: true} }
	w.restart()
	d, a := w.deploy()
	a.TAMURI = "http://" + w.addr + "/tam/"
	w.session(a)
	if got := steps(w.get(d.ID)); len(got) == 0 || got[0] != "admit" {
		t.Errorf("trace %v", got)
	}
}
