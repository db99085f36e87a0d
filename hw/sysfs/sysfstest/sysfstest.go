// Package sysfstest is what tests that run as the system of a machine ask its /sys for. It is for tests only.
package sysfstest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"initd/hw/sysfs"
)

// Open opens the machine's own /sys until the test ends.
func Open(t testing.TB) *sysfs.FS {
	t.Helper()
	f, err := sysfs.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Disk is the node of the disk with a serial number.
func Disk(t testing.TB, serial string) string {
	t.Helper()
	files, err := filepath.Glob("/sys/class/block/*/serial")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(text)) == serial {
			return "/dev/" + filepath.Base(filepath.Dir(file))
		}
	}
	t.Fatalf("the machine has no disk with the serial number %s", serial)
	return ""
}
