// Package golden holds what a program prints against files that people have read.
//
// It owns the flag -update of the test that imports it, which rewrites them. It is for tests only.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

// Compare fails unless a file holds got.
func Compare(t testing.TB, file, got string) {
	t.Helper()
	if diff := Diff(t, file, got); diff != "" {
		t.Errorf("%s (-want +got); -update rewrites it:\n%s", file, diff)
	}
}

// Diff is the difference between a file and got, "" without one.
func Diff(t testing.TB, file, got string) string {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n"))
}
