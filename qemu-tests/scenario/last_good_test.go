package scenario

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	breport "initd/boot/report"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// stateFile is the appliance file on the state disk; the image's own has no mounts.
const stateFile = `apiVersion: initd/v1
name: store
mounts:
  - {where: /srv/scratch, type: tmpfs, options: [size=4M]}
`

// The appliance file on the state disk is broken.
//
//   - The first boot runs the good file, reaches ready, and keeps its plan on
//     the state disk.
//   - Somebody misspells a section of the file while the machine is off.
//   - The second boot runs the kept plan: the same units come up. The first
//     notice of its report says so, with the place of the mistake and what may have been meant.
//   - The kept plan is as it was: a boot from it does not count as a proof of the file.
func TestTheLastGoodPlanBoots(t *testing.T) {
	s := room.New(t, room.KMSAV4, room.KMSBV4)
	s.Appliance = "apiVersion: initd/v1\nname: store\n"
	dir := t.TempDir()
	write(t, filepath.Join(dir, "appliance.yaml"), stateFile)
	disk := vm.NewDisk(t, "state", 16*vm.MiB, vm.Ext4{Label: "initd-state", Dir: dir})

	first := s.NewStore(disk).Start()
	first.WaitEvent("the mount of the good file", room.Unit("mount/srv/scratch", "done"), vm.Guard)
	first.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	first.CtrlAltDel()
	first.Exited(vm.Guard)
	for _, e := range room.Told(t, first) {
		if e.Kind == breport.Notice && strings.Contains(e.Text, "last good plan") {
			t.Errorf("the good boot says: %s", e.Text)
		}
	}
	kept := fromImage(t, disk, "last-good-plan.json")
	if !json.Valid(kept) {
		t.Fatalf("the state disk has no last good plan after a boot that reached ready: %q", kept)
	}

	broken := filepath.Join(t.TempDir(), "broken.yaml")
	write(t, broken, strings.Replace(stateFile, "mounts:", "monuts:", 1))
	debugfs(t, disk, "rm /appliance.yaml")
	debugfs(t, disk, "write "+broken+" /appliance.yaml")

	second := first.Again().Start()
	second.WaitEvent("the mount of the kept plan", room.Unit("mount/srv/scratch", "done"), vm.Guard)
	second.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	second.Console().WaitFor(`the last good plan is used`, vm.Guard)
	var notices []string
	for _, e := range room.Told(t, second) {
		if e.Kind == breport.Notice {
			notices = append(notices, e.Text)
		}
	}
	if len(notices) == 0 || !strings.HasPrefix(notices[0], "the last good plan is used, kept at ") ||
		!strings.Contains(notices[0], `/appliance.yaml:3:1: unknown key "monuts"`) || !strings.Contains(notices[0], `did you mean "mounts"?`) {
		t.Errorf("notices %q; want first that the last good plan is used, because of line 3", notices)
	}
	second.CtrlAltDel()
	second.Exited(vm.Guard)
	if again := fromImage(t, disk, "last-good-plan.json"); string(again) != string(kept) {
		t.Error("the second boot wrote another last good plan")
	}
}

// fromImage reads a file of an ext4 image that no machine uses.
func fromImage(t *testing.T, d *vm.Disk, name string) []byte {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(name))
	debugfs(t, d, "dump /"+name+" "+to)
	b, err := os.ReadFile(to)
	if err != nil {
		t.Fatalf("the image of %s has no %s: %v", d.Name, name, err)
	}
	return b
}

// debugfs runs one command on an ext4 image, which needs neither root nor a mount. It refuses
// to write to images whose journal has to be replayed, so this also proves a clean way down.
func debugfs(t *testing.T, d *vm.Disk, command string) {
	t.Helper()
	program := ""
	for _, p := range []string{"debugfs", "/usr/sbin/debugfs", "/sbin/debugfs"} {
		if found, err := exec.LookPath(p); err == nil {
			program = found
			break
		}
	}
	if program == "" {
		t.Fatal("debugfs is missing: install the Debian package e2fsprogs")
	}
	out, err := exec.Command(program, "-w", "-R", command, d.Path).CombinedOutput()
	// It ends with 0 whatever happened; an error is a line of its own after the version.
	said := strings.Split(strings.TrimSpace(string(out)), "\n")[1:]
	said = slices.DeleteFunc(said, func(l string) bool { return strings.HasPrefix(l, "Allocated inode") })
	if err != nil || len(said) > 0 {
		t.Fatalf("debugfs -R %q %s: %v: %s", command, d.Path, err, out)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
