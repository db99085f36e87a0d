//go:build guest

package mount

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"initd/hw/sysfs/sysfstest"
)

// The machine has a virtio disk 'mount-ext4' of 32 MiB and one 'mount-xfs' of 400 MiB, both blank, and the programs mke2fs, mkfs.xfs,
// fsck.ext4, debugfs; modules virtio_blk, ext4, xfs.

func tool(t *testing.T, command ...string) {
	t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}

func number(t *testing.T, dev string) Number {
	t.Helper()
	n, err := DeviceNumber(dev)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wants compares what is mounted now with a spec.
func wants(t *testing.T, s Spec, n Number, root string, want State) {
	t.Helper()
	list, err := List()
	if err != nil {
		t.Fatal(err)
	}
	if got, reason := Compare(list, s, n, root); got != want {
		t.Errorf("%s is %s (%s), want %s", s.Where, got, reason, want)
	}
}

func mounted(t *testing.T, s Spec) {
	t.Helper()
	if err := Mount(s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Unmount(s.Where, true) })
}

func TestADiskIsMountedComparedAndUnmounted(t *testing.T) {
	for _, row := range []struct {
		typ, serial string
		make        []string
	}{
		{"ext4", "mount-ext4", []string{"mke2fs", "-q", "-F", "-t", "ext4"}},
		{"xfs", "mount-xfs", []string{"mkfs.xfs", "-q", "-f"}},
	} {
		t.Run(row.typ, func(t *testing.T) {
			dev := sysfstest.Disk(t, row.serial)
			tool(t, append(row.make, dev)...)
			n := number(t, dev)
			s := Spec{Device: dev, Where: "/srv/" + row.typ + "/deep", Type: row.typ, Options: []string{"noatime", "nosuid"}}
			wants(t, s, n, "/", Absent)
			mounted(t, s)
			wants(t, s, n, "/", Same)
			if info, err := os.Stat(filepath.Dir(s.Where)); err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("the folder that was made: %v, %v", info, err)
			}
			if err := os.WriteFile(s.Where+"/file", []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}

			other := s
			other.Options = []string{"ro"}
			wants(t, other, n, "/", Different)
			wants(t, s, Number{250, 250}, "/", Foreign)

			open, err := os.Open(s.Where + "/file")
			if err != nil {
				t.Fatal(err)
			}
			defer open.Close()
			var busy *Error
			if err := Unmount(s.Where, false); !errors.As(err, &busy) || !errors.Is(err, unix.EBUSY) || busy.Code() != "MOUNT-BUSY" {
				t.Errorf("a busy unmount: %v", err)
			}
			if err := ReadOnly(s.Where); err != nil {
				t.Errorf("read-only with a reader: %v", err)
			}
			wants(t, s, n, "/", Different)
			open.Close()
			if err := Unmount(s.Where, false); err != nil {
				t.Fatal(err)
			}
			wants(t, s, n, "/", Absent)
		})
	}
}

func TestTmpfsAndBindMounts(t *testing.T) {
	tmp := Spec{Where: "/srv/tmp", Type: "tmpfs", Options: []string{"size=1M", "mode=0700", "nodev"}}
	mounted(t, tmp)
	wants(t, tmp, Number{}, "", Same)
	var st unix.Statfs_t
	if err := unix.Statfs(tmp.Where, &st); err != nil || st.Blocks*uint64(st.Bsize) != 1<<20 {
		t.Errorf("size: %d blocks of %d, %v", st.Blocks, st.Bsize, err)
	}
	if err := os.Mkdir("/srv/tmp/part", 0o755); err != nil {
		t.Fatal(err)
	}
	list, err := List()
	if err != nil {
		t.Fatal(err)
	}
	at := At(list, "/srv/tmp")
	n := Number{at.Major, at.Minor}
	bound := Spec{Device: "/srv/tmp/part", Where: "/srv/bound", Type: "bind", Options: []string{"ro", "noexec"}}
	wants(t, bound, n, "/part", Absent)
	mounted(t, bound)
	wants(t, bound, n, "/part", Same)
	if err := os.WriteFile("/srv/bound/x", nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing through a read-only bind mount: %v", err)
	}
	if err := os.WriteFile("/srv/tmp/part/x", nil, 0o600); err != nil {
		t.Errorf("writing beside it: %v", err)
	}
	less := bound
	less.Options = append(less.Options, "nosuid")
	wants(t, less, n, "/part", Partial)
	if err := Remount(less); err != nil {
		t.Fatal(err)
	}
	wants(t, less, n, "/part", Same)
}

