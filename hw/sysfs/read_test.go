package sysfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFilesOfTheRunningSystem(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("x", 5000)
	for name, text := range map[string]string{"empty": "", "short": "1\n", "long": long} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	below := strings.TrimPrefix(dir, "/") + "/"
	for _, tc := range []struct {
		name  string
		limit int
		want  string
		ok    bool
	}{
		{"empty", 10, "", true},
		{"short", 2, "1\n", true},
		{"short", 1, "", false},
		{"long", 5000, long, true},
		{"long", 4999, "", false},
		{"long", 600, "", false},
		{"long", MaxAttribute, long, true},
	} {
		if got, err := f.Bytes(below+tc.name, tc.limit); string(got) != tc.want || (err == nil) != tc.ok {
			t.Errorf("%s, at most %d: got %d bytes, %v", tc.name, tc.limit, len(got), err)
		}
	}
	if _, err := f.Bytes(below+"absent", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := f.Bytes(strings.TrimSuffix(below, "/"), 10); err == nil {
		t.Error("a folder is read")
	}
	if _, err := f.Bytes(below+"../x", 10); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a name with ..: %v", err)
	}
	if got, err := f.String("proc/self/comm"); err != nil || got == "" {
		t.Errorf("proc/self/comm: %q, %v", got, err)
	}
	if mounts, err := f.Bytes("proc/self/mountinfo", 1<<20); err != nil || !strings.Contains(string(mounts), " / ") {
		t.Errorf("proc/self/mountinfo: %d bytes, %v", len(mounts), err)
	}
}
