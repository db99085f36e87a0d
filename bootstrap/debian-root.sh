#!/usr/bin/env bash
# Leaves a small Debian root with systemd in out/cache/debian-root/root.tar, for machines that are handed over to one, and
# a stamp with its checksum, which is verified on every call. It is made by mmdebstrap from the archive of this machine.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=out/cache
dest=$cache/debian-root
suite=bookworm
# dmsetup for its udev rules, kmod and mount for systemd's own units.
packages=systemd,systemd-sysv,udev,dmsetup,kmod,mount

wanted="$suite $packages"
. bootstrap/root.sh

begin
echo "bootstrap: making a Debian root with systemd (about 80 MB to fetch, once)"
root root "$packages"
finish
echo "bootstrap: the Debian root is ready ($(du -h "$dest/root.tar" | cut -f1))"
