// SPDX-License-Identifier: Apache-2.0

// Package teephttp carries TEEP messages over HTTP (draft-ietf-teep-otrp-over-http-15), on both ends.
//
// A session is a sequence of POST requests from a TEEP Broker to the URI of a TAM. The first one usually has no body; each
// response carries the TAM's next message, and the next request the Agent's answer to it. A response without a body ends the
// session. There are no cookies, no session identifiers and no redirects: what belongs together shows from the tokens and keys
// inside the messages, and every request may go to another process of the same TAM.
//
// Neither end looks into a message. The Agent owns all decisions and all time-outs of the protocol; transport failures reach
// it through ProcessError.
package teephttp

import (
	"errors"
	"fmt"
	"mime"
	"strconv"
	"strings"

	"sealift/teep"
)

// Limits on bodies. An Update may carry whole payloads, what an Agent sends is Evidence and reports at most.
const (
	DefaultMaxResponse = 16 << 20 // client: what a TAM may send
	DefaultMaxRequest  = 1 << 20  // server: what an Agent may send
)

var (
	// ErrProtocol: the other end does not keep to TEEP over HTTP.
	ErrProtocol = errors.New("teephttp: protocol violation")
	// ErrTooLarge: a body exceeds the limit.
	ErrTooLarge = errors.New("teephttp: body too large")
	// ErrTooLong: a session does not come to an end.
	ErrTooLong = errors.New("teephttp: session of too many messages")
	// ErrUnavailable lets a TAM answer 503: it may work later.
	ErrUnavailable = errors.New("teephttp: TAM unavailable")
	// ErrNotFound lets a TAM answer 404: it serves nothing under this URI.
	ErrNotFound = errors.New("teephttp: no TAM under this URI")
)

// StatusError is an HTTP response that is no success; a redirect counts as one, since it is not followed.
type StatusError struct {
	URI    string
	Status int
}

// Error names the URI and the status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("teephttp: %s answered with HTTP status %d", e.URI, e.Status)
}

// isTEEP reports whether a Content-Type is the one of TEEP messages, whatever its parameters.
func isTEEP(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && t == teep.MediaType
}

// accepts reports whether the values of the Accept header include TEEP messages (RFC 9110 section 12.5.1). The most specific
// range that matches decides, and one with a weight of 0 excludes.
func accepts(values []string) bool {
	best, accepted := 0, false
	for _, value := range values {
		for _, part := range strings.Split(value, ",") {
			t, params, err := mime.ParseMediaType(strings.TrimSpace(part))
			rank := map[string]int{"*/*": 1, "application/*": 2, teep.MediaType: 3}[t]
			if err != nil || rank <= best {
				continue
			}
			q, err := strconv.ParseFloat(params["q"], 64)
			best, accepted = rank, params["q"] == "" || (err == nil && q > 0)
		}
	}
	return accepted
}
