// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// ProgramTPM is the program that plays a TPM 2.0.
const ProgramTPM = "swtpm"

// TPM is a running TPM for one machine. It is a program of the host, confined as QEMU is, with a folder for its state: who controls
// the host controls the TPM.
type TPM struct {
	*VM              // the program, which ends by itself when its machine does
	Control *os.File // for [Machine.TPM]
	dir     string
}

// StartTPM starts a new TPM, which has measured nothing yet. dir is where its state will be: it is made, belongs to the TPM's user, and
// [TPM.Remove] deletes it; what an earlier one left there is deleted. out gets what the program says.
func StartTPM(ctx context.Context, dir string, uid int, out io.Writer) (t *TPM, err error) {
	path, err := exec.LookPath(ProgramTPM)
	if err != nil {
		return nil, fmt.Errorf("%w: the program %s is missing (Debian: apt-get install swtpm)", ErrUnsupported, ProgramTPM)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("qemu: a TPM: %w", err), os.RemoveAll(dir))
		}
	}()
	state, err := newState(dir, uid)
	if err != nil {
		return nil, err
	}
	defer state.Close()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	control, theirs := os.NewFile(uintptr(fds[0]), "tpm"), os.NewFile(uintptr(fds[1]), "tpm")
	defer theirs.Close()
	p := process{path: path, files: []*os.File{theirs, state}, out: out, uid: uid, dir: dir, args: []string{
		ProgramTPM, "socket", "--tpm2", "--tpmstate", fmt.Sprintf("dir=/proc/self/fd/%d", firstFD+1),
		"--ctrl", fmt.Sprintf("type=unixio,clientfd=%d", firstFD),
		"--flags", "not-need-init,startup-clear", "--terminate",
	}, limits: map[int]uint64{unix.RLIMIT_DATA: 256 << 20, unix.RLIMIT_NOFILE: 64, unix.RLIMIT_FSIZE: 1 << 20, unix.RLIMIT_CORE: 0}}
	v, err := p.start(ctx)
	if err != nil {
		control.Close()
		return nil, err
	}
	return &TPM{v, control, dir}, nil
}

// newState makes an empty folder for a user, and opens it: the folders above may be closed to that user.
func newState(dir string, uid int) (*os.File, error) {
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		return nil, err
	}
	if uid != 0 {
		if err := os.Chown(dir, uid, uid); err != nil {
			return nil, err
		}
	}
	return os.Open(dir)
}

// Remove ends the TPM and deletes its state.
func (t *TPM) Remove() error {
	t.Control.Close()
	_ = t.Kill()
	_ = t.Wait()
	if err := os.RemoveAll(t.dir); err != nil {
		return fmt.Errorf("qemu: the TPM's state: %w", err)
	}
	return nil
}
