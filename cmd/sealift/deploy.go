// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sealift/internal/moc/mocapi"
	"sealift/internal/owner"
	"sealift/usecase"
)

// defaultDeployTime bounds `deploy --wait`: installing a large package takes its time, a device that never answers must not.
const defaultDeployTime = 10 * time.Minute

func newDeployCmd(a *app) *cobra.Command {
	var f ownerFlags
	var r owner.DeployRequest
	var count int
	var sharing string
	cmd := &cobra.Command{
		Use:   "deploy PACKAGE",
		Short: "push a package and ask the M/OC for a confidential device to run it",
		Long: `Push what may be public of a package, and ask the M/OC for a confidential resource. Then it is the owner's turn: verify, release. With
--wait this command does both, when the owner's policy is satisfied, and ends when the application runs.
Each step is printed to stderr as it happens.

With --delivery channel, PD and what shares its package never lie at the operator: release takes them to the TEE itself, through TLS that
ends inside the TEE, which keeps them in memory only. When the TEE has restarted, release delivers them again.

With --count, the same is asked for several times, one after the other; --place spread puts them on different devices where it can. The
first that fails ends it, and those before it stay.

With --sharing owner, the TEE instance may hold further applications of yours, and of nobody else: that stands in its measured configuration.
Each has a TA, keys, PD and limits of its own. Another deploy with --sharing owner goes into such an instance where one fits (with --place
spread only where no device has room for another), and one with --share-with DEPLOYMENT into that or nowhere.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.openOwner(f)
			if err != nil {
				return err
			}
			if count < 1 || count > maxCount {
				return usageError("", "--count is %d, not 1 to %d", count, maxCount)
			}
			if _, err := usecase.ParseDelivery(r.Delivery); err != nil {
				return usageError("", "--delivery: %w", err)
			}
			if sharing != "" && sharing != mocapi.SharingOwner {
				return usageError("", "--sharing is %q, not %s", sharing, mocapi.SharingOwner)
			}
			r.Package, r.Sharing = args[0], sharing != ""
			if count > 1 {
				return a.deploySeveral(cmd.Context(), o, r, count)
			}
			dep, err := o.Deploy(cmd.Context(), r)
			if err != nil {
				return a.explainRefusal(a.stderr, err)
			}
			return a.print(dep, func(w io.Writer) { writeDeployment(w, dep) })
		},
	}
	f.addPanel(cmd)
	cmd.Flags().BoolVar(&r.Wait, "wait", false, "verify and release as well, and wait until the application runs")
	cmd.Flags().StringVar(&r.Policy, "policy", "", "the owner's policy for --wait (default: default)")
	cmd.Flags().StringVar(&r.Device, "device", "", "only on this device")
	cmd.Flags().StringToStringVar(&r.Labels, "where", nil, "only on a device with this label, as in region=eu; repeat for more")
	cmd.Flags().StringVar(&r.Delivery, "delivery", usecase.DeliverySealed, deliveryUsage)
	cmd.Flags().StringVar(&r.Place, "place", "", "which device that fits: spread (default; fewest of this application) or pack (fullest)")
	cmd.Flags().StringVar(&sharing, "sharing", "", "owner: further applications of yours may share the TEE instance, and this one goes into such an instance if one fits")
	cmd.Flags().StringVar(&r.ShareWith, "share-with", "", "go into the TEE instance of this deployment, made with --sharing owner")
	cmd.Flags().IntVar(&count, "count", 1, "how many deployments to make")
	cmd.Flags().DurationVar(&r.Timeout, "timeout", defaultDeployTime, "give up after this time, for each deployment")
	return cmd
}

// maxCount bounds --count.
const maxCount = 256

// deploySeveral makes count deployments and prints those that there are, also where one fails.
func (a *app) deploySeveral(ctx context.Context, o *owner.Owner, r owner.DeployRequest, count int) error {
	made := []*mocapi.Deployment{}
	var failed error
	for len(made) < count && failed == nil {
		var dep *mocapi.Deployment
		if dep, failed = o.Deploy(ctx, r); failed == nil {
			made = append(made, dep)
		}
	}
	err := a.print(made, func(w io.Writer) {
		for _, dep := range made {
			writeDeployment(w, dep)
		}
	})
	if failed != nil {
		a.say("%d of %d deployments were made; the next one failed", len(made), count)
		return a.explainRefusal(a.stderr, failed)
	}
	return err
}

func writeDeployment(w io.Writer, d *mocapi.Deployment) {
	delivery := ""
	if d.Delivery == usecase.DeliveryChannel {
		delivery = "  delivery " + d.Delivery
	}
	fmt.Fprintf(w, "%s  %s  mode %s%s  on %s (%s/%s)%s  %s\n", printable(d.ID), printable(d.App), printable(d.Mode), delivery, printable(d.Device),
		printable(d.Hardware), printable(d.Instance), emulatedMark(d.Emulated), printable(string(d.State)))
	writeSharing(w, d)
	if d.State == mocapi.StateRunning {
		fmt.Fprintf(w, "sealift call %s asks it, sealift remove %s ends it\n", printable(d.App), printable(d.App))
	} else {
		fmt.Fprintf(w, "next: sealift verify %s, then sealift release %s\n", printable(d.App), printable(d.App))
	}
}

// writeSharing tells what shares a deployment's TEE instance.
func writeSharing(w io.Writer, d *mocapi.Deployment) {
	switch {
	case d.Sharing != "" && len(d.SharesWith) > 0:
		fmt.Fprintf(w, "in the TEE instance %s, shared with %s\n", printable(d.TEE), printable(strings.Join(d.SharesWith, ", ")))
	case d.Sharing != "":
		fmt.Fprintf(w, "in the TEE instance %s, which further applications of this owner may share\n", printable(d.TEE))
	}
}
