package dm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestARecordIsWrittenOnceAndNeverOverUdevsOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first, second := Dev(unix.Mkdev(253, 0)), Dev(unix.Mkdev(253, 1))
	for range 2 {
		if err := writeRecord(dir, first); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "b253:0"))
	if err != nil || !strings.Contains(string(b), "\nE:DM_UDEV_RULES=1\n") || !strings.HasPrefix(string(b), "E:DM_UDEV_PRIMARY_SOURCE_FLAG=1\n") || !strings.HasSuffix(string(b), "\nV:1\n") {
		t.Errorf("got %q, %v", b, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b253:1"), []byte("udev's"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeRecord(dir, second); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "b253:1")); err != nil || string(b) != "udev's" {
		t.Errorf("got %q, %v", b, err)
	}
}
