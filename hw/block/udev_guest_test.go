//go:build guest

package block

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/hw/block/media"
	"initd/hw/sysfs"
	"initd/hw/sysfs/sysfstest"
	"initd/hw/uevent"
)

// This test runs Debian's udevd beside us and compares what both say of the same disks.
//
// The guest brings blank disks: four virtio disks of 64 MiB, the first with the serial 'gpt/d é0', an NVMe disk of 16 MiB or more,
// two SCSI disks behind virtio-scsi, of 16 and 400 MiB; a SATA disk if it has one. It needs the Debian packages udev, dmsetup, mdadm, lvm2,
// cryptsetup-bin, sg3-utils, sg3-utils-udev, multipath-tools, kpartx, fdisk, e2fsprogs, xfsprogs, dosfstools, util-linux and mount with their udev rules,
// and the modules virtio_blk virtio_scsi sd_mod dm-mod dm-crypt raid1 loop xfs.

func run(t *testing.T, input string, command ...string) string {
	t.Helper()
	if _, err := exec.LookPath(command[0]); err != nil {
		t.Fatalf("%s is missing in the guest: its Debian package belongs into the test's row", command[0])
	}
	// A tool that waits for udevd for ever is named, with what hangs.
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v %v\n%s", strings.Join(command, " "), err, ctx.Err(), out)
	}
	return strings.TrimSpace(string(out))
}

