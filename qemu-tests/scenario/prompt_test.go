package scenario

import (
	"strings"
	"testing"

	"initd/qemu-tests/vm"
)

// Two volumes wait for people. Both ask at the console, one after the
// other: the right answer opens one; the wrong one is asked for again, and then fed
// by `initd keys unlock`, from standard input, while its question stands there. The
// third has its key on a server to which there is no way: why says so, and the key
// given by hand opens it all the same.
func TestPeopleGiveKeys(t *testing.T) {
	s := newSite(t, kmsAV4, kmsBV4)
	s.appliance = `apiVersion: initd/v1
name: store
keys:
  tls: {ca: pki/ca.pem, cert: pki/store.pem, key: pki/store.key}
  servers: [{name: kms-a, address: "203.0.113.1:5696"}]
media:
  luks:
    - {name: typed, device: id/virtio-typed, key: prompt}
    - {name: fed, device: id/virtio-fed, key: {prompt: "The other one"}}
    - {name: remote, device: id/virtio-remote, key: kmip}
services:
` + strings.Replace(handsService, "    after: [mount/srv/tank0, mount/srv/tank1, mount/srv/tank2]\n", "", 1) + "image:\n  packages: []\n"
	handsOnly(s)
	volume := func(name, key string) *vm.Disk {
		return vm.NewDisk(t, name, 32*vm.MiB, vm.LUKS{Keys: [][]byte{[]byte(key)}, Content: vm.Ext4{}})
	}
	store := s.newStore(volume("typed", "open sesame"), volume("fed", "from standard input"), volume("remote", "by hand instead")).Start()
	store.WaitEvent("the hands are there", unit("service/hands", "done"), vm.Guard)

	why := hand(t, store, "run", "/usr/bin/initd", "why luks/remote").Field("text")
	if !strings.Contains(why, "eth0 is down") {
		t.Errorf("why luks/remote does not say that there is no way to its server:\n%s", why)
	}
	// Questions come one at a time, in an order of their own. The first gets a
	// wrong answer and comes again after the second.
	first, key := "fed", "from standard input"
	second, answer := "typed", "open sesame"
	if store.Console().WaitFor(`(Passphrase for typed|The other one): `, vm.Guard)[1] != "The other one" {
		first, key, second, answer = second, answer, first, key
	}
	store.Type("open barley\r")
	store.Console().WaitFor(`(Passphrase for typed|The other one): `, vm.Guard)
	store.Type(answer + "\r")
	store.WaitEvent(second+" is open", unit("luks/"+second, "done"), vm.Guard)
	store.Console().WaitFor(`That did not open it`, vm.Guard)
	hand(t, store, "unlock", first, key)
	store.WaitEvent(first+" is open", unit("luks/"+first, "done"), vm.Guard)
	hand(t, store, "unlock", "remote", "by hand instead")
	store.WaitEvent("remote is open", unit("luks/remote", "done"), vm.Guard)
	status := hand(t, store, "run", "/usr/bin/initd", "status").Field("text")
	for _, want := range []string{"luks/typed", "luks/fed", "luks/remote"} {
		if !strings.Contains(status, want) {
			t.Errorf("status does not list %s:\n%s", want, status)
		}
	}
	t.Logf("initd why luks/remote, while it waited:\n%s\ninitd status, in the end:\n%s", why, status)
	store.CtrlAltDel()
	store.Exited(vm.Guard)
	nothingLeft(t, store)
}
