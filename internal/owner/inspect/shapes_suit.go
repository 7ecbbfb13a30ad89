// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"
	"strings"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/report"
)

const (
	kindEnvelope = "SUIT envelope"
	kindManifest = "SUIT manifest"
	kindReport   = "SUIT report"
	noteSequence = "command sequence"
)

// The shapes of SUIT refer to each other, so they are functions.

// suitEnvelope is SUIT_Envelope (suit-manifest section 8.2).
func suitEnvelope(a *annotator, it *Item) {
	if it.tagged(suit.TagEnvelope) {
		it.Items[0].Note, it.Note = it.Note, ""
		if it.Items[0].Note == "" {
			it.Items[0].Note = kindEnvelope
		}
		suitEnvelope(a, it.Items[0])
		return
	}
	a.found = append(a.found, found{kindEnvelope, it})
	before := len(a.found)
	fields := map[int64]field{
		1: {"delegation", nil},
		2: {"authentication-wrapper", wrapped(authentication)},
		3: {"manifest", wrapped(suitManifest)},
	}
	for _, m := range []suit.Member{
		suit.MemberCoSWID, suit.MemberDependencyResolution, suit.MemberPayloadFetch, suit.MemberCandidateVerification, suit.MemberInstall, suit.MemberText,
	} {
		fields[int64(m)] = field{m.String() + ", severed", wrapped(member(m))}
	}
	labels(fields, named("integrated payload", nil), maybe)(a, it)
	// The envelope's own blocks are judged with the envelope, which has what they cover.
	kept := a.found[:before]
	for _, f := range a.found[before:] {
		if f.kind == kindEnvelope {
			kept = append(kept, f)
		}
	}
	a.found = kept
}

// authentication is SUIT_Authentication (suit-manifest section 8.3).
func authentication(a *annotator, it *Item) {
	for i, child := range it.Items {
		if i == 0 {
			wrapped(named("digest of the manifest", suitDigest))(a, child)
		} else {
			wrapped(named(fmt.Sprintf("authentication block %d", i), coseMessage))(a, child)
		}
	}
}

func suitDigest(_ *annotator, it *Item) {
	if it.Type == Array && len(it.Items) > 0 {
		if n, ok := it.Items[0].int(); ok {
			name, _, _ := strings.Cut(suit.Digest{Alg: cose.Algorithm(n)}.String(), ":")
			it.Items[0].Note = name
		}
	}
}

// suitManifest is SUIT_Manifest (suit-manifest section 8.4).
func suitManifest(a *annotator, it *Item) {
	if it.tagged(suit.TagManifest) {
		suitManifest(a, it.Items[0])
		return
	}
	fields := map[int64]field{}
	for m := suit.MemberVersion; m <= suit.MemberUninstall; m++ {
		if name := m.String(); !strings.HasPrefix(name, "member(") {
			fields[int64(m)] = field{name, severable(m)}
		}
	}
	labels(fields)(a, it)
}

// severable is a member of the manifest: in place, or the digest of what was severed.
func severable(m suit.Member) shape {
	switch m {
	case suit.MemberVersion, suit.MemberSequenceNumber, suit.MemberReferenceURI, suit.MemberComponentID:
		return nil
	}
	return func(a *annotator, it *Item) {
		if it.Type == Array {
			it.Note = "severed, digest of the member"
			suitDigest(a, it)
			return
		}
		wrapped(member(m))(a, it)
	}
}

// member is the content of a member's byte string.
func member(m suit.Member) shape {
	switch m {
	case suit.MemberCommon:
		return labels(map[int64]field{
			1: {"dependencies", values(labels(map[int64]field{1: {"dependency-prefix", nil}}))},
			2: {"components", nil},
			4: {"shared-sequence", wrapped(sequence)},
		})
	case suit.MemberSetVersion:
		return version
	case suit.MemberText:
		return labels(nil, nil, labels(textLabels, named("component", nil), labels(componentTextLabels)))
	case suit.MemberCoSWID:
		return nil
	}
	return sequence
}

func version(_ *annotator, it *Item) {
	var v suit.Version
	for _, child := range it.Items {
		if n, ok := child.int(); ok {
			v = append(v, n)
		}
	}
	it.Remark = v.String()
}

// sequence is SUIT_Command_Sequence: codes, each with its argument (suit-manifest section 8.4.10).
func sequence(a *annotator, it *Item) {
	if it.Type != Array {
		return
	}
	it.Note = noteSequence
	for i := 0; i+1 < len(it.Items); i += 2 {
		n, ok := it.Items[i].int()
		if !ok {
			continue
		}
		code := suit.CommandCode(n)
		kind := "directive "
		if code.Condition() {
			kind = "condition "
		}
		if it.Items[i].Note = kind + code.String(); !code.Known() {
			it.Items[i].Note = "unknown command"
		}
		argument(code)(a, it.Items[i+1])
	}
}

func argument(code suit.CommandCode) shape {
	switch code {
	case suit.CodeSetComponentIndex:
		return func(*annotator, *Item) {}
	case suit.CodeOverrideParameters, suit.CodeSetParameters:
		return parameters
	case suit.CodeTryEach:
		return each(wrapped(sequence))
	case suit.CodeRunSequence:
		return wrapped(sequence)
	case suit.CodeOverrideMultiple:
		return labels(nil, named("component", nil), parameters)
	case suit.CodeCopyParams:
		return labels(nil, named("component", nil), each(enum(suit.Param.String)))
	}
	if !code.Known() {
		return func(*annotator, *Item) {}
	}
	return reporting
}

