// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sealift/internal/broker"
	"sealift/internal/dev"
	"sealift/internal/moc/mocapi"
	"sealift/internal/platform/emulator"
)

// brokerFlags are the flags of `broker run`.
type brokerFlags struct {
	device, moc, ca, token, state, emulator, agent, relay, publish, ready, cache string
	images                                                                       []string
	labels                                                                       map[string]string
}

func newBrokerCmd(a *app) *cobra.Command {
	var f brokerFlags
	run := &cobra.Command{
		Use:   "run",
		Short: "serve a device: run its TEE instances and UAs, and carry TEEP between TAM and TEEP Agents",
		Long: `Serve a device as its TEEP Broker, until SIGINT or SIGTERM. UAs are stopped with the Broker; TEE instances keep running.
One Broker serves one device: a second one is refused.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runBroker(cmd.Context(), f) },
	}
	flags := run.Flags()
	flags.StringVar(&f.device, "device", "", "name of the device (the name of its token)")
	flags.StringVar(&f.moc, "moc", "", "address of the M/OC, as in https://moc.example:7788")
	flags.StringVar(&f.ca, "ca", "", "PEM file of the M/OC's certificate authority (default: those of the system)")
	flags.StringVar(&f.token, "token-file", "", "file with the device's bearer token")
	flags.StringVar(&f.state, "state", "", "folder for the Broker's state")
	flags.StringVar(&f.emulator, "emulator", "", "Unix socket of the emulated TEE platform")
	flags.StringVar(&f.agent, "agent", "", "image of the TEEP Agent in a process (default, unless --image is given: sealift-agent beside this program)")
	flags.StringArrayVar(&f.images, "image", nil, "image of the TEEP Agent in another instance type, made by sealift image build; repeat for more")
	flags.StringToStringVar(&f.labels, "label", nil, "word about the device by which requests choose, as in region=eu; repeat for more")
	flags.StringVar(&f.relay, "relay", "127.0.0.1:0", "address of the relay to TAs")
	flags.StringVar(&f.publish, "publish", "127.0.0.1", "address on which UAs publish their ports")
	flags.StringVar(&f.cache, "cache-size", "4GiB", "keep so many bytes of large payloads, so that they need not be moved again; 0: keep none")
	flags.StringVar(&f.ready, "ready-file", "", "write a file when the device has been announced")
	for _, name := range []string{"device", "moc", "token-file", "state", "emulator"} {
		_ = run.MarkFlagRequired(name)
	}
	return newGroupCmd("broker", "the TEEP Broker of a device", run)
}

func (a *app) runBroker(ctx context.Context, f brokerFlags) error {
	token, err := os.ReadFile(f.token)
	if err != nil {
		return &exitError{code: exitUsage, err: fmt.Errorf("reading the device's token: %w", err),
			hint: "the operator makes one with sealift moc token --role device"}
	}
	switch {
	case f.agent != "":
		err = dev.CheckAgent(f.agent)
	case len(f.images) == 0:
		f.agent, err = dev.FindAgent()
	}
	if err != nil {
		return err
	}
	if f.agent != "" {
		f.images = append([]string{f.agent}, f.images...)
	}
	roots, err := readAuthority(f.ca)
	if err != nil {
		return err
	}
	kept, err := parseSize(f.cache)
	if err != nil || kept < 0 {
		return usageError("for example --cache-size 4GiB", "%q is not a size", f.cache)
	}
	if kept == 0 {
		kept = -1
	}
	log := a.logger()
	b, err := broker.New(broker.Config{
		Device: f.device, Roots: roots,
		MOC:    &mocapi.Client{BaseURL: f.moc, Token: strings.TrimSpace(string(token)), HTTP: broker.HTTPClient(roots)},
		Driver: emulator.Dial(f.emulator), Images: f.images, Labels: f.labels, StateDir: f.state, Relay: f.relay, PublishOn: f.publish, Log: log,
		CacheBytes: kept,
		Ready: func(r broker.Ready) {
			log.Info("the device is announced", "device", f.device, "relay", r.Relay, "hardware", r.Info.Hardware, "emulated", r.Info.Emulated)
			if err := writeReady(f.ready, "relay "+r.Relay+"\n"); err != nil {
				log.Error("writing the ready file", "error", err)
			}
		},
	})
	if errors.Is(err, broker.ErrLocked) {
		return &exitError{code: exitFailure, err: err, hint: "stop the other one first, or give this one a device, a token and a state folder of its own"}
	}
	if err != nil {
		return err
	}
	return b.Run(ctx)
}
