// SPDX-License-Identifier: Apache-2.0

package usecase

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Holder says who may hold the package with PD at rest.
type Holder string

// The holders. What the operator holds of PD is ciphertext in any case.
const (
	HeldByOperator Holder = "operator" // the operator's store may
	HeldByOwner    Holder = "owner"    // only the owner may: nothing with PD is stored on its way
)

// Facts are a data owner's answers to the question which package to choose (USECASE section 7).
type Facts struct {
	UA        bool       `json:"ua"`        // the application has a half outside the TEE
	HideTA    bool       `json:"hide_ta"`   // the operator may not see the TA's program
	PDApart   bool       `json:"pd_apart"`  // PD is updated apart from the TA
	AtRest    Holder     `json:"at_rest"`   // who may hold the package with PD at rest
	Online    bool       `json:"online"`    // the owner is there while the PD is delivered
	Hardware  []Hardware `json:"hardware"`  // acceptable, the preferred first; empty: any
	Instances []Instance `json:"instances"` // acceptable, the preferred first; empty: any, the one that protects least beside the TA first
}

// The names of the answers, as conflicts and reasons cite them.
const (
	FactUA        = "ua"
	FactHideTA    = "hide-ta"
	FactPDApart   = "pd-apart"
	FactAtRest    = "at-rest"
	FactOnline    = "online"
	FactHardware  = "hardware"
	FactInstances = "instance"
)

// Choice is one way to deploy.
type Choice struct {
	Mode     Mode   `json:"mode"`
	Cell     Cell   `json:"cell"`
	Delivery string `json:"delivery"`
}

// Reveal is what a role outside the TEE sees of a payload, where that differs from the recommended choice.
type Reveal struct {
	Role        Role    `json:"role"`
	Payload     Payload `json:"payload"`
	Sees        Sight   `json:"sees"`
	Recommended Sight   `json:"recommended"` // what it sees under the recommended choice
}

// Reason ties a part of the recommendation to an answer; Fact is empty for what follows from the use case itself.
type Reason struct {
	Fact string `json:"fact,omitempty"`
	Text string `json:"text"`
}

// Alternative is another way to deploy the same application at the same place.
type Alternative struct {
	Choice
	Against []string `json:"against"` // the answers that it contradicts; empty: it would fit as well
	Reveals []Reveal `json:"reveals"`
}

// Conflict is a smallest set of answers that nothing satisfies.
type Conflict struct {
	Facts []string `json:"facts"`
	Text  string   `json:"text"`
}

// Advice is the answer to Facts: either a recommendation, or conflicts.
type Advice struct {
	Facts        Facts         `json:"facts"`
	Recommended  *Choice       `json:"recommended,omitempty"`
	Runnable     bool          `json:"runnable"`               // this version deploys it
	NotRunnable  string        `json:"not_runnable,omitempty"` // why not
	Reasons      []Reason      `json:"reasons"`
	Cells        []Cell        `json:"cells"` // all acceptable places, the best first
	Alternatives []Alternative `json:"alternatives"`
	Conflicts    []Conflict    `json:"conflicts"`
}

// option is a Choice with what has to be known of it.
type option struct {
	Choice
	plan     *LoadPlan
	seen     Exposure // by delivery
	blocked  error    // why this version does not deploy it
	toTA     bool     // PD is encrypted to the TA's own key
	taHidden bool     // no outsider sees the TA's content
	contents int      // whose program or data is seen by which outsider
}

// options are all choices: modes, places and deliveries. Nobody changes them.
var options = sync.OnceValue(func() []*option {
	var out []*option
	for _, m := range Modes() {
		for _, c := range Cells() {
			plan, err := Plan(m, c.Instance, c.Hardware)
			if err != nil {
				panic(err) // the table of cells and that of sequences do not agree
			}
			for _, d := range Deliveries() {
				through, err := plan.Through(d)
				if err != nil {
					panic(err)
				}
				out = append(out, newOption(Choice{m, c, d}, through))
			}
		}
	}
	return out
})

func newOption(c Choice, plan *LoadPlan) *option {
	o := &option{Choice: c, plan: plan, seen: plan.SeenBy, taHidden: true}
	o.blocked = Runnable(c.Mode, c.Cell.Instance, c.Cell.Hardware)
	o.toTA = slices.ContainsFunc(plan.Steps, func(s Step) bool { return s.NeedsRelease && s.EncryptedTo == RoleTA })
	for _, r := range outsiders() {
		for p, s := range o.seen[r] {
			if p != Evidence && s.Has(SeesContent) {
				o.contents++
				o.taHidden = o.taHidden && p != TA
			}
		}
	}
	return o
}

