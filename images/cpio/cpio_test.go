package cpio_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	ucpio "github.com/u-root/u-root/pkg/cpio"

	"initd/images/cpio"
)

type adder func(*cpio.Archive) error

func sample() []adder {
	return []adder{
		func(a *cpio.Archive) error { return a.Bytes("/init", 0o755, []byte("#!/bin/sh\n")) },
		func(a *cpio.Archive) error { return a.CharDevice("/dev/console", 0o600, 5, 1) },
		func(a *cpio.Archive) error { return a.Symlink("/sbin/modprobe", "../bin/initd") },
		func(a *cpio.Archive) error { return a.Dir("/run", 0o755) },
		func(a *cpio.Archive) error { return a.Bytes("/etc/empty", 0o600, nil) },
		func(a *cpio.Archive) error {
			return a.Add(cpio.Entry{Path: "/var/lib/redis", Mode: fs.ModeDir | fs.ModeSticky | 0o750, UID: 105, GID: 112})
		},
		func(a *cpio.Archive) error { return a.Bytes("/etc-file", 0o644, bytes.Repeat([]byte("x"), 4097)) },
	}
}

func build(t testing.TB, adders []adder) *cpio.Archive {
	t.Helper()
	var a cpio.Archive
	for _, add := range adders {
		if err := add(&a); err != nil {
			t.Fatal(err)
		}
	}
	return &a
}

func write(t testing.TB, a *cpio.Archive, c cpio.Compression) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := a.WriteCompressed(&buf, c); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestAnArchiveIsTheSameBytesInWhateverOrderItWasFilled(t *testing.T) {
	forward := sample()
	backward := sample()
	for i, j := 0, len(backward)-1; i < j; i, j = i+1, j-1 {
		backward[i], backward[j] = backward[j], backward[i]
	}
	for _, c := range []cpio.Compression{cpio.None, cpio.Gzip, cpio.Zstd} {
		if !bytes.Equal(write(t, build(t, forward), c), write(t, build(t, backward), c)) {
			t.Errorf("compression %d: two orders of adding gave different bytes", c)
		}
	}
}

// TestGNUCpioReadsIt asks a reader that shares no code with us.
func TestGNUCpioReadsIt(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Fatal("cpio is missing: install the Debian package cpio")
	}
	cmd := exec.Command("cpio", "-itv", "--quiet", "--numeric-uid-gid")
	cmd.Stdin = bytes.NewReader(write(t, build(t, sample()), cpio.None))
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("cpio -it: %v: %s", err, stderr.String())
	}
	var got []string
	for line := range strings.Lines(string(out)) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"drwxr-xr-x 2 0 0 0 Jan 1 1970 dev",
		"crw------- 1 0 0 5, 1 Jan 1 1970 dev/console",
		"drwxr-xr-x 2 0 0 0 Jan 1 1970 etc",
		"-rw------- 1 0 0 0 Jan 1 1970 etc/empty",
		"-rw-r--r-- 1 0 0 4097 Jan 1 1970 etc-file",
		"-rwxr-xr-x 1 0 0 10 Jan 1 1970 init",
		"drwxr-xr-x 2 0 0 0 Jan 1 1970 run",
		"drwxr-xr-x 2 0 0 0 Jan 1 1970 sbin",
		"lrwxrwxrwx 1 0 0 12 Jan 1 1970 sbin/modprobe -> ../bin/initd",
		"drwxr-xr-x 2 0 0 0 Jan 1 1970 var",
		"drwxr-xr-x 2 0 0 0 Jan 1 1970 var/lib",
		"drwxr-x--T 2 105 112 0 Jan 1 1970 var/lib/redis",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cpio -itv (-want +got):\n%s", diff)
	}
}

func TestArchivesMayFollowOneAnother(t *testing.T) {
	first := write(t, build(t, sample()), cpio.None)
	var second cpio.Archive
	if err := second.Bytes("/identity/client.pem", 0o600, []byte("secret")); err != nil {
		t.Fatal(err)
	}
	if len(first)%512 != 0 {
		t.Errorf("the archive has %d bytes; the next one would not be aligned", len(first))
	}
	both := append(first, write(t, &second, cpio.None)...)
	records := readAll(t, both[len(first):])
	if len(records) != 2 || records[1].Name != "identity/client.pem" {
		t.Errorf("the second archive reads as %v", records)
	}
}

