// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/teep"
)

// encryptionAlg protects Evidence and SUIT Reports for a TAM; it authenticates, so no signature of its own is needed beside
// that of the message around it (teep-protocol section 8.2).
const encryptionAlg = cose.AlgA128GCM

// options are those of the measured configuration.
func (a *Agent) options() (teep.Options, error) {
	o, err := a.config.Profile.Options()
	if err != nil || len(a.config.TAMRoots) == 0 {
		return o, err
	}
	o.Now, o.Roots = a.opts.Now(), x509.NewCertPool()
	for _, der := range a.config.TAMRoots {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return o, fmt.Errorf("agent: root of TAMs: %w", err)
		}
		o.Roots.AddCert(cert)
	}
	return o, nil
}

// verifyTAM verifies a message with the raw keys of the configuration's TAMs or, where it has roots, with the certificate of a
// TAM. A certificate is good for the TAM whose URI's host it names, and for nobody else.
func (a *Agent) verifyTAM(signed *teep.Signed) (*teep.VerifiedMessage, error) {
	o, err := a.options()
	if err != nil {
		return nil, err
	}
	var keys []*cose.Key
	for _, t := range a.config.TAMs() {
		keys = append(keys, t.Keys...)
	}
	v, err := signed.Verify(keys, o)
	if err != nil || v.Certificate == nil {
		return v, err
	}
	if _, ok := a.certifiedTAM(v.Certificate); !ok {
		return nil, fmt.Errorf("%w: it names no TAM of the configuration", teep.ErrBadCertificate)
	}
	return v, nil
}

func (a *Agent) certifiedTAM(cert *x509.Certificate) (agentconfig.TAM, bool) {
	for _, t := range a.config.TAMs() {
		if u, err := url.Parse(t.URI); err == nil && cert.VerifyHostname(u.Hostname()) == nil {
			return t, true
		}
	}
	return agentconfig.TAM{}, false
}

// encKeyOf is the encryption key of the TAM that has signed a message, nil if it has none.
func (a *Agent) encKeyOf(v *teep.VerifiedMessage) *cose.Key {
	if v.Certificate != nil {
		t, _ := a.certifiedTAM(v.Certificate)
		return t.EncKey
	}
	for _, t := range a.config.TAMs() {
		for _, k := range t.Keys {
			if k.Equal(v.Key) {
				return t.EncKey
			}
		}
	}
	return nil
}

// refuseSender is the Error for a message that is not from a TAM, as far as one can tell.
func refuseSender(err error) *teep.Error {
	var content *teep.ContentError
	switch {
	case errors.As(err, &content):
		return failed(content.Token, teep.ErrCodePermanent, "message refused: %v", content.Err)
	case errors.Is(err, teep.ErrCertificateExpired):
		return failed(nil, teep.ErrCodeCertificateExpired, "message refused: %v", err)
	case errors.Is(err, teep.ErrBadCertificate):
		return failed(nil, teep.ErrCodeBadCertificate, "message refused: %v", err)
	}
	return failed(nil, teep.ErrCodePermanent, "message refused: no valid signature of a TAM key in the measured configuration: %v", err)
}

// sealFor encrypts what only the TAM may read; with no key it returns it as it is.
func (a *Agent) sealFor(to *cose.Key, context string, plain []byte) ([]byte, error) {
	if to == nil {
		return plain, nil
	}
	sealed, err := cose.Encrypt(a.opts.Rand, encryptionAlg, cose.Recipient{Key: to}, context, plain)
	if err != nil {
		return nil, fmt.Errorf("agent: encrypt for the TAM: %w", err)
	}
	return sealed, nil
}
