// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command inmate is the program that the tests put into a sandbox. Each of its verbs tries one thing and says how it went:
// "allowed", "denied: why", with exit code 0 either way; so the same verb can be run outside for comparison.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"sealift/internal/platform/sandbox"
)

func main() {
	sandbox.Init()
	if len(os.Args) < 2 {
		fmt.Println("inmate runs")
		return
	}
	verb, args := os.Args[1], os.Args[2:]
	if verb == "nest" {
		nest(args)
		return
	}
	if verb == "stdin" { // a TA gets its orders so
		text, err := io.ReadAll(os.Stdin)
		words := strings.Fields(string(text))
		if err != nil || len(words) == 0 {
			fmt.Println("no verb", err)
			os.Exit(2)
		}
		verb, args = words[0], words[1:]
		if verb == "lines" { // many attempts, one a line
			lines(strings.NewReader(strings.TrimPrefix(string(text), verb)), os.Stdout)
			return
		}
	}
	try, ok := tries[verb]
	if ua, serves := uas[verb]; serves {
		fail(ua(args))
		return
	}
	if !ok {
		fmt.Println("unknown verb", verb)
		os.Exit(2)
	}
	if err := try(args); err != nil {
		fmt.Println("denied:", err)
		return
	}
	fmt.Println("allowed")
}

// nest runs this very program again in a sandbox inside this one.
func nest(args []string) {
	self, err := os.Open("/proc/self/exe")
	fail(err)
	program, _, err := sandbox.SealedMemfd("ta", self)
	fail(err)
	spec := sandbox.Spec{Program: program, Args: append([]string{"ta"}, args...), Profile: sandbox.ProfileTA, Hostname: "nested"}
	for len(args) > 1 && strings.HasPrefix(args[0], "+") { // +ro=/a:/b +rw=/a:/b +agent +uid=61184
		if args[0] == "+agent" {
			spec.Profile, args = sandbox.ProfileAgent, args[1:]
			spec.Args = append([]string{"agent"}, args...)
			continue
		}
		kind, value, _ := strings.Cut(args[0], "=")
		if kind == "+uid" {
			spec.HostUID, args = pid([]string{value}), args[1:]
			spec.Args = append([]string{"ta"}, args...)
			continue
		}
		from, to, _ := strings.Cut(value, ":")
		bind := sandbox.Bind{Source: from, Target: to}
		if kind == "+ro" {
			spec.ReadOnly = append(spec.ReadOnly, bind)
		} else {
			spec.ReadWrite = append(spec.ReadWrite, bind)
		}
		args = args[1:]
		spec.Args = append([]string{"ta"}, args...)
	}
	spec.Limits = sandbox.Limits{Processes: 48, DataBytes: 160 << 20, OpenFiles: 64}
	if spec.Profile == sandbox.ProfileAgent {
		spec.Limits = sandbox.Limits{Processes: 128, DataBytes: 512 << 20}
	}
	cmd := sandbox.Command(context.Background(), spec)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	fail(cmd.Run())
}

func fail(err error) {
	if err != nil {
		fmt.Println("nest failed:", err)
		_, _ = io.WriteString(os.Stderr, err.Error()+"\n")
		os.Exit(1)
	}
}