func TestCompressedArchivesUnpackToThePlainOne(t *testing.T) {
	plain := write(t, build(t, sample()), cpio.None)
	for _, tc := range []struct {
		name string
		c    cpio.Compression
		open func(io.Reader) (io.Reader, error)
	}{
		{"gzip", cpio.Gzip, func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
		{"zstd", cpio.Zstd, func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := tc.open(bytes.NewReader(write(t, build(t, sample()), tc.c)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, plain) {
				t.Error("it unpacks to something else")
			}
		})
	}
}

func TestWhatCannotBeInAnArchiveIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		add  []adder
		want string
	}{
		{"a path that is there already", []adder{
			func(a *cpio.Archive) error { return a.Bytes("/init", 0o755, nil) },
			func(a *cpio.Archive) error { return a.Symlink("init", "/bin/init") },
		}, "add /init to the archive: it is there already"},
		{"a file below a file", []adder{
			func(a *cpio.Archive) error { return a.Bytes("/etc", 0o644, nil) },
			func(a *cpio.Archive) error { return a.Bytes("/etc/passwd", 0o644, nil) },
		}, "/etc is there already, and no folder"},
		{"a file where a folder has to be", []adder{
			func(a *cpio.Archive) error { return a.Bytes("/etc/passwd", 0o644, nil) },
			func(a *cpio.Archive) error { return a.Bytes("/etc", 0o644, nil) },
		}, "it has to be a folder"},
		{"the root itself", []adder{func(a *cpio.Archive) error { return a.Dir("/", 0o755) }}, "the root folder itself"},
		{"the end mark", []adder{func(a *cpio.Archive) error { return a.Bytes("TRAILER!!!", 0o644, nil) }}, "ends an archive"},
		{"a socket", []adder{func(a *cpio.Archive) error { return a.Add(cpio.Entry{Path: "s", Mode: fs.ModeSocket}) }}, "does not hold"},
		{"a folder of this machine as a file", []adder{func(a *cpio.Archive) error { return a.File("/x", 0o644, "/") }}, "no regular file"},
		{"a link to nothing", []adder{func(a *cpio.Archive) error { return a.Symlink("/x", "") }}, "needs a target"},
		{"five gigabytes", []adder{func(a *cpio.Archive) error {
			return a.Add(cpio.Entry{Path: "big", Mode: 0o644, Size: 5 << 30, Open: func() (io.ReadCloser, error) { return nil, io.EOF }})
		}}, "do not fit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var a cpio.Archive
			var err error
			for _, add := range tc.add {
				if err = add(&a); err != nil {
					break
				}
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestAFolderMayBeAddedAgainOrAfterItsFiles(t *testing.T) {
	a := build(t, []adder{
		func(a *cpio.Archive) error { return a.Bytes("/run/x", 0o644, nil) },
		func(a *cpio.Archive) error { return a.Dir("/run", 0o700) },
		func(a *cpio.Archive) error { return a.Dir("/run", 0o700) },
	})
	if got := a.Entries()[0].Mode; got != fs.ModeDir|0o700 {
		t.Errorf("the explicit folder has mode %v", got)
	}
	var conflict *cpio.ConflictError
	if err := a.Dir("/run", 0o755); !errors.As(err, &conflict) || conflict.Path != "run" {
		t.Errorf("the same folder with another mode: got %v, want a ConflictError", err)
	}
}

func TestAFileThatGrewSinceItWasAddedFailsTheArchive(t *testing.T) {
	file := filepath.Join(t.TempDir(), "grows")
	if err := os.WriteFile(file, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	a := build(t, []adder{func(a *cpio.Archive) error { return a.File("/grows", 0o644, file) }})
	if err := os.WriteFile(file, []byte("longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.cpio")
	if err := a.WriteFile(out, cpio.None); err == nil || !strings.Contains(err.Error(), "somebody is writing to it") {
		t.Errorf("got error %v", err)
	}
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half an archive was left behind: %v", err)
	}
}

func readAll(t testing.TB, archive []byte) []ucpio.Record {
	t.Helper()
	records, err := ucpio.ReadAllRecords(ucpio.Newc.Reader(bytes.NewReader(archive)))
	if err != nil {
		t.Fatalf("another reader does not understand it: %v", err)
	}
	return records
}

// FuzzAnArchiveReadsBackAsItWasMade gives a file, a link and a folder any names and contents; u-root's reader has to see
// what was put in.
func FuzzAnArchiveReadsBackAsItWasMade(f *testing.F) {
	f.Add("init", []byte("#!/bin/sh\n"), uint32(0o755), "sbin/init", "../init")
	f.Add("a/b/c", []byte{}, uint32(0o6777), "a/b", "x")
	f.Add("../../etc/passwd", []byte{0, 1, 2}, uint32(0), "TRAILER!!!", "\x00")
	f.Fuzz(func(t *testing.T, name string, content []byte, perm uint32, link, target string) {
		var a cpio.Archive
		want := map[string]string{}
		if a.Bytes(name, fs.FileMode(perm).Perm(), content) == nil {
			want[path.Clean("/" + name)[1:]] = string(content)
		}
		if a.Symlink(link, target) == nil {
			want[path.Clean("/" + link)[1:]] = target
		}
		got := map[string]string{}
		for _, r := range readAll(t, write(t, &a, cpio.None)) {
			if r.Mode&ucpio.S_IFMT == ucpio.S_IFDIR {
				continue
			}
			data, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
			if err != nil {
				t.Fatal(err)
			}
			got[r.Name] = string(data)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-put in +read back):\n%s", diff)
		}
	})
}
