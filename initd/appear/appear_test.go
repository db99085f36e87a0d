package appear

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

func TestAPathIsAwaited(t *testing.T) {
	for _, row := range []struct {
		name string
		make func(t *testing.T, dir string)
	}{
		{"that is there already", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "a/b/c")) }},
		{"whose folder is there", func(t *testing.T, dir string) {
			folder(t, filepath.Join(dir, "a/b"))
			go write(t, filepath.Join(dir, "a/b/c"))
		}},
		{"whose folders come one by one", func(t *testing.T, dir string) {
			go func() {
				folder(t, filepath.Join(dir, "a"))
				folder(t, filepath.Join(dir, "a/b"))
				write(t, filepath.Join(dir, "a/b/c"))
			}()
		}},
		{"that is moved there with its folder", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "new/b/c"))
			go func() {
				if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "a")); err != nil {
					t.Error(err)
				}
			}()
		}},
		{"that is a link to nothing", func(t *testing.T, dir string) {
			folder(t, filepath.Join(dir, "a/b"))
			go func() {
				if err := os.Symlink("nothing", filepath.Join(dir, "a/b/c")); err != nil {
					t.Error(err)
				}
			}()
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			row.make(t, dir)
			if err := Await(t.Context(), filepath.Join(dir, "a/b/c")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	over := errors.New("the story is over")
	cancel(over)
	if err := Await(ctx, filepath.Join(t.TempDir(), "never")); !errors.Is(err, over) {
		t.Errorf("got %v, want %v", err, over)
	}
}

func folder(t *testing.T, path string) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Error(err)
	}
}

func write(t *testing.T, path string) {
	folder(t, filepath.Dir(path))
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Error(err)
	}
}

// A path appears with all its folders while the watch is being set up: no
// moment of that may be missed, or the wait is for ever.
func TestAWatchMissesNoFolder(t *testing.T) {
	root := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range 100 {
		path := filepath.Join(root, strconv.Itoa(i), "a", "b", "pid")
		made := make(chan error, 1)
		go func() {
			err := os.MkdirAll(filepath.Dir(path), 0o755)
			if err == nil {
				time.Sleep(time.Duration(i%8) * 20 * time.Microsecond) // spread over the steps of watch
				err = os.WriteFile(path, nil, 0o644)
			}
			made <- err
		}()
		if err := Await(ctx, path); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if err := <-made; err != nil {
			t.Fatal(err)
		}
	}
}
