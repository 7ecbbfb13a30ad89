// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"encoding/binary"
	"fmt"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/uuid"
)

// CertTable holds the certificates that a host gives to a guest (AMD publication 56421, "SEV-ES Guest-Hypervisor
// Communication Block Standardization", section 4.1.8.1), in DER. Linux hands it out as the auxblob of a report. Others
// than these two are not kept: intermediates and roots are only ever the verifier's.
type CertTable struct {
	VCEK, VLEK []byte // nil where there is none
}

// Endorsement returns the certificate of the key that signs: the VLEK's where the host has one, else the VCEK's, else nil.
func (t *CertTable) Endorsement() []byte {
	if t.VLEK != nil {
		return t.VLEK
	}
	return t.VCEK
}

const (
	tableEntry = 24 // GUID of 16 bytes, offset and length of 4
	maxEntries = 32
)

var guidVCEK, guidVLEK = [16]byte(uuid.MustParse(abi.VcekGUID)), [16]byte(uuid.MustParse(abi.VlekGUID))

// ParseCertTable reads a table: entries of GUID, offset and length, ended by one of zeros, and the certificates behind
// them. go-sev-guest has a reader too; it adds offset and length in 32 bits.
func ParseCertTable(data []byte) (*CertTable, error) {
	t := &CertTable{}
	for n := range maxEntries + 1 {
		if len(data) < (n+1)*tableEntry {
			return nil, fmt.Errorf("%w: certificate table without an end", ErrMalformed)
		}
		e := data[n*tableEntry : (n+1)*tableEntry]
		if zeros(e) {
			return t, nil
		}
		from, size := uint64(binary.LittleEndian.Uint32(e[16:])), uint64(binary.LittleEndian.Uint32(e[20:]))
		if from+size > uint64(len(data)) || from < uint64(n+1)*tableEntry {
			return nil, fmt.Errorf("%w: entry %d of the certificate table is outside of it", ErrMalformed, n)
		}
		for guid, slot := range map[[16]byte]*[]byte{guidVCEK: &t.VCEK, guidVLEK: &t.VLEK} {
			if [16]byte(e) != guid || size == 0 {
				continue
			}
			if *slot != nil {
				return nil, fmt.Errorf("%w: the certificate table has two of a kind", ErrMalformed)
			}
			*slot = data[from : from+size]
		}
	}
	return nil, fmt.Errorf("%w: more than %d entries in the certificate table", ErrMalformed, maxEntries)
}

// Marshal returns the table, VCEK first.
func (t *CertTable) Marshal() []byte {
	type entry struct {
		guid [16]byte
		cert []byte
	}
	var entries []entry
	for _, e := range []entry{{guidVCEK, t.VCEK}, {guidVLEK, t.VLEK}} {
		if e.cert != nil {
			entries = append(entries, e)
		}
	}
	var head, body []byte
	offset := (len(entries) + 1) * tableEntry
	for _, e := range entries {
		head = append(head, e.guid[:]...)
		head = binary.LittleEndian.AppendUint32(head, uint32(offset+len(body)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(e.cert)))
		body = append(body, e.cert...)
	}
	return append(append(head, make([]byte, tableEntry)...), body...)
}

func zeros(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
