// SPDX-License-Identifier: Apache-2.0

package processor

import "context"

type procedure int

const (
	procedureUpdate procedure = iota
	procedureInvocation
	procedureUninstall
)

func (o Options) withDefaults() Options { return o }

func (p *Processor) run(ctx context.Context, envelope []byte, which procedure) (*Outcome, error) {
	panic("declared, body follows")
}
