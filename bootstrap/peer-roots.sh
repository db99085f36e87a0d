#!/usr/bin/env bash
# Leaves two Debian roots in out/cache/peer-roots, which the bench makes the initramfs of other people in, each by its own
# tools: initramfs-tools.tar and dracut.tar (they cannot be installed together). A stamp with checksums is verified on every call.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=out/cache
dest=$cache/peer-roots
suite=bookworm
declare -A packages=(
	[initramfs-tools]=initramfs-tools,cryptsetup-initramfs,busybox,zstd,udev,e2fsprogs
	[dracut]=dracut-core,cryptsetup-bin,dmsetup,mount,udev,zstd,e2fsprogs
)
wanted=$(for name in dracut initramfs-tools; do echo "$suite $name ${packages[$name]}"; done)

. bootstrap/root.sh

begin
for name in dracut initramfs-tools; do
	echo "bootstrap: making a Debian root with $name (about 60 MB to fetch, once)"
	root "$name" "${packages[$name]}"
done
finish
echo "bootstrap: the roots of initramfs-tools and dracut are ready ($(du -sh "$dest" | cut -f1))"
