//go:build guest

// Package disks proves, inside a machine, that what qemu-tests/vm writes into disk images is what the kernel and
// Debian's tools make of it. It owns no code.
package disks

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"initd/hw/sysfs/sysfstest"
)

// The passphrases of the volumes; the row in qemu-tests/scenario makes the disks with them.
const (
	firstKey  = "first key of the test"
	secondKey = "second key of the test"
)

func run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// wantFile mounts an ext4 file system, which has to be clean, and reads its file.
func wantFile(t *testing.T, device string) {
	t.Helper()
	run(t, "", "e2fsck", "-fn", device)
	dir := t.TempDir()
	if err := unix.Mount(device, dir, "ext4", unix.MS_RDONLY, ""); err != nil {
		t.Fatalf("mount %s: %v", device, err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	text, err := os.ReadFile(filepath.Join(dir, "hello"))
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != "hello from the host\n" {
		t.Errorf("the file holds %q", text)
	}
}

func TestAnExt4ImageMounts(t *testing.T) { wantFile(t, sysfstest.Disk(t, "ext4")) }

func TestPartitionsHaveTheirNamesAndContents(t *testing.T) {
	disk := sysfstest.Disk(t, "gpt")
	for number, want := range []string{"plain", "empty"} {
		uevent, err := os.ReadFile("/sys/class/block/" + filepath.Base(disk) + string(rune('1'+number)) + "/uevent")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(uevent), "\nPARTNAME="+want+"\n") {
			t.Errorf("partition %d: %q, want the name %s", number+1, uevent, want)
		}
	}
	wantFile(t, disk+"1")
}

func TestVolumesOpenWithEachOfTheirKeysAndHoldTheirContents(t *testing.T) {
	for _, tc := range []struct {
		name, serial, header string
		keys                 []string
	}{
		{"LUKS1", "luks1", "", []string{firstKey}},
		{"LUKS2 with two keys", "luks2", "", []string{firstKey, secondKey}},
		{"LUKS2 with sectors of 4096 bytes and argon2id", "luks2-4k", "", []string{firstKey}},
		{"a detached header", "luks-data", "luks-header", []string{firstKey}},
	} {
		for _, key := range tc.keys {
			t.Run(tc.name, func(t *testing.T) {
				args := []string{"open", "--readonly", "--key-file", "-", sysfstest.Disk(t, tc.serial), tc.serial}
				if tc.header != "" {
					args = append(args, "--header", sysfstest.Disk(t, tc.header))
				}
				run(t, key, "cryptsetup", args...)
				defer run(t, "", "cryptsetup", "close", tc.serial)
				wantFile(t, "/dev/mapper/"+tc.serial)
			})
		}
	}
}
