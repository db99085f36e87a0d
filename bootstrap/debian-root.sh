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

complete() {
	[[ -s $dest/stamp ]] && [[ $(head -n 1 "$dest/packages") == "$suite $packages" ]] &&
		(cd "$dest" && sha256sum --check --quiet --strict stamp) >/dev/null 2>&1
}
complete && exit 0

mkdir -p "$cache"
exec 9>"$cache/.debian-root.lock"
flock 9
complete && exit 0 # somebody else made it while we waited

work=$(mktemp -d "$cache/debian-root.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "bootstrap: making a Debian root with systemd (about 80 MB to fetch, once)"
mmdebstrap --variant=essential --include="$packages" --format=tar \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	"$suite" "$work/root.tar"
echo "$suite $packages" >"$work/packages"
(cd "$work" && sha256sum root.tar packages >stamp)
rm -rf "$dest"
chmod 755 "$work"
mv "$work" "$dest"
trap - EXIT
echo "bootstrap: the Debian root is ready ($(du -h "$dest/root.tar" | cut -f1))"
