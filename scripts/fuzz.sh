#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs every fuzz target of the module, one after the other, for the time given ("30s", "10m").
set -eu
time="${1:-30s}"
go list ./... | while read -r pkg; do
	go test -list '^Fuzz' "$pkg" | grep '^Fuzz' | while read -r target; do
		echo "== $pkg $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1x "$pkg"
	done
done
