// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sealift/cose"
	"sealift/internal/conform"
)

// agentFlags are the flags of `conform agent`.
type agentFlags struct {
	listen, url, tamKey, agentKey, manifest, ready string // for an Agent whose configuration names this TAM
	broker, device, token                          string // for one that a Broker of ours brings
	patience                                       time.Duration
	verbose                                        bool
}

func newConformAgentCmd(a *app) *cobra.Command {
	var f agentFlags
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "probe an Agent that is pointed at this TAM URI",
		Long: `Serve a TAM URI, probe the Agent whose Broker connects to it, and print which requirements of TEEP it keeps.

An Agent of any make: its configuration must name the TAM URI at --listen and trust the key of --tam-key. If it ends the session,
the kit waits for the next one.

An Agent of Sealift, in a real instance: --broker-listen makes the kit the M/OC of one device, with a bearer token that it writes to
--token-file. Point a Broker at it (sealift broker run --moc URL --device conform --token-file FILE ...): it launches a new Agent,
under a configuration that names the kit, and destroys it at the end.

The exit code is 1 if a requirement fails.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.conformAgent(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:0", "address to serve the TAM URI on")
	flags.StringVar(&f.broker, "broker-listen", "", "address to serve a Broker of Sealift on, as its M/OC and TAM, instead of --listen")
	flags.StringVar(&f.url, "url", "", "address under which the device reaches the kit (default: made from the one to serve on)")
	flags.StringVar(&f.device, "device", "conform", "name of the device, with --broker-listen")
	flags.StringVar(&f.token, "token-file", "", "where to write the device's bearer token, with --broker-listen")
	flags.StringVar(&f.tamKey, "tam-key", "", "private key of the TAM that is played (with --broker-listen: default a new one)")
	flags.StringVar(&f.agentKey, "agent-key", "", "public key of the Agent (default: the one that it names with its Evidence)")
	flags.StringVar(&f.manifest, "manifest", "", "SUIT envelope that the Agent must be able to install (with --broker-listen: default one of the kit)")
	flags.StringVar(&f.ready, "ready-file", "", "write the TAM URI, or with --broker-listen the M/OC's address, to a file when it is served")
	flags.DurationVar(&f.patience, "patience", 2*time.Minute, "how long to wait for the Agent's next message or session")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "show the messages of every probe")
	cmd.MarkFlagsMutuallyExclusive("listen", "broker-listen")
	cmd.MarkFlagsRequiredTogether("broker-listen", "token-file")
	cmd.MarkFlagsOneRequired("tam-key", "broker-listen")
	return cmd
}

func (a *app) conformAgent(ctx context.Context, f agentFlags) error {
	o := conform.AgentOptions{}
	var made cose.Algorithm // of a key that the kit makes for itself; 0: it must be given
	if f.broker != "" {
		made = cose.AlgESP256
	}
	var err error
	if o.TAM, err = readSigner(f.tamKey, made); err != nil {
		return err
	}
	if f.agentKey != "" {
		keys, err := readPublicKeys([]string{f.agentKey})
		if err != nil {
			return err
		}
		o.AgentKey = keys[0]
	}
	if f.manifest != "" {
		if o.Manifest, err = os.ReadFile(f.manifest); err != nil {
			return usageError("", "reading the manifest: %w", err)
		}
	}
	if f.broker != "" {
		return a.conformBroker(ctx, f, o)
	}
	server, err := conform.Listen(f.listen, f.url, f.patience)
	if err != nil {
		return &exitError{code: exitFailure, err: err}
	}
	defer server.Close()
	a.say("TAM URI %s; waiting for the Agent", server.URI())
	if err := writeReady(f.ready, server.URI()+"\n"); err != nil {
		return err
	}
	report, err := conform.Agent(ctx, server, o)
	return a.printConformance(report, err, f.verbose)
}

// conformBroker probes the Agent that a Broker of ours launches.
func (a *app) conformBroker(ctx context.Context, f agentFlags, o conform.AgentOptions) error {
	operator, err := conform.ListenAsOperator(f.broker, f.url, f.device, f.patience, o.TAM)
	if err != nil {
		return &exitError{code: exitFailure, err: err}
	}
	report, err := a.probeBehind(ctx, operator, f, o)
	if e := operator.Close(); e != nil && err == nil {
		err = e
	}
	return a.printConformance(report, err, f.verbose)
}

func (a *app) probeBehind(ctx context.Context, operator *conform.Operator, f agentFlags, o conform.AgentOptions) (*conform.Report, error) {
	if err := writeReady(f.token, operator.Token+"\n"); err != nil {
		return nil, err
	}
	a.say("waiting for: sealift broker run --moc %s --device %s --token-file %s --state DIR --emulator SOCKET", operator.URL(), operator.Device, f.token)
	if err := writeReady(f.ready, operator.URL()+"\n"); err != nil {
		return nil, err
	}
	manifest, err := operator.Await(ctx)
	if err != nil {
		return nil, err
	}
	if o.Manifest == nil {
		o.Manifest = manifest
	}
	return conform.Agent(ctx, operator.Server, o)
}
