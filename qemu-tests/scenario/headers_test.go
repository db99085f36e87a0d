package scenario

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	breport "initd/boot/report"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// luks2Copy is the size of each of the two copies of a LUKS2 header that cryptsetup writes, in bytes; JSON is behind its
// first luks2Binary bytes (LUKS2 On-Disk Format 1.1.3, section 2).
const (
	luks2Copy   = 16384
	luks2Binary = 4096
	luks2Sum    = 448
)

// editHeader changes the JSON of both copies of a disk's header and makes their checksums right.
func editHeader(t *testing.T, d *vm.Disk, expression, replacement string) {
	t.Helper()
	for _, at := range []int64{0, luks2Copy} {
		raw := readDisk(t, d, at, luks2Copy)
		text, _, _ := bytes.Cut(raw[luks2Binary:], []byte{0})
		changed := regexp.MustCompile(expression).ReplaceAll(text, []byte(replacement))
		if bytes.Equal(changed, text) || len(changed) >= luks2Copy-luks2Binary {
			t.Fatalf("disk %s: the header cannot be changed by %s", d.Name, expression)
		}
		clear(raw[luks2Binary:])
		copy(raw[luks2Binary:], changed)
		clear(raw[luks2Sum : luks2Sum+64])
		sum := sha256.Sum256(raw)
		copy(raw[luks2Sum:], sum[:])
		writeDisk(t, d, at, raw)
	}
	if size := binary.BigEndian.Uint64(readDisk(t, d, 8, 8)); size != luks2Copy {
		t.Fatalf("disk %s: a header of %d bytes", d.Name, size)
	}
}

func readDisk(t *testing.T, d *vm.Disk, at int64, size int) []byte {
	t.Helper()
	f, err := os.Open(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, size)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	return b
}

