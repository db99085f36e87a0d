package fault

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"initd/qemu-tests/peer/keyserver"
	"initd/qemu-tests/peer/pki"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// keyRoom is the machine with one volume, one key and one key server a fault.
type keyRoom struct {
	*room.Room
	other *pki.CA
}

// keyFault makes one server bad, or our way to it. s listens at the address of the row; object is in its store.
type keyFault struct {
	id    string
	spoil func(r *keyRoom, s *keyserver.Config, object *keyserver.Object)
	// in the file: the server's address instead of that of s, and what stands beside it
	address, more string
}

const (
	goodPort = 7000
	silent   = "192.0.2.23" // drops every packet
)

func keyFaults() []keyFault {
	cert := func(o pki.Options, names ...string) func(*keyRoom, *keyserver.Config, *keyserver.Object) {
		return func(r *keyRoom, s *keyserver.Config, _ *keyserver.Object) { r.certify(r.CA, s, o, names...) }
	}
	state := func(state string) func(*keyRoom, *keyserver.Config, *keyserver.Object) {
		return func(_ *keyRoom, _ *keyserver.Config, o *keyserver.Object) { o.State = state }
	}
	none := func(*keyRoom, *keyserver.Config, *keyserver.Object) {}
	absent := func(_ *keyRoom, s *keyserver.Config, _ *keyserver.Object) { s.Listen = "" }
	return []keyFault{
		{id: "wrong-ca", spoil: func(r *keyRoom, s *keyserver.Config, _ *keyserver.Object) {
			r.certify(r.other, s, pki.Options{}, room.KMSAV4)
		}},
		{id: "expired", spoil: cert(pki.Expired(), room.KMSAV4)},
		{id: "not-yet", spoil: cert(pki.NotYet(), room.KMSAV4)},
		{id: "other-name", spoil: cert(pki.Options{}, "elsewhere.example.net")},
		{id: "wrong-pin", spoil: none, more: `, tls: {pin: "sha256:` + strings.Repeat("5a", 32) + `"}`},
		{id: "client-refused", spoil: func(r *keyRoom, s *keyserver.Config, _ *keyserver.Object) { s.CA = string(r.other.PEM) }},
		{id: "client-usage", spoil: func(r *keyRoom, s *keyserver.Config, _ *keyserver.Object) {
			p, err := r.CA.Client(pki.Options{EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, "store")
			if err != nil {
				r.T.Fatal(err)
			}
			r.Identity["pki/usage.pem"], r.Identity["pki/usage.key"] = p.Cert, p.Key
		}, more: ", tls: {cert: pki/usage.pem, key: pki/usage.key}"},
		{id: "client-missing", spoil: none, more: ", tls: {cert: pki/gone.pem}"},
		{id: "tls-old", spoil: func(_ *keyRoom, s *keyserver.Config, _ *keyserver.Object) { s.BareHello = "1.1" }},
		{id: "kmip-old", spoil: func(_ *keyRoom, s *keyserver.Config, _ *keyserver.Object) { s.Versions = []string{"2.0"} }},
		{id: "missing", spoil: func(_ *keyRoom, s *keyserver.Config, _ *keyserver.Object) { s.Objects = nil }},
		{id: "two", spoil: func(_ *keyRoom, s *keyserver.Config, o *keyserver.Object) {
			twin := *o
			twin.ID += "-twin"
			s.Objects = append(s.Objects, twin)
		}},
		{id: "wrong-type", spoil: func(_ *keyRoom, _ *keyserver.Config, o *keyserver.Object) { o.Type, o.Format = "PrivateKey", "PKCS8" }},
		{id: "wrapped", spoil: func(_ *keyRoom, _ *keyserver.Config, o *keyserver.Object) { o.Wrapped = true }},
		{id: "deactivated", spoil: state("Deactivated")},
		{id: "compromised", spoil: state("Compromised")},
		{id: "destroyed", spoil: state("Destroyed")},
		{id: "denied", spoil: func(_ *keyRoom, _ *keyserver.Config, o *keyserver.Object) { o.Denied = true }},
		{id: "not-asked", spoil: func(_ *keyRoom, _ *keyserver.Config, o *keyserver.Object) { o.GiveAs = "somebody-elses" }},
		{id: "garbage", spoil: func(_ *keyRoom, s *keyserver.Config, _ *keyserver.Object) { s.Garbage = keyserver.GarbageItems }},
		{id: "slow", spoil: func(_ *keyRoom, s *keyserver.Config, _ *keyserver.Object) { s.Drip = 1 }},
		{id: "hang-up", spoil: func(_ *keyRoom, _ *keyserver.Config, o *keyserver.Object) { o.HangUp = true }},
		{id: "refused", spoil: absent},
		{id: "silent", spoil: absent, address: silent + ":5696"},
		{id: "no-route", spoil: absent, address: "203.0.113.9:5696"},
		{id: "no-name", spoil: absent, address: "kms.nowhere.example:5696"},
	}
}

func keyFaultIDs() []string {
	var ids []string
	for _, f := range keyFaults() {
		ids = append(ids, f.id)
	}
	return ids
}

// certify gives the server a certificate.
func (r *keyRoom) certify(ca *pki.CA, s *keyserver.Config, o pki.Options, names ...string) {
	r.T.Helper()
	p, err := ca.Server(o, names...)
	if err != nil {
		r.T.Fatal(err)
	}
	s.Cert, s.Key = string(p.Cert), string(p.Key)
}

// A machine on which everything is wrong with its key servers, each in another way: the screen names each server and
// what is wrong with it, and gives the command that helps. Somebody types them, one after the other, with the key
// of the volume, and each volume opens. A volume with a good server has been opened meanwhile.
func TestFaultsOfKeyServers(t *testing.T) {
	r := &keyRoom{Room: room.New(t, room.KMSAV4, room.KMSBV4)}
	var err error
	if r.other, err = pki.NewCA("another authority", pki.Options{}); err != nil {
		t.Fatal(err)
	}
	good := r.Peer.KeyServers[0]
	good.Objects = nil
	r.Peer.KeyServers = nil
	r.Peer.Links[0].Addresses = append(r.Peer.Links[0].Addresses, silent+"/24")
	r.Wire.Drop(vm.ToAddr(netip.MustParseAddr(silent)))

	var servers, volumes strings.Builder
	var table vm.GPT
	keys := map[string]string{}
	add := func(i int, f keyFault) {
		s := good
		s.Name, s.Listen = "kms-"+f.id, fmt.Sprintf("%s:%d", room.KMSAV4, goodPort+i)
		if i%2 == 1 {
			s.Kind = keyserver.KindBytes
		}
		address := s.Listen
		keys[f.id] = fmt.Sprintf("the passphrase of %s", f.id)
		s.Objects = []keyserver.Object{{ID: "id-" + f.id, Name: "store/" + f.id, Type: "SymmetricKey", Value: fmt.Sprintf("%x", keys[f.id])}}
		f.spoil(r, &s, &s.Objects[0])
		if s.Listen != "" {
			r.Peer.KeyServers = append(r.Peer.KeyServers, s)
		}
		if f.address != "" {
			address = f.address
		}
		fmt.Fprintf(&servers, "    - {name: kms-%s, address: %q, group: %s%s}\n", f.id, address, f.id, f.more)
		fmt.Fprintf(&volumes, "    - {name: %s, device: partlabel/%s, key: {kmip: {servers: %s}}, wait: 40s}\n", f.id, f.id, f.id)
		table = append(table, vm.Partition{Label: f.id, Size: 18 * vm.MiB, Content: vm.LUKS{Keys: [][]byte{[]byte(keys[f.id])}}})
	}
	list := keyFaults()
	for i, f := range list {
		add(i, f)
	}
	add(len(list), keyFault{id: "good", spoil: func(*keyRoom, *keyserver.Config, *keyserver.Object) {}})
	r.Appliance = `apiVersion: initd/v1
name: store
budgets: {boot: 3m, shutdown: 30s}
network:
  links:
    - {name: room, match: {mac: "` + room.StoreMAC + `"}, addresses: [` + room.StoreV4 + `]}
  dns: {servers: [` + room.KMSBV4 + `]}
keys:
  tls: {ca: pki/ca.pem, cert: pki/store.pem, key: pki/store.key}
  servers:
` + servers.String() + `media:
  luks:
` + volumes.String() + `services:
` + room.HandsService + `image:
  packages: []
`
	r.AddHands()
	disk := vm.NewDisk(t, "media", int64(len(table)*18+4)*vm.MiB, table)
	r.StartPeer()
	m := r.NewStore(disk).Start()
	rows := matrix(t, keyFaultIDs())
	m.WaitEvent("the good volume is open", room.Unit("luks/good", "done"), vm.Guard)
	for _, f := range rows {
		m.WaitEvent(f.id+" shows", f.shows, vm.Guard)
	}
	m.Console().WaitFor(`\bready\b`, vm.Guard)
	score(t, m, rows, heals(m, nil, keys))
	m.CtrlAltDel()
	m.Exited(vm.Guard)
	room.NothingLeft(t, m)
}
