// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"fmt"

	"sealift/evidence"
	"sealift/evidence/cca"
	"sealift/evidence/csv"
	"sealift/evidence/tdx"
	"sealift/internal/image"
)

// registers are the names of the registers that an instance can extend while it runs. The other architectures have none.
var registers = map[evidence.Hardware]string{evidence.TDX: "RTMR3", evidence.CCA: "REM0", evidence.CSV: "RTMR3"}

// extend extends the instance's register. It begins with zeros at each start, and nothing can set it back.
func (r *run) extend(event []byte) error {
	if registers[r.device.dev.Hardware] == "" {
		return fmt.Errorf("%s has no register to extend", r.device.dev.Hardware)
	}
	if len(event) != 48 {
		return fmt.Errorf("an event of %d bytes, not 48", len(event))
	}
	newHash := image.Hash(r.device.dev.Hardware)
	if r.register == nil {
		r.register = make([]byte, newHash().Size())
	}
	r.register = evidence.Extend(newHash, r.register, [48]byte(event))
	return nil
}

// setRegister puts the register where the architecture's Evidence has it.
func setRegister(value []byte) func(any) {
	return func(content any) {
		if value == nil {
			return
		}
		switch c := content.(type) {
		case *tdx.Report:
			copy(c.RTMR[3][:], value)
		case *csv.Report:
			copy(c.RTMR[3][:], value)
		case *cca.Token:
			c.Realm.Extensible[0] = value
		}
	}
}
