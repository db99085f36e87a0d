package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// newName is the place of a name that leads to no file: in its folder. /dev/stdout and the like lead to what is open and has no name.
func newName(path string) (string, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return path, nil
	}
	if _, err := os.Lstat(path); err == nil {
		return "", errors.New("is a symbolic link to nothing")
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), err
}

// takesBytes says whether a character device may be written to: null, zero and full (mem.c of the kernel, major 1), and tapes (major 9). Others are memory,
// terminals, and ways to command something.
func takesBytes(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	minor := unix.Minor(st.Rdev)
	return unix.Major(st.Rdev) == 9 || unix.Major(st.Rdev) == 1 && (minor == 3 || minor == 5 || minor == 7)
}
