package scenario

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	breport "initd/boot/report"
	"initd/qemu-tests/peer/config"
	"initd/qemu-tests/peer/keyserver"
	"initd/qemu-tests/peer/network"
	"initd/qemu-tests/peer/nvmet"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// The second network of the room, and the target's addresses on both.
const (
	secondStoreMAC, secondPeerMAC = "52:54:00:00:02:01", "52:54:00:00:02:02"
	nvmeA, nvmeB                  = "192.0.2.40", "198.51.100.40"

	// Secrets of DH-HMAC-CHAP: 32 bytes 0, 1, 2 …, and 32 ones, with their checksums.
	nvmeKey      = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:"
	nvmeOtherKey = "DHHC-1:00:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQHMnzFi:"
	nvmeHost     = "nqn.2014-08.org.nvmexpress:uuid:6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5"
)

// shelf is a target machine on two networks, and the store that uses it.
type shelf struct {
	*room.Room
	second *vm.Wire
	disk   *vm.Disk // of the target: a partition a subsystem
}

// newShelf makes count subsystems nqn.2026-01.net.example:fNN, each with a file system that has a file of its own, reachable at both
// addresses. Others may be added before it starts.
func newShelf(t *testing.T, count int) *shelf {
	t.Helper()
	s := &shelf{Room: room.New(t, room.KMSAV4, room.KMSBV4), second: vm.NewWire(t, "second")}
	s.Peer.KeyServers = s.Peer.KeyServers[:1]
	s.Peer.Links[0].Addresses = append(s.Peer.Links[0].Addresses, nvmeA+"/24")
	s.Peer.Links = append(s.Peer.Links, network.Link{MAC: secondPeerMAC, Addresses: []string{nvmeB + "/24"}})
	var parts vm.GPT
	target := &nvmet.Config{Ports: []nvmet.Port{{ID: 1, Address: nvmeA, Service: "4420"}, {ID: 2, Address: nvmeB, Service: "4420"}}}
	for i := range count {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "who"), []byte(shelfName(i)), 0o644); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, vm.Partition{Label: shelfName(i), Size: 16 * vm.MiB, Content: vm.Ext4{Label: shelfName(i), Dir: dir}})
		target.Subsystems = append(target.Subsystems, nvmet.Subsystem{NQN: nqn(shelfName(i)), Serial: shelfName(i), Namespaces: []nvmet.Namespace{{
			ID: 1, Device: fmt.Sprintf("serial:shelf/%d", i+1), UUID: fmt.Sprintf("11111111-2222-4333-8444-%012d", i),
		}}})
	}
	for p := range target.Ports {
		for i := range count {
			target.Ports[p].Subsystems = append(target.Ports[p].Subsystems, nqn(shelfName(i)))
		}
	}
	s.disk = vm.NewDisk(t, "shelf", int64(count*16+2)*vm.MiB, parts)
	s.Peer.NVMet = target
	s.Over = append(s.Over, func(o *vm.Image) { o.Bytes("/etc/nvme/hostnqn", []byte(nvmeHost+"\n"), 0o644) })
	return s
}

func shelfName(i int) string  { return fmt.Sprintf("f%02d", i) }
func nqn(name string) string  { return "nqn.2026-01.net.example:" + name }
func (s *shelf) both() string { return `"tcp://` + nvmeA + `:4420", "tcp://` + nvmeB + `:4420"` }

// start boots the target, then the store.
func (s *shelf) start() (peer, store *vm.VM) {
	s.T.Helper()
	image := vm.NewImage(s.T).GoProgram("/init", "./qemu-tests/peer").Modules("virtio_net", "virtio_blk", "nvmet-tcp").JSON(config.Path, s.Peer).Write("peer")
	s.PeerVM = vm.New(s.T, vm.Name("peer"), vm.Memory(512)).Initramfs(image).Disk(s.disk).
		Wire(s.Wire, room.PeerMAC).Wire(s.second, secondPeerMAC).Start()
	s.PeerVM.WaitEvent("the target is there", vm.Is("ready"), vm.Guard)
	return s.PeerVM, s.NewStore().Wire(s.second, secondStoreMAC).Start()
}

// change makes a fault at the target, or ends it.
func (s *shelf) change(c nvmet.Change) {
	s.T.Helper()
	s.Change(config.Command{Do: "nvmet", NVMet: &c})
}