// reporting is SUIT_Rep_Policy (suit-manifest section 8.4.7).
func reporting(_ *annotator, it *Item) {
	n, ok := it.int()
	if !ok || n == 0 {
		return
	}
	if n == int64(suit.PolicyCondition) {
		it.Remark = "report always"
		return
	}
	var parts []string
	for i, name := range []string{"success", "failure", "system info on success", "system info on failure"} {
		if n&(1<<i) != 0 {
			parts = append(parts, name)
		}
	}
	it.Remark = "report " + strings.Join(parts, ", ")
}

var parameters shape

func init() {
	fields := map[int64]field{}
	for p := suit.ParamVendorID; p <= suit.ParamComponentMetadata; p++ {
		if p.Known() {
			fields[int64(p)] = field{p.String(), parameter(p)}
		}
	}
	parameters = labels(fields)
}

func parameter(p suit.Param) shape {
	switch p {
	case suit.ParamVendorID, suit.ParamClassID, suit.ParamDeviceID:
		return identifier
	case suit.ParamDigest:
		return wrapped(suitDigest)
	case suit.ParamUseBefore:
		return date
	case suit.ParamEncryptionInfo:
		return wrapped(named("encryption info", coseMessage))
	case suit.ParamVersion:
		return wrapped(tuple(enum(suit.Comparison.String), version))
	case suit.ParamWaitInfo:
		fields := map[int64]field{}
		for e := suit.WaitAuthorization; e <= suit.WaitDayOfWeekUTC; e++ {
			fields[int64(e)] = field{e.String(), nil}
		}
		fields[int64(suit.WaitTime)] = field{suit.WaitTime.String(), date}
		return wrapped(labels(fields))
	case suit.ParamComponentMetadata:
		return wrapped(labels(metadataLabels))
	case suit.ParamInvokeArgs, suit.ParamFetchArgs:
		return structured
	}
	return nil
}

// structured opens a byte string that holds a CBOR map or array.
func structured(a *annotator, it *Item) {
	if it.Type != Bytes || len(it.content) == 0 || it.content[0]>>5 < 4 || it.content[0]>>5 > 5 {
		return
	}
	if inner, rest, err := read(it.content); err == nil && rest == 0 {
		it.Inside = inner
	}
}

var metadataLabels = map[int64]field{
	1: {"default permissions", nil}, 2: {"user permissions", nil}, 3: {"group permissions", nil}, 4: {"role permissions", nil},
	5: {"file-type", words(map[int64]string{1: "regular", 2: "directory", 3: "symbolic link"})},
	6: {"modification-time", date}, 7: {"creation-time", date}, 8: {"creator", nil},
}

var textLabels = map[int64]field{
	1: {"manifest-description", nil}, 2: {"update-description", nil}, 3: {"manifest-json-source", nil}, 4: {"manifest-yaml-source", nil},
}

var componentTextLabels = map[int64]field{
	1: {"vendor-name", nil}, 2: {"model-name", nil}, 3: {"vendor-domain", nil}, 4: {"model-info", nil}, 5: {"component-description", nil},
	6: {"component-version", nil}, 7: {"version-required", nil}, 8: {"current-version", nil},
}

// suitReport is SUIT_Report (suit-report section 4), bare or in a byte string as plaintexts are.
func suitReport(a *annotator, it *Item) {
	if it.Type == Bytes {
		wrapped(suitReport)(a, it)
		return
	}
	record := tuple(named("manifest", nil), named("section", enum(suit.Member.String)), named("offset", nil),
		named("component", nil), named("properties", parameters))
	item := func(a *annotator, it *Item) {
		if it.Type == Map {
			properties(a, it)
			return
		}
		named("record", record)(a, it)
	}
	codes := each(nil)
	labels(map[int64]field{
		2: {"nonce", nil},
		3: {"records", each(item)},
		4: {"result", labels(map[int64]field{
			5: {"code", enum(suit.CommandCode.String)}, 6: {"record", record}, 7: {"reason", enum(report.Reason.String)},
		})},
		8: {"capability-report", labels(map[int64]field{
			1: {"components", codes}, 2: {"commands", each(enum(suit.CommandCode.String))}, 3: {"parameters", each(enum(suit.Param.String))},
			4: {"algorithms", each(enum(cose.Algorithm.String))}, 5: {"envelope", codes}, 6: {"manifest", each(enum(suit.Member.String))},
			7: {"common", codes}, 8: {"text", codes}, 9: {"text-component", codes}, 10: {"dependency", codes},
		})},
		99: {"reference", reference},
	})(a, it)
}

func reference(a *annotator, it *Item) {
	tuple(named("manifest URI", nil), named("manifest digest", suitDigest))(a, it)
}

// properties is system-property-claims: parameters, and the component under label 0.
func properties(a *annotator, it *Item) {
	it.Note = "system properties"
	parameters(a, it)
	for _, e := range it.Entries {
		if n, ok := e.Key.int(); ok && n == 0 {
			e.Key.Note = "component-id"
		}
	}
}
