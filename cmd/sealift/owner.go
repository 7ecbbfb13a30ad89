// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"sealift/evidence/all"
	"sealift/internal/owner"
	"sealift/internal/owner/home"
)

// ownerFlags are what the owner's verbs share.
type ownerFlags struct {
	context string
	panel   panelFlags
}

func (f *ownerFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.context, "context", "", "name of the M/OC's context (default: the one in use)")
}

// addPanel adds the flags of the commands that judge Evidence.
func (f *ownerFlags) addPanel(cmd *cobra.Command) {
	f.add(cmd)
	f.panel.add(cmd)
}

// openHome opens the owner's folder.
func (a *app) openHome() (*home.Home, error) {
	h, err := home.Open(a.home)
	if err != nil {
		return nil, usageError("set SEALIFT_HOME, or give --home", "%w", err)
	}
	return h, nil
}

// openOwner returns the owner of the folder, whose events go to stderr.
func (a *app) openOwner(f ownerFlags) (*owner.Owner, error) {
	h, err := a.openHome()
	if err != nil {
		return nil, err
	}
	o := owner.New(h)
	o.Context = f.context
	o.Events = a.printEvent
	store, err := a.collateralStore("")
	if err != nil {
		return nil, err
	}
	o.Verifiers, o.Endorsements = all.New(), store
	if o.Panel, err = f.panel.panel(); err != nil {
		return nil, err
	}
	o.Progress = a.progress()
	return o, nil
}

// progress returns what shows how far a transfer is: with --json one line of JSON on stderr each time, on a terminal one line that is
// written over, else nothing.
func (a *app) progress() func(what string, done, total int64) {
	switch {
	case a.json:
		return func(what string, done, total int64) {
			if total < 4<<20 {
				return
			}
			line, err := json.Marshal(map[string]any{"event": "progress", "what": what, "bytes": done, "total": total})
			if err == nil {
				a.say("%s", line)
			}
		}
	case a.interactive():
		return func(what string, done, total int64) {
			fmt.Fprintf(a.stderr, "\r\x1b[K%s: %d of %d MiB\r", printable(what), done>>20, total>>20)
		}
	}
	return nil
}

// printEvent writes one line of progress: when, who, what.
func (a *app) printEvent(e owner.Event) {
	a.say("%s  %-8s  %-16s  %s", e.Time.Local().Format("15:04:05.000"), printable(e.Actor), printable(e.Step), printable(e.Text))
}

// printable replaces control characters: text that comes from an M/OC or a device must not steer the owner's terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// emulatedMark stands in every output that rests on emulated hardware.
func emulatedMark(emulated bool) string {
	if emulated {
		return " EMULATED"
	}
	return ""
}

// explainRefusal writes why Evidence was refused, where err is that, and returns err.
func (a *app) explainRefusal(w io.Writer, err error) error {
	var refused *owner.Refused
	if errors.As(err, &refused) {
		if explainErr := refused.Result.Explain(w); explainErr != nil {
			return explainErr
		}
		fmt.Fprintln(w)
		failed := refused.Result.Failed()
		names := make([]string, len(failed))
		for i, f := range failed {
			names[i] = f.Claim
		}
		return &exitError{code: exitAttestation, hint: "nothing was released",
			err: fmt.Errorf("the Evidence is refused:%s %s", emulatedMark(refused.Result.Emulated), strings.Join(names, "; "))}
	}
	return err
}
