package block

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"initd/hw/block/media"
	"initd/hw/sysfs"
)

// capturedSysfs loads a tree that was captured from a guest: "f PATH CONTENT" and "l PATH TARGET", the last field in Go's quotes.
// The guest had a virtio disk with a GPT, an NVMe disk, three SCSI disks behind virtio-scsi, a SATA disk, an optical drive,
// a scsi_debug disk, a RAID1 on two virtio disks, a logical volume and an opened LUKS volume.
func capturedSysfs(t *testing.T, path string) *sysfs.FS {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tree := fstest.MapFS{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field := strings.SplitN(lines.Text(), " ", 3)
		content, err := strconv.Unquote(field[2])
		if err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		mode := fs.FileMode(0o444)
		if field[0] == "l" {
			mode = fs.ModeSymlink | 0o777
		}
		tree[field[1]] = &fstest.MapFile{Data: []byte(content), Mode: mode}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return sysfs.New(tree)
}

// capturedProperties loads what udevd said in the same guest: for each device its properties, DEVLINKS among them.
func capturedProperties(t *testing.T, path string) map[string]map[string]string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	devices := map[string]map[string]string{}
	for _, part := range strings.Split("\n"+string(content), "\n=== ")[1:] {
		name, rest, _ := strings.Cut(part, "\n")
		devices[name] = sysfs.ParseProperties([]byte(rest))
	}
	return devices
}

// contentOf makes of udev's properties what Probe would have read, so that the names by content can be compared too.
func contentOf(t *testing.T, devices map[string]map[string]string, name string) media.Content {
	t.Helper()
	decode := func(s string) string {
		plain, err := strconv.Unquote(`"` + s + `"`)
		if err != nil {
			t.Fatal(err)
		}
		return plain
	}
	properties := devices[name]
	var content media.Content
	if properties["ID_FS_TYPE"] != "" {
		content.Signature = &media.Signature{
			Type: properties["ID_FS_TYPE"], Usage: media.Usage(properties["ID_FS_USAGE"]),
			UUID: decode(properties["ID_FS_UUID_ENC"]), Label: decode(properties["ID_FS_LABEL_ENC"]),
		}
	}
	if kind := properties["ID_PART_TABLE_TYPE"]; kind != "" && properties["DEVTYPE"] == "disk" {
		content.Table = &media.Table{Type: kind, UUID: properties["ID_PART_TABLE_UUID"]}
		for _, p := range devices {
			if p["ID_PART_ENTRY_DISK"] != properties["MAJOR"]+":"+properties["MINOR"] {
				continue
			}
			content.Table.Partitions = append(content.Table.Partitions, media.Partition{
				Number: int(number(p["ID_PART_ENTRY_NUMBER"])), Start: number(p["ID_PART_ENTRY_OFFSET"]) * sectorSize,
				UUID: p["ID_PART_ENTRY_UUID"], Label: decode(p["ID_PART_ENTRY_NAME"]),
			})
		}
	}
	return content
}

// capturedWorld is the guest's world, as its keeper would have built it.
func capturedWorld(t *testing.T) (*World, map[string]map[string]string) {
	t.Helper()
	devices, err := Scan(capturedSysfs(t, "testdata/debian12/sysfs"))
	if err != nil {
		t.Fatal(err)
	}
	properties := capturedProperties(t, "testdata/debian12/properties")
	w := NewWorld()
	for _, d := range devices {
		w.Apply(Seen{Device: d})
	}
	for _, request := range w.ToProbe() {
		w.Apply(Probed{Request: request, Content: contentOf(t, properties, request.Name)})
	}
	return w, properties
}

// udevLinks are the names that udev gave, in the form of Names. Left out are those that other packages' rules add for
// programs' sake (/dev/cdrom) and the optical drive's by-id, which this package does not make.
func udevLinks(properties map[string]string) []string {
	var names []string
	for _, l := range strings.Fields(properties["DEVLINKS"]) {
		name, ok := strings.CutPrefix(l, "/dev/disk/by-")
		if !ok || strings.HasPrefix(name, "id/ata-QEMU_DVD-ROM") {
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func withoutNodes(names []string) []string {
	var out []string
	for _, name := range names {
		if !strings.HasPrefix(name, "dev/") {
			out = append(out, name)
		}
	}
	return out
}

func TestNamesAreThoseThatUdevGave(t *testing.T) {
	w, properties := capturedWorld(t)
	if len(properties) < 20 {
		t.Fatalf("only %d devices were captured", len(properties))
	}
	for name, device := range properties {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(udevLinks(device), withoutNodes(w.Names(name))); diff != "" {
				t.Errorf("names (-udev +got):\n%s", diff)
			}
		})
	}
}

func TestDevicesAreReadAsTheyAre(t *testing.T) {
	w, _ := capturedWorld(t)
	got := map[string]string{}
	for _, d := range w.Devices() {
		got[d.Name] = fmt.Sprintf("%s %s %d", d.Kind(), d.Number(), d.Size)
	}
	for name, want := range map[string]string{
		"vda":     "disk 254:0 67108864",
		"vda2":    "partition 254:2 20971520",
		"md0":     "raid 9:0 40894464",
		"dm-0":    "lvm 253:0 8388608",
		"dm-1":    "crypt 253:1 4194304",
		"nvme0n1": "disk 259:0 33554432",
		"loop0":   "loop 7:0 0",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	vda, _ := w.Device("vda")
	if diff := cmp.Diff([]string{"vda1", "vda2", "vda3", "vda4"}, vda.Partitions); diff != "" {
		t.Error(diff)
	}
	vda2, _ := w.Device("vda2")
	if vda2.Disk != "vda" || vda2.Start != 10240*512 || !slices.Equal(vda2.Holders, []string{"dm-1"}) {
		t.Errorf("vda2: %+v", vda2)
	}
	md, _ := w.Device("md0")
	if !slices.Equal(md.Slaves, []string{"vdb", "vdc"}) || md.MD.Level != "raid1" {
		t.Errorf("md0: %+v %+v", md, md.MD)
	}
}
