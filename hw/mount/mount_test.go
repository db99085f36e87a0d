package mount

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The first line is the example of Documentation/filesystems/proc.rst.
const captured = `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
24 1 253:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
25 24 0:22 / /srv/with\040space rw,nosuid - tmpfs tmpfs rw,size=64k
26 24 253:2 / /srv/a ro,noatime - xfs /dev/mapper/a ro,attr2
27 24 253:2 /x /srv/b rw,nosuid shared:3 master:9 - xfs /dev/mapper/a rw
`

func parsed(t *testing.T) []Info {
	t.Helper()
	list, err := Parse(strings.NewReader(captured))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestParse(t *testing.T) {
	list := parsed(t)
	want := Info{ID: 36, Parent: 35, Major: 98, Root: "/mnt1", Point: "/mnt2", Options: []string{"rw", "noatime"}, Optional: []string{"master:1"}, Type: "ext3", Source: "/dev/root", Super: []string{"rw", "errors=continue"}}
	if diff := cmp.Diff(want, list[0]); diff != "" {
		t.Errorf("first line (-want +got):\n%s", diff)
	}
	if At(list, "/srv/with space") == nil {
		t.Error("an escaped space was not undone")
	}
	if _, err := Parse(strings.NewReader("36 35 98:0 /mnt1\n")); err == nil {
		t.Error("a short line was accepted")
	}
	if _, err := List(); err != nil {
		t.Errorf("this machine's own table: %v", err)
	}
}

func TestCompare(t *testing.T) {
	a := Number{253, 2}
	tests := []struct {
		name string
		spec Spec
		dev  Number
		root string
		want State
	}{
		{"nothing is mounted there", Spec{Where: "/srv/none", Type: "xfs"}, a, "/", Absent},
		{"the same device, type and options", Spec{Where: "/srv/a", Type: "xfs", Options: []string{"ro", "noatime"}}, a, "/", Same},
		{"read-only where writing is wanted", Spec{Where: "/srv/a", Type: "xfs"}, a, "/", Different},
		{"another type", Spec{Where: "/srv/a", Type: "ext4", Options: []string{"ro"}}, a, "/", Different},
		{"another device", Spec{Where: "/srv/a", Type: "xfs", Options: []string{"ro"}}, Number{253, 9}, "/", Foreign},
		{"a tmpfs", Spec{Where: "/srv/with space", Type: "tmpfs", Options: []string{"nosuid", "size=64k"}}, Number{}, "", Same},
		{"a device where a tmpfs is wanted", Spec{Where: "/srv/a", Type: "tmpfs"}, Number{}, "", Foreign},
		{"a bind mount of that folder", Spec{Where: "/srv/b", Type: "bind", Options: []string{"nosuid"}}, a, "/x", Same},
		{"a bind mount that lacks an option", Spec{Where: "/srv/b", Type: "bind", Options: []string{"nosuid", "noexec"}}, a, "/x", Partial},
		{"a bind mount of another folder", Spec{Where: "/srv/b", Type: "bind"}, a, "/y", Foreign},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, reason := Compare(parsed(t), tt.spec, tt.dev, tt.root)
			if got != tt.want {
				t.Errorf("got %s (%s), want %s", got, reason, tt.want)
			}
			if (got == Different || got == Foreign || got == Partial) && reason == "" {
				t.Error("no reason is given")
			}
		})
	}
}

func TestParseOptions(t *testing.T) {
	flag, data := ParseOptions([]string{"ro", "rw", "noatime", "nofail", "x-systemd.automount", "size=64M", "mode=0755"})
	if flag != unix.MS_NOATIME || data != "size=64M,mode=0755" {
		t.Errorf("got flags %#x and %q, want noatime and \"size=64M,mode=0755\"", flag, data)
	}
}

