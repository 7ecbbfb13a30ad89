// SPDX-License-Identifier: Apache-2.0

package all_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sealift/internal/sharedtest"
)

// checkers are the tests that check the rows of MANIFEST.tsv, by the folder of the samples, with how many they are. The one row that
// none of them verifies is a request of another product's protocol, which holds no Evidence (cca/trustee_kbs-request.json).
var checkers = map[string]struct {
	file, test string
	rows       int
}{
	"snp":   {"evidence/snp/manifest_test.go", "TestManifest", 19},
	"tdx":   {"evidence/tdx/manifest_test.go", "TestManifest", 25},
	"sgx":   {"evidence/sgx/manifest_test.go", "TestManifest", 29},
	"cca":   {"evidence/cca/manifest_test.go", "TestManifest", 26},
	"psa":   {"evidence/psa/psa_test.go", "TestManifest", 14},
	"csv":   {"evidence/csv/csv_test.go", "TestManifest", 6},
	"optee": {"evidence/optee/manifest_test.go", "TestManifest", 5},
	"ear":   {"appraisal/ear/ear_test.go", "TestManifest", 3},
}

// TestManifest guards that no row of MANIFEST.tsv is left out: each belongs to a test that is there, each file is the one that is
// meant, and the number of rows that the tests check is the number that the table has.
func TestManifest(t *testing.T) {
	count := map[string]int{}
	for _, row := range sharedtest.Manifest(t, "evidence") {
		dir, _, _ := strings.Cut(row["file"], "/")
		count[dir]++
		data := sharedtest.Read(t, "evidence", row["file"])
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != row["sha256"] || strconv.Itoa(len(data)) != row["bytes"] {
			t.Errorf("%s is not the file of the manifest", row["file"])
		}
	}
	total := 0
	var parts []string
	for _, dir := range slices.Sorted(maps.Keys(count)) {
		c, known := checkers[dir]
		if !known || c.rows != count[dir] {
			t.Errorf("%d rows of %s in the manifest, %d are checked", count[dir], dir, c.rows)
			continue
		}
		source, err := os.ReadFile(filepath.Join(sharedtest.Root(t), filepath.FromSlash(c.file)))
		must(t, err)
		if !regexp.MustCompile(`(?m)^func ` + c.test + `\(`).Match(source) {
			t.Errorf("%s has no %s", c.file, c.test)
		}
		total += count[dir]
		parts = append(parts, fmt.Sprintf("%s %d", dir, count[dir]))
	}
	t.Logf("%d rows of MANIFEST.tsv: %s; all are checked by TestManifest of the packages, one as no Evidence", total, strings.Join(parts, ", "))
}
