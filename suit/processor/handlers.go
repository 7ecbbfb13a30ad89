// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"maps"
	"slices"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/report"
)

// handler runs one command: either once for the scope, or once for each current component.
type handler struct {
	scope     func(s *scope, cmd *suit.Command, position int) error
	component func(s *scope, cmd *suit.Command, c *component) error
	// available asks the platform; nil means always.
	available func(p Platform) bool
	// extension: only with Options.UpdateManagement.
	extension bool
	// only limits the command to sections; nil means all.
	only []suit.Member
}

// handlers is the one table of what this processor can do. It is filled in init because handlers run sequences, which
// look commands up in the table.
var handlers map[suit.CommandCode]handler

func init() {
	handlers = map[suit.CommandCode]handler{
		suit.CodeSetComponentIndex:  {scope: setComponentIndex},
		suit.CodeOverrideParameters: {scope: overrideParameters},
		suit.CodeSetParameters:      {scope: setParameters},

		suit.CodeVendorIdentifier:    {component: vendorIdentifier},
		suit.CodeClassIdentifier:     {component: classIdentifier},
		suit.CodeDeviceIdentifier:    {component: deviceIdentifier},
		suit.CodeImageMatch:          {component: imageMatch},
		suit.CodeComponentSlot:       {component: componentSlot, available: is[Slotter]},
		suit.CodeCheckContent:        {component: checkContent},
		suit.CodeDependencyIntegrity: {component: dependencyIntegrity},
		suit.CodeIsDependency:        {component: isDependency},
		suit.CodeAbort:               {component: abort},

		suit.CodeTryEach:           {component: tryEach},
		suit.CodeRunSequence:       {component: runSequence},
		suit.CodeProcessDependency: {component: processDependency},
		suit.CodeWrite:             {component: write},
		suit.CodeFetch:             {component: fetch},
		suit.CodeCopy:              {component: copyComponent},
		suit.CodeSwap:              {component: swap, available: is[Swapper]},
		suit.CodeUnlink:            {component: unlink},
		suit.CodeImageNotMatch:     {component: imageNotMatch, extension: true},
		suit.CodeUseBefore:         {component: useBefore, extension: true, available: is[Clock]},
		suit.CodeMinimumBattery:    {component: minimumBattery, extension: true, available: is[Battery]},
		suit.CodeUpdateAuthorized:  {component: updateAuthorized, extension: true, available: is[UpdateAuthorizer]},
		suit.CodeVersion:           {component: versionCondition, extension: true, available: is[Versioner]},
		suit.CodeWait:              {component: wait, extension: true, available: is[Waiter]},
		suit.CodeOverrideMultiple:  {scope: overrideMultiple, extension: true},
		suit.CodeCopyParams:        {scope: copyParams, extension: true},

		// Installing is not starting: invoke is refused outside the section that is for it.
		suit.CodeInvoke: {component: invoke, only: []suit.Member{suit.MemberInvoke}},
	}
}

// parameter says what has to be there for a parameter to be interpreted.
type parameter struct {
	available func(p Platform) bool
	extension bool
	// check judges a value before anything runs; nil where the codec's own check is enough.
	check func(value any) error
}

// parameters is the one table of the parameters that handlers interpret.
var parameters = map[suit.Param]parameter{
	suit.ParamVendorID: {}, suit.ParamClassID: {}, suit.ParamDigest: {}, suit.ParamComponentSlot: {}, suit.ParamStrictOrder: {},
	suit.ParamSoftFailure: {}, suit.ParamSize: {}, suit.ParamContent: {}, suit.ParamEncryptionInfo: {}, suit.ParamURI: {},
	suit.ParamSource: {}, suit.ParamInvokeArgs: {}, suit.ParamDeviceID: {},

	suit.ParamUseBefore:         {extension: true},
	suit.ParamMinimumBattery:    {extension: true},
	suit.ParamUpdatePriority:    {extension: true},
	suit.ParamVersion:           {extension: true, check: checked(suit.ParseVersionMatch)},
	suit.ParamWaitInfo:          {extension: true, check: checked(suit.ParseWaitInfo)},
	suit.ParamComponentMetadata: {extension: true, check: checked(suit.ParseMetadata), available: is[MetadataWriter]},
}

// checked makes a check of a decoder.
func checked[T any](parse func([]byte) (T, error)) func(value any) error {
	return func(value any) error {
		_, err := parse(value.([]byte))
		return err
	}
}

// is reports whether the platform has an optional interface.
func is[T any](p Platform) bool { _, ok := p.(T); return ok }

func (h handler) supported(p Platform, o *Options) bool {
	return (h.scope != nil || h.component != nil) && (!h.extension || o.UpdateManagement) && (h.available == nil || h.available(p))
}

func (h parameter) supported(p Platform, o *Options) bool {
	return (!h.extension || o.UpdateManagement) && (h.available == nil || h.available(p))
}

// Capabilities returns the processor's part of a SUIT_Capability_Report; the caller adds the components.
func (p *Processor) Capabilities() *report.Capabilities {
	c := &report.Capabilities{Components: []report.ComponentCapability{}}
	for _, code := range slices.Sorted(maps.Keys(handlers)) {
		if handlers[code].supported(p.platform, &p.options) {
			c.Commands = append(c.Commands, int64(code))
		}
	}
	for _, param := range slices.Sorted(maps.Keys(parameters)) {
		if parameters[param].supported(p.platform, &p.options) {
			c.Params = append(c.Params, int64(param))
		}
	}
	algs := []cose.Algorithm{
		cose.AlgSHA256, suit.AlgSHA384, suit.AlgSHA512, suit.AlgSHAKE128, suit.AlgSHAKE256, cose.AlgESP256, cose.AlgEd25519,
		cose.AlgHMAC256, cose.AlgECDHESA128KW, cose.AlgA128KW, cose.AlgA192KW, cose.AlgA256KW, cose.AlgA128GCM, cose.AlgA256GCM,
		cose.AlgChaCha20Poly1305, cose.AlgA128CTR, cose.AlgA256CTR,
	}
	for _, alg := range algs {
		c.Algorithms = append(c.Algorithms, int64(alg))
	}
	return c
}