func TestCheckRepairsAndRefuses(t *testing.T) {
	for _, tool := range []string{"mke2fs", "fsck.ext4", "debugfs"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: apt-get install e2fsprogs", tool)
		}
	}
	img := filepath.Join(t.TempDir(), "fs")
	f, err := os.Create(img)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(8 << 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", img).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	if got, err := Check(context.Background(), img, "ext4", nil); err != nil || got.Corrected {
		t.Errorf("a clean file system: got %+v, %v", got, err)
	}
	// A wrong block count in the superblock's free counter is safe to repair.
	if out, err := exec.Command("debugfs", "-w", "-R", "ssv free_blocks_count 7", img).CombinedOutput(); err != nil {
		t.Fatalf("debugfs: %v\n%s", err, out)
	}
	if out, err := exec.Command("debugfs", "-w", "-R", "ssv state 0", img).CombinedOutput(); err != nil {
		t.Fatalf("debugfs: %v\n%s", err, out)
	}
	var seen []int
	if got, err := Check(context.Background(), img, "ext4", func(p int) { seen = append(seen, p) }); err != nil || !got.Corrected {
		t.Errorf("a wrong counter: got %+v, %v; want corrected", got, err)
	}
	if len(seen) == 0 || seen[len(seen)-1] != 100 {
		t.Errorf("progress: got %v, want it to end with 100", seen)
	}
	if err := os.WriteFile(img, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Check(context.Background(), img, "ext4", nil)
	if err == nil || !strings.Contains(err.Error(), "check "+img) {
		t.Errorf("no file system at all: got %v", err)
	}
}

func TestOfSeveralMountsOnOnePointTheTopmostCounts(t *testing.T) {
	list, err := Parse(strings.NewReader(`30 1 253:1 / /srv rw - ext4 /dev/b rw
28 30 253:2 / /srv rw - ext4 /dev/c rw
29 1 253:3 / /mnt rw - ext4 /dev/d rw
1 1 0:2 / / rw - rootfs rootfs rw
31 29 253:3 /sub /srv/x rw - ext4 /dev/d rw
`))
	if err != nil {
		t.Fatal(err)
	}
	if at := At(list, "/srv"); at == nil || at.ID != 28 {
		t.Errorf("got %+v, want mount 28, which lies on mount 30", at)
	}
	if at := At(list, "/"); at == nil || at.ID != 1 {
		t.Errorf("got %+v, want the root, its own parent", at)
	}
	state, reason := Compare(list, Spec{Where: "/srv/x", Type: "ext4", Device: "/dev/d"}, Number{253, 3}, "/")
	if state != Foreign || !strings.Contains(reason, "only the folder /sub") {
		t.Errorf("a bind mount where the whole is wanted: %s (%s)", state, reason)
	}
}

func TestAMountPointIsAbsoluteAndNoLink(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, where, want string }{
		{"a relative path", "srv/x", "not an absolute path in its shortest form"},
		{"a path with dots", "/srv/../x", "not an absolute path in its shortest form"},
		{"a link", filepath.Join(dir, "link"), "this is a link to " + dir},
		{"a folder behind a link", filepath.Join(dir, "link", "new"), "this is a link to " + filepath.Join(dir, "new")},
	} {
		t.Run(row.name, func(t *testing.T) {
			if err := Mount(Spec{Where: row.where, Type: "tmpfs"}); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

func TestWhatAMountWouldHideIsTold(t *testing.T) {
	dir := t.TempDir()
	if names, err := Covered(filepath.Join(dir, "none")); err != nil || names != nil {
		t.Errorf("no folder: %v, %v", names, err)
	}
	if names, err := Covered(dir); err != nil || len(names) != 0 {
		t.Errorf("an empty folder: %v, %v", names, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if names, err := Covered(dir); err != nil || len(names) != 1 || names[0] != "data" {
		t.Errorf("a folder with a file: %v, %v", names, err)
	}
}

func FuzzParseOptions(f *testing.F) {
	f.Add("ro,noatime,size=64M,x-systemd.automount")
	f.Fuzz(func(t *testing.T, s string) {
		flag, data := ParseOptions(strings.Split(s, ","))
		again, rest := ParseOptions(strings.Split(data, ","))
		if again != 0 || rest != data {
			t.Errorf("%q: data %q holds options still (%#x after %#x)", s, data, again, flag)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(captured)
	f.Add("1 2 3:4 \\040 /a rw - t s\n")
	f.Fuzz(func(t *testing.T, s string) {
		list, err := Parse(strings.NewReader(s))
		if err != nil {
			return
		}
		if lines := strings.Count(s, "\n") + 1; len(list) > lines {
			t.Fatalf("%d mounts from %d lines", len(list), lines)
		}
	})
}
