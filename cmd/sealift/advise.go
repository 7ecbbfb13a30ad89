// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sealift/internal/fault"
	"sealift/usecase"
)

// question is one answer that advise needs: a flag, or a line typed at a terminal.
type question struct {
	flag, ask string
	words     []string // what can be answered; nil: a list of names, nothing for any
	set       func(*usecase.Facts, string) error
}

// yesNo makes a question about a fact.
func yesNo(flag, ask string, set func(*usecase.Facts, bool)) question {
	return question{flag, ask, []string{"yes", "no"}, func(f *usecase.Facts, s string) error { set(f, s == "yes"); return nil }}
}

var questions = []question{
	yesNo("ua", "Has the application a half outside the TEE (a UA, for example a transfer server)?",
		func(f *usecase.Facts, yes bool) { f.UA = yes }),
	yesNo("hide-ta", "Is the TA's program a secret that the operator may not see?", func(f *usecase.Facts, yes bool) { f.HideTA = yes }),
	yesNo("pd-apart", "Will the data (PD) be updated apart from the TA?", func(f *usecase.Facts, yes bool) { f.PDApart = yes }),
	{"at-rest", "Who may hold the package with the data at rest? Encrypted, at the operator, or the owner only?",
		[]string{string(usecase.HeldByOperator), string(usecase.HeldByOwner)},
		func(f *usecase.Facts, s string) error { f.AtRest = usecase.Holder(s); return nil }},
	yesNo("online", "Is the owner online while the data is delivered?", func(f *usecase.Facts, yes bool) { f.Online = yes }),
	{"hardware", "Which hardware is acceptable, the preferred first?", nil, func(f *usecase.Facts, s string) (err error) {
		f.Hardware, err = parseList(s, usecase.ParseHardware)
		return err
	}},
	{"instance", "Which instance types are acceptable, the preferred first?", nil, func(f *usecase.Facts, s string) (err error) {
		f.Instances, err = parseList(s, usecase.ParseInstance)
		return err
	}},
}

// anyPlace is the answer that accepts every place.
const anyPlace = "any"

// parseList reads names separated by commas or spaces; none, or "any", are all.
func parseList[T any](s string, parse func(string) (T, error)) ([]T, error) {
	out := []T{}
	for _, name := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		if name == anyPlace {
			continue
		}
		v, err := parse(name)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func newAdviseCmd(a *app) *cobra.Command {
	answers := map[string]*string{}
	cmd := &cobra.Command{
		Use:   "advise",
		Short: "recommend a package mode, a place and a delivery from a few answers",
		Long: `Recommend a package mode, an instance type with its hardware, and a delivery, from a few answers: given as flags, or asked for on a
terminal. The reasons are told, and for each alternative what it would reveal to whom. Nothing is sent anywhere. Where no choice fits
all answers, the answers that exclude each other are named (exit code 5).`,
		Example: "  sealift advise --ua yes --hide-ta no --pd-apart yes --at-rest operator --online no --hardware any --instance any",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			facts, err := a.askFacts(func(flag string) (string, bool) { return *answers[flag], cmd.Flags().Changed(flag) })
			if err != nil {
				return err
			}
			advice, err := usecase.Advise(*facts)
			if err != nil {
				return usageError("", "%w", err)
			}
			if err := a.print(advice, func(w io.Writer) { writeAdvice(w, advice) }); err != nil || advice.Recommended != nil {
				return err
			}
			return &exitError{code: fault.ExitPolicy, err: errors.New("no choice fits all answers")}
		},
	}
	for _, q := range questions {
		words := q.words
		if words == nil {
			words = []string{"a list", anyPlace}
		}
		answers[q.flag] = cmd.Flags().String(q.flag, "", q.ask+" "+strings.Join(words, "|"))
	}
	return cmd
}

