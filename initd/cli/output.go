package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// WriteFile writes a file that a command line names: the whole of what write gives is there in the end, or what was before. What is
// no file (a pipe, a terminal, /dev/null) is written to, and stays what it is; a block device is refused. A link goes on
// leading to its file, whose mode stays, unless what is written is for its owner only.
func WriteFile(path string, mode fs.FileMode, write func(io.Writer) error) error {
	err := writeFile(path, mode, write)
	at, ok := errors.AsType[*fs.PathError](err)
	if ok && (at.Path == path || strings.HasPrefix(filepath.Base(at.Path), "."+filepath.Base(path))) { // said already, or its temporary file
		err = at.Err
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func writeFile(path string, mode fs.FileMode, write func(io.Writer) error) error {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		if st.Mode()&fs.ModeDevice != 0 && st.Mode()&fs.ModeCharDevice == 0 {
			return errors.New("it is a block device: name a file")
		}
		f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to
	}
	if mode&0o077 != 0 {
		return replace(path, write, renameio.WithPermissions(mode), renameio.WithExistingPermissions())
	}
	return Replace(path, mode, write)
}

// Replace writes a file by a name that others can guess, maybe in a folder where others may write: what they put there is replaced,
// and neither followed nor written to.
func Replace(path string, mode fs.FileMode, write func(io.Writer) error) error {
	return replace(path, write, renameio.WithPermissions(mode))
}

func replace(path string, write func(io.Writer) error, options ...renameio.Option) error {
	f, err := renameio.NewPendingFile(path, append(options, renameio.WithTempDir(filepath.Dir(path)))...)
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if err := write(f); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}
