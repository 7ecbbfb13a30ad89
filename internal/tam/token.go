// SPDX-License-Identifier: Apache-2.0

package tam

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"sealift/cose"
)

// Kinds of tokens. A token of one kind is none of another, so an answer cannot be passed off as one to another message.
const (
	kindQuery     = "teep-token-query-v1"
	kindUpdate    = "teep-token-update-v1"
	kindRemoval   = "teep-token-removal-v1" // of an Update that only removes
	kindChallenge = "teep-challenge-v1"
)

// A token is 12 random bytes, its expiry in seconds, and 16 bytes of HMAC-SHA-256 over kind, deployment, binding and the
// first 16 bytes. The binding is the Agent's kid, or the owner's part of the challenge. 32 bytes in all, within the bounds of
// token (8..64) and the TAM's half of an eat_nonce.
const (
	randomSize = 12
	macStart   = 16
)

func (e *Engine) mint(kind, deployment string, binding []byte, expiry time.Time) (token [32]byte) {
	if e.Rand != nil {
		if _, err := e.Rand.Read(token[:randomSize]); err != nil {
			panic(err) // a broken source of randomness: nothing may be sent
		}
	} else {
		rand.Read(token[:randomSize])
	}
	binary.BigEndian.PutUint32(token[randomSize:], uint32(expiry.Unix()))
	copy(token[macStart:], e.mac(kind, deployment, binding, token[:macStart]))
	return token
}

// check tells whether the TAM made the token for this purpose, and until when it is good.
func (e *Engine) check(token []byte, kind, deployment string, binding []byte) (expiry time.Time, err error) {
	if len(token) != 32 || !hmac.Equal(token[macStart:], e.mac(kind, deployment, binding, token[:macStart])) {
		return time.Time{}, fmt.Errorf("%w: not a token that this TAM made for this", errDropped)
	}
	expiry = time.Unix(int64(binary.BigEndian.Uint32(token[randomSize:])), 0)
	if !e.Now().Before(expiry) {
		return time.Time{}, fmt.Errorf("%w: its token has expired", errDropped)
	}
	return expiry, nil
}

func (e *Engine) mac(kind, deployment string, binding, head []byte) []byte {
	h := hmac.New(sha256.New, e.Keys.MAC)
	h.Write(cose.MustMarshal([]any{kind, deployment, binding, head})) // framed, so that no two inputs coincide
	return h.Sum(nil)[:16]
}
