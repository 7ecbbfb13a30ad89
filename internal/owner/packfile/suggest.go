// SPDX-License-Identifier: Apache-2.0

package packfile

import "strings"

// didYouMean returns a hint that names the known word nearest to got, or lists the known words when none is near.
func didYouMean(got string, known []string) string {
	best, bestDistance := "", len(got)/2+1
	for _, word := range known {
		if d := distance(strings.ToLower(got), word); d < bestDistance {
			best, bestDistance = word, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "known: " + strings.Join(known, ", ")
}

// distance is the number of letters to insert, delete or replace to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
