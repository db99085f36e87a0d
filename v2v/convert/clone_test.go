package convert

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// onXFS mounts a fresh XFS for the length of the test.
func onXFS(t *testing.T) string {
	t.Helper()
	run := func(name, pkg string, args ...string) {
		t.Helper()
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatalf("%s is missing: install the Debian package %s", name, pkg)
		}
		if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
	}
	backing, dir := filepath.Join(t.TempDir(), "xfs"), t.TempDir()
	f, err := os.Create(backing)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(400 << 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	run("mkfs.xfs", "xfsprogs", "-q", "-m", "reflink=1", backing)
	run("mount", "mount", "-o", "loop", backing, dir)
	t.Cleanup(func() { run("umount", "mount", dir) })
	return dir
}

func free(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bfree) * st.Bsize
}

func TestARawCopySharesBlocksWhereItCan(t *testing.T) {
	dir := onXFS(t)
	const mib = 1 << 20
	src := filepath.Join(dir, "src.raw")
	data := make([]byte, 32*mib+100) // an odd last sector
	rand.NewChaCha8([32]byte{3}).Read(data)
	clear(data[10*mib : 20*mib])
	if err := os.WriteFile(src, data, 0o600); err != nil {
		t.Fatal(err)
	}
	want := append(data[:len(data):len(data)], make([]byte, 412)...)
	for _, tc := range []struct {
		name   string
		target string
		set    func(*Request)
		shared bool
	}{
		{"on one file system", filepath.Join(dir, "a.raw"), func(*Request) {}, true},
		{"verified", filepath.Join(dir, "b.raw"), func(r *Request) { r.Verify = true }, true},
		{"to be resumed, with nothing begun", filepath.Join(dir, "c.raw"), func(r *Request) { r.Resume = true }, true},
		{"in place of a file", src + "2", func(r *Request) {
			if err := os.WriteFile(r.Target, bytes.Repeat([]byte("old"), 20*mib), 0o640); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"slowly", filepath.Join(dir, "d.raw"), func(r *Request) { r.Rate = 1 << 30 }, false},
		{"to another file system", filepath.Join(t.TempDir(), "e.raw"), func(*Request) {}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := Request{Source: src, SourceFormat: "raw", Target: tc.target, TargetFormat: "raw"}
			tc.set(&req)
			before := free(t, dir)
			done, err := Run(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if done.Shared != tc.shared || done.Size != int64(len(want)) || done.Verified != req.Verify {
				t.Errorf("got %+v", done)
			}
			if took := before - free(t, dir); tc.shared && took > mib {
				t.Errorf("it took %d bytes", took)
			}
			got, err := os.ReadFile(tc.target)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v, or it holds other data (%d bytes)", err, len(got))
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(tc.target), ".*v2v*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
