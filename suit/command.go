// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"maps"
	"slices"

	"sealift/cose"
)

// Command is one condition or directive with its argument. Which of the argument fields counts follows from Code.
type Command struct {
	Code CommandCode
	// Offset is the position of the code in the encoded section, also for nested commands; reports name commands by it
	// (suit-report section 4.2). The parser sets it, the encoder ignores it.
	Offset int
	// Policy is the reporting policy of conditions and of most directives.
	Policy Policy
	// Index is the argument of set-component-index.
	Index Index
	// Params is the argument of override-parameters and set-parameters.
	Params Params
	// Alternatives is the argument of try-each. OrNothing says that a final nil lets it succeed when all fail.
	Alternatives []Sequence
	OrNothing    bool
	// Sequence is the argument of run-sequence.
	Sequence Sequence
	// Multiple is the argument of override-multiple, in the order in which the components become current.
	Multiple []IndexedParams
	// Sources is the argument of copy-params.
	Sources []CopySource
	// Raw is the encoded argument of a command that this package does not interpret.
	Raw cose.RawMessage
}

// Sequence is a SUIT_Command_Sequence: commands in order.
type Sequence []Command

// Index is the argument of set-component-index: all components, or those listed, in that order.
type Index struct {
	All  bool
	List []int
}

// IndexedParams are parameters for one component.
type IndexedParams struct {
	Index  int
	Params Params
}

// CopySource says which parameters are copied from one component.
type CopySource struct {
	Index  int
	Params []Param
}

// WithPolicy returns the command with another reporting policy.
func (c Command) WithPolicy(p Policy) Command {
	c.Policy = p
	return c
}

func condition(code CommandCode) Command { return Command{Code: code, Policy: PolicyCondition} }
func directive(code CommandCode) Command { return Command{Code: code, Policy: PolicyDirective} }

// SetComponentIndex makes the components with these indices current.
func SetComponentIndex(indices ...int) Command {
	return Command{Code: CodeSetComponentIndex, Index: Index{List: indices}}
}

// SetAllComponents makes all components and dependencies current.
func SetAllComponents() Command {
	return Command{Code: CodeSetComponentIndex, Index: Index{All: true}}
}

// Override sets parameters of the current components, whether they were set before or not.
func Override(p Params) Command { return paramCommand(CodeOverrideParameters, p) }

// SetParameters sets those of the parameters that are not set yet.
func SetParameters(p Params) Command { return paramCommand(CodeSetParameters, p) }

func paramCommand(code CommandCode, p Params) Command {
	return Command{Code: code, Params: p.normal()}
}

// OverrideMultiple is Override for several components, in ascending order of their indices; the last stays current
// (suit-update-management).
func OverrideMultiple(sets map[int]Params) Command {
	c := Command{Code: CodeOverrideMultiple}
	for _, index := range slices.Sorted(maps.Keys(sets)) {
		c.Multiple = append(c.Multiple, IndexedParams{index, sets[index].normal()})
	}
	return c
}

// CopyParams sets parameters of the current components to the values they have for others (suit-update-management).
func CopyParams(sources ...CopySource) Command {
	return Command{Code: CodeCopyParams, Sources: sources}
}

// UseBefore holds if the time is before parameter use-before.
func UseBefore() Command { return condition(CodeUseBefore) }

// ImageNotMatch holds if the digest of the current component is not parameter image-digest.
func ImageNotMatch() Command { return condition(CodeImageNotMatch) }

// MinimumBattery holds if the battery has what parameter minimum-battery says, in mWh.
func MinimumBattery() Command { return condition(CodeMinimumBattery) }

// UpdateAuthorized holds if the device's policy allows an update of parameter update-priority.
func UpdateAuthorized() Command { return condition(CodeUpdateAuthorized) }

// VersionCondition holds if the version of the current component fits parameter version.
func VersionCondition() Command { return condition(CodeVersion) }

// Wait waits until all events of parameter wait-info have come.
func Wait() Command { return directive(CodeWait) }

// TryEach runs the alternatives in order until one succeeds, and fails if none does.
func TryEach(alternatives ...Sequence) Command {
	return Command{Code: CodeTryEach, Alternatives: alternatives}
}

// TryEachOrNothing is TryEach that succeeds without effect if no alternative does.
func TryEachOrNothing(alternatives ...Sequence) Command {
	return Command{Code: CodeTryEach, Alternatives: alternatives, OrNothing: true}
}

// RunSequence runs commands in a scope of their own.
func RunSequence(commands ...Command) Command {
	return Command{Code: CodeRunSequence, Sequence: commands}
}

// VendorIdentifier holds if parameter vendor-identifier is one of the current component's.
func VendorIdentifier() Command { return condition(CodeVendorIdentifier) }

// ClassIdentifier holds if parameter class-identifier is one of the current component's.
func ClassIdentifier() Command { return condition(CodeClassIdentifier) }

// DeviceIdentifier holds if parameter device-identifier is one of the current component's.
func DeviceIdentifier() Command { return condition(CodeDeviceIdentifier) }

// ImageMatch holds if the digest of the current component is parameter image-digest.
func ImageMatch() Command { return condition(CodeImageMatch) }

// ComponentSlot holds if the current component's slot is parameter component-slot.
func ComponentSlot() Command { return condition(CodeComponentSlot) }

// CheckContent holds if the current component equals parameter content.
func CheckContent() Command { return condition(CodeCheckContent) }

// Abort never holds.
func Abort() Command { return condition(CodeAbort) }

// DependencyIntegrity holds if the current dependency is authentic and has the digest in parameter image-digest.
func DependencyIntegrity() Command { return condition(CodeDependencyIntegrity) }

// IsDependency holds if the current component is a dependency.
func IsDependency() Command { return condition(CodeIsDependency) }

// ProcessDependency runs the current dependency's section of the same name.
func ProcessDependency() Command { return directive(CodeProcessDependency) }

// Write writes parameter content into the current component, decrypted if encryption-info is set.
func Write() Command { return directive(CodeWrite) }

// Fetch writes what parameter uri names into the current component.
func Fetch() Command { return directive(CodeFetch) }

// Copy writes the component in parameter source-component into the current one, decrypted if encryption-info is set.
func Copy() Command { return directive(CodeCopy) }

// Swap exchanges the current component and the one in parameter source-component.
func Swap() Command { return directive(CodeSwap) }

// Invoke starts the current component with parameter invoke-args.
func Invoke() Command { return directive(CodeInvoke) }

// Unlink drops this manifest's reference to the current component, which is deleted with its last reference.
func Unlink() Command { return directive(CodeUnlink) }
