// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"

	"sealift/internal/agentconfig"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
)

// Logs writes what the TA has printed to out, and with follow what it prints until ctx ends or the TA is stopped. It comes from inside the
// TEE over TLS that ends at the appraised TA's key, as an answer to [Owner.Call] does, whoever may call the TA.
func (o *Owner) Logs(ctx context.Context, ref string, follow bool, out io.Writer) error {
	return o.desk(ctx, ref, agentconfig.DeskRequest{Get: agentconfig.DeskLogs, Follow: follow}, func(r io.Reader) error {
		_, err := io.Copy(out, r)
		return err
	})
}

// UALogs returns what the UAs of a deployment have printed last, as their device says. It comes from the REE, through the operator.
func (o *Owner) UALogs(ctx context.Context, ref string) ([]mocapi.UALog, error) {
	d, err := o.find(ref)
	if err != nil {
		return nil, err
	}
	s, err := o.connect(d.Context)
	if err != nil {
		return nil, err
	}
	logs, err := s.api.UALogs(ctx, d.ID)
	return logs.UAs, err
}

// maxReport bounds a DeskReport.
const maxReport = 64 << 10

// Usage asks the TEE what the TA takes.
func (o *Owner) Usage(ctx context.Context, ref string) (*agentconfig.DeskReport, error) {
	return o.speak(ctx, ref, agentconfig.DeskUsage)
}

// desk makes one request at the owner's desk of the TA.
func (o *Owner) desk(ctx context.Context, ref string, r agentconfig.DeskRequest, read func(io.Reader) error) error {
	d, ta, err := o.callee(ctx, ref)
	if err != nil {
		return err
	}
	s, err := o.connect(d.Context)
	if err != nil {
		return err
	}
	key, err := o.Home.KeyByPublic(d.Package.Owner)
	if err != nil {
		return err
	}
	config, err := clientTLS(key, ta.TLSKey)
	if err != nil {
		return err
	}
	config.NextProtos = []string{agentconfig.DeskALPN}
	dep, err := persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.Deployment(ctx, d.ID, 0, 0) })
	if err != nil {
		return err
	}
	if err := resting(dep); fault.Is(err, fault.DeploymentStopped) {
		return err
	}
	raw, err := dialRelay(ctx, dep, d.Package.Name, "ta"+agentconfig.DeskSuffix)
	if err != nil {
		return err
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	conn := tls.Client(raw, config)
	line, err := json.Marshal(r)
	if err == nil {
		_, err = conn.Write(append(line, '\n'))
	}
	if err == nil {
		err = read(conn)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && r.Follow:
		return nil
	case refusedByPeer(err):
		return fault.New(fault.Forbidden, "the TEE refused this caller: %w", err).WithHint("logs are for the key that signed the TA")
	}
	return fault.Wrap(fault.Unreachable, fmt.Errorf("the owner's desk of the TA: %w", err))
}