// outsiders are the roles from which something can be kept: not the owner, not the TEE, not the UA itself.
func outsiders() []Role { return []Role{RoleMOC, RoleTAM, RoleVerifier, RoleBroker} }

// fact is one answer as a condition on choices.
type fact struct {
	name  string
	holds func(Facts, *option) bool
	text  func(Facts) string // the answer, for people
}

var facts = []fact{
	{FactUA, func(f Facts, o *option) bool { return o.Mode.Has(UA) == f.UA }, func(f Facts) string {
		return either(f.UA, "there is a UA", "there is no UA")
	}},
	{FactHideTA, func(f Facts, o *option) bool {
		return !f.HideTA || o.taHidden
	}, func(f Facts) string {
		return either(f.HideTA, "the operator may not see the TA", "the operator may see the TA")
	}},
	{FactPDApart, func(f Facts, o *option) bool { return !f.PDApart || !slices.Contains(o.Mode.With(PD), TA) }, func(f Facts) string {
		return either(f.PDApart, "PD is updated apart from the TA", "PD is not updated apart from the TA")
	}},
	{FactAtRest, func(f Facts, o *option) bool { return f.AtRest != HeldByOwner || o.Delivery == DeliveryChannel }, func(f Facts) string {
		return either(f.AtRest == HeldByOwner, "only the owner may hold PD at rest, not even ciphertext may lie elsewhere",
			"the operator may hold the encrypted PD at rest")
	}},
	{FactOnline, func(f Facts, o *option) bool { return f.Online || o.Delivery == DeliverySealed }, func(f Facts) string {
		return either(f.Online, "the owner is online while the PD is delivered", "the owner is not online while the PD is delivered")
	}},
	{FactHardware, func(f Facts, o *option) bool {
		return len(f.Hardware) == 0 || slices.Contains(f.Hardware, o.Cell.Hardware)
	},
		func(f Facts) string { return "acceptable hardware: " + list(f.Hardware) }},
	{FactInstances, func(f Facts, o *option) bool {
		return len(f.Instances) == 0 || slices.Contains(f.Instances, o.Cell.Instance)
	},
		func(f Facts) string { return "acceptable instance types: " + list(f.Instances) }},
}

func either(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

func list[T ~string](names []T) string {
	if len(names) == 0 {
		return "any"
	}
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = string(n)
	}
	return strings.Join(out, ", ")
}

// against names the answers that a choice contradicts.
func (f Facts) against(o *option) []string {
	out := []string{}
	for _, c := range facts {
		if !c.holds(f, o) {
			out = append(out, c.name)
		}
	}
	return out
}

func (f Facts) fits(o *option) bool {
	return !slices.ContainsFunc(facts, func(c fact) bool { return !c.holds(f, o) })
}

// check refuses names that the use case does not have.
func (f Facts) check() error {
	if f.AtRest != HeldByOperator && f.AtRest != HeldByOwner {
		return fmt.Errorf("%w: holder %q (one of: operator  owner)", ErrUnknown, f.AtRest)
	}
	for _, h := range f.Hardware {
		if _, err := ParseHardware(string(h)); err != nil {
			return err
		}
	}
	for _, i := range f.Instances {
		if _, err := ParseInstance(string(i)); err != nil {
			return err
		}
	}
	return nil
}

// Advise recommends a mode, a place and a delivery that contradict no answer, with the reasons and with what each alternative would
// reveal to whom. Where nothing fits, the Advice has no recommendation and says which answers exclude each other. Among what fits,
// what this version runs comes first; then a PD that is encrypted to the TA's own key, so that the appraisal has named the TA; then
// what shows the operator less; then the smaller place. The error is an ErrUnknown.
func Advise(f Facts) (*Advice, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	a := &Advice{Facts: f, Reasons: []Reason{}, Cells: []Cell{}, Alternatives: []Alternative{}, Conflicts: []Conflict{}}
	var fit []*option
	for _, o := range options() {
		if f.fits(o) {
			fit = append(fit, o)
		}
	}
	if len(fit) == 0 {
		a.Conflicts = conflicts(f)
		return a, nil
	}
	slices.SortStableFunc(fit, func(x, y *option) int { return compare(f, x, y) })
	best := fit[0]
	a.Recommended = &best.Choice
	if best.blocked != nil {
		a.NotRunnable = best.blocked.Error()
	} else {
		a.Runnable = true
	}
	for _, o := range fit {
		if o.Mode == best.Mode && o.Delivery == best.Delivery {
			a.Cells = append(a.Cells, o.Cell)
		}
	}
	a.Reasons = reasons(f, best)
	for _, o := range options() {
		if o.Cell == best.Cell && o.Choice != best.Choice && (o.Delivery == best.Delivery || o.Mode == best.Mode) && o.Mode.Has(UA) == f.UA {
			a.Alternatives = append(a.Alternatives, Alternative{o.Choice, f.against(o), reveals(o, best)})
		}
	}
	return a, nil
}

