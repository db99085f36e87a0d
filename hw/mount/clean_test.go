package mount

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ext4Image is an ext4 made by mke2fs.
func ext4Image(t testing.TB, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fs")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 8<<20); err != nil {
		t.Fatal(err)
	}
	e2fs(t, "mke2fs", append(append([]string{"-q", "-F", "-t", "ext4"}, args...), file)...)
	return file
}

func e2fs(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s (Debian package e2fsprogs): %v\n%s", name, err, out)
	}
}

// e2fsck is the oracle: in its preening mode it says "clean" of what it leaves alone at once.
func TestE2fsckAgreesOnWhatWantsACheck(t *testing.T) {
	set := func(at int, b ...byte) func(t *testing.T, file string) {
		return func(t *testing.T, file string) {
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(b, int64(extAt+at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	tune := func(args ...string) func(t *testing.T, file string) {
		return func(t *testing.T, file string) { e2fs(t, "tune2fs", append(args, file)...) }
	}
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, file string)
		want   string
	}{
		{"a fresh one does not", func(*testing.T, string) {}, ""},
		{"one with errors does", set(extStateAt, extStateValid|extStateErrors), "errors"},
		{"one that was not unmounted does", set(extStateAt, 0), "not unmounted"},
		{"one that was mounted often does", tune("-c", "20", "-C", "30"), "30 times"},
		{"one that was mounted less often does not", tune("-c", "20", "-C", "19"), ""},
		{"one whose count is of no interest does not", tune("-c", "-1", "-C", "30"), ""},
		{"one whose check is long ago does", tune("-i", "1d", "-T", "20200101"), "too long ago"},
		{"one whose check was lately does not", tune("-i", "30d", "-T", "now"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// Without checksums a byte of the superblock can be changed by itself.
			file := ext4Image(t, "-O", "^metadata_csum")
			tt.change(t, file)
			got := UncheckedDevice(file)
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("wants a check because %q, want %q", got, tt.want)
			}
			out, _ := exec.Command("e2fsck", "-p", file).CombinedOutput()
			if clean := strings.Contains(string(out), ": clean,"); clean != (got == "") && !strings.Contains(tt.want, "not unmounted") {
				t.Errorf("e2fsck says %q, we %q", out, got)
			}
		})
	}
}

func TestWhatIsNoExt4WantsACheck(t *testing.T) {
	for name, b := range map[string][]byte{"nothing": nil, "zeros": make([]byte, 4096)} {
		if got := Unchecked(bytes.NewReader(b), time.Now()); got == "" {
			t.Errorf("%s: wants no check", name)
		}
	}
	if got := UncheckedDevice(filepath.Join(t.TempDir(), "gone")); got == "" {
		t.Error("a missing device wants no check")
	}
}

func FuzzUnchecked(f *testing.F) {
	sb := make([]byte, extAt+extSize)
	binary.LittleEndian.PutUint16(sb[extAt+extMagicAt:], extMagic)
	binary.LittleEndian.PutUint16(sb[extAt+extStateAt:], extStateValid)
	f.Add(sb, int64(0))
	f.Fuzz(func(t *testing.T, b []byte, now int64) {
		if Unchecked(bytes.NewReader(b), time.Unix(now, 0)) == "" && !bytes.Equal(b[extAt+extMagicAt:][:2], []byte{0x53, 0xEF}) {
			t.Error("what has no superblock wants no check")
		}
	})
}
