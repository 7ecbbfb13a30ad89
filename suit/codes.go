// SPDX-License-Identifier: Apache-2.0

package suit

import "strconv"

// CBOR tags of suit-manifest section 11 and the PEN tag of RFC 9371.
const (
	TagEnvelope = 107
	TagManifest = 1070
	TagPEN      = 112
)

// Member is the label of a manifest member or of a severed member in the envelope.
type Member int64

// Manifest members. The comment names the document: M suit-manifest, D suit-trust-domains, U suit-update-management.
const (
	MemberVersion               Member = 1  // M
	MemberSequenceNumber        Member = 2  // M
	MemberCommon                Member = 3  // M
	MemberReferenceURI          Member = 4  // M
	MemberComponentID           Member = 5  // D
	MemberSetVersion            Member = 6  // U
	MemberValidate              Member = 7  // M
	MemberLoad                  Member = 8  // M
	MemberInvoke                Member = 9  // M
	MemberCoSWID                Member = 14 // U, severable
	MemberDependencyResolution  Member = 15 // D, severable
	MemberPayloadFetch          Member = 16 // M, severable
	MemberCandidateVerification Member = 18 // D, severable
	MemberInstall               Member = 20 // M, severable
	MemberText                  Member = 23 // M, severable
	MemberUninstall             Member = 24 // D
)

// Members of the envelope that are not manifest members, and those of suit-common.
const (
	envelopeDelegation = 1 // reserved; ignored
	envelopeAuth       = 2
	envelopeManifest   = 3
	commonDependencies = 1
	commonComponents   = 2
	commonShared       = 4
	dependencyPrefix   = 1
)

type memberInfo struct {
	name      string
	sequence  bool // holds a command sequence
	severable bool
}

var members = map[Member]memberInfo{
	MemberVersion:               {"manifest-version", false, false},
	MemberSequenceNumber:        {"sequence-number", false, false},
	MemberCommon:                {"common", false, false},
	MemberReferenceURI:          {"reference-uri", false, false},
	MemberComponentID:           {"manifest-component-id", false, false},
	MemberSetVersion:            {"set-version", false, false},
	MemberValidate:              {"validate", true, false},
	MemberLoad:                  {"load", true, false},
	MemberInvoke:                {"invoke", true, false},
	MemberCoSWID:                {"coswid", false, true},
	MemberDependencyResolution:  {"dependency-resolution", true, true},
	MemberPayloadFetch:          {"payload-fetch", true, true},
	MemberCandidateVerification: {"candidate-verification", true, true},
	MemberInstall:               {"install", true, true},
	MemberText:                  {"text", false, true},
	MemberUninstall:             {"uninstall", true, false},
}

// String is the member's name in the drafts, without "suit-". The common member stands for the shared sequence.
func (m Member) String() string {
	if i, ok := members[m]; ok {
		return i.name
	}
	return "member(" + strconv.FormatInt(int64(m), 10) + ")"
}

// CommandCode is the code of a condition or directive.
type CommandCode int64

// Commands.
const (
	CodeVendorIdentifier    CommandCode = 1  // M condition
	CodeClassIdentifier     CommandCode = 2  // M condition
	CodeImageMatch          CommandCode = 3  // M condition
	CodeUseBefore           CommandCode = 4  // U condition
	CodeComponentSlot       CommandCode = 5  // M condition
	CodeCheckContent        CommandCode = 6  // M condition
	CodeDependencyIntegrity CommandCode = 7  // D condition
	CodeIsDependency        CommandCode = 8  // D condition
	CodeProcessDependency   CommandCode = 11 // D directive
	CodeSetComponentIndex   CommandCode = 12 // M directive
	CodeAbort               CommandCode = 14 // M condition
	CodeTryEach             CommandCode = 15 // M directive
	CodeWrite               CommandCode = 18 // M directive
	CodeSetParameters       CommandCode = 19 // D directive
	CodeOverrideParameters  CommandCode = 20 // M directive
	CodeFetch               CommandCode = 21 // M directive
	CodeCopy                CommandCode = 22 // M directive
	CodeInvoke              CommandCode = 23 // M directive
	CodeDeviceIdentifier    CommandCode = 24 // M condition
	CodeImageNotMatch       CommandCode = 25 // U condition
	CodeMinimumBattery      CommandCode = 26 // U condition
	CodeUpdateAuthorized    CommandCode = 27 // U condition
	CodeVersion             CommandCode = 28 // U condition
	CodeWait                CommandCode = 29 // U directive
	CodeSwap                CommandCode = 31 // M directive
	CodeRunSequence         CommandCode = 32 // M directive
	CodeUnlink              CommandCode = 33 // D directive
	CodeOverrideMultiple    CommandCode = 34 // U directive
	CodeCopyParams          CommandCode = 35 // U directive
)

