package scenario

import (
	"encoding/json"
	"net/netip"
	"testing"

	"initd/hw/kmip"
	"initd/qemu-tests/peer/config"
	"initd/qemu-tests/peer/dhcp"
	"initd/qemu-tests/peer/keyserver"
	"initd/qemu-tests/peer/network"
	"initd/qemu-tests/peer/ntp"
	"initd/qemu-tests/peer/pki"
	"initd/qemu-tests/vm"
)

// A peer machine serves keys, the time and addresses to another machine over two wires. The first key server accepts and
// never answers; the second, over IPv6 and TLS 1.2, hangs up at batches and gives every key all the same.
func TestPeerServesAnotherMachine(t *testing.T) {
	ca, err := pki.NewCA("site CA", pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Client(pki.Options{}, "store-07")
	if err != nil {
		t.Fatal(err)
	}
	const peerMAC, leaseMAC = "52:54:00:00:01:01", "52:54:00:00:01:02"
	objects := func(kind string) []keyserver.Object {
		return []keyserver.Object{
			{ID: "1", Name: "store-07/tank0", Value: "00112233445566778899aabbccddeeff", Type: "SymmetricKey"},
			{ID: "2", Name: "store-07/tank1", Value: "ffeeddccbbaa99887766554433221100"},
			{ID: "3", Name: "store-07/" + kind, Value: "0123456789abcdef"},
		}
	}
	serve := func(name, listen string, b keyserver.Behaviour, kind string) keyserver.Config {
		pair, err := ca.Server(pki.Options{}, "192.0.2.21", "2001:db8::21")
		if err != nil {
			t.Fatal(err)
		}
		return keyserver.Config{Name: name, Kind: kind, Listen: listen, CA: string(ca.PEM), Cert: string(pair.Cert), Key: string(pair.Key), Behaviour: b, Objects: objects(kind)}
	}
	cfg := config.Config{
		Links: []network.Link{
			{MAC: peerMAC, Addresses: []string{"192.0.2.21/24", "2001:db8::21/64"}},
			{MAC: leaseMAC, Addresses: []string{"198.51.100.1/24"}},
		},
		KeyServers: []keyserver.Config{
			serve("kms-a", "192.0.2.21:5696", keyserver.Behaviour{Silent: true}, keyserver.KindKMIPGo),
			serve("kms-b", "[2001:db8::21]:5696", keyserver.Behaviour{BatchLimit: 1, BatchAnswer: "hang-up", MaxTLS: "1.2"}, keyserver.KindBytes),
		},
		NTP: []ntp.Config{{Listen: "192.0.2.21:123", Offset: 3600}},
		DHCP: []dhcp.Config{{Link: leaseMAC, Server: netip.MustParseAddr("198.51.100.1"), Prefix: netip.MustParsePrefix("198.51.100.0/24"),
			First: netip.MustParseAddr("198.51.100.100"), Count: 10, Lease: 600}},
	}
	at := func(name, address, group string) kmip.Server {
		return kmip.Server{Name: name, Address: address, Group: group, TLS: kmip.TLS{
			CA: kmip.Source{PEM: string(ca.PEM)}, Cert: kmip.Source{PEM: string(client.Cert)}, Key: kmip.KeySource{Path: "/client.key"},
		}}
	}
	requests := []kmip.Request{
		{ID: "tank0", Selector: kmip.Selector{Name: "store-07/tank0"}},
		{ID: "tank1", Selector: kmip.Selector{Name: "store-07/tank1"}},
		{ID: "bytes", Selector: kmip.Selector{Name: "store-07/bytes"}},
	}
	task := map[string]any{
		"links": []network.Link{
			{MAC: "52:54:00:00:02:01", Addresses: []string{"192.0.2.7/24", "2001:db8::7/64"}},
			{MAC: "52:54:00:00:02:02"},
		},
		"ntp": "192.0.2.21:123", "dhcp": true,
		"config":   kmip.Config{Servers: []kmip.Server{at("kms-a", "192.0.2.21:5696", ""), at("kms-b", "[2001:db8::21]:5696", "")}},
		"requests": requests,
		"expect":   map[string]string{"tank0": "00112233445566778899aabbccddeeff", "tank1": "ffeeddccbbaa99887766554433221100", "bytes": "0123456789abcdef"},
	}
	peerImage := vm.NewImage(t).GoProgram("/init", "./qemu-tests/peer").Modules("virtio_net").JSON(config.Path, cfg).Write("peer")
	clientImage := vm.NewImage(t).GoProgram("/init", "./qemu-tests/peer/client").Modules("virtio_net", "af_packet").JSON("/client.json", task).
		Bytes("/client.key", client.Key, 0o600).Write("client")
	data, leases := vm.NewWire(t, "data"), vm.NewWire(t, "leases")

	peer := vm.New(t, vm.Name("peer"), vm.CPUs(1), vm.Memory(512)).Initramfs(peerImage).Wire(data, peerMAC).Wire(leases, leaseMAC).Start()
	peer.WaitEvent("all servers listen", vm.Is("ready"), vm.Guard)

	host := vm.New(t, vm.Name("host"), vm.CPUs(1), vm.Memory(512)).Initramfs(clientImage).
		Wire(data, "52:54:00:00:02:01").Wire(leases, "52:54:00:00:02:02").Start()
	host.WaitEvent("duplicate address detection is through", vm.Is("network"), vm.Guard)
	host.WaitEvent("the time is an hour off", vm.Is("time", "minutes", "60"), vm.Guard)
	host.WaitEvent("an address is leased", vm.Is("lease", "address", "198.51.100.100/24"), vm.Guard)
	for _, r := range requests {
		host.WaitEvent("key "+r.ID, vm.Is("key", "id", r.ID, "server", "kms-b", "address", "[2001:db8::21]:5696", "right", "true"), vm.Guard)
	}
	host.Exited(vm.Guard)

	gets := 0
	for _, e := range peer.Events() {
		var k keyserver.Event
		if e.Name == "kmip" && json.Unmarshal(e.Line, &k) == nil && k.Op == "get" {
			gets++
			if k.Server != "kms-b" {
				t.Errorf("a key came from %s", k.Server)
			}
		}
	}
	if gets != 3 {
		t.Errorf("%d Gets, want one for each key that is there", gets)
	}

	peer.Tell(config.Command{Do: "stop", Server: "kms-a"})
	peer.WaitEvent("kms-a is stopped", vm.Is("done", "do", "stop", "server", "kms-a"), vm.Guard)
	peer.Tell(config.Command{Do: "power-off"})
	peer.WaitEvent("its end", vm.Is("end"), vm.Guard)
	peer.Exited(vm.Guard)
}
