// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sealift/cose"
	"sealift/internal/moc"
	"sealift/internal/tam"
	"sealift/teep"
)

// protocolFlags are the flags of `moc serve` about what TEEP leaves to a TAM.
type protocolFlags struct {
	profile, suite, result    string
	verifiers, tamVerifiers   []string
	window                    time.Duration
	byTime, handOver, generic bool
}

func (f *protocolFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.profile, "teep-profile", "", `compatibility profile for older Agents ("drafts"); without it the text is followed strictly`)
	flags.StringVar(&f.suite, "agent-suite", "esp256", "cipher suite of the Agents of new deployments (esp256, ed25519)")
	flags.StringArrayVar(&f.verifiers, "verifier", nil, "public key (PEM or COSE_Key) of a Verifier whose Attestation Results about Agents count; repeat for more")
	flags.DurationVar(&f.window, "result-window", 0, "how old an Attestation Result may be that is not over a challenge of this TAM (default: none is taken)")
	flags.BoolVar(&f.byTime, "by-time", false, "ask admitted Agents for results that are fresh by their time; needs --result-window")
	flags.BoolVar(&f.handOver, "hand-over", false, "give Agents the Attestation Results that their Evidence has earned")
	flags.BoolVar(&f.generic, "generic-uri", false, "serve a TAM URI without a deployment, /tam")
	flags.StringArrayVar(&f.tamVerifiers, "tam-verifier", nil, "public key of a Verifier; makes the Agents of new deployments require its Attestation Result about this TAM; repeat for more")
	flags.StringVar(&f.result, "tam-result", "", "file with an Attestation Result about this TAM, for Agents that require one; read at each use")
}

// apply puts the choices into c.
func (f *protocolFlags) apply(c *moc.Config) error {
	p := tam.Protocol{Profile: teep.Profile(f.profile), Window: f.window, ByTime: f.byTime, HandOver: f.handOver, Generic: f.generic}
	if _, err := p.Profile.Options(); err != nil {
		return usageError("", "--teep-profile: %w", err)
	}
	if p.ByTime && p.Window <= 0 {
		return usageError("--result-window 24h", "--by-time needs --result-window")
	}
	var err error
	if p.Verifiers, err = readPublicKeys(f.verifiers); err != nil {
		return err
	}
	if c.TAMVerifiers, err = readPublicKeys(f.tamVerifiers); err != nil {
		return err
	}
	if len(c.TAMVerifiers) > 0 && f.result == "" {
		return usageError("--tam-result FILE", "--tam-verifier needs --tam-result: no Agent would obey a TAM that cannot show one")
	}
	if f.result != "" {
		p.Attest = func(context.Context, []byte) ([]byte, error) { return os.ReadFile(f.result) }
	}
	switch strings.ToLower(f.suite) {
	case "esp256":
		c.AgentSuite = 0
	case "ed25519":
		c.AgentSuite = cose.AlgEd25519
	default:
		return usageError("", "--agent-suite: there is no suite %q, only esp256 and ed25519", f.suite)
	}
	c.Protocol = p
	return nil
}
