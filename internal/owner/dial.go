// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/usecase"
)

// dialTA opens the byte stream: to the UA's published port, or through the Broker's relay.
func dialTA(ctx context.Context, dep *mocapi.Deployment, d *deployment, port string) (net.Conn, error) {
	ua, ok := d.Package.Component(usecase.UA)
	if !ok || ua.Launch == nil || len(ua.Launch.Ports) == 0 {
		return dialRelay(ctx, dep, d.Package.Name, "ta")
	}
	if port == "" {
		port = ua.Launch.Ports[0].Name
	}
	var known []string
	for _, p := range ua.Launch.Ports {
		known = append(known, p.Name)
	}
	if !slices.Contains(known, port) {
		return nil, fault.New(fault.BadRequest, "the UA has no port %q", port).WithHint("it has %s", strings.Join(known, ", "))
	}
	if dep.InstanceStatus != nil {
		for _, u := range dep.InstanceStatus.UAs {
			if addr := u.Ports[port]; u.Component == ua.ID.String() && u.Running && addr != "" {
				return dial(ctx, addr, "the UA")
			}
		}
	}
	return nil, fault.New(fault.Unavailable, "the UA does not publish the port %q yet", port)
}

func dial(ctx context.Context, addr, who string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, fmt.Errorf("%s does not answer: %w", who, err))
	}
	return conn, nil
}

// dialRelay asks the Broker's relay for a byte stream to the TA (RFC 9110 section 9.3.6).
func dialRelay(ctx context.Context, dep *mocapi.Deployment, app, ta string) (net.Conn, error) {
	if dep.RelayAddr == "" {
		return nil, fault.New(fault.Unavailable, "the device has not said where its relay listens")
	}
	conn, err := dial(ctx, dep.RelayAddr, "the device's relay")
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(25 * time.Second))
	target := fmt.Sprintf("%s.%s.%s:443", ta, app, cmp.Or(dep.TEE, dep.ID))
	r := bufio.NewReaderSize(conn, 4<<10)
	_, err = fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	}
	if err != nil {
		conn.Close()
		return nil, fault.Wrap(fault.Unreachable, fmt.Errorf("the device's relay does not answer: %w", err))
	}
	if resp.StatusCode != http.StatusOK {
		defer conn.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		code := fault.NotFound
		if resp.StatusCode >= http.StatusInternalServerError {
			code = fault.Unavailable
		}
		return nil, fault.New(code, "the device's relay refuses: %s", strings.TrimSpace(string(text)))
	}
	_ = conn.SetDeadline(time.Time{})
	return buffered{conn, r}, nil
}

// buffered is a connection with the bytes that were read ahead.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.r.Read(p) }
