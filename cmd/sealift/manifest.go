// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sealift/cose"
	"sealift/internal/envelope"
	"sealift/internal/owner/inspect"
	"sealift/internal/recipe"
	"sealift/suit"
)

func newManifestCmd(a *app) *cobra.Command {
	cmd := newGroupCmd("manifest", "write, sign, check and rehearse SUIT manifests of any kind",
		newManifestBuildCmd(a), newManifestSignCmd(a), newManifestEncryptCmd(a), newManifestSeverCmd(a), newManifestVerifyCmd(a), newManifestRunCmd(a))
	cmd.Long = `Tools for authors of SUIT manifests, beyond those that pack and deploy write themselves. docs/manifest.md is the reference
of the YAML recipe.`
	return cmd
}

func newManifestBuildCmd(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "build RECIPE",
		Short: "make an unsigned envelope from a YAML recipe",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			data, err := a.readInput(args[0])
			if err != nil {
				return usageError("", "reading the recipe: %w", err)
			}
			dir, err := os.OpenRoot(filepath.Dir(args[0]))
			if err != nil {
				return err
			}
			defer dir.Close()
			b, err := recipe.Parse(data, args[0], dir.FS())
			if err != nil {
				return &exitError{code: exitUsage, err: err}
			}
			e, err := envelope.Build(b)
			if err != nil {
				return &exitError{code: exitUsage, err: fmt.Errorf("%s: %w", args[0], err)}
			}
			return a.writeEnvelope(e, out)
		},
	}
	outFlag(cmd, &out)
	return cmd
}

func outFlag(cmd *cobra.Command, out *string) {
	cmd.Flags().StringVarP(out, "output", "o", "", "file to write (- is stdout)")
	_ = cmd.MarkFlagRequired("output")
}

// written is what is said of a file that was written.
type written struct {
	File   string `json:"file"`
	Bytes  int    `json:"bytes"`
	Digest string `json:"manifestDigest,omitempty"`
	Blocks int    `json:"authenticationBlocks"`
}

func (a *app) writeEnvelope(e *envelope.Envelope, out string) error {
	data, err := e.Encode()
	if err != nil {
		return err
	}
	if out == "-" {
		_, err := a.stdout.Write(data)
		return err
	}
	parsed, err := suit.ParseEnvelope(data)
	if err != nil {
		return err
	}
	digest, err := parsed.DigestInsecure()
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, data, 0o644); err != nil {
		return err
	}
	result := written{out, len(data), digest.String(), e.Blocks()}
	return a.print(result, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %d bytes, manifest %s, %d authentication blocks\n", out, result.Bytes, result.Digest, result.Blocks)
	})
}

func (a *app) openEnvelope(path string) (*envelope.Envelope, error) {
	data, err := a.readInput(path)
	if err != nil {
		return nil, usageError("", "reading the envelope: %w", err)
	}
	e, err := envelope.Open(data)
	if err != nil {
		return nil, &exitError{code: exitFailure, err: fmt.Errorf("%s: %w", path, err)}
	}
	return e, nil
}

