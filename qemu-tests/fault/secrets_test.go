package fault

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// secrets of a run, by what they are. A shape is what is searched for.
type secrets map[string]map[string][]byte

func (s secrets) add(name string, raw []byte) {
	s[name] = map[string][]byte{
		"raw": raw, "hex": []byte(hex.EncodeToString(raw)), "HEX": []byte(strings.ToUpper(hex.EncodeToString(raw))),
		"base64": []byte(base64.RawStdEncoding.EncodeToString(raw)),
	}
}

// canary is what an orchestrator certainly has in its memory: a search that does not find it finds nothing.
const canary = "/run/initd/ledger"

// inFile counts what a file holds of each shape.
func (s secrets) inFile(t *testing.T, path string) map[string]int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return s.in(t, f)
}

func (s secrets) in(t *testing.T, r io.Reader) map[string]int {
	t.Helper()
	const window, overlap = 8 << 20, 256
	found := map[string]int{}
	buf, have := make([]byte, window+overlap), 0
	for {
		n, err := io.ReadFull(r, buf[have:])
		b := buf[:have+n]
		for name, shapes := range s {
			for shape, want := range shapes {
				for at := 0; ; {
					i := bytes.Index(b[at:], want)
					if i < 0 {
						break
					}
					// What lies in the overlap as a whole is found again in the next window.
					if at += i; err != nil || at+len(want) <= len(b)-overlap || at < len(b)-overlap {
						found[name+" ("+shape+")"]++
					}
					at++
				}
			}
		}
		if err != nil {
			return found
		}
		have = copy(buf, b[len(b)-overlap:])
	}
}

// prints are what the hands search for without learning it: the hashes of the first 16 bytes of each shape.
func (s secrets) prints() string {
	var list []string
	add := func(name string, b []byte) {
		h := uint32(0)
		for _, c := range b[:16] {
			h = h*16777619 + uint32(c)
		}
		list = append(list, fmt.Sprintf("%08x:%x:%s", h, sha256.Sum256(b[:16]), name))
	}
	for name, shapes := range s {
		for shape, b := range shapes {
			add(name+" ("+shape+")", b)
		}
	}
	add("canary", []byte(canary))
	slices.Sort(list)
	return strings.Join(list, ",")
}

// allowed reads what the kernel's memory may hold at a moment.
func allowed(t *testing.T, moment string) map[string]bool {
	t.Helper()
	list := map[string]bool{}
	for _, r := range readTSV(t, "kernel-memory.tsv", []string{"secret", "shape", "moments", "reason"}) {
		if slices.Contains(strings.Fields(r[2]), moment) {
			list[r[0]+" ("+r[1]+")"] = true
		}
		if r[3] == "" {
			t.Errorf("kernel-memory.tsv: %s has no reason", r[0])
		}
	}
	return list
}

