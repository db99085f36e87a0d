package imagetest

import (
	"bytes"
	"os"
	"syscall"
	"testing"
)

// Begins fails unless a file begins with these bytes, or a device that nobody has claimed.
func Begins(t testing.TB, path string, want []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s is not as wanted from byte %d on", path, i)
		}
	}
}
