// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"time"

	"sealift/cose"
	"sealift/internal/answer"
	"sealift/internal/launch"
)

// handshakeTimeout bounds how long an unauthenticated caller holds a slot.
const handshakeTimeout = 15 * time.Second

var errCaller = errors.New("agent: the caller is not the owner of the TA")

// endpoint is the TLS 1.3 end of one TA inside the TEE. Callers pin its key, which stands in the Evidence that the owner
// appraised; the certificate around the key is self-signed and says nothing more.
type endpoint struct{ config *tls.Config }

// newEndpoint makes the endpoint of the TA called name. With launch.CallersOwner only who holds the owner's key gets in.
func newEndpoint(rand io.Reader, key *ecdsa.PrivateKey, name, callers string, owner *cose.Key, now time.Time) (*endpoint, error) {
	cert, err := selfSigned(rand, key, name, now)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{answer.ALPN, answer.Plain},
		Certificates:           []tls.Certificate{cert},
		SessionTicketsDisabled: true, // a resumed session would skip the check of the caller
	}
	if callers != launch.CallersAny {
		if owner == nil {
			return nil, fmt.Errorf("%w: its key is not known", errCaller)
		}
		cfg.ClientAuth = tls.RequireAnyClientCert
		cfg.VerifyConnection = func(cs tls.ConnectionState) error { return isOwner(cs, owner) }
	}
	return &endpoint{cfg}, nil
}

// isOwner compares the key that the caller has proven to hold. RequireAnyClientCert makes the handshake verify that proof, and no
// more: what else stands in the certificate is not looked at.
func isOwner(cs tls.ConnectionState, owner *cose.Key) error {
	if len(cs.PeerCertificates) == 0 {
		return errCaller
	}
	key, err := cose.NewKey(cs.PeerCertificates[0].PublicKey)
	if err != nil || !key.Equal(owner) {
		return errCaller
	}
	return nil
}

func selfSigned(rand io.Reader, key crypto.Signer, name string, now time.Time) (tls.Certificate, error) {
	if len(name) > 64 { // the bound of a common name, RFC 5280 appendix A.1
		name = name[:64]
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-24 * time.Hour),
		NotAfter:     now.AddDate(50, 0, 0), // the key's life is that of the Evidence it stands in
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("agent: certificate of a TA: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// accept runs the handshake on conn.
func (e *endpoint) accept(ctx context.Context, conn net.Conn) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	c := tls.Server(conn, e.config)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("agent: handshake: %w", err)
	}
	return c, nil
}
