// Package spare keeps a copy of a program that has proved good, for the day
// on which its file is gone or broken.
//
// It owns how the copy is made: as a whole or not at all, and byte for byte;
// and how it is heard that the file is gone.
// It never decides what is good, nor which program is started: init does, and
// looks at Path when the usual place fails.
package spare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// Path is where init looks for the copy, in memory.
const Path = wire.AdoptPath

// Keep makes to an executable copy of from. What is there already is left
// alone if it is the same. Reading from may block on its device: call it in a
// process that can be given up.
func Keep(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("keep a copy of the program: %w", err)
	}
	defer in.Close()
	switch same, err := holds(to, in); {
	case same:
		return nil
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("keep a copy of the program: %w", err)
	}
	if err := write(in, to); err != nil {
		return fmt.Errorf("keep a copy of the program at %s: %w", to, err)
	}
	return nil
}

func write(in *os.File, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := renameio.NewPendingFile(to, renameio.WithTempDir(filepath.Dir(to)), renameio.WithStaticPermissions(0o755))
	if err != nil {
		return err
	}
	defer out.Cleanup() //nolint:errcheck // of a file that nobody sees
	if err := fill(out.File, in); err != nil {
		return err
	}
	return out.CloseAtomicallyReplace()
}

// fill copies all of in, within the kernel: the program is large, and a boot
// waits for the processor meanwhile.
func fill(out, in *os.File) error {
	st, err := in.Stat()
	if err != nil {
		return err
	}
	for at := int64(0); at < st.Size(); {
		n, err := unix.Sendfile(int(out.Fd()), int(in.Fd()), &at, int(min(st.Size()-at, piece)))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return os.NewSyscallError("sendfile", err)
		case n == 0:
			return fmt.Errorf("%w after %d of %d bytes", io.ErrUnexpectedEOF, at, st.Size())
		}
	}
	return nil
}

// piece is what is copied at a time, in bytes.
const piece = 1 << 20

// chunk is what is compared at a time, in bytes.
const chunk = 256 << 10

// holds tells whether the file at path has the bytes of in, whose position it
// leaves alone. Comparing costs a small part of what a digest would.
func holds(path string, in *os.File) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	have, err := f.Stat()
	if err != nil {
		return false, err
	}
	want, err := in.Stat()
	if err != nil || have.Size() != want.Size() {
		return false, err
	}
	a, b := make([]byte, chunk), make([]byte, chunk)
	for at := int64(0); at < want.Size(); at += chunk {
		n := int(min(chunk, want.Size()-at))
		for _, r := range []struct {
			f *os.File
			b []byte
		}{{f, a}, {in, b}} {
			if _, err := r.f.ReadAt(r.b[:n], at); err != nil {
				return false, err
			}
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return false, nil
		}
	}
	return true, nil
}
