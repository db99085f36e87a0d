# Sourced by the scripts that make Debian roots by mmdebstrap, from the archive of this machine. They set cache, dest (the root's folder), suite
# and wanted (what is in it, in words, for the file packages).

# complete tells whether the root is there, as it is wanted and whole.
complete() {
	[[ -s $dest/stamp && "$(cat "$dest/packages")" == "$wanted" ]] &&
		(cd "$dest" && sha256sum --check --quiet --strict stamp) >/dev/null 2>&1
}

# begin ends the script if there is nothing to do, also where somebody else did it meanwhile; otherwise it holds the lock and makes $work.
begin() {
	if complete; then exit 0; fi
	mkdir -p "$cache"
	exec 9>"$cache/.${dest##*/}.lock"
	flock 9
	if complete; then exit 0; fi
	work=$(mktemp -d "$cache/${dest##*/}.XXXXXX")
	trap 'rm -rf "$work"' EXIT
}

# root makes the archive $work/NAME.tar with packages (a,b,c).
root() {
	mmdebstrap --variant=essential --include="$2" --format=tar \
		--aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		"$suite" "$work/$1.tar"
}

# finish stamps what is in $work and puts it in place.
finish() {
	echo "$wanted" >"$work/packages"
	(cd "$work" && sha256sum ./*.tar packages >stamp)
	rm -rf "$dest"
	chmod 755 "$work"
	mv "$work" "$dest"
	trap - EXIT
}
