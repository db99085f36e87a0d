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
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"initd/initd/pid1/wire"
)

// Path is where init looks for the copy, in memory.
const Path = wire.AdoptPath

// Keep makes to an executable copy of from. What is there already is left
// alone if it is the same. Reading from may block on its device: call it in a
// process that can be given up.
func Keep(from, to string) (err error) {
	want, err := digest(from)
	if err != nil {
		return fmt.Errorf("keep a copy of the program: %w", err)
	}
	switch have, err := digest(to); {
	case err == nil && bytes.Equal(have, want):
		return nil
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("keep a copy of the program: %w", err)
	}
	if err := write(from, to, want); err != nil {
		return fmt.Errorf("keep a copy of the program at %s: %w", to, err)
	}
	return nil
}

func write(from, to string, want []byte) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := renameio.NewPendingFile(to, renameio.WithTempDir(filepath.Dir(to)), renameio.WithStaticPermissions(0o755))
	if err != nil {
		return err
	}
	defer out.Cleanup() //nolint:errcheck // of a file that nobody sees
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	have, err := digest(out.Name()) // what was written, not what was read
	if err != nil {
		return err
	}
	if !bytes.Equal(have, want) {
		return errors.New("what was written is not what was read")
	}
	return out.CloseAtomicallyReplace()
}

// digest is the SHA-256 of a file.
func digest(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}
