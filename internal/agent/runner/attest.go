// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	listenName = "listen.sock"
	attestName = "attest.sock"

	minNonce = 8  // bytes, as for eat_nonce (RFC 9711 section 4.1)
	maxNonce = 64 //

	attestTimeout = 10 * time.Second
	attestConns   = 4
)

// attester serves SEALIFT_ATTEST: a caller writes a nonce of 8 to 64 bytes, ends its direction of the connection, and reads the
// Evidence up to the end; an end without a byte is a refusal.
type attester struct {
	ln     net.Listener
	attest func(ctx context.Context, nonce []byte) ([]byte, error)
	wg     sync.WaitGroup
}

func serveAttest(path string, attest func(context.Context, []byte) ([]byte, error)) (*attester, error) {
	ln, err := listenUnix(path)
	if err != nil {
		return nil, fmt.Errorf("runner: %w", err)
	}
	a := &attester{ln: ln, attest: attest}
	for range attestConns {
		a.wg.Go(a.accept)
	}
	return a, nil
}

func (a *attester) accept() {
	for {
		conn, err := a.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(attestTimeout / 100) // out of descriptors: wait for some to be closed
			continue
		}
		a.answer(conn)
		conn.Close()
	}
}

func (a *attester) answer(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(attestTimeout))
	nonce, err := io.ReadAll(io.LimitReader(conn, maxNonce+1))
	if err != nil || len(nonce) < minNonce || len(nonce) > maxNonce || a.attest == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), attestTimeout)
	defer cancel()
	if bundle, err := a.attest(ctx, nonce); err == nil {
		_, _ = conn.Write(bundle)
	}
}

func (a *attester) close() {
	a.ln.Close()
	a.wg.Wait()
}
