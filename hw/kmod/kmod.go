// Package kmod finds, orders and loads kernel modules, and is the program that the kernel calls as /sbin/modprobe.
//
// It owns the text files of depmod below lib/modules/RELEASE (modules.dep, .softdep, .weakdep, .alias, .symbols,
// .builtin, .builtin.modinfo), the matching of names and aliases, the order of loading, and the calls finit_module,
// init_module and delete_module. It needs sysfs and procfs to know what is in the kernel already and what the kernel
// command line says. It never runs a command (install and remove lines of modprobe.d are not read), never writes a
// file, and never decides which modules a machine should have: callers ask by name, alias or modalias.
//
// An Index is pure: it is made from a file tree and answers questions. A Loader acts on the running kernel.
package kmod

import (
	"fmt"
	"path"
	"strings"
)

// Module is one kernel module.
type Module struct {
	// Name is normalised: "dm_crypt", whatever the file is called.
	Name string `json:"name"`
	// Path is the file's, relative to lib/modules/RELEASE: "kernel/drivers/md/dm-crypt.ko.xz". Empty: built in.
	Path string `json:"path,omitempty"`
}

// Builtin tells whether the module is part of the kernel image.
func (m Module) Builtin() bool { return m.Path == "" }

// UnknownError is a name that neither a module, nor something built in, nor an alias of either has.
type UnknownError struct {
	Name    string
	Release string
	// For is the cipher that has Name as a part; empty otherwise.
	For string
	// NoTree is set where the whole of lib/modules/RELEASE is missing.
	NoTree bool
}

func (e *UnknownError) Error() string {
	name := e.Name
	if e.For != "" {
		name += " (a part of " + e.For + ")"
	}
	if e.NoTree {
		return fmt.Sprintf("kernel module %s: there is no lib/modules/%s; install the modules of the running kernel", name, e.Release)
	}
	return fmt.Sprintf("kernel module %s: lib/modules/%s has no module and no alias of that name, and the kernel has none built in", name, e.Release)
}

// Normalize returns a module name as the kernel writes it: with underscores (scripts/Makefile.lib, name-fix).
func Normalize(name string) string { return strings.ReplaceAll(name, "-", "_") }

// normalizeAlias does the same to an alias or a pattern, but leaves what stands in brackets: there a dash is a range.
func normalizeAlias(alias string) string {
	if !strings.Contains(alias, "[") {
		return Normalize(alias)
	}
	var out strings.Builder
	bracket := false
	for _, c := range []byte(alias) {
		switch {
		case c == '[':
			bracket = true
		case c == ']':
			bracket = false
		case c == '-' && !bracket:
			c = '_'
		}
		out.WriteByte(c)
	}
	return out.String()
}

// nameOf returns the module name that a file's path stands for.
func nameOf(file string) string {
	base, _, _ := strings.Cut(path.Base(file), ".")
	return Normalize(base)
}
