// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sealift/appraisal"
	"sealift/evidence"
	"sealift/evidence/all"
	"sealift/internal/collateral"
	"sealift/internal/fault"
	"sealift/internal/moc"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner"
	"sealift/internal/owner/exhibit"
	"sealift/internal/store"
	"sealift/internal/tam"
)

// mocFlags are the flags of `moc serve`.
type mocFlags struct {
	state, listen, url, cert, key, policy, collateral, dishonest string
	anchors, agents                                              []string
	anchorWait                                                   time.Duration
	protocol                                                     protocolFlags
	panel                                                        panelFlags
}

func newMocCmd(a *app) *cobra.Command {
	return newGroupCmd("moc", "the operator's side: placement, TAM, Verifier, package store", newMocServeCmd(a), newMocTokenCmd(a))
}

func newMocServeCmd(a *app) *cobra.Command {
	var f mocFlags
	serve := &cobra.Command{
		Use:   "serve",
		Short: "serve the M/OC until SIGINT or SIGTERM",
		Long: `Serve the M/OC: REST interface, TAM, OCI registry. State, keys and packages live in one folder.

The operator's Verifier admits an Agent whose Evidence its policy accepts. The policy is --policy; without it, it is made
from --agent (the Agent image that devices shall launch) and the roots in --anchor. With neither, no Agent is admitted. An
EMULATED root counts only where it is named here on purpose. The owners appraise for themselves, whatever this says.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serveMoc(cmd.Context(), f) },
	}
	flags := serve.Flags()
	flags.StringVar(&f.state, "state", "", "folder for the M/OC's state")
	flags.StringVar(&f.listen, "listen", "127.0.0.1:7788", "address to serve on")
	flags.StringVar(&f.url, "url", "", "address under which devices and owners reach the M/OC (default: made from --listen)")
	flags.StringVar(&f.cert, "tls-cert", "", "certificate chain (PEM); with --tls-key the M/OC speaks TLS 1.3 only")
	flags.StringVar(&f.key, "tls-key", "", "private key of the certificate (PEM)")
	flags.StringVar(&f.policy, "policy", "", "appraisal policy of the operator's Verifier (JSON)")
	flags.StringArrayVar(&f.agents, "agent", nil, "Agent image that is acceptable, where there is no --policy; repeat for more")
	flags.StringVar(&f.collateral, "collateral", "", "what vendors say about devices, as sealift collateral keeps it (default: collateral in the state folder)")
	flags.StringArrayVar(&f.anchors, "anchor", nil, "root of acceptable hardware (PEM); a pattern such as 'roots/*.pem' works; repeat for more")
	flags.DurationVar(&f.anchorWait, "anchor-wait", 0, "how long to wait for the files of --anchor to appear")
	flags.StringVar(&f.dishonest, "dishonest", "", "misbehave, for demonstrations")
	f.protocol.add(serve)
	f.panel.add(serve)
	_ = flags.MarkHidden("dishonest")
	_ = flags.MarkHidden("anchor-wait")
	_ = serve.MarkFlagRequired("state")
	return serve
}

func (a *app) serveMoc(ctx context.Context, f mocFlags) error {
	adversary, err := tam.ParseAdversary(f.dishonest)
	if err != nil {
		return usageError("", "%w", err)
	}
	if (f.cert == "") != (f.key == "") {
		return usageError("give both or none", "--tls-cert and --tls-key belong together")
	}
	var cert *tls.Certificate
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return &exitError{code: exitUsage, err: fmt.Errorf("reading the TLS certificate: %w", err)}
		}
		cert = &pair
	}
	anchors, err := readAnchors(ctx, f.anchors, f.anchorWait)
	if err != nil {
		return err
	}
	policy, err := operatorPolicy(f, anchors)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", f.listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	defer ln.Close()
	if f.url == "" {
		if f.url, err = urlOf(ln.Addr(), cert != nil); err != nil {
			return err
		}
	}
	log := a.logger()
	if f.collateral == "" {
		f.collateral = filepath.Join(f.state, collateralDir)
	}
	store := collateral.Open(f.collateral)
	config := moc.Config{Dir: f.state, URL: f.url, Policy: policy, Anchors: evidence.Anchors{Roots: anchors},
		Hardware: tam.Hardware{Verifiers: all.New(), Endorsements: store},
		Version:  buildVersion().Version, Adversary: adversary, Log: log}
	if err := f.protocol.apply(&config); err != nil {
		return err
	}
	if panel, err := f.panel.panel(); err != nil {
		return err
	} else if panel != nil {
		config.Hardware.Panel = panel
	}
	server, err := moc.Open(config)
	if errors.Is(err, moc.ErrRunning) {
		return &exitError{code: exitFailure, err: err, hint: "stop it first, or give this one a state folder of its own"}
	}
	if err != nil {
		return err
	}
	warn(log, ln.Addr(), cert != nil, policy, adversary)
	log.Info("the M/OC serves", "url", f.url, "listen", ln.Addr().String())
	return errors.Join(server.Serve(ctx, ln, cert), server.Close())
}

// warn says what an operator should not overlook.
func warn(log *slog.Logger, addr net.Addr, tls bool, policy *appraisal.Policy, adversary tam.Adversary) {
	if tcp, ok := addr.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && !tls {
		log.Warn("the M/OC is reachable from other machines without TLS: bearer tokens travel in the clear", "listen", addr.String())
	}
	if policy == nil {
		log.Warn("no policy and no Agent image is given: no Agent will be admitted")
	}
	if adversary != tam.Honest {
		log.Warn("this M/OC is DISHONEST on purpose", "how", string(adversary))
	}
}

// urlOf makes the M/OC's address from what it listens on.
func urlOf(addr net.Addr, tls bool) (string, error) {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || tcp.IP.IsUnspecified() {
		return "", usageError("--url https://moc.example:7788", "--listen %s is every address of this machine: --url must say which one devices use", addr)
	}
	if tls {
		return "https://" + addr.String(), nil
	}
	return "http://" + addr.String(), nil
}

// readAnchors reads the roots that the patterns name, waiting for files that another program is about to write.
func readAnchors(ctx context.Context, patterns []string, wait time.Duration) ([]evidence.Anchor, error) {
	var out []evidence.Anchor
	deadline := time.Now().Add(wait)
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		for err == nil && len(paths) == 0 && time.Now().Before(deadline) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(10 * time.Millisecond):
			}
			paths, err = filepath.Glob(pattern)
		}
		if err != nil || len(paths) == 0 {
			return nil, usageError("", "--anchor %s names no file", pattern)
		}
		slices.Sort(paths)
		for _, path := range paths {
			root, err := exhibit.ReadAnchor(path)
			if err != nil {
				return nil, &exitError{code: exitUsage, err: fmt.Errorf("reading a root: %w", err)}
			}
			out = append(out, root)
		}
	}
	return out, nil
}

// operatorPolicy reads the policy, or makes one from the Agent image and the roots. It is nil if there is neither.
func operatorPolicy(f mocFlags, anchors []evidence.Anchor) (*appraisal.Policy, error) {
	switch {
	case f.policy != "":
		data, err := os.ReadFile(f.policy)
		if err != nil {
			return nil, &exitError{code: exitUsage, err: fmt.Errorf("reading the policy: %w", err)}
		}
		file, err := appraisal.ReadPolicy(data)
		if err != nil {
			return nil, &exitError{code: exitUsage, err: fmt.Errorf("the policy %s: %w", f.policy, err)}
		}
		return file.Policy, nil
	case len(f.agents) == 0:
		return nil, nil
	case len(anchors) == 0:
		return nil, usageError("", "--agent needs at least one --anchor")
	}
	in := appraisal.NewPolicyInput{Name: "operator", Roots: anchors}
	for _, root := range anchors {
		hardware := []evidence.Hardware{root.Hardware}
		if root.Hardware == "" {
			hardware = evidence.AllHardware()
		}
		for _, h := range hardware {
			if !slices.Contains(in.Hardware, h) {
				in.Hardware = append(in.Hardware, h)
			}
		}
	}
	for _, agent := range f.agents {
		launch, err := owner.Launches(agent, in.Hardware)
		if err != nil {
			return nil, &exitError{code: exitUsage, err: err}
		}
		for _, l := range launch {
			l.Source = filepath.Base(agent) + " as the operator gave it"
			in.Launch = append(in.Launch, l)
		}
	}
	in.Launch = append(in.Launch, owner.EmulatedFirmware(in.Roots, in.Hardware)...)
	return appraisal.NewPolicy(in)
}

func sumFile(path string) (sum [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, err
	}
	return [32]byte(h.Sum(nil)), nil
}

// mocToken is what `moc token --json` prints.
type mocToken struct {
	Role    mocapi.Role `json:"role"`
	Name    string      `json:"name"`
	Token   string      `json:"token,omitempty"`
	Revoked int64       `json:"revoked,omitempty"`
}

func newMocTokenCmd(a *app) *cobra.Command {
	var state, role, name string
	var revoke bool
	cmd := &cobra.Command{
		Use:   "token",
		Short: "make a bearer token, or revoke those of a name",
		Long: `Make a bearer token and print it; only a hash of it is kept. The name of an owner's token begins the owner's repositories;
the name of a device's token is the device. The M/OC may be running meanwhile.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.mocToken(cmd.Context(), state, mocapi.Identity{Role: mocapi.Role(role), Name: name}, revoke)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&state, "state", "", "folder of the M/OC's state")
	flags.StringVar(&role, "role", "", "operator, owner or device")
	flags.StringVar(&name, "name", "", "whose token it is")
	flags.BoolVar(&revoke, "revoke", false, "revoke all tokens of that role and name instead")
	for _, required := range []string{"state", "role", "name"} {
		_ = cmd.MarkFlagRequired(required)
	}
	return cmd
}

func (a *app) mocToken(ctx context.Context, state string, id mocapi.Identity, revoke bool) error {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fmt.Errorf("making the state folder: %w", err)
	}
	st, err := store.Open(state, store.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	out := mocToken{Role: id.Role, Name: id.Name}
	if revoke {
		if out.Revoked, err = st.RevokeTokens(ctx, id); err == nil && out.Revoked == 0 {
			err = fault.New(fault.NotFound, "there is no token of %s %s", id.Role, id.Name)
		}
	} else {
		out.Token, err = moc.NewToken(ctx, st, rand.Reader, id)
	}
	if err != nil {
		return err
	}
	return a.print(out, func(w io.Writer) {
		if revoke {
			fmt.Fprintf(w, "revoked %d tokens of %s %s\n", out.Revoked, id.Role, strings.TrimSpace(id.Name))
			return
		}
		fmt.Fprintln(w, out.Token)
	})
}
