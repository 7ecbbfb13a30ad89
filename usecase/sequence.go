// SPDX-License-Identifier: Apache-2.0

package usecase

import "fmt"

// A stepMaker makes one step of a mode's load sequence for a cell.
type stepMaker func(Mode, Cell) Step

// sequences is the use case's table of load sequences (draft section 4, USECASE section 3). Step 0 is always "admit".
var sequences = map[Mode]struct {
	draftCase int
	steps     []stepMaker
}{
	ModeBundleUATAPD: {1, []stepMaker{admit, attest, bundleToTEE, innerTAToInstance, innerPDToTA, innerUAToREE}},
	ModeBundleUATA:   {2, []stepMaker{admit, uaToREE, taToInstance, attest, pdToTA}},
	ModeUATAPD:       {3, []stepMaker{admit, uaToREE, taToInstance, attest, pdToTA}},
	ModeTAPD:         {3, []stepMaker{admit, taToInstance, attest, pdToTA}},
	ModeBundleTAPDUA: {4, []stepMaker{admit, uaToREE, attest, taPDToInstance}},
	ModeBundleTAPD:   {4, []stepMaker{admit, attest, taPDToInstance}},
	ModeBundleUAPD:   {5, []stepMaker{admit, attest, taToInstance, uaPDToTA, innerUAToREE}},
}

func admit(Mode, Cell) Step {
	e := Exposure{}
	e.add(seesAll, Evidence, RoleMOC, RoleTAM, RoleVerifier, RoleBroker, RoleAgent)
	return Step{Step: Admit, Actor: RoleTAM, From: "agent", To: "tam", Carries: []Payload{Evidence}, SeenBy: e,
		What: "the TAM attests the Agent before it believes the Agent's key"}
}

func attest(m Mode, _ Cell) Step {
	e := Exposure{}
	e.add(seesAll, Evidence, RoleOwner, RoleMOC, RoleTAM, RoleVerifier, RoleBroker, RoleAgent)
	what := "the owner challenges the Agent and appraises its Evidence"
	if !m.Bundled() { // the TA is loaded already, and Evidence names it with its digest and its key
		e.add(SeesName|SeesHash, TA, RoleOwner, RoleMOC, RoleTAM, RoleVerifier, RoleBroker, RoleAgent)
		what = "the owner challenges the Agent and appraises its Evidence, which covers the loaded TA and the TA's own key"
	}
	return Step{Step: Attest, Actor: RoleOwner, From: "agent", To: "owner", Carries: []Payload{Evidence}, SeenBy: e, What: what}
}

// clear adds what is seen of a payload that travels in the clear: the TAM handles manifests, not payloads.
func clear(e Exposure, p Payload, inside ...Role) {
	e.add(seesAll, p, RoleOwner, RoleMOC, RoleBroker)
	e.add(seesDescription, p, RoleTAM)
	e.add(seesAll, p, inside...)
}

// sealed adds what is seen of a payload that travels encrypted to a key held inside the TEE.
func sealed(e Exposure, p Payload, inside ...Role) {
	e.add(seesAll|SeesCiphertext, p, RoleOwner, RoleAgent)
	e.add(seesSealed, p, RoleMOC, RoleBroker)
	e.add(SeesName|SeesSize, p, RoleTAM)
	e.add(seesAll, p, inside...)
}

// listed adds what the Agent reports of an installed component (tc-list of the QueryResponse): its name and digest.
// PD is listed by name only, because the digest of small PD would let the operator guess it.
func listed(e Exposure, p Payload) { e.add(SeesName|SeesHash, p, RoleMOC, RoleTAM, RoleBroker) }

func uaToREE(Mode, Cell) Step {
	e := Exposure{}
	clear(e, UA, RoleAgent, RoleUA)
	return Step{Step: UAToREE, Actor: RoleTAM, From: "moc", To: "ree", Carries: []Payload{UA}, SeenBy: e,
		What: "the Agent checks the UA and hands it to the Broker, which starts it in the REE"}
}

