package vm

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"initd/hw/kmod"
)

// libraryDirs is where Debian's ld.so looks on amd64, after an object's own RUNPATH (ld.so(8)).
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/lib", "/usr/lib"}

// linkedWith gives the files that an ELF program or library cannot start without: its interpreter and shared libraries.
// Anything else, scripts included, is linked with nothing. What a program opens at run time (dlopen) is not found.
func linkedWith(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var magic [4]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil || string(magic[:]) != elf.ELFMAG {
		return nil, nil
	}
	object, err := elf.NewFile(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var files []string
	for _, p := range object.Progs {
		if p.Type == elf.PT_INTERP {
			name, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			files = append(files, string(bytes.TrimRight(name, "\x00")))
		}
	}
	libraries, err := object.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if slices.Contains(libraries, "libc.so.6") {
		// glibc opens it at run time, when a thread is cancelled or exits (nptl, __libc_unwind_link_get): without it a
		// program with threads aborts.
		libraries = append(libraries, "libgcc_s.so.1")
	}
	dirs := slices.Concat(runPath(object, path), libraryDirs)
	for _, lib := range libraries {
		i := slices.IndexFunc(dirs, func(dir string) bool {
			_, err := os.Stat(filepath.Join(dir, lib))
			return err == nil
		})
		if i < 0 {
			return nil, fmt.Errorf("%s: its library %s is in none of %s", path, lib, strings.Join(dirs, ", "))
		}
		files = append(files, filepath.Join(dirs[i], lib))
	}
	return files, nil
}

func runPath(object *elf.File, path string) []string {
	var dirs []string
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		values, err := object.DynString(tag)
		if err != nil {
			continue // a static program
		}
		for _, v := range values {
			for dir := range strings.SplitSeq(v, ":") {
				dir = strings.NewReplacer("$ORIGIN", filepath.Dir(path), "${ORIGIN}", filepath.Dir(path)).Replace(dir)
				dirs = append(dirs, filepath.Clean(dir))
			}
		}
	}
	return dirs
}

// stale tells whether a cached file is missing or older than what it was made from.
func stale(cached, from string) bool {
	c, err1 := os.Stat(cached)
	f, err2 := os.Stat(from)
	return err1 != nil || err2 != nil || c.ModTime().Before(f.ModTime())
}

func unpackModule(to, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	content, err := kmod.Decompress(from, f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return renameio.WriteFile(to, content, 0o644)
}
