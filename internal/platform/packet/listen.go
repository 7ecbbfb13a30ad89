// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// maxPath is the longest path that fits into a socket address everywhere (unix(7): 108 bytes with the final zero on Linux, 104
// elsewhere).
const maxPath = 103

// ErrInUse means that somebody serves the socket already.
var ErrInUse = errors.New("packet: the socket is in use")

// Listen makes a socket at path that only this user can connect to. A socket that nobody serves any more is replaced.
//
// The socket is made in a folder that nobody else can enter and gets its name when its mode is right, so that there is no
// moment in which another user could connect.
func Listen(path string) (net.Listener, error) {
	if st, err := os.Lstat(path); err == nil {
		if st.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("packet: %s exists and is no socket", path)
		}
		if c, err := Dial(context.Background(), path); err == nil {
			c.Close()
			return nil, fmt.Errorf("%w: %s", ErrInUse, path)
		}
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".socket-")
	if err != nil {
		return nil, fmt.Errorf("packet: %w", err)
	}
	defer os.RemoveAll(dir)
	var l *net.UnixListener
	made := filepath.Join(dir, "s")
	err = withShortPath(made, func(short string) (err error) {
		l, err = net.ListenUnix("unixpacket", &net.UnixAddr{Net: "unixpacket", Name: short})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("packet: %w", err)
	}
	l.SetUnlinkOnClose(false) // its name changes now
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, path)); err != nil {
		l.Close()
		return nil, fmt.Errorf("packet: %w", err)
	}
	return &listener{UnixListener: l, path: path}, nil
}

// listener removes its name when it is closed.
type listener struct {
	*net.UnixListener
	path string
}

func (l *listener) Close() error {
	_ = os.Remove(l.path)
	return l.UnixListener.Close()
}

// Dial connects to the socket at path.
func Dial(ctx context.Context, path string) (*Conn, error) {
	var c net.Conn
	err := withShortPath(path, func(short string) (err error) {
		var d net.Dialer
		c, err = d.DialContext(ctx, "unixpacket", short)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("packet: %w", err)
	}
	return New(c.(*net.UnixConn)), nil
}

// withShortPath calls f with a path to the same file that fits into a socket address: where path does not, through a
// descriptor of its folder (Linux only).
func withShortPath(path string, f func(string) error) error {
	if len(path) <= maxPath {
		return f(path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return f("/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + filepath.Base(path))
}