// argument kinds of commands.
type argKind int

const (
	argRaw      argKind = iota // unknown command: kept as it is
	argPolicy                  // SUIT_Rep_Policy
	argIndex                   // uint, true, or list of uint
	argParams                  // map of parameters
	argTryEach                 // list of sequences, perhaps nil at the end
	argSequence                // one sequence
	argMultiple                // map of component indices to maps of parameters
	argSources                 // map of component indices to lists of parameters
)

type commandInfo struct {
	name      string
	arg       argKind
	condition bool
	shared    bool // may stand in the shared sequence (suit-manifest section 8.4.6)
}

var commands = map[CommandCode]commandInfo{
	CodeVendorIdentifier:    {"vendor-identifier", argPolicy, true, true},
	CodeClassIdentifier:     {"class-identifier", argPolicy, true, true},
	CodeImageMatch:          {"image-match", argPolicy, true, true},
	CodeUseBefore:           {"use-before", argPolicy, true, true},
	CodeComponentSlot:       {"component-slot", argPolicy, true, true},
	CodeCheckContent:        {"check-content", argPolicy, true, true},
	CodeDependencyIntegrity: {"dependency-integrity", argPolicy, true, true},
	CodeIsDependency:        {"is-dependency", argPolicy, true, true},
	CodeProcessDependency:   {"process-dependency", argPolicy, false, false},
	CodeSetComponentIndex:   {"set-component-index", argIndex, false, true},
	CodeAbort:               {"abort", argPolicy, true, true},
	CodeTryEach:             {"try-each", argTryEach, false, true},
	CodeWrite:               {"write", argPolicy, false, false},
	CodeSetParameters:       {"set-parameters", argParams, false, false},
	CodeOverrideParameters:  {"override-parameters", argParams, false, true},
	CodeFetch:               {"fetch", argPolicy, false, false},
	CodeCopy:                {"copy", argPolicy, false, false},
	CodeInvoke:              {"invoke", argPolicy, false, false},
	CodeDeviceIdentifier:    {"device-identifier", argPolicy, true, true},
	CodeImageNotMatch:       {"image-not-match", argPolicy, true, true},
	CodeMinimumBattery:      {"minimum-battery", argPolicy, true, true},
	CodeUpdateAuthorized:    {"update-authorized", argPolicy, true, true},
	CodeVersion:             {"version", argPolicy, true, true},
	CodeWait:                {"wait", argPolicy, false, false},
	CodeSwap:                {"swap", argPolicy, false, false},
	CodeRunSequence:         {"run-sequence", argSequence, false, true},
	CodeUnlink:              {"unlink", argPolicy, false, false},
	CodeOverrideMultiple:    {"override-multiple", argMultiple, false, true},
	CodeCopyParams:          {"copy-params", argSources, false, true},
}

// String is the command's name in the drafts.
func (c CommandCode) String() string {
	if i, ok := commands[c]; ok {
		return i.name
	}
	return "command(" + strconv.FormatInt(int64(c), 10) + ")"
}

// Known reports whether one of the four documents defines the code.
func (c CommandCode) Known() bool { _, ok := commands[c]; return ok }

