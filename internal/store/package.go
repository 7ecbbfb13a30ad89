// SPDX-License-Identifier: Apache-2.0

package store

import "context"

func (tx *Tx) putPackage(deployment string, p *Package) error {
	_, err := tx.exec(`INSERT OR REPLACE INTO packages
		(deployment, role, owner, repository, digest, manifest_id, manifest_digest, sequence, envelope, created)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, deployment, p.Role, p.Owner, p.Repository, p.Digest, p.ManifestID,
		p.ManifestDigest, int64(p.Sequence), p.Envelope, tx.s.Now().UnixMilli())
	if err != nil {
		return err
	}
	if _, err := tx.exec("DELETE FROM package_blobs WHERE deployment = ? AND role = ?", deployment, p.Role); err != nil {
		return err
	}
	for _, digest := range p.Blobs {
		if _, err := tx.exec("INSERT OR IGNORE INTO package_blobs (digest, deployment, role) VALUES (?, ?, ?)", digest, deployment, p.Role); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) dropPackage(deployment, role string) error {
	for _, table := range []string{"packages", "package_blobs"} {
		if _, err := tx.exec("DELETE FROM "+table+" WHERE deployment = ? AND role = ?", deployment, role); err != nil {
			return err
		}
	}
	return nil
}

func scanPackage(scan func(...any) error) (*Package, error) {
	p := &Package{}
	var sequence int64
	err := scan(&p.Role, &p.Owner, &p.Repository, &p.Digest, &p.ManifestID, &p.ManifestDigest, &sequence, &p.Envelope)
	p.Sequence = uint64(sequence)
	return p, err
}

// Registered returns the packages with a manifest of that name that an owner has registered with any deployment, the
// smallest sequence number first.
func (s *Store) Registered(ctx context.Context, owner, manifestID string) (out []*Package, err error) {
	err = s.rows(ctx, `SELECT role, owner, repository, digest, manifest_id, manifest_digest, sequence, envelope FROM packages
		WHERE owner = ? AND manifest_id = ? ORDER BY sequence, created`, []any{owner, manifestID},
		func(scan func(...any) error) error {
			p, err := scanPackage(scan)
			out = append(out, p)
			return err
		})
	return out, err
}

// BlobAllowed reports whether a payload belongs to a deployment that stands on the device.
func (s *Store) BlobAllowed(ctx context.Context, device, digest string) (bool, error) {
	var n int
	err := s.row(ctx, `SELECT count(*) FROM package_blobs b JOIN deployments d ON d.id = b.deployment
		WHERE b.digest = ? AND d.device = ? AND d.state <> 'removed'`, []any{digest, device}, &n)
	return n > 0, err
}

// UsedDigests returns the OCI manifests that any package refers to: what the artifact store must keep.
func (s *Store) UsedDigests(ctx context.Context) (map[string]bool, error) {
	used := map[string]bool{}
	err := s.rows(ctx, "SELECT DISTINCT digest FROM packages", nil, func(scan func(...any) error) error {
		var digest string
		err := scan(&digest)
		used[digest] = true
		return err
	})
	return used, err
}
