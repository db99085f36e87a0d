package step_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/renameio/v2"

	"initd/boot/step"
)

func TestOnlyHalfWrittenFilesOfOursAreTidiedAway(t *testing.T) {
	dir := t.TempDir()
	half := func(name string) string {
		f, err := renameio.NewPendingFile(filepath.Join(dir, name), renameio.WithTempDir(dir))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil { // as a kill would: neither renamed nor removed
			t.Fatal(err)
		}
		return filepath.Base(f.Name())
	}
	half(step.StateLastGood)
	foreign := half("somebody-elses")
	for _, name := range []string{step.StateLastGood, ".hidden", "." + step.StateLastGood, step.StateLastGood + "7"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "."+step.StateLastGood+"12"), 0o700); err != nil {
		t.Fatal(err)
	}
	step.TidyTemporary(dir, func(name string) bool { return name == step.StateLastGood })
	want := map[string]bool{foreign: true, step.StateLastGood: true, ".hidden": true, "." + step.StateLastGood: true,
		step.StateLastGood + "7": true, "." + step.StateLastGood + "12": true}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, e := range entries {
		got[e.Name()] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
}
