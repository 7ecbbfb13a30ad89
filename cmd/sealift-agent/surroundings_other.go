// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"context"
	"errors"
	"log/slog"

	"sealift/internal/agent"
)

func sandboxInit() {}

func surroundings(context.Context, *slog.Logger) (agent.Options, error) {
	return agent.Options{}, errors.New("the TEEP Agent needs Linux")
}
