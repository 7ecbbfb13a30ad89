// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/internal/owner/archive"
	"sealift/teep"
	"sealift/usecase"
)

// Codes of the findings about the content of the measured configuration.
const (
	CodeConfigForm       = "owner.config.form"
	CodeConfigDeployment = "owner.config.deployment"
	CodeConfigOwner      = "owner.config.owner"
	CodeConfigTAM        = "owner.config.tam-keys"
	CodeConfigPlace      = "owner.config.place"
	CodeConfigStart      = "owner.config.ta-start"
)

// configWanted is what the owner knows of a configuration that it did not write.
type configWanted struct {
	deployment, app string // deployment: the one that the instance was made for
	sharing         bool   // this owner lets its other applications into the instance
	owner           *cose.Key
	tam             []*cose.Key
	cells           []usecase.Cell
	mode            usecase.Mode
	pkg             *archive.Description
}

// expectConfig reads the measured configuration and compares what matters to the owner: whose manifests the Agent obeys, whose messages,
// and for which deployment. The expectation that it returns is the digest of the configuration as it should be, which
// equals the measured one exactly when nothing differs; the checks name what does.
func expectConfig(measured []byte, want configWanted) (appraisal.Expect, *agentconfig.Config) {
	c, err := agentconfig.Parse(measured)
	if err != nil {
		none := [32]byte{}
		return appraisal.Expect{ConfigDigest: &none, ConfigSource: "what this owner reads in it", ConfigChecks: []appraisal.Finding{{
			Code: CodeConfigForm, Claim: "measured configuration", Expected: "one that this version reads", Got: err.Error(),
			Source: "the format", Hint: "the device or the M/OC is of another version"}}}, nil
	}
	var findings []appraisal.Finding
	compare := func(code, claim, expected, got, source, hint string) {
		f := appraisal.Finding{Code: code, Claim: claim, Expected: expected, Got: got, Source: source, OK: expected == got}
		if !f.OK {
			f.Hint = hint
		}
		findings = append(findings, f)
	}
	should := *c
	should.Deployment = want.deployment
	compare(CodeConfigDeployment, "deployment in the configuration", want.deployment, c.Deployment, "this owner's folder",
		"the Evidence is of another deployment")
	should.Owners = []agentconfig.Owner{{Key: want.owner, App: want.app}}
	source, hint := "this owner's key and package", "somebody else could install into this TEE"
	switch {
	case want.sharing:
		should.Owners[0].App = agentconfig.AnyApp
		source = "this owner's key, and that it asked for sharing"
	case c.Shared():
		hint = "the instance was made to be shared, and this owner did not ask for that"
	}
	compare(CodeConfigOwner, "owners in the configuration", ownersText(should.Owners), ownersText(c.Owners), source, hint)
	if !sameKeys(c.TAMKeys, want.tam) {
		should.TAMKeys = want.tam
	}
	compare(CodeConfigTAM, "TAM keys in the configuration", keysText(want.tam), keysText(c.TAMKeys), "the keys pinned with the context",
		"another TAM could drive this Agent; if the operator changed its keys, set the context again")
	others := otherTAMs(c)
	if others != noOthers {
		should.FurtherTAMs, should.TAMRoots, should.Profile = nil, nil, teep.ProfileStrict
	}
	compare(CodeConfigTAM, "further TAMs in the configuration", noOthers, others, "one TAM per deployment",
		"somebody else than the TAM of the context could drive this Agent")
	got := usecase.Cell{Instance: usecase.Instance(c.Instance), Hardware: usecase.Hardware(c.Hardware)}
	place := got.String()
	if !slices.Contains(want.cells, got) {
		place = cellsText(want.cells)
		should.Hardware = ""
	}
	compare(CodeConfigPlace, "hardware and instance type in the configuration", place, got.String(), "the package", "")
	plan, err := usecase.Plan(want.mode, got.Instance, got.Hardware)                              // where there is none, the place was refused above
	if err == nil && (!want.sharing || slices.Contains(want.mode.With(usecase.UA), usecase.TA)) { // others, it does not concern
		should.TAOnRequest = plan.HasTrigger(usecase.TriggerUARequest)
	}
	compare(CodeConfigStart, "start of the TA in the configuration", startText(should.TAOnRequest), startText(c.TAOnRequest),
		"the plan of the package's mode", "")
	if should.Layer = bootedWith(want.pkg, got.Instance); want.sharing {
		should.Layer = nil // what comes and goes is in no guest from the start
	}
	compare(CodeConfigLayer, "guest payload in the configuration", payloadText(should.Layer), payloadText(c.Layer), "the package",
		"the guest was to be booted with another payload than yours")
	digest := should.Digest()
	expect := appraisal.Expect{ConfigDigest: &digest, ConfigSource: "the configuration as this owner expects it", ConfigChecks: findings}
	expectLaunch(&expect, want.app, should.Layer)
	return expect, c
}

// startText says when the Agent starts a TA that comes with its UA.
func startText(onRequest bool) string {
	if onRequest {
		return "when its UA asks for it"
	}
	return "with its manifest"
}

// noOthers is what otherTAMs says of a configuration with one TAM.
const noOthers = "none"

// otherTAMs tells by what else than the listed keys, read strictly, the Agent would let itself be driven.
func otherTAMs(c *agentconfig.Config) string {
	var out []string
	for _, t := range c.FurtherTAMs {
		out = append(out, t.URI)
	}
	if len(c.TAMRoots) > 0 {
		out = append(out, fmt.Sprintf("whoever has a certificate of %d roots", len(c.TAMRoots)))
	}
	if c.Profile != teep.ProfileStrict {
		out = append(out, fmt.Sprintf("compatibility profile %q", c.Profile))
	}
	if len(out) == 0 {
		return noOthers
	}
	return strings.Join(out, ", ")
}

func sameKeys(a, b []*cose.Key) bool { return keysText(a) == keysText(b) }

// keysText lists thumbprints in a fixed order.
func keysText(keys []*cose.Key) string {
	if len(keys) == 0 {
		return "none"
	}
	list := make([]string, len(keys))
	for i, k := range keys {
		list[i] = hex.EncodeToString(k.KID())
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), ", ")
}

func ownersText(owners []agentconfig.Owner) string {
	list := make([]string, len(owners))
	for i, o := range owners {
		app := o.App
		if app == agentconfig.AnyApp {
			app = "all its applications, which share the instance"
		}
		list[i] = fmt.Sprintf("%s for %s", hex.EncodeToString(o.Key.KID()), app)
	}
	return strings.Join(list, ", ")
}

func cellsText(cells []usecase.Cell) string {
	list := make([]string, len(cells))
	for i, c := range cells {
		list[i] = c.String()
	}
	return strings.Join(list, " or ")
}

// digestText is the hexadecimal SHA-256 of data.
func digestText(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
