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

complete() {
	[[ -s $dest/stamp && "$(cat "$dest/packages")" == "$wanted" ]] &&
		(cd "$dest" && sha256sum --check --quiet --strict stamp) >/dev/null 2>&1
}
complete && exit 0

mkdir -p "$cache"
exec 9>"$cache/.peer-roots.lock"
flock 9
complete && exit 0 # somebody else made them while we waited

work=$(mktemp -d "$cache/peer-roots.XXXXXX")
trap 'rm -rf "$work"' EXIT
for name in dracut initramfs-tools; do
	echo "bootstrap: making a Debian root with $name (about 60 MB to fetch, once)"
	mmdebstrap --variant=essential --include="${packages[$name]}" --format=tar \
		--aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		"$suite" "$work/$name.tar"
done
echo "$wanted" >"$work/packages"
(cd "$work" && sha256sum ./*.tar packages >stamp)
rm -rf "$dest"
chmod 755 "$work"
mv "$work" "$dest"
trap - EXIT
echo "bootstrap: the roots of initramfs-tools and dracut are ready ($(du -sh "$dest" | cut -f1))"
