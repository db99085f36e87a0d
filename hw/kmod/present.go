package kmod

import (
	"path"
	"strings"
)

// present tells whether a module is in the kernel, loaded or built in. One that is being loaded or removed right now is
// not: the kernel's own calls wait for that to end.
func (l *Loader) present(name string) bool {
	dir := path.Join("sys/module", name)
	if !l.sys.Exists(dir) {
		return false
	}
	state, err := l.sys.String(path.Join(dir, "initstate"))
	if err != nil {
		// Only modules with a file have it (kernel/module/sysfs.c); what is built in shows its parameters alone.
		return !l.sys.Exists(path.Join(dir, "refcnt"))
	}
	return state == "live"
}

// inKernel tells whether a name that the index does not know is served by the running kernel all the same: the tree in
// an image is pruned, and older kernels do not list the aliases of what is built in.
func (l *Loader) inKernel(name string) bool {
	if fs, ok := strings.CutPrefix(name, "fs-"); ok {
		return l.listed("proc/filesystems", func(fields []string) bool { return fields[len(fields)-1] == fs })
	}
	if cipher, ok := strings.CutPrefix(name, "crypto-"); ok {
		return l.listed("proc/crypto", func(fields []string) bool {
			return len(fields) == 3 && (fields[0] == "name" || fields[0] == "driver") && fields[2] == cipher
		})
	}
	return !strings.Contains(name, "/") && l.present(Normalize(name))
}

// maxListing bounds /proc/crypto and /proc/filesystems, in bytes.
const maxListing = 1 << 20

// listed tells whether a line of a file in /proc passes.
func (l *Loader) listed(file string, pass func(fields []string) bool) bool {
	text, err := l.sys.Bytes(file, maxListing)
	if err != nil {
		return false
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if fields := strings.Fields(line); len(fields) > 0 && pass(fields) {
			return true
		}
	}
	return false
}
