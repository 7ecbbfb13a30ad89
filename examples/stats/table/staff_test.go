// SPDX-License-Identifier: Apache-2.0

package table

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
)

var update = flag.Bool("update", false, "write the generated files anew")

// staff makes up the example's personal data: 1,200 records without any person behind them, the same ones every time.
func staff() []byte {
	rnd := rand.New(rand.NewPCG(9397, 2026))
	pick := func(s ...string) string { return s[rnd.IntN(len(s))] }
	base := map[string]int{"research": 61000, "production": 42000, "sales": 47000, "logistics": 39000, "administration": 45000}
	var b bytes.Buffer
	b.WriteString("record,department,city,team,role,age,hours,salary\n")
	for i := range 1200 {
		dept := pick("research", "production", "production", "sales", "logistics", "logistics", "administration")
		city := pick("Northport", "Northport", "Eastfield", "Eastfield", "Westbridge", "Southmere")
		role := pick("staff", "staff", "staff", "senior", "lead")
		switch i % 400 { // two groups of three records that must stay hidden
		case 7:
			dept, city = "board", "Northport"
		case 9:
			dept, city = "audit", "Eastfield"
		}
		salary := base[dept] + map[string]int{"staff": 0, "senior": 9000, "lead": 17000}[role] + rnd.IntN(8000)
		if dept == "board" || dept == "audit" {
			salary = 180000 + rnd.IntN(60000)
		}
		fmt.Fprintf(&b, "r%05d,%s,%s,%s,%s,%d,%d,%d\n", 10000+i, dept, city, pick("x", "y", "z"), role,
			20+rnd.IntN(46), 18+rnd.IntN(23), salary)
	}
	return b.Bytes()
}