// The memory of a machine is searched for every secret of the run, raw, in hex and in base64: keys from a KMIP server, a
// passphrase that somebody typed, the private key of the client certificate, and the volume keys. Once after ready, once
// after a child that was deriving a key has crashed, once when the machine has taken everything down and is off. User
// space has none of them; the kernel has what stands in kernel-memory.tsv, with the reason. Console, log, report, a
// support bundle, the disks, a swap device to which the kernel was made to write what it may, and what pstore keeps over a
// reset (ramoops, of the whole run) have none at all.
func TestNoSecretIsLeftAnywhere(t *testing.T) {
	r := room.New(t, room.KMSAV4, room.KMSBV4)
	r.Options = []vm.Option{vm.Memory(512), vm.Keeps()}
	r.Appliance = `apiVersion: initd/v1
name: store
budgets: {boot: 3m, shutdown: 30s}
network:
  links:
    - {name: room, match: {mac: "` + room.StoreMAC + `"}, addresses: [` + room.StoreV4 + `]}
keys:
  tls: {ca: pki/ca.pem, cert: pki/store.pem, key: pki/store.key}
  servers: [{name: kms-a, address: "` + room.KMSAV4 + `:5696"}]
media:
  luks:
    - {name: quick, device: id/virtio-quick, key: kmip}
    - {name: typed, device: id/virtio-typed, key: prompt}
    - {name: late, device: id/virtio-late, key: kmip, wait: 5s}
mounts:
  - {what: luks/quick, where: /srv/quick, type: ext4}
services:
` + room.HandsService + "image:\n  modules: [ramoops]\n  packages: []\n"
	r.AddHands()
	found := secrets{}
	volumeKey := func(name string) []byte {
		k := make([]byte, 64)
		if _, err := rand.Read(k); err != nil {
			t.Fatal(err)
		}
		found.add("volume key", k)
		return k
	}
	quick, late := r.Key("quick"), r.Key("late")
	found.add("key of quick", quick)
	found.add("key of late", late)
	phrase := "correct horse battery " + rand.Text()
	found.add("passphrase", []byte(phrase))
	block, _ := pem.Decode(r.Identity["pki/store.key"])
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	private, err := parsed.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	found.add("client key", private)
	found["client key"]["pem"] = bytes.Split(r.Identity["pki/store.key"], []byte("\n"))[2]

	disks := []*vm.Disk{
		vm.NewDisk(t, "quick", 32*vm.MiB, vm.LUKS{Keys: [][]byte{quick}, VolumeKey: volumeKey("quick"), Content: vm.Ext4{}}),
		vm.NewDisk(t, "typed", 20*vm.MiB, vm.LUKS{Keys: [][]byte{[]byte(phrase)}}),
	}
	plugged := vm.NewDisk(t, "late", 20*vm.MiB, vm.LUKS{Keys: [][]byte{late}, KDF: "argon2id"})
	swap := vm.NewDisk(t, "swap", 128*vm.MiB, vm.Swap{Label: "swap"})
	disks = append(disks, swap)
	const kept, keptSize = 256 << 20, 1 << 20
	r.StartPeer()
	m := r.NewStore(disks...).Append(fmt.Sprintf("memmap=%#x$%#x ramoops.mem_address=%#x ramoops.mem_size=%#x", keptSize, kept, kept, keptSize),
		"ramoops.record_size=0x40000", "ramoops.max_reason=4", "pstore.compress=none", "pstore.kmsg_bytes=262144", "rootfstype=ramfs").Start() // 4: KMSG_DUMP_SHUTDOWN, include/linux/kmsg_dump.h
	m.Console().WaitFor("Passphrase for typed: ", vm.Guard)
	m.Type(phrase + "\r")
	m.WaitEvent("typed is open", room.Unit("luks/typed", "done"), vm.Guard)
	m.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	m.WaitEvent("the hands are there", room.Unit("service/hands", "done"), vm.Guard)

	memory := func(moment string) {
		t.Helper()
		dump := filepath.Join(t.TempDir(), "memory")
		m.DumpMemory(dump)
		proof := secrets{"canary": {"raw": []byte(canary)}}
		if moment != "down" && proof.inFile(t, dump)["canary (raw)"] == 0 {
			t.Fatalf("%s: the search does not find what is certainly there", moment)
		}
		may := allowed(t, moment)
		for what, n := range found.inFile(t, dump) {
			if !may[what] {
				t.Errorf("%s: memory holds %s, %d times", moment, what, n)
			}
		}
		if err := os.Remove(dump); err != nil {
			t.Error(err)
		}
	}
	users := func(moment string) {
		t.Helper()
		var a struct {
			Read, Processes int
			Found           []string
		}
		if err := room.Hand(t, m, "prowl", found.prints(), "").Decode(&a); err != nil {
			t.Fatal(err)
		}
		proved := false
		for _, f := range a.Found {
			if strings.HasSuffix(f, " holds canary") {
				proved = true
			} else {
				t.Errorf("%s: %s", moment, f)
			}
		}
		if !proved || a.Processes < 3 {
			t.Errorf("%s: the search in %d processes (%d bytes) does not find what is certainly there", moment, a.Processes, a.Read)
		}
	}
	if r := room.Hand(t, m, "run", "/sbin/modprobe", "ramoops"); r.Field("status") != "0" {
		t.Fatalf("modprobe ramoops: %s", r.Line)
	}
	pressed := secrets{"canary": {"raw": []byte("this was written out " + rand.Text())}}
	pressOut := func() {
		t.Helper()
		room.Hand(t, m, "press-out", "swap", string(pressed["canary"]["raw"]))
		if n := pressed.inFile(t, swap.Path)["canary (raw)"]; n < 1000 {
			t.Fatalf("the kernel has not written out what it certainly may: %d of its lines", n)
		}
	}
	pressOut() // a key waits in its memfd
	memory("ready")
	users("ready")

	m.AddDisk(plugged)
	deriving := m.WaitEvent("late is being opened", vm.Is("attempt", "unit", "luks/late", "op", "apply"), vm.Guard)
	room.Hand(t, m, "crash-child", "luks-derive", "")
	m.WaitEventAfter(deriving, "late is open after all", room.Unit("luks/late", "done"), vm.Guard)
	room.Hand(t, m, "await-keys-gone", "", "") // its volume is open: everybody lets go of it
	pressOut()
	memory("crashed")
	users("crashed")

	report := room.Hand(t, m, "run", "/usr/bin/initd", "status --json").Field("text")
	room.Hand(t, m, "run", "/usr/bin/initd", "support-bundle -o /run/bundle.tar.gz")
	var file struct{ Base64 []byte }
	if err := room.Hand(t, m, "read64", "/run/bundle.tar.gz", "").Decode(&file); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(file.Base64))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := io.ReadAll(z)
	if err != nil || len(bundle) < 4096 {
		t.Fatalf("a bundle of %d bytes: %v", len(bundle), err)
	}
	m.Tell(map[string]string{"do": "run", "from": "/usr/bin/initd", "to": "shutdown poweroff"}) // nobody is left to answer
	m.PoweredOff(vm.Guard)
	memory("down")
	pstore := filepath.Join(t.TempDir(), "pstore")
	m.QMP("pmemsave", map[string]any{"val": kept, "size": keptSize, "filename": pstore})
	keeps, err := os.ReadFile(pstore)
	if err != nil || !bytes.Contains(keeps, []byte("reboot: Power down")) {
		t.Errorf("what pstore keeps is not the kernel's log of this run: %v", err)
	}
	texts := map[string][]byte{"pstore": keeps, "report": []byte(report), "bundle": bundle, "console": []byte(m.Console().Text())}
	var events bytes.Buffer
	for _, e := range m.Events() {
		events.Write(e.Line)
	}
	texts["events"] = events.Bytes()
	m.Kill()
	for _, d := range append(disks, plugged) {
		for what := range found.inFile(t, d.Path) {
			t.Errorf("the disk %s holds %s", d.Name, what)
		}
	}
	for name, text := range texts {
		if len(text) == 0 {
			t.Errorf("the %s is empty", name)
		}
		for what := range found.in(t, bytes.NewReader(text)) {
			t.Errorf("the %s holds %s", name, what)
		}
	}
}