// startUdevd runs udevd until the test ends, and settles what there is.
func startUdevd(t *testing.T) {
	t.Helper()
	path, err := exec.LookPath("udevadm")
	if err != nil {
		t.Fatal("udevadm is missing in the guest: the Debian package udev belongs into the test's row")
	}
	if err := os.MkdirAll("/run/udev", 0o755); err != nil {
		t.Fatal(err)
	}
	// The daemon is the same program under another name.
	daemon := exec.Command(path)
	daemon.Args = []string{"systemd-udevd"}
	var said bytes.Buffer
	daemon.Stderr = &said
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		if t.Failed() {
			t.Logf("udevd said:\n%s", said.String())
		}
	})
	waitFor(t, "udevd's control socket", func() bool { _, err := os.Stat("/run/udev/control"); return err == nil })
	run(t, "", "udevadm", "trigger", "--action=add", "--type=subsystems")
	run(t, "", "udevadm", "trigger", "--action=add", "--type=devices")
	run(t, "", "udevadm", "settle")
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); {
		if time.Now().After(end) {
			t.Fatalf("%s did not come", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// blank finds disks by the start of their names, smallest first.
func blank(t *testing.T, devices []Device, prefix string, n int) []Device {
	t.Helper()
	var found []Device
	for _, d := range devices {
		if strings.HasPrefix(d.Name, prefix) && d.Kind() == Disk && d.Size > 0 && !d.ReadOnly && len(d.Partitions) == 0 && len(d.Holders) == 0 {
			found = append(found, d)
		}
	}
	if len(found) < n {
		t.Fatalf("%d blank disks named %s…, the test wants %d", len(found), prefix, n)
	}
	slices.SortStableFunc(found, func(a, b Device) int { return int(int64(a.Size) - int64(b.Size)) })
	return found
}

// furnish puts something of every kind on the disks.
func furnish(t *testing.T, devices []Device) {
	virtio, nvme, scsi := blank(t, devices, "vd", 4), blank(t, devices, "nvme", 1), blank(t, devices, "sd", 2)
	// The disk with the odd serial gets the odd labels.
	first := slices.IndexFunc(virtio, func(d Device) bool { return strings.Contains(strings.Join(d.IDs, " "), "gpt") })
	if first < 0 {
		t.Fatal("no virtio disk has the serial 'gpt/d é0'")
	}
	gpt := virtio[first].Node()
	virtio = slices.Delete(virtio, first, first+1)
	run(t, "label: gpt\nsize=4MiB, name=\"data 1\"\nsize=20MiB, name=\"luks/é\"\nsize=4MiB\nsize=16MiB, name=esp\n", "sfdisk", "-q", gpt)
	run(t, "", "udevadm", "settle")
	run(t, "", "mkfs.ext4", "-q", "-L", "a b  c/d", gpt+"1")
	run(t, "x", "cryptsetup", "luksFormat", "-q", "--type", "luks2", "--label", "tank 0", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", gpt+"2", "-")
	run(t, "", "mkfs.vfat", "-F", "16", "-n", "ESP 1", gpt+"4")
	run(t, "x", "cryptsetup", "open", "--key-file", "-", gpt+"2", "crypt 0")
	run(t, "", "mkfs.ext4", "-q", "-L", "on crypt", `/dev/mapper/crypt\x200`)
	run(t, "", "dmsetup", "create", "plain", "--table", "0 4096 linear "+gpt+"3 0")

	run(t, "", "mdadm", "-C", "/dev/md0", "--run", "--force", "-e", "1.2", "-N", "arr 1", "--homehost=h", "-l", "1", "-n", "2", virtio[0].Node(), virtio[1].Node())
	run(t, "", "mkfs.ext4", "-q", "-L", "on md", "/dev/md0")
	run(t, "", "lvm", "pvcreate", "-q", virtio[2].Node())
	run(t, "", "lvm", "vgcreate", "-q", "vgx", virtio[2].Node())
	run(t, "", "lvm", "lvcreate", "-q", "-y", "-Zn", "-Wn", "-L", "8M", "-n", "lv-one", "vgx")

	run(t, "label: dos\nlabel-id: 0x1234abcd\nsize=1MiB, type=83\nsize=4MiB, type=5\nsize=1MiB, type=83\n", "sfdisk", "-q", scsi[0].Node())
	run(t, "", "mkfs.xfs", "-q", "-f", "-L", "xé y", scsi[len(scsi)-1].Node())
	for _, d := range scsi[1 : len(scsi)-1] {
		run(t, "", "mkswap", "-q", "-L", "swap 1", d.Node())
	}
	// A map with multipath's UUID is what the rules go by; its target does not matter to a name.
	run(t, "label: gpt\nsize=4MiB, name=onpath\n", "sfdisk", "-q", "--no-reread", "--no-tell-kernel", nvme[0].Node())
	run(t, "", "dmsetup", "create", "mpatha", "--uuid", "mpath-360014050000000000000000000000001",
		"--table", fmt.Sprintf("0 %d linear %s 0", nvme[0].Size/sectorSize, nvme[0].Node()))
	run(t, "", "dmsetup", "create", "mpatha-part1", "--uuid", "part1-mpath-360014050000000000000000000000001", "--table", "0 8192 linear /dev/mapper/mpatha 2048")

	file := t.TempDir() + "/backing"
	run(t, "", "mkfs.ext4", "-q", "-L", "in a file", file, "4M")
	run(t, "", "losetup", "-f", file)
	run(t, "", "udevadm", "settle")
	// What was written through a holder is not seen by the device below: ask for each once more.
	run(t, "", "udevadm", "trigger", "--action=change", "--subsystem-match=block")
	run(t, "", "udevadm", "settle")
}

// keep builds a world as its keeper would, reading media in this process: a test may block.
func keep(t *testing.T, f *sysfs.FS) *World {
	t.Helper()
	devices, err := Scan(f)
	if err != nil {
		t.Fatal(err)
	}
	w := NewWorld()
	for _, d := range devices {
		w.Apply(Seen{Device: d})
	}
	for _, request := range w.ToProbe() {
		answer := Probed{Request: request}
		content, err := media.ProbeDevice(request.Node)
		if err != nil {
			answer.Failure = err.Error()
		}
		answer.Content = content
		w.Apply(answer)
	}
	return w
}

func TestUdevdGivesTheSameNames(t *testing.T) {
	f := sysfstest.Open(t)
	startUdevd(t)
	devices, err := Scan(f)
	if err != nil {
		t.Fatal(err)
	}
	furnish(t, devices)
	w := keep(t, f)

	events, err := uevent.Enumerate(f, "block")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, event := range events {
		record, ready, err := uevent.Database(f, event)
		if err != nil || !ready {
			t.Errorf("%s: udevd's record: ready %v, %v", event.Name(), ready, err)
			continue
		}
		d, _ := w.Device(event.Name())
		if strings.HasPrefix(d.Name, "ram") || strings.HasPrefix(d.Name, "sr") || strings.HasPrefix(d.Name, "fd") {
			continue
		}
		var want []string
		for _, link := range record.Links {
			if name, ok := strings.CutPrefix(link, "disk/by-"); ok {
				want = append(want, name)
			}
		}
		slices.Sort(want)
		got := withoutDev(w.Names(d.Name))
		if w.passive(d) {
			// udevd reads a leg as long as multipathd does not claim it; we never do.
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-udevd +got):\n%s", d, diff)
		}
		compared += len(want)
	}
	if compared < 60 {
		t.Errorf("only %d names were compared", compared)
	}
	t.Logf("%d names of %d devices are udevd's", compared, len(events))

	t.Run("names mean the device at the top", func(t *testing.T) { resolveAll(t, w) })
	t.Run("udevd's own messages are heard", func(t *testing.T) { hearUdevd(t) })
	t.Run("blkid reads the same", func(t *testing.T) { compareBlkid(t, w) })
}

func withoutDev(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, "dev/") })
}

