// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sealift/cose"
	"sealift/evidence/emuroot"
	"sealift/internal/conform"
	"sealift/internal/moc/mocapi"
	"sealift/teep"
)

// attesterFlags are those that make the Evidence of the Agent that the kit plays.
type attesterFlags struct {
	kind, root, agent, image, config string
}

// deviceFlags make the kit a device of one of our M/OCs.
type deviceFlags struct {
	moc, token, ca, ready string
}

func newConformTAMCmd(a *app) *cobra.Command {
	var agentKey string
	var tamKeys, request []string
	var attester attesterFlags
	var device deviceFlags
	var ownURI, verbose bool
	cmd := &cobra.Command{
		Use:   "tam [URL]",
		Short: "probe a TAM over HTTP, playing an Agent",
		Long: `Probe a TAM over HTTP, playing an Agent, and print which requirements of TEEP it keeps.

Nothing but the URL is needed. What cannot be seen with what the kit was given is "not applicable" and says why:
  --tam-key    the TAM's public keys; without them signatures are not checked
  --agent-key  the key of an Agent that the TAM knows; without it the TAM must believe the Evidence that --attester makes:
                 emulated  EMULATED hardware under the vendor root in --emulated-root, running --agent under --config
                 eat       an EAT in a COSE_Sign1 of a key made on the spot; only a mock of a Verifier accepts it

For a TAM of Sealift, --moc and --token-file (of a device) make the kit a device of that M/OC: it waits until something is deployed to
the device (sealift deploy --device NAME), and probes the TAM with that deployment's keys, TAM URI and configuration. The
deployment is used up. With a URL as well, that URL is probed instead of the deployment's own: the generic one, for example.

Keys are PEM or COSE_Key files. Nothing of the TAM's answers is executed. The exit code is 1 if a requirement fails.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && device.moc == "" {
				return usageError("sealift conform tam http://127.0.0.1:7788/tam", "the TAM's URL is missing")
			}
			o := conform.TAMOptions{URL: strings.Join(args, ""), OwnURI: ownURI}
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
			if o.Attester, err = attester.open(device.moc != ""); err != nil {
				return err
			}
			if device.moc != "" {
				if err := a.becomeDevice(cmd.Context(), device, &o); err != nil {
					return err
				}
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
	flags.StringVar(&attester.agent, "agent", "", "the Agent's program, whose SHA-256 the Evidence shows")
	flags.StringVar(&attester.image, "agent-digest", "", "that SHA-256 in hex, instead of --agent")
	flags.StringVar(&attester.config, "config", "", "file with the measured configuration")
	flags.StringVar(&device.moc, "moc", "", "address of an M/OC of Sealift to become a device of; makes --attester emulated the default")
	flags.StringVar(&device.token, "token-file", "", "file with that device's bearer token")
	flags.StringVar(&device.ca, "ca", "", "PEM file of the M/OC's certificate authority (default: those of the system)")
	flags.StringVar(&device.ready, "ready-file", "", "write the device's name to a file when something can be deployed to it")
	flags.BoolVar(&ownURI, "own-uri", false, "the URL names one Agent, so its cipher suite may be known before it says anything")
	flags.BoolVarP(&verbose, "verbose", "v", false, "show the messages of every probe")
	return cmd
}

// becomeDevice announces the kit as a device, waits for a deployment, and puts what it says into o.
func (a *app) becomeDevice(ctx context.Context, f deviceFlags, o *conform.TAMOptions) error {
	hardware, ok := o.Attester.(*conform.Emulated)
	if !ok {
		return usageError("--attester emulated --emulated-root DIR --agent FILE", "a device of an M/OC needs hardware, if only EMULATED")
	}
	token, err := os.ReadFile(f.token)
	if err != nil {
		return usageError("the operator makes one with sealift moc token --role device", "reading the device's token: %w", err)
	}
	moc := &mocapi.Client{BaseURL: f.moc, Token: strings.TrimSpace(string(token))}
	if moc.HTTP, err = trusting(f.ca); err != nil {
		return err
	}
	who, err := moc.WhoAmI(ctx)
	if err != nil {
		return err
	}
	if who.Role != mocapi.RoleDevice {
		return usageError("", "--token-file: a token of the role %s, not of a device", who.Role)
	}
	anchors, err := moc.TrustAnchors(ctx)
	if err != nil {
		return err
	}
	if len(o.TAMKeys) == 0 {
		o.TAMKeys = anchors.TAMKeys
	}
	d := conform.Device{MOC: moc, Name: who.Name, AgentDigest: hardware.Image, Root: hardware.Root,
		Hardware: string(hardware.Device.Hardware), Instance: "process", Emulated: true}
	given, err := d.Await(ctx, func() error {
		a.say("device %s waits for a deployment: sealift deploy --device %s PACKAGE", who.Name, who.Name)
		return writeReady(f.ready, who.Name+"\n")
	})
	if err != nil {
		return &exitError{code: exitUnreachable, err: err}
	}
	hardware.Config = given.Config
	if o.URL == "" {
		o.URL = given.TAMURI
	}
	a.say("deployment %s is used up for this run", given.ID)
	return nil
}

// trusting returns a client that trusts the authority in a PEM file; nil, which is the usual one, without a file.
func trusting(ca string) (*http.Client, error) {
	if ca == "" {
		return nil, nil
	}
	data, err := os.ReadFile(ca)
	if err != nil {
		return nil, usageError("", "reading the certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, usageError("", "%s holds no PEM certificate", ca)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return &http.Client{Transport: transport}, nil
}

// open makes the attester that the flags ask for, nil for none. For a device of an M/OC it is an emulated one, whose configuration the
// M/OC says.
func (f *attesterFlags) open(device bool) (conform.Attester, error) {
	switch f.kind {
	case "none":
		if !device {
			return nil, nil
		}
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
	e := &conform.Emulated{Root: pki.Fingerprint()}
	if f.agent != "" {
		if e.Image, err = sumFile(f.agent); err != nil {
			return nil, usageError("", "reading the Agent: %w", err)
		}
	} else {
		image, err := hex.DecodeString(f.image)
		if err != nil || len(image) != len(e.Image) {
			return nil, usageError("--agent FILE", "--agent-digest: 64 hex digits are needed")
		}
		copy(e.Image[:], image)
	}
	if !device {
		if e.Config, err = os.ReadFile(f.config); err != nil {
			return nil, usageError("", "reading the configuration: %w", err)
		}
	}
	e.Device, err = pki.NewDevice(rand.Reader, "conform")
	return e, err
}