func writeDisk(t *testing.T, d *vm.Disk, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(d.Path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// header is one of the eight volumes: what was done to its header, and what is to become of it.
type header struct {
	name   string
	kdf    string
	change func(t *testing.T, d *vm.Disk)
	opens  bool
	note   string // in the report, where it opens nevertheless
	code   string
	says   string // and nothing else
	verify int    // how luks verify ends on the same disk; -1: it is not asked
}

func headers() []header {
	overwrite := func(at int64) func(*testing.T, *vm.Disk) {
		return func(t *testing.T, d *vm.Disk) { writeDisk(t, d, at, bytes.Repeat([]byte{0x55}, 2048)) }
	}
	edit := func(expression, replacement string) func(*testing.T, *vm.Disk) {
		return func(t *testing.T, d *vm.Disk) { editHeader(t, d, expression, replacement) }
	}
	const cost = `"iterations":1000,"salt"`
	return []header{
		{name: "sound", opens: true, verify: 0},
		{name: "argon", kdf: "argon2id", opens: true, verify: 0},
		{name: "first", change: overwrite(5000), opens: true, note: "first copy of its header, the second was used (its checksum is wrong)", verify: 0},
		{name: "both", change: func(t *testing.T, d *vm.Disk) { overwrite(5000)(t, d); overwrite(luks2Copy+5000)(t, d) },
			code: "LUKS-DAMAGED", says: "its checksum is wrong", verify: 2},
		{name: "nested", change: edit(`^\{`, `{"x":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+`,`),
			code: "LUKS-DAMAGED", says: "nested more than 32 deep", verify: 2},
		{name: "endless", change: edit(cost, `"iterations":2147483647,"salt"`),
			code: "LUKS-UNFINISHED", says: "slot 0: pbkdf2 of 2147483647 iterations", verify: -1},
		{name: "costly", kdf: "argon2id", change: edit(`"memory":8192`, `"memory":4194304`),
			code: "LUKS-TOO-COSTLY", says: "needs 4096 MiB of memory", verify: -1},
		{name: "cipher", change: edit(`"encryption":"aes-xts-plain64","sector_size"`, `"encryption":"nothing-xts-plain64","sector_size"`),
			code: "LUKS-UNSUPPORTED", says: "cipher nothing-xts-plain64", verify: 0},
	}
}

// Eight volumes are opened. Two are sound, one has a damaged first header; the others are hostile, each in
// its own way: a header that is damaged twice, JSON nested a thousand deep, work without end, memory beyond the machine's,
// a cipher that the kernel does not have.
//
//   - The three open at their first attempt and are mounted before the endless one is given up.
//   - Each of the five fails alone, with its own code and words and the command that helps.
//   - luks verify says of the same disks what the boot said.
func TestHostileHeadersCostTheirOwnVolumes(t *testing.T) {
	s := room.New(t, room.KMSAV4, room.KMSBV4)
	var luks, mounts strings.Builder
	var disks []*vm.Disk
	keys := t.TempDir()
	for _, h := range headers() {
		key := s.Key(h.name)
		s.Identity["keys/"+h.name] = key
		if err := os.WriteFile(filepath.Join(keys, h.name), key, 0o600); err != nil {
			t.Fatal(err)
		}
		d := vm.NewDisk(t, h.name, 32*vm.MiB, vm.LUKS{Keys: [][]byte{key}, KDF: h.kdf, MemoryKiB: 8192, Content: vm.Ext4{Label: h.name}})
		if h.change != nil {
			h.change(t, d)
		}
		disks = append(disks, d)
		fmt.Fprintf(&luks, "    - {name: %s, device: id/virtio-%[1]s, key: {file: /etc/initd/keys/%[1]s}, deadline: 30s, on-failure: degrade}\n", h.name)
		fmt.Fprintf(&mounts, "  - {what: luks/%s, where: /srv/%[1]s, type: ext4}\n", h.name)
	}
	s.Appliance = `apiVersion: initd/v1
name: store
budgets: {boot: 2m, shutdown: 30s}
media:
  luks:
` + luks.String() + "mounts:\n" + mounts.String()

	store := s.NewStore(disks...).Start()
	for _, h := range headers() {
		if h.opens {
			store.WaitEvent(h.name+" is mounted", room.Unit("mount/srv/"+h.name, "done"), vm.Guard)
		}
	}
	store.WaitEvent("the boot has settled", vm.Is("settled"), vm.Guard)

	events := room.Told(t, store)
	given := slices.IndexFunc(events, func(e breport.Event) bool { return e.Unit == "luks/endless" && e.Error != nil })
	for _, h := range headers() {
		id := "luks/" + h.name
		e := last(events, id)
		if !h.opens {
			if e.Error == nil || e.Error.Code != h.code || !strings.Contains(e.Error.Text, h.says) || e.Error.Next != "initd skip "+id || attempts(events, id) != 1 && h.name != "costly" { // memory may come free
				t.Errorf("%s is %s after %d attempts with %+v; want one, %s: %s", id, e.State, attempts(events, id), e.Error, h.code, h.says)
			}
			continue
		}
		up := slices.IndexFunc(events, func(e breport.Event) bool { return e.Unit == "mount/srv/"+h.name && e.State == breport.Done })
		if !e.State.OK() || attempts(events, id) != 1 || up < 0 || up > given {
			t.Errorf("%s is %s after %d attempts (event %d of the mount, %d of the endless one's end); want done, one, first", id, e.State, attempts(events, id), up, given)
		}
		noted := slices.ContainsFunc(events, func(e breport.Event) bool {
			return e.Kind == breport.Notice && strings.HasPrefix(e.Text, id+": ") && strings.Contains(e.Text, h.note)
		})
		if noted != (h.note != "") {
			t.Errorf("%s: a note in the report: %v", id, noted)
		}
	}
	store.Kill()
	for i, h := range headers() {
		if h.verify < 0 {
			continue
		}
		cmd := exec.Command(vm.Shipped(t, "initd"), "luks", "verify", "--device", disks[i].Path, "--key-file", filepath.Join(keys, h.name))
		text, _ := cmd.CombinedOutput()
		if status := cmd.ProcessState.ExitCode(); status != h.verify || h.verify == 2 && !strings.Contains(string(text), h.says) {
			t.Errorf("luks verify of %s ends with %d, want %d:\n%s", h.name, status, h.verify, text)
		}
	}
}
