// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sealift/cose"
	"sealift/internal/fault"
	"sealift/internal/owner/archive"
	"sealift/internal/owner/manifest"
	"sealift/internal/pd"
	"sealift/suit"
)

// smallPayload is the size up to which content is encrypted with an AEAD. Larger content is encrypted with AES-CTR, which needs
// no memory of its size on the device; its integrity is the ciphertext's digest under the owner's signature
// (draft-ietf-suit-firmware-encryption section 6.2).
const smallPayload = 1 << 20

// sealer encrypts components to one attested key, into files of a folder that holds nothing but ciphertext.
type sealer struct {
	rand io.Reader
	to   *cose.Key
	dir  string
}

// sealed is an encrypted component.
type sealed struct {
	item manifest.Item
	blob archive.Blob
}

// component encrypts the local file that a component names, and refuses a file that is no longer the one that was packed.
func (s sealer) component(c archive.Component) (sealed, error) {
	plain, err := pd.FromFile(c.Name, c.Path)
	if err != nil {
		return sealed{}, fault.Wrap(fault.BadRequest, err).WithHint("the package names this file by its path; pack again if it was moved")
	}
	if plain.Size() != c.Size {
		return sealed{}, changedSincePacked(c)
	}
	src, err := plain.Open()
	if err != nil {
		return sealed{}, err
	}
	defer src.Close()
	h := sha256.New()
	out, err := s.encrypt(io.TeeReader(src, h), plain.Size())
	if err != nil {
		return sealed{}, fmt.Errorf("encrypting %s: %w", c.Name, err)
	}
	if hex.EncodeToString(h.Sum(nil)) != c.SHA256 {
		return sealed{}, changedSincePacked(c)
	}
	out.item.Kind, out.item.Name, out.item.Launch = c.Kind, c.Name, c.Launch
	return out, nil
}

func changedSincePacked(c archive.Component) error {
	return fault.New(fault.BadRequest, "%s was changed since it was packed", c.Path).WithHint("pack it again, and deploy that package")
}

// encrypt writes the ciphertext of src to a new file and describes it.
func (s sealer) encrypt(src io.Reader, size int64) (sealed, error) {
	alg := cose.AlgA128CTR
	if size <= smallPayload {
		alg = cose.AlgA128GCM
	}
	info, cipher, err := cose.NewEncrypter(s.rand, alg, cose.Recipient{Key: s.to, KID: s.to.KID()}, cose.ContextSUITPayload)
	if err != nil {
		return sealed{}, err
	}
	f, err := os.CreateTemp(s.dir, "ciphertext-*")
	if err != nil {
		return sealed{}, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := cipher.Seal(io.MultiWriter(f, h), src); err != nil {
		return sealed{}, err
	}
	st, err := f.Stat()
	if err != nil {
		return sealed{}, err
	}
	sum := h.Sum(nil)
	return sealed{
		item: manifest.Item{Ciphertext: suit.Digest{Alg: suit.AlgSHA256, Bytes: sum}, Size: st.Size(), Encryption: info},
		blob: archive.FileBlob(archive.MediaTypePayload, f.Name(), st.Size(), hex.EncodeToString(sum)),
	}, f.Close()
}

// workFolder makes a folder for ciphertext, and what removes it. Folders of processes that were killed are removed as well.
func (o *Owner) workFolder() (dir string, remove func(), err error) {
	parent := filepath.Join(o.Home.Dir(), "work")
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", nil, err
	}
	left, err := os.ReadDir(parent)
	if err != nil {
		return "", nil, err
	}
	for _, e := range left {
		owner, _, _ := strings.Cut(e.Name(), "-")
		if pid, err := strconv.Atoi(owner); err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			os.RemoveAll(filepath.Join(parent, e.Name()))
		}
	}
	if dir, err = os.MkdirTemp(parent, strconv.Itoa(os.Getpid())+"-*"); err != nil {
		return "", nil, err
	}
	return dir, func() { os.RemoveAll(dir) }, nil
}