// askFacts takes the answers that were given, and asks for the others where somebody can answer.
func (a *app) askFacts(given func(flag string) (string, bool)) (*usecase.Facts, error) {
	facts := &usecase.Facts{}
	in := bufio.NewScanner(a.stdin)
	var missing []string
	for _, q := range questions {
		answer, ok := given(q.flag)
		switch {
		case ok:
			if err := q.answer(facts, answer); err != nil {
				return nil, usageError("", "--%s: %w", q.flag, err)
			}
		case !a.answered():
			missing = append(missing, "--"+q.flag)
		default:
			if err := a.ask(in, q, facts); err != nil {
				return nil, err
			}
		}
	}
	if len(missing) > 0 {
		return nil, usageError("on a terminal, sealift advise asks", "answers are missing: %s", strings.Join(missing, " "))
	}
	return facts, nil
}

// answered reports whether somebody sits at a terminal, on both ends of the talk.
func (a *app) answered() bool {
	f, ok := a.stdin.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && a.interactive()
}

// ask asks one question until it is answered.
func (a *app) ask(in *bufio.Scanner, q question, facts *usecase.Facts) error {
	words := strings.Join(q.words, "/")
	if q.words == nil {
		words = "a list; nothing: any"
	}
	for {
		fmt.Fprintf(a.stderr, "%s [%s] ", q.ask, words)
		if !in.Scan() {
			return usageError("", "the question about %s was not answered", q.flag)
		}
		err := q.answer(facts, strings.ToLower(strings.TrimSpace(in.Text())))
		if err == nil {
			return nil
		}
		a.say("%v", err)
	}
}

// answer checks an answer and notes it. The beginning of a word is enough.
func (q question) answer(facts *usecase.Facts, s string) error {
	if q.words == nil {
		return q.set(facts, s)
	}
	i := slices.Index(q.words, s)
	if i < 0 && s != "" {
		var fit []int
		for k, w := range q.words {
			if strings.HasPrefix(w, s) {
				fit = append(fit, k)
			}
		}
		if len(fit) == 1 {
			i = fit[0]
		}
	}
	if i < 0 {
		return fmt.Errorf("%q is no answer; one of: %s", s, strings.Join(q.words, ", "))
	}
	return q.set(facts, q.words[i])
}

func writeAdvice(w io.Writer, a *usecase.Advice) {
	if a.Recommended == nil {
		fmt.Fprintln(w, "nothing fits all answers:")
		for _, c := range a.Conflicts {
			fmt.Fprintf(w, "  %s: %s\n", strings.Join(c.Facts, ", "), c.Text)
		}
		return
	}
	r := a.Recommended
	fmt.Fprintf(w, "recommended: mode %s, instance type %s on %s, delivery %s\n", r.Mode, r.Cell.Instance, r.Cell.Hardware, r.Delivery)
	if !a.Runnable {
		fmt.Fprintf(w, "%s\n", a.NotRunnable)
	}
	fmt.Fprintln(w, "\nbecause")
	for _, reason := range a.Reasons {
		fmt.Fprintf(w, "  %s\n", reason.Text)
	}
	if len(a.Cells) > 1 {
		places := make([]string, len(a.Cells))
		for i, c := range a.Cells {
			places[i] = c.String()
		}
		fmt.Fprintf(w, "\nacceptable places, the best first: %s\n", strings.Join(places, ", "))
	}
	fmt.Fprintln(w, "\nalternatives, and what they would reveal to whom")
	for _, alt := range a.Alternatives {
		fmt.Fprintf(w, "  mode %s, delivery %s", alt.Mode, alt.Delivery)
		if len(alt.Against) > 0 {
			fmt.Fprintf(w, " (against your answers: %s)", strings.Join(alt.Against, ", "))
		}
		fmt.Fprintln(w)
		tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		for _, x := range alt.Reveals {
			fmt.Fprintf(tw, "    %s sees of the %s\t%s\tinstead of %s\n", x.Role, strings.ToUpper(string(x.Payload)), x.Sees, x.Recommended)
		}
		tw.Flush()
		if len(alt.Reveals) == 0 {
			fmt.Fprintln(w, "    the same")
		}
	}
	fmt.Fprintf(w, "\nsealift plan --mode %s --hardware %s --instance %s --delivery %s shows every step\n", r.Mode, r.Cell.Hardware, r.Cell.Instance, r.Delivery)
}