func newManifestSignCmd(a *app) *cobra.Command {
	var out string
	var keys, own []string
	cmd := &cobra.Command{
		Use:   "sign ENVELOPE",
		Short: "add an authentication block for each key",
		Long: `Add an authentication block for each key, after those that are there. A key is a file: a private key in PEM form (P-256 or
Ed25519), or a symmetric key of 32 bytes as COSE_Key or JWK for HMAC 256/256. --own names a key of the owner's folder.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(keys)+len(own) == 0 {
				return usageError("give --key FILE or --own NAME", "there is nothing to sign with")
			}
			e, err := a.openEnvelope(args[0])
			if err != nil {
				return err
			}
			for _, path := range keys {
				if err := a.signWith(e, path); err != nil {
					return err
				}
			}
			for _, name := range own {
				h, err := a.openHome()
				if err != nil {
					return err
				}
				key, err := h.Key(name)
				if err == nil {
					err = e.Sign(rand.Reader, key.Signer)
				}
				if err != nil {
					return keyError(err)
				}
			}
			return a.writeEnvelope(e, out)
		},
	}
	cmd.Flags().StringArrayVar(&keys, "key", nil, "file of a key to sign with (repeated)")
	cmd.Flags().StringArrayVar(&own, "own", nil, "name of a key in the owner's folder (repeated)")
	outFlag(cmd, &out)
	return cmd
}

func (a *app) signWith(e *envelope.Envelope, path string) error {
	data, err := a.readInput(path)
	if err != nil {
		return usageError("", "reading the key: %w", err)
	}
	if priv, err := cose.ParsePrivatePEM(data); err == nil {
		s, err := cose.NewSigner(priv)
		if err != nil {
			return err
		}
		return e.Sign(rand.Reader, s)
	}
	var k inspect.Keys
	if err := k.AddFile(path, data); err != nil || len(k.MAC) != 1 {
		return usageError("a signing key is a private key in PEM form, or a symmetric one of 32 bytes", "%s is no key to sign with", path)
	}
	return e.Authenticate(k.MAC[0], nil)
}

func newManifestEncryptCmd(a *app) *cobra.Command {
	var out, info, to, alg string
	algs := map[string]cose.Algorithm{"a128ctr": cose.AlgA128CTR, "a128gcm": cose.AlgA128GCM, "chacha20-poly1305": cose.AlgChaCha20Poly1305}
	cmd := &cobra.Command{
		Use:   "encrypt PAYLOAD",
		Short: "encrypt a payload and write ciphertext and encryption-info",
		Long: `Encrypt a payload to a recipient (suit-firmware-encryption): with a P-256 key by ECDH-ES+A128KW, with a symmetric key of 16
bytes by A128KW. The encryption-info is the value of the parameter of that name: {file: INFO} in a recipe.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			id, ok := algs[alg]
			if !ok {
				return usageError("known: a128ctr, a128gcm, chacha20-poly1305", "unknown algorithm %q", alg)
			}
			r, err := a.recipient(to)
			if err != nil {
				return err
			}
			n, err := encryptFile(args[0], out, info, id, r)
			if err != nil {
				return err
			}
			return a.print(written{File: out, Bytes: int(n)}, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %d bytes of ciphertext by %v; encryption-info in %s\n", out, n, id, info)
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "file of the recipient's key: PEM, COSE_Key or JWK")
	cmd.Flags().StringVar(&alg, "alg", "a128ctr", "content encryption: a128ctr, a128gcm or chacha20-poly1305")
	cmd.Flags().StringVar(&info, "info", "", "file to write the encryption-info to")
	_ = cmd.MarkFlagRequired("to")
	_ = cmd.MarkFlagRequired("info")
	outFlag(cmd, &out)
	return cmd
}

func (a *app) recipient(path string) (cose.Recipient, error) {
	data, err := a.readInput(path)
	if err != nil {
		return cose.Recipient{}, usageError("", "reading the recipient's key: %w", err)
	}
	var k inspect.Keys
	err = k.AddFile(path, data)
	switch {
	case err == nil && len(k.Ring.KEKs) == 1:
		return cose.Recipient{KEK: k.Ring.KEKs[0].KEK, KID: k.Ring.KEKs[0].KID}, nil
	case err == nil && len(k.Public) == 1:
		if _, ok := k.Public[0].ECDSA(); ok {
			return cose.Recipient{Key: k.Public[0]}, nil
		}
	}
	return cose.Recipient{}, usageError("a recipient has a P-256 key, or a symmetric one of 16 bytes", "%s is no key to encrypt to", path)
}

func encryptFile(payload, out, info string, alg cose.Algorithm, r cose.Recipient) (n int64, err error) {
	src, err := os.Open(payload)
	if err != nil {
		return 0, usageError("", "reading the payload: %w", err)
	}
	defer src.Close()
	encoded, cipher, err := cose.NewEncrypter(rand.Reader, alg, r, cose.ContextSUITPayload)
	if err != nil {
		return 0, err
	}
	dst, err := os.Create(out)
	if err != nil {
		return 0, err
	}
	n, err = cipher.Seal(dst, src)
	if err = errors.Join(err, dst.Close()); err == nil {
		err = os.WriteFile(info, encoded, 0o644)
	}
	if err != nil {
		return 0, errors.Join(err, os.Remove(out))
	}
	return n, nil
}

func newManifestSeverCmd(a *app) *cobra.Command {
	var out, save string
	var members, payloads []string
	var remove bool
	cmd := &cobra.Command{
		Use:   "sever ENVELOPE",
		Short: "move severable members out of the manifest, or take them out of the envelope",
		Long: `Move severable members out of the manifest into the envelope; the manifest keeps their digests. That changes what is
signed and must come before sign. With --remove, members and integrated payloads are taken out of the envelope, which
leaves every signature valid; --save DIR keeps them as files.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(payloads) > 0 && !remove || len(members)+len(payloads) == 0 || save != "" && !remove {
				return usageError("give --member NAME; --payload and --save go with --remove", "there is nothing to sever")
			}
			e, err := a.openEnvelope(args[0])
			if err == nil {
				err = severMembers(e, members, remove, save)
			}
			for _, uri := range payloads {
				if err == nil {
					var content []byte
					content, err = e.TakePayload(uri)
					err = errors.Join(err, keep(save, "payload-"+fileSafe(uri), content, err))
				}
			}
			if err != nil {
				return err
			}
			return a.writeEnvelope(e, out)
		},
	}
	cmd.Flags().StringSliceVar(&members, "member", nil, "member to sever, as install or text (repeated)")
	cmd.Flags().StringArrayVar(&payloads, "payload", nil, "URI of an integrated payload to take out (repeated)")
	cmd.Flags().BoolVar(&remove, "remove", false, "take them out of the envelope")
	cmd.Flags().StringVar(&save, "save", "", "folder to keep what is taken out in")
	outFlag(cmd, &out)
	return cmd
}

func severMembers(e *envelope.Envelope, names []string, remove bool, save string) error {
	for _, name := range names {
		m, err := recipe.Severable(name)
		if err != nil {
			return usageError("", "%w", err)
		}
		err = e.Sever(m)
		if errors.Is(err, envelope.ErrSigned) {
			return &exitError{code: exitFailure, err: err, hint: "sever first, sign afterwards"}
		}
		if err == nil && remove {
			var content []byte
			content, err = e.Take(m)
			err = errors.Join(err, keep(save, name+".cbor", content, err))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func keep(dir, name string, content []byte, err error) error {
	if dir == "" || err != nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), content, 0o644)
}

// fileSafe makes a file name of a URI.
func fileSafe(uri string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, uri)
}
