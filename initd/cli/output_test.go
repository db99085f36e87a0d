package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func say(text string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, text); return err }
}

func TestAFileIsWrittenAsAWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte("before"), 0o640), os.Symlink("file", link)); err != nil {
		t.Fatal(err)
	}
	broken := func(w io.Writer) error { return errors.Join(say("half")(w), errors.New("no more")) }
	if err := WriteFile(file, 0o600, broken); err == nil || !strings.Contains(err.Error(), "no more") {
		t.Errorf("got %v", err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "before" {
		t.Errorf("after a failure: got %q, %v", got, err)
	}
	if err := WriteFile(link, 0o644, say("after")); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	st, serr := os.Stat(file)
	lst, lerr := os.Lstat(link)
	if err := errors.Join(err, serr, lerr); err != nil || string(got) != "after" || st.Mode().Perm() != 0o640 || lst.Mode().IsRegular() {
		t.Errorf("by a link: got %q, %v, %v, %v", got, st, lst, err)
	}
	lost := func(io.Writer) error { _, err := os.Open(filepath.Join(dir, "source")); return err }
	if err := WriteFile(file, 0o600, lost); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "source")) {
		t.Errorf("the file that could not be read is not named: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	fresh := filepath.Join(dir, "fresh")
	if err := WriteFile(fresh, 0o600, say("x")); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(fresh); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", st, err)
	}
	if err := WriteFile(file, 0o600, say("secret")); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("what is for its owner only, over what others may read: got %v, %v", st, err)
	}
	if err := WriteFile(filepath.Join(dir, "none", "x"), 0o600, say("x")); err == nil || err.Error() != "write "+filepath.Join(dir, "none", "x")+": no such file or directory" {
		t.Errorf("got %v", err)
	}
}

// A device node that is replaced by a file is gone for everybody until the next boot.
func TestWhatIsNoFileStaysWhatItIs(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := WriteFile(pipe, 0o600, say("text")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 10)
	if n, err := reader.Read(got); err != nil || string(got[:n]) != "text" {
		t.Errorf("got %q, %v", got[:n], err)
	}
	if st, err := os.Lstat(pipe); err != nil || st.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("got %v, %v", st, err)
	}
}
