// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"golang.org/x/sys/unix"

	"sealift/evidence/tpm"
	"sealift/internal/platform/hw"
)

// The TPM of a guest as Linux shows it: the device, through the kernel's resource manager, and the event log of the boot.
const (
	tpmDevice   = "/dev/tpmrm0"
	securityDir = "/sys/kernel/security"
	tpmLog      = securityDir + "/tpm0/binary_bios_measurements"
	maxLog      = 256 << 10
)

// quoter is the guest's TPM with an attestation key in it.
type quoter struct {
	mu  sync.Mutex
	key *tpm.Key
	log []byte
}

// openTPM opens the TPM, reads the event log, and makes an attestation key, while this program is root. The log does not grow any
// more: what firmware and boot loader did is done. Without a TPM the result is nil.
func openTPM() (hw.Quoter, error) {
	if _, err := os.Lstat(tpmDevice); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	log, err := readLog()
	if err != nil {
		return nil, err
	}
	t, err := linuxtpm.Open(tpmDevice)
	if err != nil {
		return nil, err
	}
	key, err := tpm.NewKey(t)
	for _, path := range []string{tpmDevice, "/dev/tpm0"} { // nobody else is to find them
		if e := os.Remove(path); err == nil {
			err = e
		}
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return &quoter{key: key, log: log}, nil
}

// readLog reads the event log, for which securityfs is there as long as it takes.
func readLog() ([]byte, error) {
	if err := unix.Mount("securityfs", securityDir, "securityfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return nil, fmt.Errorf("event log: mounting %s: %w", securityDir, err)
	}
	log, err := func() ([]byte, error) {
		f, err := os.Open(tpmLog)
		if err != nil {
			return nil, fmt.Errorf("event log: %w: the firmware keeps none", err)
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, maxLog+1))
	}()
	if err == nil && len(log) > maxLog {
		err = fmt.Errorf("event log: more than %d bytes", maxLog)
	}
	if e := unix.Unmount(securityDir, 0); e != nil {
		err = errors.Join(err, fmt.Errorf("event log: unmounting %s: %w", securityDir, e))
	}
	return log, err
}

// QuoteKey implements hw.Quoter.
func (q *quoter) QuoteKey() []byte { name := q.key.Name(); return name[:] }

// Quote implements hw.Quoter.
func (q *quoter) Quote(binding [64]byte) ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	quote, err := q.key.Quote(tpm.Nonce(binding[:]), q.log)
	if err != nil {
		return nil, err
	}
	return quote.Marshal(), nil
}
