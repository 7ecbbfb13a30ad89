// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"context"
	"errors"
	"path/filepath"

	"sealift/internal/platform/qemu"
)

// tpmName is the folder in an instance's with the state of its TPM, while it runs.
const tpmName = "tpm"

// addTPM gives the machine of an image with a TPM one. It is new at every start, as the registers of a machine that was switched on
// are, and it is a program on the host: the emulated hardware vouches for it as for everything else that it plays.
func (l *vmLife) addTPM(ctx context.Context, j job, m *qemu.Machine) error {
	if !j.image.TPM {
		return nil
	}
	t, err := qemu.StartTPM(ctx, filepath.Join(filepath.Dir(j.store), tpmName), j.uid, j.log)
	if err != nil {
		return err
	}
	l.tpm, m.TPM = t, t.Control
	return nil
}

// watchTPM ends a machine whose TPM has ended: it could give no Evidence any more.
func (l *vmLife) watchTPM() {
	select {
	case <-l.tpm.Done():
		select {
		case <-l.vm.Done(): // and the TPM with it
		default:
			l.end(errors.New("its TPM has ended"))
		}
	case <-l.vm.Done():
	}
}
