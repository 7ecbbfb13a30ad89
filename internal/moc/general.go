// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"regexp"

	"sealift/internal/artifact"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
)

// tokenName is what a token may be called: one part of a repository's name, so that an owner's name can begin one.
var tokenName = regexp.MustCompile(`^[a-z0-9]+(?:[._-][a-z0-9]+)*$`)

const maxName = 64

// NewToken makes a bearer token for id in a store. The command line uses it beside a running M/OC.
func NewToken(ctx context.Context, st *store.Store, rand io.Reader, id mocapi.Identity) (string, error) {
	switch id.Role {
	case mocapi.RoleOperator, mocapi.RoleOwner, mocapi.RoleDevice:
	default:
		return "", fault.New(fault.BadRequest, "there is no role %q", id.Role).WithHint("one of operator, owner, device")
	}
	if len(id.Name) > maxName || !tokenName.MatchString(id.Name) {
		return "", fault.New(fault.BadRequest, "%q cannot be the name of a token", id.Name).
			WithHint("lower-case letters and digits, single dots, dashes or underscores between them, at most %d", maxName)
	}
	return st.NewToken(ctx, rand, id)
}

func (s *Server) health(*call) (any, error) {
	return mocapi.Health{Status: "ok", Version: s.cfg.Version}, nil
}

func (s *Server) whoAmI(c *call) (any, error) { return c.id, nil }

func (s *Server) trustAnchors(*call) (any, error) {
	return mocapi.TrustAnchors{TAMKeys: s.keys.Public(), VerifierKey: s.keys.Verifier.Key(), TAMURI: s.tamURI()}, nil
}

// payload serves a blob to the device that one of its deployments stands on. To every other it does not exist.
func (s *Server) payload(c *call) (any, error) {
	sum, err := base64.RawURLEncoding.Strict().DecodeString(c.PathValue("value"))
	if err != nil || len(sum) != 32 {
		return nil, fault.New(fault.BadRequest, "the path does not end in the base64url form of a SHA-256")
	}
	digest := "sha256:" + hex.EncodeToString(sum)
	allowed, err := s.store.BlobAllowed(c.Context(), c.id.Name, digest)
	if err != nil {
		return nil, err
	}
	if !allowed {
		return nil, fault.New(fault.NotFound, "no deployment on this device has such a payload")
	}
	f, err := s.artifacts.OpenBlob(digest)
	if errors.Is(err, artifact.ErrNotFound) {
		return nil, fault.New(fault.NotFound, "the payload is no longer there")
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	artifact.ServeBlob(c.w, c.Request, digest, f)
	return answered{}, nil
}
