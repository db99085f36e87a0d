#!/usr/bin/env bash
# Leaves the kernel of the test machines in out/cache/kernel: vmlinuz, config, version, lib/modules/VERSION with
# depmod's files, and a stamp with checksums, which is verified on every call. The package is unpacked, never
# installed: this machine's own boot stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

# The metapackage of the flavour; it depends on the versioned package of the day.
meta=linux-image-6.12-cloud-amd64
cache=out/cache
dest=$cache/kernel

complete() {
	[[ -s $dest/stamp && -s $dest/modules.count ]] &&
		(cd "$dest" && sha256sum --check --quiet --strict stamp) >/dev/null 2>&1 &&
		[[ $(find "$dest/lib/modules" -name '*.ko*' | wc -l) == "$(cat "$dest/modules.count")" ]]
}
complete && exit 0

mkdir -p "$cache"
exec 9>"$cache/.kernel.lock"
flock 9
complete && exit 0 # somebody else made it while we waited

apt=(apt-get -o Acquire::Retries=3 -o APT::Sandbox::User=root)
versioned() {
	apt-cache depends --important "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1 || true
}
package=$(versioned)
if [[ -z $package ]]; then
	"${apt[@]}" update </dev/null
	package=$(versioned)
fi
if [[ -z $package ]]; then
	echo "bootstrap: $meta is not in the package lists; is this Debian 12 with its security suite enabled?" >&2
	exit 1
fi
version=${package#linux-image-}

work=$(mktemp -d "$cache/kernel.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "bootstrap: fetching $package"
if ! (cd "$work" && "${apt[@]}" download "$package" </dev/null); then
	# The lists were older than the archive: a security update replaced the package.
	"${apt[@]}" update </dev/null
	package=$(versioned)
	version=${package#linux-image-}
	(cd "$work" && "${apt[@]}" download "$package" </dev/null)
fi
echo "bootstrap: unpacking it into $dest"
dpkg -x "$work/$package"_*.deb "$work/root"
mkdir -p "$work/kernel/lib/modules"
mv "$work/root/boot/vmlinuz-$version" "$work/kernel/vmlinuz"
mv "$work/root/boot/config-$version" "$work/kernel/config"
if [[ -d $work/root/lib/modules ]]; then tree=$work/root/lib; else tree=$work/root/usr/lib; fi
mv "$tree/modules/$version" "$work/kernel/lib/modules/"
depmod -b "$work/kernel" "$version"
echo "$version" >"$work/kernel/version"
find "$work/kernel/lib/modules" -name '*.ko*' | wc -l >"$work/kernel/modules.count"
(cd "$work/kernel" && sha256sum vmlinuz config version "lib/modules/$version/modules.dep" "lib/modules/$version/modules.builtin" >stamp)

# Two renames: whoever reads sees the old tree, for an instant none, or the new one whole.
[[ ! -e $dest ]] || mv "$dest" "$work/old"
mv "$work/kernel" "$dest"
complete || { echo "bootstrap: $dest does not match its own stamp; remove it and try again" >&2; exit 1; }
echo "bootstrap: kernel $version is ready"
