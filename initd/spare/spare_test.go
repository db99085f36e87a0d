package spare

import (
	"bytes"
	"context"
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

func TestAwaitGoneHearsOfAnotherFileInItsPlace(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(path string) error
	}{
		{"deleted", os.Remove},
		{"replaced", func(path string) error {
			if err := os.WriteFile(path+".new", nil, 0o755); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		}},
	} {
		path := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- AwaitGone(ctx, path) }()
		if err := os.Chmod(path, 0o700); err != nil { // a change that is none
			t.Fatal(err)
		}
		select {
		case err := <-done:
			t.Errorf("%s: it is there, and AwaitGone returned %v", row.name, err)
		case <-time.After(50 * time.Millisecond):
		}
		if err := row.do(path); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := AwaitGone(ctx, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("called off: got %v", err)
	}
}