// shelfHead is the beginning of the store's file.
const shelfHead = `apiVersion: initd/v1
name: store
budgets: {boot: 3m, shutdown: 40s}
network:
  links:
    - {name: first, match: {mac: "` + room.StoreMAC + `"}, addresses: [` + room.StoreV4 + `]}
    - {name: second, match: {mac: "` + secondStoreMAC + `"}, addresses: [198.51.100.17/24]}
keys:
  tls: {ca: pki/ca.pem, cert: pki/store.pem, key: pki/store.key}
  servers: [{name: kms-a, address: "` + room.KMSAV4 + `:5696"}]
services:
` + room.HandsService + `image:
  packages: []
`

// path matches the news of a path of a unit that is done.
func path(unit, place string, back bool) func(vm.Event) bool {
	return func(e vm.Event) bool {
		return vm.Is("loss", "unit", unit, "resource", "path/"+place)(e) && (e.Field("presence") == string(breport.Present)) == back
	}
}

// Sixteen subsystems over two networks, among portals and subsystems that are no good.
//
//   - All sixteen are connected on both networks, their file systems mounted, and each has the file that was put there. One has
//     its secret from the key server, one its paths from the discovery log.
//   - Some have a third path: one is refused, one goes to nobody, one accepts and is silent, one answers after 5 s. No
//     other waits for them, and the late one joins by itself.
//   - What is refused says why, by its code: a wrong secret, none, a subsystem that does not prove itself, one that is not
//     there, one for others; and one that wants two paths and has one.
//   - A subsystem is taken from one port while others stay: the kernel gives that path up for good. It is connected again when the
//     subsystem is back.
//   - The orchestrator is killed while both networks are cut: its successor waits for the connections, and goes on with them.
//   - The way down leaves nothing.
func TestNVMeSubsystemsOverTwoNetworks(t *testing.T) {
	const count = 16
	s := newShelf(t, count)
	s.addHard()
	var lines, mounts strings.Builder
	extra := map[int]string{1: nvmeA + ":4999", 2: nvmeA + ":4998", 3: "192.0.2.99:4420", 4: nvmeA + ":4997"}
	for i := range count {
		more := ""
		if at := extra[i]; at != "" {
			more = `, "tcp://` + at + `"`
		}
		switch i {
		case 0:
			more += `], dhchap: {secret: kmip`
			fmt.Fprintf(&lines, "    - {name: f00, subsystem: %q, paths: [%s%s}}\n", nqn("f00"), s.both(), more)
		case 15:
			fmt.Fprintf(&lines, "    - {name: f15, subsystem: %q, discovery: [%s], min-paths: 2}\n", nqn("f15"), s.both())
		default:
			fmt.Fprintf(&lines, "    - {name: %s, subsystem: %q, paths: [%s%s]}\n", shelfName(i), nqn(shelfName(i)), s.both(), more)
		}
		fmt.Fprintf(&mounts, "  - {what: nvme/%[1]s/1, where: /srv/%[1]s, type: ext4}\n", shelfName(i))
	}
	one := `paths: ["tcp://` + nvmeA + `:4420"]`
	fmt.Fprintf(&lines, "    - {name: wrong-secret, subsystem: %q, %s, dhchap: {secret: {file: /etc/initd/other.dhchap}}}\n", nqn("locked"), one)
	fmt.Fprintf(&lines, "    - {name: no-secret, subsystem: %q, %s}\n", nqn("locked"), one)
	fmt.Fprintf(&lines, "    - {name: unproved, subsystem: %q, %s, dhchap: {secret: {file: /etc/initd/right.dhchap}, controller-secret: {file: /etc/initd/right.dhchap}}}\n", nqn("mutual"), one)
	fmt.Fprintf(&lines, "    - {name: absent, subsystem: %q, %s}\n", nqn("absent"), one)
	fmt.Fprintf(&lines, "    - {name: closed, subsystem: %q, %s}\n", nqn("closed"), one)
	fmt.Fprintf(&lines, "    - {name: single, subsystem: %q, paths: [\"tcp://%s:4420\", \"tcp://%s:4996\"], min-paths: 2, deadline: 15s}\n", nqn("f05"), nvmeA, nvmeA)
	s.Appliance = shelfHead + "fabrics:\n  nvme:\n" + lines.String() + "mounts:\n" + mounts.String()
	s.AddHands()
	_, store := s.start()

	for i := range count {
		store.WaitEvent("it is mounted", room.Unit("mount/srv/"+shelfName(i), "done"), vm.Guard)
		if got := room.Hand(t, store, "read", "/srv/"+shelfName(i)+"/who", "").Field("text"); got != shelfName(i) {
			t.Errorf("/srv/%s has the file of %q", shelfName(i), got)
		}
	}
	store.WaitEvent("the late path joins", path("nvme/f04", nvmeA+":4997", true), vm.Guard)
	store.WaitEvent("the silent one does not", path("nvme/f02", nvmeA+":4998", false), vm.Guard)
	store.WaitEvent("nor does the one to nobody", path("nvme/f03", "192.0.2.99:4420", false), vm.Guard)
	store.WaitEvent("settled", vm.Is("ready"), vm.Guard)
	wantNobodyWaited(t, store, count)
	for unit, code := range map[string]string{"wrong-secret": "NVME-AUTH", "no-secret": "NVME-AUTH", "unproved": "NVME-AUTH", "absent": "NVME-SUBSYSTEM", "closed": "NVME-HOST", "single": "NVME-PORTAL"} {
		wantCode(t, store, "nvme/"+unit, code)
	}
	if n := s.Gets("store/f00"); n != 1 {
		t.Errorf("the key server gave the secret out %d times, want 1", n)
	}

	t.Run("given up by the kernel", func(t *testing.T) { s.givenUp(t, store) })
	t.Run("killed meanwhile", func(t *testing.T) { s.killedMeanwhile(t, store) })
	t.Run("nothing is left", func(t *testing.T) {
		store.CtrlAltDel()
		store.Exited(vm.Guard)
		room.NothingLeft(t, store)
		if n := slices.IndexFunc(room.Told(t, store), func(e breport.Event) bool {
			return e.Step != nil && e.Step.Action == "disconnect-nvme" && e.Step.State == breport.Done
		}); n < 0 {
			t.Error("nothing was disconnected on the way down")
		}
	})
}

