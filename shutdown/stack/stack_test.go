package stack

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree is a machine with LUKS on a partition, a file system on it, a loop
// device on a file there, a file system on that, a bind mount, a linear dm on
// top of another volume, and the state disk.
func tree(t *testing.T) string {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("proc/self/mountinfo", `1 1 0:2 / / rw - rootfs rootfs rw
20 1 0:20 / /proc rw - proc proc rw
21 1 0:21 / /run rw - tmpfs tmpfs rw
22 21 254:16 / /run/initd/state rw - ext4 /dev/vdb rw
30 1 253:0 / /srv/tank0 rw - xfs /dev/mapper/tank0 rw
31 1 253:0 /x /srv/bind rw - xfs /dev/mapper/tank0 rw
32 30 7:0 / /srv/tank0/loop rw - ext4 /dev/loop0 rw`)
	write("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/srv/tank0/swap file 1 0 -2")
	for name, number := range map[string]string{"vda": "254:0", "vda1": "254:1", "vdb": "254:16", "loop0": "7:0", "loop1": "7:1", "dm-0": "253:0", "dm-1": "253:1", "dm-2": "253:2"} {
		dir := "sys/devices/block/" + name
		if name == "vda1" {
			dir = "sys/devices/block/vda/vda1"
			write(dir+"/partition", "1")
		}
		write(dir+"/dev", number)
		link := filepath.Join(root, "sys/class/block", name)
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../../"+dir[len("sys/"):], link); err != nil {
			t.Fatal(err)
		}
	}
	write("sys/devices/block/loop0/loop/backing_file", "/srv/tank0/file")
	write("sys/devices/block/dm-0/dm/name", "tank0")
	write("sys/devices/block/dm-1/dm/name", "tank1")
	write("sys/devices/block/dm-2/dm/name", "top")
	write("sys/devices/block/dm-0/slaves/vda1/x", "")
	write("sys/devices/block/dm-1/slaves/vda/x", "")
	write("sys/devices/block/dm-2/slaves/dm-1/x", "")
	return root
}

func TestReadFindsWhatStandsOnWhat(t *testing.T) {
	s, err := Read(tree(t))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	kept := map[string]string{}
	for _, n := range s.Nodes {
		got[n.Name] = n.Below
		if n.Keep != "" {
			kept[n.Name] = n.Keep
		}
	}
	want := map[string][]string{
		"/":                nil,
		"/proc":            {"mount 1"},
		"/run":             {"mount 1"},
		"/run/initd/state": {"mount 21", "vdb"},
		"/srv/tank0":       {"mount 1", "dm-0"},
		"/srv/bind":        {"mount 1", "dm-0"},
		"/srv/tank0/loop":  {"mount 30", "loop0"},
		"/srv/tank0/swap":  {"mount 30"},
		"/dev/loop0":       {"mount 30"},
		"tank0":            {"vda1", "vda"},
		"tank1":            {"vda"},
		"top":              {"dm-1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("edges (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"/": "the root", "/proc": "the system's", "/run": "the system's"}, kept); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}

func TestWhatTheRootStandsOnIsKept(t *testing.T) {
	root := tree(t)
	info := filepath.Join(root, "proc/self/mountinfo")
	if err := os.WriteFile(info, []byte("1 0 253:2 / / rw - ext4 /dev/mapper/top rw\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"dm-2", "dm-1"} {
		if s.Node(id).Keep == "" {
			t.Errorf("%s is below the root and would be taken down", id)
		}
	}
	if s.Node("dm-0").Keep != "" {
		t.Error("dm-0 is not below the root and is kept")
	}
}

func TestUsersAreFoundByTheirLinks(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal("sleep is missing: apt-get install coreutils")
	}
	cmd := exec.Command(sleep, "300")
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	list := Users("/", []string{dir})
	if len(list) != 1 || list[0].PID != cmd.Process.Pid || list[0].Comm != "sleep" || list[0].How != "working directory" {
		t.Fatalf("got %+v, want the sleep with pid %s in its working directory", list, strconv.Itoa(cmd.Process.Pid))
	}
	if !Same(list[0]) {
		t.Error("a living process is not the same as itself")
	}
	other := list[0]
	other.Start++
	if Same(other) {
		t.Error("a process with another start time counts as the same")
	}
}
