// SPDX-License-Identifier: Apache-2.0

package usecase_test

import (
	"fmt"

	"sealift/usecase"
)

// The load sequence of a mode on a place, and what the operator's M/OC gets to see of the data.
func ExamplePlan() {
	plan, err := usecase.Plan("ta,pd", usecase.Process, usecase.TrustZone)
	if err != nil {
		panic(err)
	}
	for i, s := range plan.Steps {
		fmt.Printf("%d %s: %s -> %s, encrypted to %q\n", i+1, s.Step, s.From, s.To, s.EncryptedTo)
	}
	fmt.Println("the M/OC sees of the PD:", plan.SeenBy.Of(usecase.RoleMOC, usecase.PD))
	// Output:
	// 1 admit: agent -> tam, encrypted to ""
	// 2 ta-to-instance: moc -> instance, encrypted to ""
	// 3 attest: agent -> owner, encrypted to ""
	// 4 pd-to-ta: owner -> ta, encrypted to "ta"
	// the M/OC sees of the PD: name+size+ciphertext
}

// A place that cannot exist is refused with the reason.
func ExampleValid() {
	fmt.Println(usecase.Valid(usecase.Process, usecase.TrustZone))
	fmt.Println(usecase.Valid(usecase.VM, usecase.TrustZone) != nil)
	// Output:
	// <nil>
	// true
}