// addHard adds what is no good to the target.
func (s *shelf) addHard() {
	p := s.Peer.NVMet
	host := func(key, ctrl string) []nvmet.Host {
		return []nvmet.Host{{NQN: nvmeHost, Key: key, CtrlKey: ctrl, Hash: "hmac(sha256)", DHGroup: "null"}}
	}
	p.Subsystems[0].Hosts = host(nvmeKey, "")
	p.Subsystems = append(p.Subsystems,
		nvmet.Subsystem{NQN: nqn("locked"), Hosts: host(nvmeKey, "")},
		nvmet.Subsystem{NQN: nqn("mutual"), Hosts: host(nvmeKey, "")},
		nvmet.Subsystem{NQN: nqn("closed"), Hosts: []nvmet.Host{{NQN: nqn("somebody")}}},
	)
	p.Ports[0].Subsystems = append(p.Ports[0].Subsystems, nqn("locked"), nqn("mutual"), nqn("closed"))
	p.Fakes = []nvmet.Fake{
		{Listen: nvmeA + ":4998", Mode: "silent"},
		{Listen: nvmeA + ":4997", Mode: "late", Seconds: 5, To: nvmeA + ":4420"},
	}
	k := &s.Peer.KeyServers[0]
	k.Objects = append(k.Objects, keyserver.Object{ID: "id-f00", Name: "store/f00", Type: "SecretData", Value: hex.EncodeToString([]byte(nvmeKey))})
	s.Identity["right.dhchap"], s.Identity["other.dhchap"] = []byte(nvmeKey+"\n"), []byte(nvmeOtherKey+"\n")
}

// wantNobodyWaited checks that subsystems came up while the silent portal was looked at, its own among them. (Not all: that would be a matter
// of how fast this machine is.)
func wantNobodyWaited(t *testing.T, store *vm.VM, count int) {
	t.Helper()
	silent := path("nvme/f02", nvmeA+":4998", false)
	up := map[string]bool{}
	for _, e := range store.Events() {
		if silent(e) {
			break
		}
		for i := range count {
			if id := "nvme/" + shelfName(i); room.Unit(id, "done")(e) {
				up[id] = true
			}
		}
	}
	if len(up) < count/4 || !up["nvme/f02"] {
		t.Errorf("only %v were up before the silent portal was given up", up)
	}
}

