// SPDX-License-Identifier: Apache-2.0

package usecase_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sealift/usecase"
)

func TestUpdatePlan(t *testing.T) {
	for _, c := range []struct {
		mode    usecase.Mode
		changed string
		want    string
	}{
		{usecase.ModeTAPD, "ta", "ta-to-instance attest pd-to-ta"},
		{usecase.ModeTAPD, "pd", "attest pd-to-ta"},
		{usecase.ModeUATAPD, "ua", "ua-to-ree"},
		{usecase.ModeUATAPD, "ta", "ta-to-instance attest pd-to-ta"},
		{usecase.ModeUATAPD, "ua ta pd", "ua-to-ree ta-to-instance attest pd-to-ta"},
		{usecase.ModeBundleUATA, "ua", "ua-to-ree ta-to-instance attest pd-to-ta"},
		{usecase.ModeBundleUATA, "pd", "attest pd-to-ta"},
		{usecase.ModeBundleTAPD, "pd", "attest ta+pd-to-instance"},
		{usecase.ModeBundleTAPDUA, "ua", "ua-to-ree"},
		{usecase.ModeBundleTAPDUA, "ta", "attest ta+pd-to-instance"},
		{usecase.ModeBundleUATAPD, "ua", "attest bundle-to-tee ta-to-instance pd-to-ta ua-to-ree"},
		{usecase.ModeBundleUAPD, "ta", "attest ta-to-instance ua+pd-to-ta ua-to-ree"},
		{usecase.ModeBundleUAPD, "ua", "attest ua+pd-to-ta ua-to-ree"},
	} {
		t.Run(fmt.Sprintf("%s %s", c.mode, c.changed), func(t *testing.T) {
			var changed []usecase.Payload
			for _, p := range strings.Fields(c.changed) {
				changed = append(changed, usecase.Payload(p))
			}
			for _, cell := range usecase.Cells() {
				p, err := usecase.UpdatePlan(c.mode, cell.Instance, cell.Hardware, changed)
				if err != nil {
					t.Fatal(err)
				}
				var names []string
				for _, s := range p.Steps {
					names = append(names, string(s.Step))
					if s.Trigger != "" || strings.Contains(s.What, "asks for it") {
						t.Errorf("%s: step %s waits for the UA", cell, s.Step)
					}
				}
				if got := strings.Join(names, " "); got != c.want {
					t.Errorf("%s: %s, want %s", cell, got, c.want)
				}
			}
		})
	}
	if _, err := usecase.UpdatePlan(usecase.ModeTAPD, usecase.Process, usecase.TrustZone, []usecase.Payload{usecase.UA}); !errors.Is(err, usecase.ErrUnknown) {
		t.Error(err)
	}
}
