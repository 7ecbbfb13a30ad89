// SPDX-License-Identifier: Apache-2.0

// Command sealift deploys confidential applications to Trusted Execution Environments over a network with IETF TEEP
// (RFC 9397), SUIT and RATS. One binary holds the data owner's tools, the operator's M/OC with its TAM and Verifier, and
// the TEEP Broker of a device; what runs inside a TEE is a second, small binary, sealift-agent.
//
// Every verb prints its result to stdout and everything else to stderr; with --json the result is JSON. The exit codes
// are stable: 0 done, 1 error, 2 usage, 3 a peer is unreachable, 4 attestation refused, 5 policy or consent refused,
// 6 the deployment has drifted from its plan.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	initProcess()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit code. It is main without the process, so that tests can call it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := newRootCmd(a)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && ctx.Err() != nil {
		err = errInterrupted // whatever was being done then failed because of it
	}
	return a.finish(err)
}

// newRootCmd builds the command tree. Each verb stands in a file of its own, in the order in which a newcomer meets it.
func newRootCmd(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "sealift",
		Short:         "deploy confidential applications to TEEs with TEEP, SUIT and RATS",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			// cobra asks for required flags only after this hook; a missing one is an error of usage.
			err := cmd.ValidateRequiredFlags()
			a.started = err == nil
			return err
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "print the result as JSON on stdout")
	flags.StringVar(&a.home, "home", defaultHome(), "folder of the owner's keys, contexts and policies ($SEALIFT_HOME)")
	root.AddCommand(
		newDemoCmd(a),
		newDevCmd(a),
		newPackCmd(a),
		newAdviseCmd(a),
		newPlanCmd(a),
		newDeployCmd(a),
		newStatusCmd(a),
		newVerifyCmd(a),
		newReleaseCmd(a),
		newCallCmd(a),
		newUpdateCmd(a),
		newStopCmd(a), newStartCmd(a),
		newLogsCmd(a),
		newTopCmd(a),
		newRemoveCmd(a),
		newInspectCmd(a),
		newManifestCmd(a),
		newConformCmd(a),
		newKeysCmd(a),
		newPolicyCmd(a),
		newCollateralCmd(a),
		newContextCmd(a),
		newMocCmd(a),
		newVerifierCmd(a),
		newBrokerCmd(a),
		newEmulatorCmd(a),
		newImageCmd(a),
		newBenchCmd(a),
		newExplainCmd(a),
		newDoctorCmd(a),
		newVersionCmd(a),
	)
	return root
}

// newGroupCmd returns a verb that only holds sub-verbs: alone it prints its help, and an unknown sub-verb is a usage error.
func newGroupCmd(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(verbs...)
	return cmd
}

// defaultHome is the owner's folder when --home is not given. Without a home directory it is empty, and the verbs that need
// it say so.
func defaultHome() string {
	if dir := os.Getenv("SEALIFT_HOME"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".sealift")
}