// wantCode waits until a unit fails with a code (at first it may only have had no turn), and checks that it says nothing secret.
func wantCode(t *testing.T, store *vm.VM, unit, code string) {
	t.Helper()
	found := store.WaitEvent(unit+" fails with "+code, func(e vm.Event) bool {
		if e.Field("unit") != unit || e.Field("error") == "" {
			return false
		}
		var x breport.Event
		return e.Decode(&x) == nil && x.Error != nil && x.Error.Code == code
	}, vm.Guard)
	text := room.Decode(t, found).Error.Text
	t.Logf("%s: %s", unit, text)
	if strings.Contains(text, "DHHC") {
		t.Errorf("%s: a secret in %q", unit, text)
	}
}

func (s *shelf) givenUp(t *testing.T, store *vm.VM) {
	s.change(nvmet.Change{Do: "unlink", Port: 2, Subsystem: nqn("f06")})
	gone := store.WaitEvent("the kernel gives the path up", path("nvme/f06", nvmeB+":4420", false), vm.Guard)
	if got := room.Hand(t, store, "read", "/srv/f06/who", "").Field("text"); got != "f06" {
		t.Errorf("by the other path: %q", got)
	}
	s.change(nvmet.Change{Do: "link", Port: 2, Subsystem: nqn("f06")})
	store.WaitEventAfter(gone, "the path is connected again", path("nvme/f06", nvmeB+":4420", true), vm.Guard)
}

func (s *shelf) killedMeanwhile(t *testing.T, store *vm.VM) {
	all := func(vm.Frame) bool { return true }
	first, second := s.Wire.Drop(all), s.second.Drop(all)
	room.Hand(t, store, "await-text", "/sys/class/nvme/nvme0/state", "connecting")
	events := store.Events()
	last := events[len(events)-1]
	room.Hand(t, store, "kill-orchestrator", "", "")
	store.WaitEventAfter(last, "its successor waits for a connection", func(e vm.Event) bool {
		return vm.Is("progress")(e) && strings.HasPrefix(e.Field("unit"), "nvme/f") && strings.Contains(e.Field("waiting"), "connecting")
	}, vm.Guard)
	first.End()
	second.End()
	for _, unit := range []string{"nvme/f07", "mount/srv/f07"} {
		store.WaitEventAfter(last, unit+" is taken over", func(e vm.Event) bool {
			return room.Unit(unit, "done")(e) || room.Unit(unit, "adopted")(e)
		}, vm.Guard)
	}
	room.Hand(t, store, "write", "still here", "/srv/f07/after")
}

// The target is paused for 30 s, and loses its power and comes back, while the store writes to it on two paths: nothing fails, and all that was
// acknowledged is there.
func TestNVMeTargetPausedAndRebooted(t *testing.T) {
	s := newShelf(t, 1)
	s.Appliance = shelfHead + fmt.Sprintf(`fabrics:
  nvme:
    - {name: f00, subsystem: %q, paths: [%s], min-paths: 2}
mounts:
  - {what: nvme/f00/1, where: /srv/f00, type: ext4}
`, nqn("f00"), s.both())
	s.AddHands()
	peer, store := s.start()
	store.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	room.Hand(t, store, "load", "/srv/f00/load", "4096")
	room.Hand(t, store, "load-more", "", "50")

	peer.Pause()
	room.Hand(t, store, "pause", "30s", "")
	peer.Continue()
	room.Hand(t, store, "load-more", "", "50")

	peer.Kill()
	s.PeerVM = peer.Again().Start()
	room.Hand(t, store, "load-more", "", "50")
	e := room.Hand(t, store, "load-stop", "", "")
	t.Logf("%s records acknowledged, the longest took %s s", e.Field("acked"), e.Field("longest"))
	for _, e := range room.Told(t, store) {
		if e.Kind == breport.UnitChanged && (e.State == breport.Degraded || e.State == breport.Failed || e.State == breport.Lost) {
			t.Errorf("%s became %s: %s", e.Unit, e.State, e.Reason)
		}
	}
	store.CtrlAltDel()
	store.Exited(vm.Guard)
	room.NothingLeft(t, store)
}
