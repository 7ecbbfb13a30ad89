// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"sealift/internal/fault"
	"sealift/internal/owner"
)

// callResult is what `call --json` prints. Answer holds text; what is not UTF-8 stands in Bytes (base64).
type callResult struct {
	Deployment string `json:"deployment"`
	Emulated   bool   `json:"emulated"`
	Answer     string `json:"answer,omitempty"`
	Bytes      []byte `json:"bytes,omitempty"`
	End        any    `json:"end,omitempty"` // how the TA ended, where it did not end well
}

func newCallCmd(a *app) *cobra.Command {
	var flags ownerFlags
	var opt owner.CallOptions
	cmd := &cobra.Command{
		Use:   "call DEPLOYMENT",
		Short: "send stdin to the TA and print its answer",
		Long: `Send stdin to the TA and print its answer: through the UA where there is one, else through the Broker's relay. TLS 1.3 ends inside
the TEE, at the key in the Evidence that the owner has appraised; nobody between reads or changes a byte. A TA whose process ends with
an error is an error here as well (code ta-ended), after what it answered was printed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.openOwner(flags)
			if err != nil {
				return err
			}
			o.Events = nil
			out := a.stdout
			var answer bytes.Buffer
			if a.json {
				out = &answer
			}
			err = o.Call(cmd.Context(), args[0], a.stdin, out, opt)
			f, failed := errors.AsType[*fault.Error](err)
			if err != nil && !(failed && f.Code == fault.TAEnded) {
				return a.explainRefusal(a.stderr, err)
			}
			emulated := false
			if known, err := o.Appraised(args[0]); err == nil {
				emulated = known.Emulated()
			}
			if emulated {
				a.say("sealift: EMULATED: the answer comes from hardware that a program plays")
			}
			if !a.json {
				return err
			}
			result := callResult{Deployment: args[0], Emulated: emulated}
			if failed {
				result.End = f.Details
			}
			if utf8.Valid(answer.Bytes()) {
				result.Answer = answer.String()
			} else {
				result.Bytes = answer.Bytes()
			}
			return errors.Join(err, a.print(result, func(io.Writer) {}))
		},
	}
	flags.add(cmd)
	cmd.Flags().DurationVar(&opt.Timeout, "timeout", 0, "give up after this time (default: never)")
	cmd.Flags().StringVar(&opt.Port, "port", "", "the UA's port by name (default: its first)")
	return cmd
}

// contextWithTimeout is context.WithTimeout where zero means none.
func contextWithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}
