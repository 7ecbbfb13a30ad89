// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"fmt"
	"math"
	"time"
	"unicode"

	"github.com/google/uuid"

	"sealift/cose"
	"sealift/cose/wire"
)

// Metadata is a SUIT_Component_Metadata (suit-update-management section 4.6): what the content alone does not say of a
// component. It is applied when the component is fetched, copied or written. Whoever applies it decides what it allows;
// the content of a symbolic link is a target that nobody has checked.
type Metadata struct {
	Permissions       *Permissions // of all who are not named; nil if not set
	User, Group, Role []ActorPermissions
	Type              FileType // 0 if not set: a regular file
	Modified, Created time.Time
	Creator           Actor // nil if not set
}

// Permissions are the bits of SUIT_meta_permissions.
type Permissions uint64

// Permission bits.
const (
	PermissionExecute         Permissions = 1 << iota // traverse_exec
	PermissionWrite                                   // create_write
	PermissionRead                                    // list_read
	PermissionAppend                                  // createdir_append
	PermissionReadAttr                                // read_attr
	PermissionReadPerm                                // read_perm
	PermissionChangePerm                              // change_perm
	PermissionChangeOwner                             // change_owner
	PermissionWriteAttr                               // write_attr
	PermissionDeleteRecursive                         // recurse_delete
	PermissionDelete                                  // delete
	PermissionSync                                    // sync
	PermissionReadAttrEx                              // read_attr_ex
	PermissionWriteAttrEx                             // write_attr_ex
)

// Actor is a user, group, role or creator: a uuid.UUID, []byte, string or int64.
type Actor any

// ActorPermissions are the permissions of one actor.
type ActorPermissions struct {
	Actor       Actor
	Permissions Permissions
}

// FileType is a SUIT_Filetype.
type FileType int64

// File types.
const (
	FileRegular FileType = iota + 1
	FileDirectory
	FileSymlink
)

const (
	metaDefault = iota + 1
	metaUser
	metaGroup
	metaRole
	metaFileType
	metaModified
	metaCreated
	metaCreator

	tagEpochTime = 1
	tagUUID      = 37
	maxActors    = 256
)

// ParseMetadata decodes the content of parameter component-metadata. A member that the draft does not define is
// ErrUnsupported: it might be a restriction.
func ParseMetadata(data []byte) (*Metadata, error) {
	r := wire.NewReader(data)
	m := &Metadata{}
	for range r.Map() {
		if err := m.member(r.Int(), r); err != nil {
			return nil, fmt.Errorf("component-metadata: %w", err)
		}
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("%w: component-metadata: %w", ErrMalformed, err)
	}
	return m, nil
}

func (m *Metadata) member(label int64, r *wire.Reader) (err error) {
	if r.Err() != nil {
		return nil // the caller says so
	}
	switch label {
	case metaDefault:
		p := Permissions(r.Uint())
		m.Permissions = &p
	case metaUser:
		m.User, err = readActors(r)
	case metaGroup:
		m.Group, err = readActors(r)
	case metaRole:
		m.Role, err = readActors(r)
	case metaFileType:
		if m.Type = FileType(r.Int()); m.Type < FileRegular || m.Type > FileSymlink {
			err = fmt.Errorf("%w: file type %d", ErrUnsupported, m.Type)
		}
	case metaModified:
		m.Modified, err = readTime(r)
	case metaCreated:
		m.Created, err = readTime(r)
	case metaCreator:
		m.Creator, err = readActor(r)
	default:
		err = fmt.Errorf("%w: member %d", ErrUnsupported, label)
	}
	return err
}

func readTime(r *wire.Reader) (time.Time, error) {
	tag, sec := r.Tag(), r.Uint()
	if tag != tagEpochTime || sec > math.MaxInt64 {
		return time.Time{}, fmt.Errorf("%w: a time is tag %d around an unsigned number", ErrMalformed, tagEpochTime)
	}
	return time.Unix(int64(sec), 0).UTC(), nil
}

func readActors(r *wire.Reader) ([]ActorPermissions, error) {
	n := r.Map()
	if r.Err() == nil && (n == 0 || n > maxActors) {
		return nil, fmt.Errorf("%w: %d actors", ErrMalformed, n)
	}
	out := make([]ActorPermissions, 0, n)
	for range n {
		actor, err := readActor(r)
		if err != nil {
			return nil, err
		}
		out = append(out, ActorPermissions{actor, Permissions(r.Uint())})
	}
	return out, nil
}

func readActor(r *wire.Reader) (Actor, error) {
	switch r.Kind() {
	case wire.KindUint, wire.KindNint:
		return r.Int(), nil
	case wire.KindBytes:
		return r.Bytes(), nil
	case wire.KindText:
		s := r.Text()
		for _, c := range s {
			if unicode.In(c, unicode.Cc, unicode.Cf) {
				return nil, fmt.Errorf("%w: control character in an actor's name", ErrMalformed)
			}
		}
		return s, nil
	case wire.KindTag:
		tag := r.Tag()
		id, err := uuid.FromBytes(r.Bytes())
		if tag == tagUUID && err == nil {
			return id, nil
		}
	}
	return nil, fmt.Errorf("%w: actor", ErrMalformed)
}

// Encode is the inverse of ParseMetadata: a value for parameter component-metadata.
func (m *Metadata) Encode() ([]byte, error) {
	out := map[int]any{}
	if m.Permissions != nil {
		out[metaDefault] = uint64(*m.Permissions)
	}
	for label, actors := range map[int][]ActorPermissions{metaUser: m.User, metaGroup: m.Group, metaRole: m.Role} {
		if len(actors) == 0 {
			continue
		}
		b := wire.AppendMap(nil, len(actors))
		for _, a := range actors {
			var err error
			if b, err = appendActor(b, a.Actor); err != nil {
				return nil, err
			}
			b = wire.AppendUint(b, uint64(a.Permissions))
		}
		out[label] = cose.RawMessage(b)
	}
	if m.Type != 0 {
		out[metaFileType] = int64(m.Type)
	}
	for label, t := range map[int]time.Time{metaModified: m.Modified, metaCreated: m.Created} {
		if !t.IsZero() {
			out[label] = cose.RawMessage(wire.AppendInt(wire.AppendTag(nil, tagEpochTime), t.Unix()))
		}
	}
	if m.Creator != nil {
		b, err := appendActor(nil, m.Creator)
		if err != nil {
			return nil, err
		}
		out[metaCreator] = cose.RawMessage(b)
	}
	return cose.Marshal(out)
}

func appendActor(b []byte, a Actor) ([]byte, error) {
	switch x := a.(type) {
	case int64:
		return wire.AppendInt(b, x), nil
	case int:
		return wire.AppendInt(b, int64(x)), nil
	case string:
		return wire.AppendText(b, x), nil
	case []byte:
		return wire.AppendBytes(b, x), nil
	case uuid.UUID:
		return wire.AppendBytes(wire.AppendTag(b, tagUUID), x[:]), nil
	}
	return nil, fmt.Errorf("%w: actor of type %T", ErrMalformed, a)
}
