// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"fmt"

	"sealift/suit"
	"sealift/suit/report"
)

// A processor writes a report, and its reader learns what is installed now.
func ExampleParse() {
	ta := suit.NewComponentID("tee", "stats", "ta")
	r := &report.Report{
		Digest: suit.SHA256([]byte("the manifest")),
		Items: []report.Item{&report.SystemProperty{Component: ta,
			Params: suit.Params{suit.ParamDigest: suit.SHA256([]byte("the program"))}}},
	}
	data, err := r.Marshal()
	if err != nil {
		panic(err)
	}

	got, err := report.Parse(data)
	if err != nil {
		panic(err)
	}
	fmt.Println(got.OK(), got.Installed())
	// Output: true [tee/stats/ta]
}
