// SPDX-License-Identifier: Apache-2.0

package suit

import "errors"

// Sentinels of this package; errors.Is finds them under the details.
var (
	ErrMalformed    = errors.New("suit: malformed")                                // not what the CDDL asks for
	ErrVersion      = errors.New("suit: unsupported manifest version")             // suit-manifest-version is not 1
	ErrDigest       = errors.New("suit: digest mismatch")                          // the bytes are not the digested ones
	ErrUnsigned     = errors.New("suit: no authentication block")                  // wrapper holds a digest only
	ErrUnauthorised = errors.New("suit: no authentication block of a trusted key") // signers unknown here
	ErrBadSignature = errors.New("suit: an authentication block does not verify")  // a trusted key's block is wrong
	ErrUnsupported  = errors.New("suit: unsupported")                              // algorithm or element not supported
	ErrSevered      = errors.New("suit: a severed section is not in the envelope") // and it is needed
	ErrLimit        = errors.New("suit: limit exceeded")                           // of those in Limits; names it
	ErrRule         = errors.New("suit: a command sequence breaks a rule of suit-manifest section 8.4")
)