// compare orders choices that fit, the better first.
func compare(f Facts, x, y *option) int {
	rank := func(is bool) int {
		if is {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(rank(x.blocked == nil), rank(y.blocked == nil)),
		cmp.Compare(rank(x.Delivery == DeliverySealed), rank(y.Delivery == DeliverySealed)),
		cmp.Compare(rank(x.toTA), rank(y.toTA)),
		cmp.Compare(x.contents, y.contents),
		-cmp.Compare(len(x.plan.Packages), len(y.plan.Packages)), // each can be updated by itself
		cmp.Compare(place(f.Instances, Instances(), x.Cell.Instance), place(f.Instances, Instances(), y.Cell.Instance)),
		cmp.Compare(place(f.Hardware, AllHardware(), x.Cell.Hardware), place(f.Hardware, AllHardware(), y.Cell.Hardware)),
	)
}

// place is the position of v in the owner's list, or in the use case's if the owner has none.
func place[T comparable](wanted, all []T, v T) int {
	if len(wanted) == 0 {
		wanted = all
	}
	return slices.Index(wanted, v)
}

// reveals compares what outsiders see of UA, TA and PD.
func reveals(o, best *option) []Reveal {
	out := []Reveal{}
	for _, r := range outsiders() {
		for _, p := range []Payload{UA, TA, PD} {
			if now, was := o.seen.Of(r, p), best.seen.Of(r, p); now != was {
				out = append(out, Reveal{r, p, now, was})
			}
		}
	}
	return out
}

// reasons says why the recommended choice is that.
func reasons(f Facts, o *option) []Reason {
	var out []Reason
	add := func(fact, text string) { out = append(out, Reason{fact, text}) }
	for _, c := range facts[:5] {
		add(c.name, c.text(f))
	}
	switch {
	case o.toTA:
		add("", "PD is a package of its own: it is encrypted to the TA's own key, after an appraisal that has named the TA")
	case o.Mode.Sealed(TA):
		add("", fmt.Sprintf("%s travel together, encrypted to the attested Agent: no outsider sees the content of the TA", list(o.Mode.With(PD))))
	default:
		add("", fmt.Sprintf("%s travel together, encrypted to the attested Agent and bound to the TA", list(o.Mode.With(PD))))
	}
	if o.Delivery == DeliverySealed {
		add("", "sealed delivery: the encrypted package waits at the operator, and the owner need not be there when the device fetches it")
	} else {
		add("", "delivery by channel: from the owner straight into the TEE, which keeps it in memory only; after a restart the owner delivers again")
	}
	add(FactInstances, fmt.Sprintf("%s; in a confidential %s, what is trusted is that %s", facts[6].text(f), o.Cell.Instance, o.Cell.Instance))
	add(FactHardware, facts[5].text(f))
	return out
}

// conflicts finds the smallest sets of answers that no choice satisfies. There are seven answers, so all sets are tried.
func conflicts(f Facts) []Conflict {
	var sets []int
	for size := 1; size <= len(facts); size++ {
	next:
		for set := range 1 << len(facts) {
			if ones(set) != size {
				continue
			}
			for _, smaller := range sets {
				if set&smaller == smaller {
					continue next
				}
			}
			if !satisfiable(f, set) {
				sets = append(sets, set)
			}
		}
	}
	out := []Conflict{}
	for _, set := range sets {
		c := Conflict{}
		var texts []string
		for i, fact := range facts {
			if set&(1<<i) != 0 {
				c.Facts = append(c.Facts, fact.name)
				texts = append(texts, fact.text(f))
			}
		}
		c.Text = "nothing fits all of: " + strings.Join(texts, "; ")
		out = append(out, c)
	}
	return out
}

func ones(set int) (n int) {
	for ; set != 0; set &= set - 1 {
		n++
	}
	return n
}

func satisfiable(f Facts, set int) bool {
	return slices.ContainsFunc(options(), func(o *option) bool {
		for i, c := range facts {
			if set&(1<<i) != 0 && !c.holds(f, o) {
				return false
			}
		}
		return true
	})
}