// Condition reports whether the code is a condition; everything else is a directive.
func (c CommandCode) Condition() bool { return commands[c].condition }

// Param is the code of a parameter.
type Param int64

// Parameters; E is suit-firmware-encryption.
const (
	ParamVendorID          Param = 1  // M []byte of 16, or PEN
	ParamClassID           Param = 2  // M []byte of 16
	ParamDigest            Param = 3  // M Digest
	ParamUseBefore         Param = 4  // U uint64, seconds since 1970
	ParamComponentSlot     Param = 5  // M uint64
	ParamStrictOrder       Param = 12 // M bool, state of the processor
	ParamSoftFailure       Param = 13 // M bool, state of the processor
	ParamSize              Param = 14 // M uint64
	ParamContent           Param = 18 // M []byte
	ParamEncryptionInfo    Param = 19 // E []byte, COSE_Encrypt
	ParamURI               Param = 21 // M string
	ParamSource            Param = 22 // M uint64, component index
	ParamInvokeArgs        Param = 23 // M []byte
	ParamDeviceID          Param = 24 // M []byte of 16
	ParamFetchArgs         Param = 25 // M []byte
	ParamMinimumBattery    Param = 26 // U uint64
	ParamUpdatePriority    Param = 27 // U int64
	ParamVersion           Param = 28 // U []byte
	ParamWaitInfo          Param = 29 // U []byte
	ParamComponentMetadata Param = 30 // U []byte
)

// PEN is a vendor identifier made from a Private Enterprise Number: the content of tag 112 (suit-manifest 8.4.8.1).
type PEN []byte

type paramKind int

const (
	kindBytes paramKind = iota
	kindUUID
	kindVendor
	kindDigest
	kindUint
	kindInt
	kindBool
	kindText
)

type paramInfo struct {
	name string
	kind paramKind
}

var params = map[Param]paramInfo{
	ParamVendorID:          {"vendor-identifier", kindVendor},
	ParamClassID:           {"class-identifier", kindUUID},
	ParamDigest:            {"image-digest", kindDigest},
	ParamUseBefore:         {"use-before", kindUint},
	ParamComponentSlot:     {"component-slot", kindUint},
	ParamStrictOrder:       {"strict-order", kindBool},
	ParamSoftFailure:       {"soft-failure", kindBool},
	ParamSize:              {"image-size", kindUint},
	ParamContent:           {"content", kindBytes},
	ParamEncryptionInfo:    {"encryption-info", kindBytes},
	ParamURI:               {"uri", kindText},
	ParamSource:            {"source-component", kindUint},
	ParamInvokeArgs:        {"invoke-args", kindBytes},
	ParamDeviceID:          {"device-identifier", kindUUID},
	ParamFetchArgs:         {"fetch-arguments", kindBytes},
	ParamMinimumBattery:    {"minimum-battery", kindUint},
	ParamUpdatePriority:    {"update-priority", kindInt},
	ParamVersion:           {"version", kindBytes},
	ParamWaitInfo:          {"wait-info", kindBytes},
	ParamComponentMetadata: {"component-metadata", kindBytes},
}

// String is the parameter's name in the drafts.
func (p Param) String() string {
	if i, ok := params[p]; ok {
		return i.name
	}
	return "parameter(" + strconv.FormatInt(int64(p), 10) + ")"
}

// Known reports whether one of the four documents defines the parameter.
func (p Param) Known() bool { _, ok := params[p]; return ok }

// Policy is a SUIT_Rep_Policy (suit-manifest section 8.4.7): which outcomes of a command go into the report.
type Policy uint64

// The bits of a Policy, and the values that the drafts' examples use.
const (
	RecordOnSuccess  Policy = 1
	RecordOnFailure  Policy = 2
	SysInfoOnSuccess Policy = 4
	SysInfoOnFailure Policy = 8

	PolicyCondition Policy = 15
	PolicyDirective Policy = 2
)
