// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package runner

import (
	"context"
	"errors"
	"net"
)

func listenUnix(string) (net.Listener, error) {
	return nil, errors.New("TAs need Linux")
}

func dialUnix(context.Context, string) (net.Conn, error) { return nil, ErrNotReady }

func peerPID(net.Conn) int { return 0 }

func exiting(int) bool { return false }
