// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sealift/appraisal"
	"sealift/appraisal/ear"
	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/all"
	"sealift/internal/owner/exhibit"
	service "sealift/internal/verifier"
)

// verifierFlags are the flags of `verifier serve`.
type verifierFlags struct {
	listen, policy, collateral, key, cert, certKey, ready string
	anchors                                               []string
	draftNames                                            bool
}

func newVerifierCmd(a *app) *cobra.Command {
	return newGroupCmd("verifier", "a Verifier as a service", newVerifierServeCmd(a))
}

func newVerifierServeCmd(a *app) *cobra.Command {
	var f verifierFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "appraise Evidence for others, over Veraison's challenge-response API",
		Long: `Appraise Evidence of the six architectures for other Relying Parties, until SIGINT or SIGTERM. The API is Veraison's
(challenge-response/v1), the result an EAR, signed with the key in --key, which is made if there is none.

The nonce of a session is what the hardware has to have signed as its report data. Evidence that is refused is an answer with
status 200: look into the EAR, and verify it with the key that this command prints.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serveVerifier(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8443", "address to serve on")
	flags.StringVar(&f.policy, "policy", "", "appraisal policy (JSON, CBOR or signed)")
	flags.StringArrayVar(&f.anchors, "anchor", nil, "file of a root or device key that may vouch, beside those of AMD and Intel, which are known; a pattern works; repeat for more")
	flags.StringVar(&f.collateral, "collateral", "", "what vendors say about devices (default: collateral in the owner's folder)")
	flags.StringVar(&f.key, "key", "", "P-256 private key (PEM) that signs results")
	flags.StringVar(&f.cert, "tls-cert", "", "certificate chain (PEM); with --tls-key the service speaks TLS 1.3 only")
	flags.StringVar(&f.certKey, "tls-key", "", "private key of the certificate (PEM)")
	flags.BoolVar(&f.draftNames, "draft-names", false, "name claims as draft-ietf-rats-ear does, not as Veraison's clients read them")
	flags.StringVar(&f.ready, "ready-file", "", "write a file with the address when the service is up")
	for _, name := range []string{"policy", "key"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

func (a *app) serveVerifier(ctx context.Context, f verifierFlags) error {
	s, err := a.verifierService(ctx, f)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", f.listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	defer ln.Close()
	scheme := "http"
	if f.cert != "" || f.certKey != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.certKey)
		if err != nil {
			return usageError("", "reading the TLS certificate: %w", err)
		}
		ln, scheme = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}), "https"
	}
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	s.Log.Info("the Verifier serves", "url", scheme+"://"+ln.Addr().String(), "policy", s.Policy.Name, "key", fmt.Sprintf("%x", s.Key.Key().KID()))
	if err := writeReady(f.ready, scheme+"://"+ln.Addr().String()+"\n"); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(end)
	})
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// verifierService reads what the flags name.
func (a *app) verifierService(ctx context.Context, f verifierFlags) (*service.Service, error) {
	data, err := os.ReadFile(f.policy)
	if err != nil {
		return nil, usageError("", "reading the policy: %w", err)
	}
	file, err := appraisal.ReadPolicy(data)
	if err != nil {
		return nil, usageError("", "the policy %s: %w", f.policy, err)
	}
	policy := file.Policy
	anchors, err := readAnchors(ctx, f.anchors, 0)
	if err != nil {
		return nil, err
	}
	vendors, err := exhibit.VendorAnchors()
	if err != nil {
		return nil, err
	}
	anchors = append(anchors, vendors...)
	key, err := signingKey(f.key)
	if err != nil {
		return nil, err
	}
	store, err := a.collateralStore(f.collateral)
	if err != nil {
		return nil, err
	}
	form := ear.FormVeraison
	if f.draftNames {
		form = ear.FormDraft
	}
	return &service.Service{Verifiers: all.New(), Anchors: evidence.Anchors{Roots: anchors}, Endorsements: store,
		Policy: policy, Key: key, ID: ear.VerifierID{Developer: "https://sealift.invalid", Build: "sealift " + buildVersion().Version},
		Form: form, Now: time.Now, Log: a.logger()}, nil
}

// signingKey reads the private key in path, or makes one there; the public half lies beside it, in path.pub.
func signingKey(path string) (cose.Signer, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newSigningKey(path)
	}
	if err != nil {
		return nil, usageError("", "reading the key: %w", err)
	}
	priv, err := cose.ParsePrivatePEM(data)
	if err != nil {
		return nil, usageError("", "the key %s: %w", path, err)
	}
	s, err := cose.NewSigner(priv)
	if err != nil || s.Algorithm() != cose.AlgESP256 {
		return nil, usageError("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", "the key %s: results are signed with ES256, which needs a key of P-256", path)
	}
	return s, nil
}

func newSigningKey(path string) (cose.Signer, error) {
	priv, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		return nil, err
	}
	secret, err := cose.MarshalPrivatePEM(priv)
	if err != nil {
		return nil, err
	}
	s, err := cose.NewSigner(priv)
	if err != nil {
		return nil, err
	}
	public, err := evidence.Anchor{Key: s.Key()}.PEM()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, secret, 0o600); err != nil {
		return nil, fmt.Errorf("keeping the key: %w", err)
	}
	if err := os.WriteFile(path+".pub", public, 0o644); err != nil {
		return nil, fmt.Errorf("keeping the public key: %w", err)
	}
	return s, nil
}

// panelFlags say which further Verifiers a Relying Party asks.
type panelFlags struct {
	ask  []string
	need string
}

func (f *panelFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.ask, "ask-verifier", nil, `a further Verifier to ask, "url=https://...,key=FILE[,name=NAME][,ca=FILE][,raw][,submod=NAME]...": one with Veraison's API,
whose EARs are believed by this pinned public key alone; raw for Veraison itself; repeat for more`)
	cmd.Flags().StringVar(&f.need, "verifiers-needed", "all", "how many of the Verifiers, the own one included, have to accept: all, any, or a number")
}

// panel makes what the flags say; nil without further Verifiers.
func (f *panelFlags) panel() (*service.Panel, error) {
	p := &service.Panel{}
	for _, text := range f.ask {
		c, err := parseVerifier(text)
		if err != nil {
			return nil, err
		}
		p.Clients = append(p.Clients, c)
	}
	switch n, err := strconv.Atoi(f.need); {
	case f.need == "all" || f.need == "":
	case f.need == "any":
		p.Need = 1
	case err != nil || n < 1 || n > len(p.Clients)+1:
		return nil, usageError("", "--verifiers-needed is %q: all, any, or 1 to %d", f.need, len(p.Clients)+1)
	default:
		p.Need = n
	}
	if len(p.Clients) == 0 {
		return nil, nil
	}
	return p, nil
}

func parseVerifier(text string) (*service.Client, error) {
	c := &service.Client{Now: time.Now}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(part, "=")
		switch name {
		case "url":
			c.URL = value
		case "name":
			c.Name = value
		case "raw":
			c.Raw = true
		case "submod":
			c.Submods = append(c.Submods, value)
		case "key":
			keys, err := readPublicKeys([]string{value})
			if err != nil {
				return nil, err
			}
			c.Keys = append(c.Keys, keys...)
		case "ca":
			roots, err := readAuthority(value)
			if err != nil {
				return nil, err
			}
			transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		default:
			return nil, usageError("", "--ask-verifier: %q is not known", name)
		}
	}
	if c.URL == "" || len(c.Keys) == 0 {
		return nil, usageError("", "--ask-verifier: url and key are needed")
	}
	c.HTTP = &http.Client{Transport: transport, Timeout: 15 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, nil
}
