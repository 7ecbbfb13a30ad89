// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sealift/cose"
	"sealift/evidence/emuroot"
	"sealift/internal/conform"
	"sealift/teep"
)

func newConformCmd(a *app) *cobra.Command {
	return newGroupCmd("conform", "hold somebody's TAM or Agent against the requirements of TEEP", newConformTAMCmd(a), newConformAgentCmd(a))
}

// attesterFlags are those that make the Evidence of the Agent that the kit plays.
type attesterFlags struct {
	kind, root, image, config string
}

func newConformTAMCmd(a *app) *cobra.Command {
	var agentKey string
	var tamKeys, request []string
	var attester attesterFlags
	var ownURI, verbose bool
	cmd := &cobra.Command{
		Use:   "tam URL",
		Short: "probe a TAM over HTTP, playing an Agent",
		Long: `Probe a TAM over HTTP, playing an Agent, and print which requirements of TEEP it keeps.

The Agent's key (--agent-key) must be known to the TAM, or the TAM must believe the Evidence that --attester makes:
  emulated  EMULATED hardware under the vendor root in --emulated-root, for --agent-digest and --config
  eat       an EAT in a COSE_Sign1 of a key made on the spot; only a mock of a Verifier accepts it
For a TAM of Sealift, URL is the TAM URI of a deployment of its own, which is used up.

Keys are PEM or COSE_Key files. Nothing of the TAM's answers is executed. The exit code is 1 if a requirement fails.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := conform.TAMOptions{URL: args[0], OwnURI: ownURI}
			var err error
			if o.TAMKeys, err = readPublicKeys(tamKeys); err != nil {
				return err
			}
			if o.Agent, err = readSigner(agentKey, cose.AlgESP256); err != nil {
				return err
			}
			for _, s := range request {
				id, err := teep.ParseComponentID(s)
				if err != nil {
					return usageError("", "--request: %w", err)
				}
				o.Request = append(o.Request, id)
			}
			if o.Attester, err = attester.open(); err != nil {
				return err
			}
			report, err := conform.TAM(cmd.Context(), o)
			return a.printConformance(report, err, verbose)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&agentKey, "agent-key", "", "private key of the Agent that is played (default: a new one)")
	flags.StringArrayVar(&tamKeys, "tam-key", nil, "public key that signs the TAM's messages (may be given again)")
	flags.StringArrayVar(&request, "request", nil, "component that the Agent asks for, for TAMs that send only what is requested")
	flags.StringVar(&attester.kind, "attester", "none", "what makes Evidence: none, emulated, eat")
	flags.StringVar(&attester.root, "emulated-root", "", "folder of the EMULATED vendor root")
	flags.StringVar(&attester.image, "agent-digest", "", "SHA-256 of the Agent's program, in hex")
	flags.StringVar(&attester.config, "config", "", "file with the measured configuration")
	flags.BoolVar(&ownURI, "own-uri", false, "the URL names one Agent, so its cipher suite may be known before it says anything")
	flags.BoolVarP(&verbose, "verbose", "v", false, "show the messages of every probe")
	_ = cmd.MarkFlagRequired("tam-key")
	return cmd
}

func newConformAgentCmd(a *app) *cobra.Command {
	var listen, tamKey, agentKey, manifest, ready string
	var verbose bool
	var patience time.Duration
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "probe an Agent that is pointed at this TAM URI",
		Long: `Serve a TAM URI, probe the Agent whose Broker connects to it, and print which requirements of TEEP it keeps.

The Agent must trust the key of --tam-key. If it ends the session, the kit waits for the next one. The exit code is 1 if a
requirement fails.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := conform.AgentOptions{}
			var err error
			if o.TAM, err = readSigner(tamKey, 0); err != nil {
				return err
			}
			if agentKey != "" {
				keys, err := readPublicKeys([]string{agentKey})
				if err != nil {
					return err
				}
				o.AgentKey = keys[0]
			}
			if manifest != "" {
				if o.Manifest, err = os.ReadFile(manifest); err != nil {
					return usageError("", "reading the manifest: %w", err)
				}
			}
			server, err := conform.Listen(listen, patience)
			if err != nil {
				return &exitError{code: exitFailure, err: err}
			}
			defer server.Close()
			a.say("TAM URI %s; waiting for the Agent", server.URI())
			if err := writeReady(ready, server.URI()+"\n"); err != nil {
				return err
			}
			report, err := conform.Agent(cmd.Context(), server, o)
			return a.printConformance(report, err, verbose)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&listen, "listen", "127.0.0.1:0", "address to serve the TAM URI on")
	flags.StringVar(&tamKey, "tam-key", "", "private key of the TAM that is played")
	flags.StringVar(&agentKey, "agent-key", "", "public key of the Agent (default: the one that it names with its Evidence)")
	flags.StringVar(&manifest, "manifest", "", "SUIT envelope that the Agent must be able to install")
	flags.StringVar(&ready, "ready-file", "", "write the TAM URI to a file when it is served")
	flags.DurationVar(&patience, "patience", 2*time.Minute, "how long to wait for the Agent's next message or session")
	flags.BoolVarP(&verbose, "verbose", "v", false, "show the messages of every probe")
	_ = cmd.MarkFlagRequired("tam-key")
	return cmd
}