func resolveAll(t *testing.T, w *World) {
	for _, row := range []struct{ name, want string }{
		{"label/a b  c/d", "ext4"}, {"label/tank 0", "crypto_LUKS"}, {"label/on crypt", "ext4"}, {"label/on md", "ext4"},
		{"label/xé y", "xfs"}, {"label/ESP 1", "vfat"}, {"label/in a file", "ext4"}, {"partlabel/luks/é", "crypto_LUKS"},
		{"dev/mapper/vgx-lv--one", ""}, {"id/md-name-h:arr_1", "ext4"}, {"dev/mapper/plain", ""}, {"partlabel/onpath", ""},
		{"id/wwn-0x60014050000000000000000000000001", ""},
	} {
		d, reason := w.Resolve(row.name, nil)
		if !reason.OK() {
			t.Errorf("%s", reason.Text)
			continue
		}
		kind := ""
		if content, _ := w.Content(d.Name); content != nil && content.Signature != nil {
			kind = content.Signature.Type
		}
		if kind != row.want {
			t.Errorf("%s is %s with %q, want %q", row.name, d, kind, row.want)
		}
	}
	var leg, member string
	for _, d := range w.Devices() {
		for _, above := range d.Holders {
			switch holder, _ := w.Device(above); holder.Kind() {
			case Multipath:
				leg = d.Name
			case RAID:
				member = d.Name
			}
		}
	}
	for _, name := range []string{leg, member} {
		if _, reason := w.Resolve("dev/"+name, nil); reason.Code != Covered {
			t.Errorf("dev/%s, which is covered: %+v", name, reason)
		}
	}
}

func hearUdevd(t *testing.T) {
	events, err := uevent.Subscribe(t.Context(), uevent.Udev)
	if err != nil {
		t.Fatal(err)
	}
	run(t, "", "udevadm", "trigger", "--action=change", "--sysname-match=md0")
	timeout := time.After(time.Minute)
	for {
		select {
		case event := <-events:
			if event.Name() != "md0" {
				continue
			}
			if event.Action != uevent.Change || !strings.Contains(event.Properties["DEVLINKS"], "/dev/disk/by-label/on\\x20md") {
				t.Errorf("%+v", event)
			}
			return
		case <-timeout:
			t.Fatal("udevd's event did not come")
		}
	}
}

func compareBlkid(t *testing.T, w *World) {
	for _, d := range w.Devices() {
		content, failure := w.Content(d.Name)
		if content == nil {
			if failure != "" {
				t.Errorf("%s: %s", d, failure)
			}
			continue
		}
		out, err := exec.Command("blkid", "-p", "-o", "value", "-s", "TYPE", d.Node()).Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 2 {
			out = nil
		} else if err != nil {
			t.Errorf("blkid %s: %v", d, err)
			continue
		}
		kind := ""
		if content.Signature != nil {
			kind = content.Signature.Type
		}
		if want := strings.TrimSpace(string(out)); kind != want {
			t.Errorf("%s holds %q, blkid says %q", d, kind, want)
		}
	}
}
