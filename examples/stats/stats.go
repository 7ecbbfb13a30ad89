// SPDX-License-Identifier: Apache-2.0

// Package stats is the worked example of a confidential application: a TA that answers statistical questions over personal
// records, a transfer server as its UA, and made-up records as PD. The programs are stats-ta and stats-ua; `sealift demo`
// takes the records from here.
package stats

import _ "embed" // for Records

// Records is the example's PD: a CSV table of made-up personal records.
//
//go:embed staff.csv
var Records []byte

// Names of the example's files and programs.
const (
	App         = "stats"
	RecordsFile = "staff.csv"
	TAProgram   = "stats-ta"
	UAProgram   = "stats-ua"
	Question    = "mean salary by department"
)
