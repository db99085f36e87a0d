package scenario

import (
	"encoding/json"
	"strings"
	"testing"

	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// Three volumes wait for people, at a serial line and at a keyboard with a VGA
// screen. The question stands on both; a wrong answer at the keyboard is said
// at once and asked again; one answer, pasted with a backspace in it and CR LF
// behind it, opens both volumes that accept it. The third is opened by `initd
// keys unlock`, from standard input, while its question stands there, after a
// wrong key by the same way. The fourth has its key on a server to which there
// is no way: why says so, and the key given by hand opens it all the same.
func TestPeopleGiveKeys(t *testing.T) {
	s := room.New(t, room.KMSAV4, room.KMSBV4)
	s.Appliance = `apiVersion: initd/v1
name: store
keys:
  tls: {ca: pki/ca.pem, cert: pki/store.pem, key: pki/store.key}
  servers: [{name: kms-a, address: "203.0.113.1:5696"}]
media:
  luks:
    - {name: typed, device: id/virtio-typed, key: prompt}
    - {name: same, device: id/virtio-same, key: prompt}
    - {name: fed, device: id/virtio-fed, key: {prompt: "The other one"}}
    - {name: remote, device: id/virtio-remote, key: kmip}
services:
` + room.HandsService + "image:\n  packages: []\n"
	s.AddHands()
	volume := func(name, key string) *vm.Disk {
		return vm.NewDisk(t, name, 32*vm.MiB, vm.LUKS{Keys: [][]byte{[]byte(key)}, Content: vm.Ext4{}})
	}
	store := s.NewStore(volume("typed", "open sesame"), volume("same", "open sesame"), volume("fed", "from standard input"), volume("remote", "by hand instead")).
		VGA().Start()
	store.WaitEvent("the hands are there", room.Unit("service/hands", "done"), vm.Guard)

	why := room.Hand(t, store, "run", "/usr/bin/initd", "why luks/remote").Field("text")
	if !strings.Contains(why, "eth0 is down") {
		t.Errorf("why luks/remote does not say that there is no way to its server:\n%s", why)
	}
	const questions = `(Passphrase for typed|Passphrase for same|The other one): `
	asked := store.Console().WaitFor(questions, vm.Guard)[1]
	if screen := room.Hand(t, store, "read", "/dev/vcs1", "").Field("text"); !strings.Contains(screen, asked+": ") {
		t.Errorf("the VGA screen does not show %q; it shows:\n%s", asked, screen)
	}
	for _, key := range []string{"b", "a", "d", "ret"} {
		store.Key(key)
	}
	store.Console().WaitFor(`^\(answered at tty0\)`, vm.Guard)
	again := store.Console().WaitFor(`That did not open (\w+)\. `+questions, vm.Guard)
	if again[2] != asked {
		t.Errorf("after a wrong answer to %q the next question is %q", asked, again[2])
	}
	store.Type("open sesamy\x7fe\r\n")
	store.WaitEvent("typed is open", room.Unit("luks/typed", "done"), vm.Guard)
	store.WaitEvent("same is open", room.Unit("luks/same", "done"), vm.Guard)
	store.Console().WaitFor(`The other one: `, vm.Guard)
	room.Hand(t, store, "unlock", "fed", "a wrong one")
	store.Console().WaitFor(`That did not open fed\. The other one: `, vm.Guard)
	room.Hand(t, store, "unlock", "fed", "from standard input")
	store.WaitEvent("fed is open", room.Unit("luks/fed", "done"), vm.Guard)
	room.Hand(t, store, "unlock", "remote", "by hand instead")
	store.WaitEvent("remote is open", room.Unit("luks/remote", "done"), vm.Guard)
	status := room.Hand(t, store, "run", "/usr/bin/initd", "status").Field("text")
	for _, want := range []string{"luks/typed", "luks/same", "luks/fed", "luks/remote"} {
		if !strings.Contains(status, want) {
			t.Errorf("status does not list %s:\n%s", want, status)
		}
	}
	t.Logf("initd why luks/remote, while it waited:\n%s\ninitd status, in the end:\n%s", why, status)
	savesABundle(t, store)
	store.CtrlAltDel()
	store.Exited(vm.Guard)
	room.NothingLeft(t, store)
}

// savesABundle makes a support bundle and looks at what is said to be in it.
func savesABundle(t *testing.T, m *vm.VM) {
	t.Helper()
	out := room.Hand(t, m, "run", "/usr/bin/initd", "support-bundle -o /run/b.tar.gz --json").Field("text")
	var b struct {
		Path  string
		Files []struct {
			Name string
			Size int
		}
		LeftOut []struct{ What, Why string }
	}
	if err := json.Unmarshal([]byte(out), &b); err != nil {
		t.Fatalf("support-bundle --json: %v\n%s", err, out)
	}
	size := map[string]int{}
	for _, f := range b.Files {
		size[f.Name] = f.Size
	}
	for _, want := range []string{
		"report.json", "status.txt", "events", "plan.json", "ledger", "appliance/image/appliance.yaml", "kernel/dmesg.txt",
		"kernel/mountinfo.txt", "kernel/modules.txt", "devices/dm.txt", "devices/block.txt", "network.txt", "processes.txt", "versions.txt", "logs/hands.txt",
	} {
		if size[want] == 0 {
			t.Errorf("the bundle lacks %s; left out: %v", want, b.LeftOut)
		}
	}
}
