package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"initd/boot/engine"
	"initd/boot/engine/enginetest"
	"initd/boot/plan"
)

// folder is an action on a real file system: a folder with two files.
type folder struct{ dir string }

func (f folder) path(u *plan.Unit, name string) string { return filepath.Join(f.dir, u.ID, name) }

func (f folder) Check(_ context.Context, u *plan.Unit) (engine.Checked, error) {
	have := 0
	for _, n := range []string{"", "a", "b"} {
		_, err := os.Stat(f.path(u, n))
		switch {
		case err == nil:
			have++
		case !errors.Is(err, os.ErrNotExist):
			return engine.Checked{}, err
		}
	}
	switch have {
	case 0:
		return engine.Checked{Answer: engine.Absent}, nil
	case 3:
		return engine.Checked{Answer: engine.Same}, nil
	}
	return engine.Checked{Answer: engine.Partial, Reason: "a file is missing"}, nil
}

func (f folder) Apply(ctx context.Context, u *plan.Unit, progress func(engine.Progress)) error {
	if err := os.MkdirAll(f.path(u, ""), 0o755); err != nil {
		return err
	}
	for _, n := range []string{"a", "b"} {
		progress(engine.Progress{Text: "writes " + n})
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := os.WriteFile(f.path(u, n), []byte(n), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (f folder) Rollback(_ context.Context, u *plan.Unit) error { return os.RemoveAll(f.path(u, "")) }

func (f folder) ApplyBatch(_ context.Context, us []engine.Part, progress func(int, engine.Progress), done func(int, error)) {
	for i, u := range us {
		done(i, f.Apply(u.Context, u.Unit, func(p engine.Progress) { progress(i, p) }))
	}
}

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	u := &plan.Unit{ID: "x", Kind: "folder"}
	enginetest.Conformance(t, enginetest.Subject{
		Unit: u,
		New:  func(*testing.T) engine.Action { return folder{dir} },
		Clean: func(t *testing.T) {
			if err := os.RemoveAll(filepath.Join(dir, u.ID)); err != nil {
				t.Fatal(err)
			}
		},
		Snapshot: func(t *testing.T) any {
			list, err := filepath.Glob(filepath.Join(dir, "*", "*"))
			if err != nil {
				t.Fatal(err)
			}
			return list
		},
	})
}
