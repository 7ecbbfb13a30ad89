#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what the tests need beyond Go and git, all of it from Debian's packages: a TA and data that this project did not
# make, strace, which records what passes between processes, for TEE instances of the type container the OCI runtimes runc and runsc (gVisor), umoci
# and skopeo, which make and copy images that this project had no part in, a TPM as a program, and for those of the type vm the
# emulator QEMU, and a kernel with firmware, which are not installed but unpacked into .cache/kernel. What is there already is
# left alone. On other systems, or without the rights to install, it says what is missing and fails.
set -eu

cd "$(dirname "$0")/.."
kernel=.cache/kernel
# What a guest needs of the kernel, in the order of loading (internal/image/build).
modules="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_console"

amd64=""
[ "$(uname -m)" != x86_64 ] || amd64=yes

missing=""
[ -x /bin/busybox ] || [ -x /usr/bin/busybox ] || missing="$missing busybox-static"
[ -f /usr/share/ieee-data/oui.csv ] || missing="$missing ieee-data"
command -v strace >/dev/null 2>&1 || missing="$missing strace"
command -v runc >/dev/null 2>&1 || missing="$missing runc"
[ -z "$amd64" ] || command -v runsc >/dev/null 2>&1 || missing="$missing runsc"
command -v umoci >/dev/null 2>&1 || missing="$missing umoci"
command -v skopeo >/dev/null 2>&1 || missing="$missing skopeo"
command -v swtpm >/dev/null 2>&1 || missing="$missing swtpm"
if [ -n "$amd64" ]; then
	command -v qemu-system-x86_64 >/dev/null 2>&1 || missing="$missing qemu-system-x86"
fi

need_kernel=""
if [ -n "$amd64" ] && { [ ! -f $kernel/packages ] || [ ! -f $kernel/ovmf ]; }; then
	need_kernel=yes
fi
if [ -z "$missing" ] && [ -z "$need_kernel" ]; then
	exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
	echo "setup: missing:$missing${need_kernel:+ and a kernel in $kernel (vmlinuz, the modules $modules, firmware, ovmf, and the file packages)}" \
		"(Debian's package names); install them by this system's own means" >&2
	exit 1
fi

# as_root runs a command with the rights to install.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null 2>&1; then
		sudo "$@"
	else
		echo "setup: missing:$missing${need_kernel:+ and a kernel in $kernel}; run as root or with sudo: $*" >&2
		exit 1
	fi
}

if [ -n "$missing" ]; then
	as_root apt-get update -q
	# shellcheck disable=SC2086
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
fi

[ -n "$need_kernel" ] || exit 0

# The package linux-image-cloud-amd64 depends on the one with the kernel of today.
kernel_package() {
	apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1
}

mkdir -p .cache
work=$(mktemp -d .cache/kernel-XXXXXX)
trap 'rm -rf "$work"' EXIT
name=$(kernel_package)
if [ -z "$name" ] || ! (cd "$work" && apt-get download -q "$name" seabios ovmf); then
	as_root apt-get update -q # the list of packages is not there, or old
	name=$(kernel_package)
	if [ -z "$name" ]; then
		echo "setup: no package linux-image-cloud-amd64 is known here: the kernel for the instance type vm has to come from elsewhere" >&2
		exit 1
	fi
	(cd "$work" && rm -f ./*.deb && apt-get download -q "$name" seabios ovmf)
fi
mkdir "$work/kernel"
# One line for each package: name, version, digest. In the end the file moves with the folder: one without it is incomplete.
for package in "$name" seabios ovmf; do
	deb=$(ls "$work/${package}_"*.deb)
	dpkg-deb -x "$deb" "$work/tree"
	echo "$package $(dpkg-deb -f "$deb" Version) $(sha256sum "$deb" | cut -d ' ' -f 1)" >>"$work/kernel/packages"
done
cp "$work"/tree/boot/vmlinuz-* "$work/kernel/vmlinuz"
cp "$work/tree/usr/share/seabios/bios-256k.bin" "$work/kernel/firmware"
cp "$work/tree/usr/share/ovmf/OVMF.fd" "$work/kernel/ovmf"
for module in $modules; do
	find "$work/tree" -name "$module.ko" -exec cp {} "$work/kernel/" \;
	[ -f "$work/kernel/$module.ko" ] || { echo "setup: the package $name has no module $module" >&2; exit 1; }
done
rm -rf $kernel
mv "$work/kernel" $kernel
echo "setup: in $kernel are:"
cat $kernel/packages
