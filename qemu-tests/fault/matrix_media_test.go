package fault

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"initd/qemu-tests/peer/dhcp"
	"initd/qemu-tests/peer/ntp"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// mediaRoom is the machine with bad disks, file systems, services and links.
type mediaRoom struct {
	*room.Room
	table vm.GPT
	// text of the file, by section
	links, luks, mounts, services string
	mend                          map[string]func(t *testing.T, m *vm.VM) // what an operator mends before the command helps
	keys                          map[string]string
}

const pass = "the passphrase of a volume"

func (r *mediaRoom) partition(label string, mib int64, c vm.Content) {
	r.table = append(r.table, vm.Partition{Label: label, Size: mib * vm.MiB, Content: c})
}

// volume is a LUKS volume of the file that is opened by a key file; change spoils the image before it becomes a partition.
func (r *mediaRoom) volume(id string, change func(image []byte) []byte) {
	image := luksImage(r.T)
	if change != nil {
		image = change(image)
	}
	r.partition(id, int64(len(image)+vm.MiB-1)/vm.MiB, vm.Bytes(image))
	r.luks += "    - {name: " + id + ", device: partlabel/" + id + ", key: {file: /etc/initd/keys/good}, wait: 20s}\n"
}

func luksImage(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(vm.NewDisk(t, "made", 18*vm.MiB, vm.LUKS{Keys: [][]byte{[]byte(pass)}}).Path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// edit changes the JSON of both headers of a LUKS2 volume and makes their checksums right again (LUKS2 On-Disk Format
// Specification 1.1.1, section 2.1: csum at 0x1c0, 64 bytes, SHA-256 over the header area with the field zeroed).
func edit(t testing.TB, change func(text string) string) func([]byte) []byte {
	return func(image []byte) []byte {
		t.Helper()
		size := int(binary.BigEndian.Uint64(image[8:]))
		for _, at := range []int{0, size} {
			header := image[at : at+size]
			area := header[4096:]
			text := change(string(area[:bytes.IndexByte(area, 0)]))
			if len(text) >= len(area) {
				t.Fatalf("JSON of %d bytes does not fit", len(text))
			}
			clear(area)
			copy(area, text)
			clear(header[0x1c0 : 0x1c0+64])
			sum := sha256.Sum256(header)
			copy(header[0x1c0:], sum[:])
		}
		return image
	}
}

func swap(t testing.TB, old, new string) func([]byte) []byte {
	return edit(t, func(text string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("the header has no %s: %s", old, text)
		}
		return strings.ReplaceAll(text, old, new)
	})
}

// mediaFaults adds what each row needs to the room.
func mediaFaults() map[string]func(r *mediaRoom) {
	service := func(id, command, more string, mend func(t *testing.T, m *vm.VM)) func(*mediaRoom) {
		return func(r *mediaRoom) {
			r.services += "  - {name: " + id + ", command: [" + command + "]" + more + "}\n"
			r.mend[id] = mend
		}
	}
	// keyed is a volume whose line says another key than the good one.
	keyed := func(id, key string) func(*mediaRoom) {
		return func(r *mediaRoom) {
			r.volume(id, nil)
			r.luks = strings.Replace(r.luks, "partlabel/"+id+", key: {file: /etc/initd/keys/good}", "partlabel/"+id+", key: "+key, 1)
			r.keys[id] = pass
		}
	}
	return map[string]func(r *mediaRoom){
		"disk-missing": func(r *mediaRoom) {
			r.luks += "    - {name: disk-missing, device: id/virtio-disk-missing, key: {file: /etc/initd/keys/good}, wait: 20s}\n"
		},
		"label-twice":  func(r *mediaRoom) { r.volume("label-twice", nil); r.partition("label-twice", 1, nil) },
		"wrong-key":    keyed("wrong-key", "{file: /etc/initd/keys/other}"),
		"wrong-phrase": keyed("wrong-phrase", "prompt"),
		"blank":        func(r *mediaRoom) { r.volume("blank", func(b []byte) []byte { return make([]byte, len(b)) }) },
		"damaged": func(r *mediaRoom) {
			r.volume("damaged", func(b []byte) []byte {
				size := int(binary.BigEndian.Uint64(b[8:]))
				copy(b[4096+100:], "XXXXXXXXXXXXXXXX")
				copy(b[size+4096+100:], "XXXXXXXXXXXXXXXX")
				return b
			})
		},
		"short":          func(r *mediaRoom) { r.volume("short", func(b []byte) []byte { return b[:8*vm.MiB] }) },
		"costly":         func(r *mediaRoom) { r.volume("costly", costly(r.T)) },
		"strange-cipher": func(r *mediaRoom) { r.volume("strange-cipher", swap(r.T, `"aes-xts-plain64"`, `"rot-xts-plain64"`)) },
		"integrity": func(r *mediaRoom) {
			r.volume("integrity", swap(r.T, `"sector_size":512`, `"sector_size":512,"integrity":{"type":"hmac(sha256)","journal_encryption":"none","journal_integrity":"none"}`))
		},
		"crafted": func(r *mediaRoom) {
			r.volume("crafted", edit(r.T, func(text string) string {
				return strings.Replace(text, `"tokens":{}`, `"tokens":{"0":`+strings.Repeat(`{"a":`, 1000)+"1"+strings.Repeat("}", 1000)+"}", 1)
			}))
		},
		"header-missing": func(r *mediaRoom) {
			r.volume("header-missing", nil)
			r.luks = strings.Replace(r.luks, "device: partlabel/header-missing,", "device: partlabel/header-missing, header: partlabel/header-missing-header,", 1)
		},
		"key-file":      keyed("key-file", "{file: /etc/initd/keys/gone.key}"),
		"key-file-mode": keyed("key-file-mode", "{file: /etc/open.key}"),
		"no-fs": func(r *mediaRoom) {
			r.partition("no-fs", 8, nil)
			r.mounts += "  - {what: partlabel/no-fs, where: /srv/no-fs, type: ext4}\n"
		},
		"other-fs": func(r *mediaRoom) {
			r.partition("other-fs", 300, vm.XFS{})
			r.mounts += "  - {what: partlabel/other-fs, where: /srv/other-fs, type: ext4}\n"
		},
		"fs-damaged": func(r *mediaRoom) {
			image, err := os.ReadFile(vm.NewDisk(r.T, "fs", 8*vm.MiB, vm.Ext4{}).Path)
			if err != nil {
				r.T.Fatal(err)
			}
			// What stands in group 0 behind the superblock and its descriptors: bitmaps and the root directory's inode.
			for i := 8192; i < 1<<20; i++ {
				image[i] = 0xa5
			}
			r.partition("fs-damaged", 8, vm.Bytes(image))
			r.mounts += "  - {what: partlabel/fs-damaged, where: /srv/fs-damaged, type: ext4, fsck: auto}\n"
		},
		"bind-source": func(r *mediaRoom) {
			r.mounts += "  - {what: /srv/nowhere, where: /srv/bind-source, type: bind}\n"
		},
		"no-program": service("no-program", "/usr/bin/nothing, unless, /usr/bin/nothing, 1", "", func(t *testing.T, m *vm.VM) {
			room.Hand(t, m, "copy", "/usr/bin/hands", "/usr/bin/nothing")
		}),
		"dies": service("dies", `/usr/bin/hands, unless, /run/mended, "3"`, ", ready: {file: /run/mended}, restart: never", func(t *testing.T, m *vm.VM) {
			room.Hand(t, m, "write", "mended", "/run/mended")
		}),
		"killed": service("killed", "/usr/bin/hands, unless, /run/mended-too, KILL", ", ready: {file: /run/mended-too}, restart: never", func(t *testing.T, m *vm.VM) {
			room.Hand(t, m, "write", "mended", "/run/mended-too")
		}),
		"never-ready": service("never-ready", "/usr/bin/hands, unless, /usr/bin/hands, 1", ", ready: {file: /run/never-ready}, deadline: 15s", func(t *testing.T, m *vm.VM) {
			room.Hand(t, m, "write", "ready", "/run/never-ready")
		}),
		"no-link": func(r *mediaRoom) {
			r.links += "    - {name: no-link, match: {mac: \"52:54:00:00:09:09\"}, addresses: [198.51.100.1/24]}\n"
		},
		"no-carrier": func(r *mediaRoom) {
			r.links += "    - {name: no-carrier, match: {mac: \"" + unpluggedMAC + "\"}, addresses: [dhcp4]}\n"
		},
		"taken-address": func(r *mediaRoom) {
			r.links += "    - {name: taken-address, match: {mac: \"" + takenMAC + "\"}, addresses: [192.0.2.30/24]}\n"
			r.Peer.Links[0].Addresses = append(r.Peer.Links[0].Addresses, "192.0.2.30/24")
		},
		"no-ntp":       func(*mediaRoom) {},
		"sysctl":       func(*mediaRoom) {},
		"file-broken":  func(*mediaRoom) {},
		"initd-broken": func(*mediaRoom) {},
	}
}

const (
	unpluggedMAC = "52:54:00:00:01:03"
	takenMAC     = "52:54:00:00:01:04"
)

func costly(t testing.TB) func([]byte) []byte {
	return edit(t, func(text string) string {
		i, j := strings.Index(text, `"kdf":{`), 0
		if i >= 0 {
			j = strings.Index(text[i:], "}")
		}
		if i < 0 || j <= 0 {
			t.Fatalf("the header has no kdf: %s", text)
		}
		salt := text[strings.Index(text[i:], `"salt":"`)+i:]
		salt = salt[:strings.Index(salt[8:], `"`)+9]
		return text[:i] + `"kdf":{"type":"argon2id","time":4,"memory":4000000,"cpus":4,` + salt + text[i+j:]
	})
}

func mediaFaultIDs() []string {
	var ids []string
	for id := range mediaFaults() {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// A machine on which nothing is right but its kernel: disks, headers, keys, file systems, services, links, its file. The
// screen names each fault and gives the command that helps; somebody mends what has to be mended outside of it, types the
// command, and the unit heals, or is left out. What is well, works all the time.
func TestFaultsOfEverythingElse(t *testing.T) {
	r := &mediaRoom{Room: room.New(t, room.KMSAV4, room.KMSBV4), mend: map[string]func(*testing.T, *vm.VM){}, keys: map[string]string{}}
	faults := mediaFaults()
	for _, id := range mediaFaultIDs() {
		faults[id](r)
	}
	r.volume("good", nil)
	r.Identity["keys/good"], r.Identity["keys/other"] = []byte(pass), []byte("the passphrase of nothing")
	r.Files["open.key"] = []byte(pass)
	r.Peer.KeyServers = nil
	r.Peer.NTP = []ntp.Config{{Listen: room.KMSBV4 + ":123"}}
	r.Peer.DHCP = []dhcp.Config{{
		Link: room.PeerMAC, Server: netip.MustParseAddr(room.KMSAV4), Prefix: netip.MustParsePrefix("192.0.2.0/24"),
		First: netip.MustParseAddr("192.0.2.100"), Count: 10, Lease: 3600,
	}}
	noTime := r.Wire.Drop(vm.ToAddr(netip.MustParseAddr(room.KMSBV4)))
	file := `apiVersion: initd/v1
name: store
budgets: {boot: 90s, shutdown: 30s}
network:
  links:
    - {name: room, match: {mac: "` + room.StoreMAC + `"}, addresses: [` + room.StoreV4 + `]}
` + r.links + `time: {servers: [` + room.KMSBV4 + `]}
media:
  luks:
` + r.luks + `mounts:
` + r.mounts + `services:
` + r.services + room.HandsService + `sysctl: {net.nothing.here: "1"}
image:
  files: [{from: open.key, to: /etc/open.key, mode: "0644"}, {from: hands, to: /usr/bin/hands, mode: "0755"}, {from: hands, to: /usr/bin/nothing, mode: "0644"}]
`
	r.Appliance = file
	r.AddHands()
	r.Appliance = file
	state := t.TempDir()
	if err := os.WriteFile(filepath.Join(state, "appliance.yaml"), []byte(strings.Replace(file, "services:", "servces:", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	disk := vm.NewDisk(t, "media", int64(len(r.table)*19+320)*vm.MiB, r.table)
	r.StartPeer()
	m := r.NewStore(disk, vm.NewDisk(t, "state", 16*vm.MiB, vm.Ext4{Label: "initd-state", Dir: state}))
	m.Wire(r.Wire, unpluggedMAC).Wire(r.Wire, takenMAC).Start()
	carrier := func(up bool) { m.QMP("set_link", map[string]any{"name": "net1", "up": up}) }
	carrier(false)
	m.WaitEvent("the hands are there", room.Unit("service/hands", "done"), vm.Guard)
	m.WaitEvent("the good volume is open", room.Unit("luks/good", "done"), vm.Guard)
	m.Console().WaitFor(`Passphrase for wrong-phrase: `, vm.Guard)
	m.Type("open barley\r")
	r.mend["no-carrier"] = func(*testing.T, *vm.VM) { carrier(true) }
	r.mend["taken-address"] = func(*testing.T, *vm.VM) { r.PeerVM.SetLink(r.Wire, false) }
	r.mend["no-ntp"] = func(*testing.T, *vm.VM) { r.PeerVM.SetLink(r.Wire, true); noTime.End() }
	r.mend["bind-source"] = func(t *testing.T, m *vm.VM) { room.Hand(t, m, "mkdir", "/srv/nowhere", "") }
	rows := matrix(t, mediaFaultIDs())
	for _, f := range rows {
		if f.unit() != "" {
			m.WaitEvent(f.id+" shows", f.shows, vm.Guard)
		}
	}
	room.Hand(t, m, "await", "/run/initd/bin/initd", "") // the copy of an orchestrator that has proved good
	room.Hand(t, m, "copy", "/etc/initd/appliance.yaml", "/usr/bin/initd.new")
	room.Hand(t, m, "rename", "/usr/bin/initd", "/usr/bin/initd.old")
	room.Hand(t, m, "rename", "/usr/bin/initd.new", "/usr/bin/initd")
	killed := room.Hand(t, m, "kill-orchestrator", "", "")
	m.WaitEventAfter(killed, "another orchestrator", vm.Is("generation", "gen", "2"), vm.Guard)
	m.Console().WaitFor(`next: cp \S+ /usr/bin/initd\b`, vm.Guard)

	score(t, m, rows, heals(m, r.mend, r.keys))
	m.CtrlAltDel()
	m.Exited(vm.Guard)
	room.NothingLeft(t, m)
}
