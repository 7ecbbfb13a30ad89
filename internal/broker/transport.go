// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

// HTTPClient returns a client for Config.MOC that trusts the given authorities; nil are the system's.
func HTTPClient(roots *x509.CertPool) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = tlsConfig(roots)
	return &http.Client{Transport: transport}
}

// newTransport bounds the TEEP sessions below TEEP. The TAM may think for as long as it waits for nothing but itself; an
// endless silence is cut.
func newTransport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		TLSClientConfig:       tlsConfig(roots),
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute,
		IdleConnTimeout:       time.Minute,
	}
}

// tlsConfig is what the Broker asks of servers; roots are the authorities that it takes instead of the system's.
func tlsConfig(roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}
