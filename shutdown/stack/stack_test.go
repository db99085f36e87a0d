package stack

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"initd/tests/tree"
)

// tree is a machine with LUKS on a partition, a file system on it, a loop
// device on a file there, a file system on that, a bind mount, a linear dm on
// top of another volume, and the state disk.
func machine(t *testing.T) tree.Dir {
	root := tree.New(t)
	write := func(name, text string) { root.Attr(t, name, text) }
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
		root.Link(t, "sys/class/block/"+name, "../../"+dir[len("sys/"):])
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
	s, err := Read(string(machine(t)))
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

// What a device number does not tell is read from elsewhere.
func TestMountsStandOnWhatTheirNumberDoesNotTell(t *testing.T) {
	root := machine(t)
	write := func(name, text string) { root.Attr(t, name, text) }
	write("proc/self/mountinfo", `1 1 0:2 / / rw - rootfs rootfs rw
30 1 253:0 / /srv/x rw - xfs /dev/mapper/tank0 rw,logdev=/dev/mapper/tank1
31 1 0:40 / /srv/b rw - btrfs /dev/mapper/top rw
32 1 0:41 / /srv/o rw - overlay over rw,lowerdir=/srv/x/lower:/usr,upperdir=/srv/b/upper,workdir=/srv/b/work
33 1 9:0 / /srv/m rw - ext4 /dev/md0 rw`)
	write("proc/swaps", "Filename Type Size Used Priority\n/srv/b/swap\\040file file 1 0 -2\n/dev/dm-2 partition 1 0 -3")
	write("sys/fs/btrfs/u/devices/dm-2", "")
	write("sys/fs/btrfs/u/devices/vda1", "")
	write("sys/class/block/md0/dev", "9:0")
	write("sys/class/block/md0/md/array_state", "clean")
	write("sys/class/block/md0/slaves/vdb/x", "")
	write("sys/class/block/md1/dev", "9:1")
	write("sys/class/block/md1/md/array_state", "inactive")
	s, err := Read(string(root))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, n := range s.Nodes {
		if n.Kind == Mount || n.Kind == Swap || n.Kind == MD {
			got[n.Name] = n.Below
		}
	}
	want := map[string][]string{
		"/":                nil,
		"/srv/x":           {"mount 1", "dm-0", "dm-1"},
		"/srv/b":           {"mount 1", "dm-2", "vda1", "vda"},
		"/srv/o":           {"mount 1", "mount 30", "mount 1", "mount 31", "mount 31"},
		"/srv/m":           {"mount 1", "md0"},
		"/srv/b/swap file": {"mount 31"},
		"/dev/dm-2":        {"dm-2"},
		"/dev/md0":         {"vdb"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("edges (-want +got):\n%s", diff)
	}
}

func TestWhatTheRootStandsOnIsKept(t *testing.T) {
	root := machine(t)
	root.Attr(t, "proc/self/mountinfo", "1 0 253:2 / / rw - ext4 /dev/mapper/top rw")
	s, err := Read(string(root))
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

// A mapping is found when nothing else points at the file any more.
func TestAMappingWithoutADescriptorIsFound(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "mapped")
	if err := os.WriteFile(name, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	memory, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(memory) }()
	list := Users("/", []string{dir})
	if len(list) != 1 || list[0].PID != os.Getpid() || list[0].How != "mapped file "+name {
		t.Errorf("got %+v, want this process with its mapping", list)
	}
}

func TestEveryoneIsUserSpaceOnly(t *testing.T) {
	var self, kernel bool
	for _, u := range Everyone("/") {
		self = self || u.PID == os.Getpid()
		kernel = kernel || u.PID == 2 // kthreadd
	}
	if !self || kernel {
		t.Errorf("this process is listed: %v; kthreadd is: %v", self, kernel)
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add("1 (a) b) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 2 3 4")
	f.Fuzz(func(t *testing.T, stat string) {
		comm, start := identity(fstest.MapFS{"proc/7/stat": &fstest.MapFile{Data: []byte(stat)}}, 7)
		if len(comm) > len(stat) || start == 0 && comm == "" && strings.HasPrefix(stat, "7 (x) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 2 ") {
			t.Errorf("%q gives %q, %d", stat, comm, start)
		}
	})
}

// A process of root's whose name begins with '@' serves storage: it is left to init.
func TestEveryoneLeavesStorageDaemonsAlone(t *testing.T) {
	root := t.TempDir()
	for pid, name := range map[string]string{"7": "@mdmon\x00md0\x00", "8": "mdmon\x00@md0\x00", "9": ""} {
		dir := filepath.Join(root, "proc", pid)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		stat := pid + " (mdmon) S" + strings.Repeat(" 1", 30) + "\n"
		for file, text := range map[string]string{"cmdline": name, "stat": stat} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("/sbin/mdmon", filepath.Join(dir, "exe")); err != nil {
			t.Fatal(err)
		}
	}
	want := []int{8, 9}
	if os.Getuid() != 0 {
		want = []int{7, 8, 9} // anybody may call himself so
	}
	var got []int
	for _, u := range Everyone(root) {
		got = append(got, u.PID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("processes to end (-want +got):\n%s", diff)
	}
}
