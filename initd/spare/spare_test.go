package spare

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestKeepMakesAProgramThatRuns(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "true"), filepath.Join(dir, "bin", "spare")
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(from, program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Keep(from, to); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(to).Run(); err != nil {
		t.Errorf("the copy does not run: %v", err)
	}

	// The same once more: nothing is written.
	long := time.Unix(1000, 0)
	if err := os.Chtimes(to, long, long); err != nil {
		t.Fatal(err)
	}
	if err := Keep(from, to); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(to); err != nil || !st.ModTime().Equal(long) {
		t.Errorf("the same copy was written again: %v, %v", st.ModTime(), err)
	}

	// Another one replaces it, and leaves nothing beside it.
	if err := os.WriteFile(from, append(program, "more"...), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Keep(from, to); err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(to)
	if err != nil || !bytes.Equal(have, append(program, "more"...)) {
		t.Errorf("the copy of the new program: %d bytes, %v; want %d", len(have), err, len(program)+4)
	}
	if list, err := os.ReadDir(filepath.Dir(to)); err != nil || len(list) != 1 {
		t.Errorf("left beside the copy: %v, %v", list, err)
	}
}

func TestKeepOfAMissingProgramLeavesTheCopy(t *testing.T) {
	dir := t.TempDir()
	to := filepath.Join(dir, "spare")
	if err := os.WriteFile(to, []byte("good"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Keep(filepath.Join(dir, "gone"), to); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that it does not exist", err)
	}
	if have, err := os.ReadFile(to); err != nil || string(have) != "good" {
		t.Errorf("the copy is %q, %v; want it as it was", have, err)
	}
}
