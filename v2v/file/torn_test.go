package file

import (
	"os"
	"path/filepath"
	"testing"

	"initd/tests/tree"
)

func TestNotesThatWereTornByAKillGoWithTheTarget(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.raw")
	torn := filepath.Join(dir, "."+filepath.Base(StatePath(path))+"2936130960")
	for _, name := range []string{torn, StatePath(path)} {
		if err := os.WriteFile(name, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dst, err := Create(path, CreateOptions{Resume: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := dst.Commit(); err != nil {
		t.Fatal(err)
	}
	tree.Dir(dir).Has(t, "disk.raw")
}