func TestWhatTheKernelRefusesIsSaidInWords(t *testing.T) {
	dev := sysfstest.Disk(t, "mount-ext4")
	tool(t, "mke2fs", "-q", "-F", "-t", "ext4", dev)
	for _, row := range []struct {
		name string
		spec Spec
		want string
	}{
		{"another type than there is", Spec{Device: dev, Where: "/srv/a", Type: "xfs"}, "does not find this file system on it"},
		{"an option that is none", Spec{Device: dev, Where: "/srv/a", Type: "ext4", Options: []string{"nosuchoption"}}, "an option is wrong"},
		{"a type that nobody knows", Spec{Device: dev, Where: "/srv/a", Type: "nosuchfs"}, "does not know the file system nosuchfs"},
		{"a device that is not there", Spec{Device: "/dev/nosuch", Where: "/srv/a", Type: "ext4"}, "no such file"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := Mount(row.spec)
			if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "mount /srv/a") {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

func TestADamagedFileSystemIsRepairedOrNeedsADecision(t *testing.T) {
	dev := sysfstest.Disk(t, "mount-ext4")
	tool(t, "mke2fs", "-q", "-F", "-t", "ext4", "-O", "^metadata_csum", dev)
	tool(t, "debugfs", "-w", "-R", "ssv free_blocks_count 7", dev)
	tool(t, "debugfs", "-w", "-R", "ssv state 0", dev)
	if got, err := Check(context.Background(), dev, "ext4", nil); err != nil || !got.Corrected {
		t.Errorf("a wrong counter: %+v, %v", got, err)
	}
	// Two inodes that claim the same block cannot be preened.
	tool(t, "debugfs", "-w", "-R", "mkdir a", dev)
	tool(t, "debugfs", "-w", "-R", "mkdir b", dev)
	tool(t, "debugfs", "-w", "-R", "sif b block[0] 1", dev)
	tool(t, "debugfs", "-w", "-R", "ssv state 0", dev)
	_, err := Check(context.Background(), dev, "ext4", nil)
	var failed *FSCKError
	if !errors.As(err, &failed) || failed.Status&4 == 0 || !strings.Contains(err.Error(), "errors are left that need a decision") {
		t.Errorf("a damage that needs a decision: %v", err)
	}
}

// The watch tells of what others do, at once and with nobody asking.
func TestTheMountTableIsWatched(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	changes := make(chan []Info, 100)
	ended := make(chan error, 1)
	go func() { ended <- Watch(ctx, func(list []Info) { changes <- list }) }()
	wait := func(there bool) {
		t.Helper()
		for {
			select {
			case list := <-changes:
				if (At(list, "/srv/watched") != nil) == there {
					return
				}
			case err := <-ended:
				t.Fatalf("the watch ended: %v", err)
			case <-time.After(time.Minute):
				t.Fatalf("no change came in which /srv/watched is there: %v", there)
			}
		}
	}
	wait(false)
	if err := Mount(Spec{Where: "/srv/watched", Type: "tmpfs"}); err != nil {
		t.Fatal(err)
	}
	wait(true)
	if err := Unmount("/srv/watched", false); err != nil {
		t.Fatal(err)
	}
	wait(false)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the watch ended with %v", err)
	}
}
