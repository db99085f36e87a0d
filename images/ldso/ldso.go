// Package ldso says what the dynamic linker will look for when a program starts, and where.
//
// It owns the reading of ELF files (interpreter, needed libraries, run paths, a few symbols) and the search order of
// ld.so(8) as Debian's glibc has it. It never runs a program, and never looks at files by itself: where a library is
// found is the caller's to say.
package ldso

import (
	"debug/elf"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Object is what the dynamic linker reads of an ELF file. The zero value has no needs: a static program.
type Object struct {
	Interpreter string   // absolute path; empty for libraries and static programs
	Needed      []string // as they are written: names, rarely paths
	// RunPath are folders to search first, with $ORIGIN filled in.
	RunPath []string
	// Unwinds tells that the object may end a thread from outside: glibc then loads libgcc_s.so.1 by itself, and aborts
	// the program if it is not there (sysdeps/nptl/unwind-forcedunwind.c).
	Unwinds bool
}

// ErrNot is what Read returns for files that are no ELF executable or library.
var ErrNot = fmt.Errorf("no ELF executable or library")

// magic begins every ELF file.
const magic = "\x7fELF"

// Read reads the file that will be at absolute path name.
func Read(r io.ReaderAt, name string) (Object, error) {
	var o Object
	head := make([]byte, len(magic))
	if n, _ := r.ReadAt(head, 0); n < len(magic) || string(head) != magic {
		return o, ErrNot
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return o, fmt.Errorf("read ELF file %s: %w", name, err)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return o, ErrNot // object files and kernel modules
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < maxPath {
			b, err := io.ReadAll(p.Open())
			if err != nil {
				return o, fmt.Errorf("read ELF file %s: its interpreter: %w", name, err)
			}
			o.Interpreter = strings.TrimRight(string(b), "\x00")
		}
	}
	if o.Needed, err = f.ImportedLibraries(); err != nil {
		return o, fmt.Errorf("read ELF file %s: what it needs: %w", name, err)
	}
	// DT_RPATH counts only where there is no DT_RUNPATH.
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		values, err := f.DynString(tag)
		if err != nil {
			return o, fmt.Errorf("read ELF file %s: its run path: %w", name, err)
		}
		for _, v := range values {
			for dir := range strings.SplitSeq(v, ":") {
				dir = strings.NewReplacer("${ORIGIN}", path.Dir(name), "$ORIGIN", path.Dir(name), "${LIB}", "lib/"+triplet, "$LIB", "lib/"+triplet).Replace(dir)
				if path.IsAbs(dir) {
					o.RunPath = append(o.RunPath, path.Clean(dir))
				}
			}
		}
		if len(o.RunPath) > 0 {
			break
		}
	}
	symbols, err := f.ImportedSymbols()
	if err == nil {
		o.Unwinds = slices.ContainsFunc(symbols, func(s elf.ImportedSymbol) bool {
			return s.Name == "pthread_cancel" || s.Name == "pthread_exit"
		})
	}
	return o, nil
}

// maxPath is the kernel's PATH_MAX, in bytes.
const maxPath = 4096

// triplet is the folder of this architecture.
const triplet = "x86_64-linux-gnu"

// Folders returns where the linker looks when no run path and no cache helps, in order: Debian's glibc is built with
// these, so that an image needs no ld.so.cache.
func Folders() []string {
	return []string{"/lib/" + triplet, "/usr/lib/" + triplet, "/lib", "/usr/lib"}
}

// Candidates returns the paths at which a needed library may be, in the order of the linker.
func (o Object) Candidates(needed string) []string {
	if strings.Contains(needed, "/") {
		return []string{needed}
	}
	var list []string
	for _, dir := range append(slices.Clone(o.RunPath), Folders()...) {
		list = append(list, path.Join(dir, needed))
	}
	return list
}
