#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what the tests need beyond Go and git: Debian packages: a TA and data that this project did
# not make, and strace, which records what passes between processes. On other systems, or without the rights to install, it says what is missing and fails.
set -eu

missing=""
[ -x /bin/busybox ] || [ -x /usr/bin/busybox ] || missing="$missing busybox-static"
[ -f /usr/share/ieee-data/oui.csv ] || missing="$missing ieee-data"
command -v strace >/dev/null 2>&1 || missing="$missing strace"
if [ -z "$missing" ]; then
	exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
	echo "setup: missing:$missing (Debian's package names); install them by this system's own means" >&2
	exit 1
fi
sudo=""
if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "setup: missing:$missing; run as root or with sudo: apt-get install$missing" >&2
		exit 1
	fi
	sudo=sudo
fi
$sudo apt-get update -q
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
