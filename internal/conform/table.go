// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// excerpt is how much of a message's bytes a table shows.
const excerpt = 96

// Write prints the table. verbose adds the messages of every probe, otherwise only failures show theirs.
func (r *Report) Write(w io.Writer, verbose bool) error {
	var out strings.Builder
	tw := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NUMBER\tSECTION\tREQUIREMENT\tRESULT")
	for _, res := range r.Results {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", res.Requirement, res.Section, res.Title, strings.ToUpper(string(res.Status)))
	}
	_ = tw.Flush()
	lines := strings.SplitAfter(out.String(), "\n")
	if _, err := io.WriteString(w, lines[0]); err != nil {
		return err
	}
	for i, res := range r.Results {
		if _, err := io.WriteString(w, lines[i+1]+res.detail(verbose)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\n%s %s: %d passed, %d failed, %d not applicable\n", r.Role, r.Peer, r.Passed, r.Failed, r.NotApplicable)
	return err
}

// detail is what stands below a row.
func (r *Result) detail(verbose bool) string {
	var b strings.Builder
	if r.Reason != "" {
		fmt.Fprintf(&b, "        %s\n", r.Reason)
	}
	if !verbose && r.Status != Failed {
		return b.String()
	}
	messages := r.Messages
	if !verbose && len(messages) > 2 {
		messages = messages[len(messages)-2:] // the message and what came of it
	}
	for _, m := range messages {
		fmt.Fprintf(&b, "        %-4s %s\n", m.From, strings.TrimSpace(m.Note+"  "+cut(m.Hex)))
		if m.Diag != "" {
			fmt.Fprintf(&b, "             %s\n", cut4(m.Diag))
		}
	}
	return b.String()
}

func cut(s string) string {
	if len(s) > excerpt {
		return fmt.Sprintf("%s... (%d bytes)", s[:excerpt], len(s)/2)
	}
	return s
}

func cut4(s string) string {
	if len(s) > 4*excerpt {
		return strings.ToValidUTF8(s[:4*excerpt], "") + "..."
	}
	return s
}
