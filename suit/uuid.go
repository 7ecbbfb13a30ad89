// SPDX-License-Identifier: Apache-2.0

package suit

import "github.com/google/uuid"

// SealiftVendorDomain is the domain name under which Sealift's vendor-identifier is made. The top-level domain is
// reserved (RFC 2606): no host name is claimed.
const SealiftVendorDomain = "sealift.invalid"

// penNamespace is the UUID namespace of CBOR PEN vendor identifiers (suit-manifest section 8.4.8.1).
var penNamespace = uuid.MustParse("47fbdabb-f2e4-55f0-bb39-3620c2f6df4e")

// VendorID returns the vendor-identifier of a DNS name: a UUID version 5 in the DNS namespace.
func VendorID(domain string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceDNS, []byte(domain)) }

// ClassID returns a class-identifier: a UUID version 5 under the vendor's. In Sealift info is "hardware/instance type",
// as in "trustzone/process".
func ClassID(vendor uuid.UUID, info string) uuid.UUID { return uuid.NewSHA1(vendor, []byte(info)) }

// UUID returns the UUID that stands for the enterprise number, for deriving class identifiers.
func (p PEN) UUID() uuid.UUID {
	return uuid.NewSHA1(penNamespace, p.Encode())
}

// Encode returns the encoded item, tag 112 included: the form in which a device states such an identity.
func (p PEN) Encode() []byte { return append([]byte{0xd8, TagPEN}, byteString(p)...) }