// errNotConformant is the end of a run that found failures.
var errNotConformant = errors.New("the peer does not keep all requirements")

func (a *app) printConformance(report *conform.Report, err error, verbose bool) error {
	if err != nil {
		code := exitFailure
		if errors.Is(err, conform.ErrPeer) {
			code = exitUnreachable
		}
		return &exitError{code: code, err: err}
	}
	if err := a.print(report, func(w io.Writer) { _ = report.Write(w, verbose) }); err != nil {
		return err
	}
	if !report.OK() {
		return &exitError{code: exitFailure, err: fmt.Errorf("%w: %d failed", errNotConformant, report.Failed)}
	}
	return nil
}

func readPublicKeys(paths []string) (keys []*cose.Key, err error) {
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, usageError("", "reading a public key: %w", err)
		}
		key, err := conform.ParsePublic(data)
		if err != nil {
			return nil, usageError("", "%s: %w", path, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// readSigner reads a private key; without a path it makes one, if there is an algorithm for it.
func readSigner(path string, alg cose.Algorithm) (cose.Signer, error) {
	if path == "" && alg != 0 {
		key, err := cose.GenerateKey(alg, rand.Reader)
		if err != nil {
			return nil, err
		}
		return cose.NewSigner(key)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, usageError("", "reading a private key: %w", err)
	}
	signer, err := conform.ParseSigner(data)
	if err != nil {
		return nil, usageError("", "%s: %w", path, err)
	}
	return signer, nil
}

// open makes the attester that the flags ask for, nil for none.
func (f *attesterFlags) open() (conform.Attester, error) {
	switch f.kind {
	case "none":
		return nil, nil
	case "eat":
		return conform.SelfSigned{}, nil
	case "emulated":
	default:
		return nil, usageError("known: none, emulated, eat", "unknown attester %q", f.kind)
	}
	pki, err := emuroot.Load(f.root)
	if err != nil {
		return nil, usageError("--emulated-root names the folder with root.pem and root-key.pem", "%w", err)
	}
	e := &conform.Emulated{}
	image, err := hex.DecodeString(f.image)
	if err != nil || len(image) != len(e.Image) {
		return nil, usageError("", "--agent-digest: 64 hex digits are needed")
	}
	copy(e.Image[:], image)
	if e.Config, err = os.ReadFile(f.config); err != nil {
		return nil, usageError("", "reading the configuration: %w", err)
	}
	e.Device, err = pki.NewDevice(rand.Reader, "conform")
	return e, err
}
