// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/x509"
	"os"
)

// readAuthority reads certificates in PEM form; an empty path is the system's authorities.
func readAuthority(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, usageError("", "reading the certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, usageError("", "%s holds no PEM certificate", path)
	}
	return pool, nil
}