func taToInstance(m Mode, c Cell) Step {
	e := Exposure{}
	clear(e, TA, RoleAgent, RoleTA)
	s := Step{Step: TAToInstance, Actor: RoleTAM, From: "moc", To: "instance", Carries: []Payload{TA}, SeenBy: e,
		What: fmt.Sprintf("the Agent installs the TA and starts it as a confidential %s", c.Instance)}
	return sgxOrder(s, m, c)
}

func pdToTA(Mode, Cell) Step {
	e := Exposure{}
	sealed(e, PD, RoleTA)
	return Step{Step: PDToTA, Actor: RoleOwner, From: "owner", To: "ta", Carries: []Payload{PD}, EncryptedTo: RoleTA,
		NeedsRelease: true, SeenBy: e,
		What: "the owner releases the PD, encrypted to the attested TA's key and bound to the TA's digest"}
}

func taPDToInstance(m Mode, c Cell) Step {
	e := Exposure{}
	sealed(e, TA, RoleTA)
	listed(e, TA)
	sealed(e, PD, RoleTA)
	s := Step{Step: TAPDToInstance, Actor: RoleOwner, From: "owner", To: "instance", Carries: []Payload{TA, PD},
		EncryptedTo: RoleAgent, NeedsRelease: true, SeenBy: e,
		What: fmt.Sprintf("the owner releases TA and PD, encrypted to the attested Agent, which starts the TA as a confidential %s", c.Instance)}
	return sgxOrder(s, m, c)
}

func bundleToTEE(Mode, Cell) Step {
	e := Exposure{}
	for _, p := range []Payload{UA, TA, PD} {
		sealed(e, p)
	}
	return Step{Step: BundleToTEE, Actor: RoleOwner, From: "owner", To: "tee", Carries: []Payload{UA, TA, PD},
		EncryptedTo: RoleAgent, NeedsRelease: true, SeenBy: e,
		What: "the owner releases UA, TA and PD as one package, encrypted to the attested Agent"}
}

func innerTAToInstance(_ Mode, c Cell) Step {
	e := Exposure{}
	e.add(seesAll, TA, RoleAgent, RoleTA)
	listed(e, TA)
	return Step{Step: TAToInstance, Actor: RoleAgent, From: "tee", To: "instance", Carries: []Payload{TA}, SeenBy: e,
		What: fmt.Sprintf("the Agent starts the TA as a confidential %s", c.Instance)}
}

func innerPDToTA(Mode, Cell) Step {
	e := Exposure{}
	e.add(seesAll, PD, RoleAgent, RoleTA)
	return Step{Step: PDToTA, Actor: RoleAgent, From: "tee", To: "ta", Carries: []Payload{PD}, SeenBy: e,
		What: "the Agent gives the PD to the TA, inside the TEE"}
}

func uaPDToTA(Mode, Cell) Step {
	e := Exposure{}
	sealed(e, UA)
	sealed(e, PD, RoleTA)
	return Step{Step: UAPDToTA, Actor: RoleOwner, From: "owner", To: "ta", Carries: []Payload{UA, PD},
		EncryptedTo: RoleAgent, NeedsRelease: true, SeenBy: e,
		What: "the owner releases UA and PD, encrypted to the attested Agent and bound to the TA's digest; " +
			"the package is opened inside the TEE, and the TA gets the PD"}
}

func innerUAToREE(Mode, Cell) Step {
	e := Exposure{}
	e.add(seesAll, UA, RoleAgent, RoleBroker, RoleUA)
	listed(e, UA)
	return Step{Step: UAToREE, Actor: RoleAgent, From: "tee", To: "ree", Carries: []Payload{UA}, SeenBy: e,
		What: "the Agent hands the UA out to the Broker, which starts it in the REE"}
}

// onRequest ends the description of such a step.
const onRequest = ", when the UA asks for it"

// sgxOrder marks the step that starts the TA on SGX where the UA came first: the UA asks for it (USECASE section 5, 4).
func sgxOrder(s Step, m Mode, c Cell) Step {
	uaFirst := m == ModeBundleUATA || m == ModeUATAPD || m == ModeBundleTAPDUA
	if c.Hardware == SGX && uaFirst {
		s.Trigger = TriggerUARequest
		s.What += onRequest
	}
	return s
}
